"""Columns of more categories than are modelled."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from skvae import VAEClassifier, VAEImputer, VAERegressor, VAETransformer
from skvae._distributions.registry import LIKELIHOODS
from skvae._tables.encoder import TableEncoder
from skvae._tables.libraries import checked_table
from skvae._tables.rare_levels import modelled_levels
from skvae._tables.settings import DEFAULT_SETTINGS

FEW = replace(DEFAULT_SETTINGS, max_levels=3)
SHORT = {"max_iter": 1, "hidden_layer_sizes": (4,), "random_state": 0}


@pytest.mark.parametrize(
    ("counts", "kept"),
    [
        ([1, 1, 1], "abc"),  # not too many
        ([1, 1, 1, 1], "a"),  # identifiers: the first of the most frequent
        ([1, 1, 2, 1], "c"),
        ([9, 2, 1, 2, 2], "abd"),  # in their order; ties by place
        ([2, 2, 2, 9], "abd"),
        ([0, 0, 0, 0], "a"),
        ([0, 5, 0, 0], "b"),
    ],
)
def test_frequent_categories_are_modelled(counts, kept):
    categories = list("abcdefgh"[: len(counts)])
    assert modelled_levels(categories, np.array(counts), FEW) == list(kept)


def encoded(X, settings=FEW, **options):
    table = checked_table(X, "test", "X", 2)
    encoder = TableEncoder(LIKELIHOODS, settings=settings, **options).fit(table)
    values, observed = encoder.encode(table)
    return encoder, values[:, 0], None if observed is None else observed[:, 0]


COLUMNS = {
    "strings": ["b", "b", "a", "a", "c", "d", "e"],
    "numbers": [2, 2, 1, 1, 3, 4, 5],
    "floats": [0.2, 0.2, 0.1, 0.1, 0.3, 0.4, 0.5],
    "dates": pd.to_datetime([f"2020-02-0{day}" for day in (2, 2, 1, 1, 3, 4, 5)]),
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("ordered", [False, True])
def test_cells_of_rare_categories_count_as_missing(name, ordered):
    column = pd.Series(COLUMNS[name]).astype(pd.CategoricalDtype(ordered=ordered))
    X = pd.DataFrame({"x": column})
    with pytest.warns(UserWarning, match="Column 'x': 2 of 5 are modelled"):
        encoder, values, observed = encoded(X)
    assert observed.tolist() == [True] * 4 + [False] * 3
    assert values.tolist() == [1, 1, 0, 0, 0, 0, 0]
    found = encoder.decode(values[:, None])["x"]
    assert found.tolist() == column[[0, 0, *[2] * 5]].tolist()
    assert encoder.columns_[0].kind == ("ordinal" if ordered else "categorical")
    with warnings.catch_warnings():  # nor does it warn of them again
        warnings.simplefilter("error")
        encoder.encode(checked_table(X, "test", "X", 1))


@pytest.mark.parametrize("likelihood", ["categorical", "ordinal"])
def test_whole_numbers_by_their_likelihood(likelihood):
    X = np.array(COLUMNS["numbers"], dtype=float)[:, None]
    with pytest.warns(UserWarning, match="Column 'x0': 2 of 5 are modelled"):
        _, values, observed = encoded(X, likelihood=likelihood)
    assert observed.tolist() == [True] * 4 + [False] * 3
    assert values.tolist() == [1, 1, 0, 0, 0, 0, 0]


def test_declared_categories_that_no_cell_has_are_rare():
    dtype = pd.CategoricalDtype([str(k) for k in range(10_000)])
    X = pd.DataFrame({"x": pd.Series(["7", "9999"] * 5, dtype=dtype)})
    with pytest.warns(UserWarning, match="Column 'x': 2 of 10,000 are modelled"):
        encoder, values, _ = encoded(X, DEFAULT_SETTINGS)
    assert encoder.columns_[0].categories == ["7", "9999"]
    assert values.tolist() == [0, 1] * 5


def test_the_limit():
    column = [f"{k:03}" for k in range(501)] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TableEncoder(LIKELIHOODS).fit(
            checked_table(pd.DataFrame({"x": column[:500]}), "test", "X", 2)
        )
    with pytest.warns(UserWarning, match="500 of 501"):
        encoder, *_ = encoded(pd.DataFrame({"x": column}), DEFAULT_SETTINGS)
    assert encoder.columns_[0].categories == column[:500]


# -- estimators ----------------------------------------------------------------------


def identifiers(n_rows=600):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"id": [f"u{k}" for k in range(n_rows)], "a": rng.normal(size=n_rows)}
    )


FITS = {
    "transformer": lambda X: VAETransformer(**SHORT).fit(X),
    "imputer": lambda X: VAEImputer(**SHORT).fit(X),
    "classifier": lambda X: VAEClassifier(**SHORT).fit(X, np.arange(len(X)) % 2),
    "features": lambda X: VAERegressor(**SHORT).fit(X, X["a"]),
    "outputs": lambda X: VAERegressor(**SHORT).fit(X[["a"]], X),
}


@pytest.mark.parametrize("name", FITS)
def test_identifiers_are_left_out_with_one_warning(name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = FITS[name](identifiers())
    (warning,) = caught
    title = "Column 'id' of y" if name == "outputs" else "Column 'id'"
    assert f"{title}: 600, too rare" in str(warning.message)
    assert warning.filename == __file__
    groups = model._model.features if name == "features" else model._model.groups
    assert groups.order.tolist() == [1]


def test_identifiers_come_back_from_the_imputer():
    X = identifiers()
    holed = X.copy()
    holed.loc[3:5, "id"], holed.loc[4:9, "a"] = None, np.nan
    with pytest.warns(UserWarning, match="'id'"):
        imputer = VAEImputer(add_indicator=True, **SHORT).fit(holed)
    assert imputer.indicator_features_.tolist() == [0, 1]
    completed = imputer.transform(holed)
    kept = X.index.difference([3, 4, 5])
    assert completed.loc[kept, "id"].tolist() == X.loc[kept, "id"].tolist()
    assert completed.loc[3:5, "id"].tolist() == ["u0"] * 3
    flags = completed["missingindicator_id"]
    assert flags.sum() == 3
    assert imputer.score_samples(X)[0] == imputer.score_samples(X.assign(id="new"))[0]


def test_a_column_of_text_with_two_values_may_be_bernoulli():
    X = pd.DataFrame({"x": list("ab") * 30, "a": np.tile([0.0, 1.0], 30)})
    model = VAETransformer(likelihood={"x": "bernoulli"}, **SHORT).fit(X)
    assert model.likelihood_["x"] == "bernoulli"
    assert set(model.sample(50, random_state=0)["x"]) == {"a", "b"}


@pytest.mark.parametrize("values", [["a"], ["a", None]])
@pytest.mark.parametrize("name", FITS)
def test_an_ordered_category_with_one_level(name, values):
    column = pd.Categorical(values * 20, categories=["a"], ordered=True)
    X = pd.DataFrame({"x": column, "y": column})
    fits = {
        **FITS,
        "features": lambda X: VAERegressor(**SHORT).fit(
            X, np.arange(20.0 * len(values))
        ),
        "outputs": lambda X: VAERegressor(**SHORT).fit(np.eye(len(X)), X),
    }
    model = fits[name](X)
    if name == "imputer":
        assert (model.transform(X) == "a").all(axis=None)
        assert (model.predict_interval(X)[0] == "a").all(axis=None)
    if name in ("transformer", "classifier"):
        sample = model.sample(3)
        rows = sample[0] if name == "classifier" else sample
        assert (rows == "a").all(axis=None)
        assert np.isfinite(model.score_samples(X)).all()
    if name == "outputs":
        assert (model.predict(np.eye(len(X))) == "a").all(axis=None)
