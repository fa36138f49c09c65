"""Tables and calls that the tests of the estimator share."""

import numpy as np
import pytest

from skvae import VAETransformer

CONTAINERS = ("pandas", "polars", "pyarrow")
LEVELS = ["low", "mid", "high"]


@pytest.fixture
def numbers():
    """Eighty rows of five correlated numbers, without missing cells."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 2)) @ rng.normal(size=(2, 5))
    return X + 0.3 * rng.normal(size=X.shape)


@pytest.fixture
def mixed_table():
    """Return a function: one mixed table with missing cells, in any container.

    Numbers, categories, ordered categories, booleans and counts, in that order.
    """
    return make_mixed_table


@pytest.fixture
def calls():
    """Every method that reads a table or the model, as a function of both."""
    return {
        "transform": lambda vae, X: vae.transform(X),
        "inverse_transform": lambda vae, X: vae.inverse_transform(vae.transform(X)),
        "sample": lambda vae, X: vae.sample(4, random_state=0),
        "sample_posterior": lambda vae, X: vae.sample_posterior(X, 2, random_state=0),
        "score_samples": lambda vae, X: vae.score_samples(X),
        "score": lambda vae, X: vae.score(X),
        "evidence": lambda vae, X: vae.evidence(X, 7),
        "get_feature_names_out": lambda vae, X: vae.get_feature_names_out(),
    }


@pytest.fixture(scope="session")
def mixed_vae():
    """A model of the mixed pandas table; tests must leave it as it is."""
    vae = VAETransformer(n_components=3, max_iter=5, random_state=0)
    return vae.fit(make_mixed_table("pandas"))


def make_mixed_table(container="pandas", n_rows=60):
    rng = np.random.default_rng(1)
    size = rng.integers(3, size=n_rows)
    columns = {
        "mass": (rng.normal(40, 5, n_rows) + 10 * size).round(2).tolist(),
        "island": rng.choice(["Biscoe", "Dream", "Torgersen"], n_rows).tolist(),
        "size": [LEVELS[code] for code in size],
        "flag": (rng.random(n_rows) < 0.2 + 0.3 * size).tolist(),
    }
    for place, values in enumerate(columns.values()):
        for row in range(place, n_rows, 9):
            values[row] = None
    columns["visits"] = rng.poisson(2 + size).tolist()
    build = {"pandas": _pandas, "polars": _polars, "pyarrow": _pyarrow}
    return build[container](columns)


def _pandas(columns):
    pd = pytest.importorskip("pandas")
    flag = pd.array(columns["flag"], dtype="boolean")
    size = pd.Categorical(columns["size"], LEVELS, ordered=True)
    table = pd.DataFrame(columns | {"flag": flag, "size": size})
    return table.astype({"mass": "float32", "island": "category", "visits": "uint8"})


def _polars(columns):
    pl = pytest.importorskip("polars")
    schema = {
        "mass": pl.Float32,
        "island": pl.Categorical,
        "size": pl.Enum(LEVELS),
        "visits": pl.UInt8,
    }
    return pl.DataFrame(columns, schema_overrides=schema)


def _pyarrow(columns):
    pa = pytest.importorskip("pyarrow")
    codes = [None if v is None else LEVELS.index(v) for v in columns["size"]]
    size = pa.DictionaryArray.from_arrays(
        pa.array(codes, pa.int8()), LEVELS, ordered=True
    )
    island = pa.array(columns["island"]).dictionary_encode()
    mass = pa.array(columns["mass"], pa.float32())
    visits = pa.array(columns["visits"], pa.uint8())
    return pa.table(
        columns | {"mass": mass, "island": island, "size": size, "visits": visits}
    )
