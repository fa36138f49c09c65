"""A fit opens and checks every table once, and its weights once."""

import numpy as np
import pytest

import skvae
from skvae._tables.table import Table

pd = pytest.importorskip("pandas")

N_ROWS = 40
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(RNG.normal(size=(N_ROWS, 3)), columns=["a", "b", "c"])
TABLE.iloc[3, 1] = np.nan
LABELS = np.arange(N_ROWS) % 2
WEIGHTS = RNG.uniform(0.5, 2, N_ROWS).round(1)
WEIGHTS[5] = 0

CASES = {
    "VAETransformer": (None, 1),
    "VAEImputer": (None, 1),
    "VAEClassifier": (LABELS, 1),
    "VAERegressor": (TABLE["a"].to_numpy(), 2),
}


def counting(monkeypatch, owner, name):
    """Count the calls of a function that a module or a class holds."""
    calls, function = [], getattr(owner, name)

    def counted(*args, **kwargs):
        calls.append(name)
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    return calls


@pytest.mark.parametrize("library", ["numpy", "pandas"])
@pytest.mark.parametrize("name", CASES)
def test_a_fit_opens_every_table_once(monkeypatch, name, library):
    y, n_tables = CASES[name]
    X = TABLE.to_numpy() if library == "numpy" else TABLE
    opened = []
    for subclass in every_subclass(Table):
        if "__init__" in vars(subclass):
            opened.append(counting(monkeypatch, subclass, "__init__"))
    masks = [
        counting(monkeypatch, module, "missing_mask")
        for module in vars(skvae._tables).values()
        if hasattr(module, "mask_cells")
    ]
    checks = counting(monkeypatch, skvae._validation, "_check_sample_weight")
    model = getattr(skvae, name)(max_iter=1, random_state=0)
    model.fit(X, y, sample_weight=WEIGHTS)
    assert sum(map(len, opened)) == n_tables
    assert len(checks) == 1
    # that of the outputs tells which rows have one
    assert sum(map(len, masks)) == (name == "VAERegressor")


def every_subclass(cls):
    return {cls}.union(*map(every_subclass, cls.__subclasses__()))
