"""VAEImputer on cells that hide themselves."""

import numpy as np
import pytest
from imputed_cells import imputer

from skvae import VAEImputer
from skvae._imputation.settings import SETTINGS


@pytest.fixture(scope="module")
def self_masked():
    """Three correlated columns; high values of the last are often missing."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(1500, 1))
    truth = 0.7 * common + 0.7 * rng.normal(size=(1500, 3))
    X = truth.copy()
    chance = 1 / (1 + np.exp(1 - 2 * truth[:, 2]))
    X[rng.random(1500) < chance, 2] = np.nan
    return X, truth


@pytest.mark.parametrize("sizes", [(8,), ()])
def test_self_masking_removes_bias(self_masked, sizes):
    X, truth = self_masked
    hidden = np.isnan(X)
    target = truth[hidden].mean()

    def bias(**kwargs):
        model = VAEImputer(hidden_layer_sizes=sizes, random_state=0, max_iter=4)
        model.set_params(**kwargs).fit(X)
        filled = model.transform(X)
        np.testing.assert_array_equal(filled[~hidden], X[~hidden])
        drawn = np.mean([t[hidden] for t in model.sample(X, 5, random_state=0)])
        return abs(filled[hidden].mean() - target), abs(drawn - target), model

    ignorant, ignorant_drawn, model = bias()
    assert model.missingness_slopes_ == {}
    aware, aware_drawn, model = bias(missingness={"x2": "high"})
    assert list(model.missingness_slopes_) == ["x2"]
    assert model.missingness_slopes_["x2"] > 0.5
    assert aware < 0.7 * ignorant
    assert aware_drawn < 0.7 * ignorant_drawn
    median, _, _ = bias(missingness={2: "high"}, strategy="median")
    assert median < 0.8 * ignorant
    # the wrong sign is not found
    _, _, model = bias(missingness={"x2": "low"})
    assert model.missingness_slopes_["x2"] == pytest.approx(0, abs=1e-3)


def test_agnostic_finds_the_sign(self_masked):
    X, _ = self_masked
    model = VAEImputer(hidden_layer_sizes=(), missingness="agnostic")
    model.set_params(random_state=0).fit(X)
    slopes = model.missingness_slopes_
    assert list(slopes) == ["x0", "x1", "x2"]
    assert slopes["x0"] == slopes["x1"] == 0  # nothing is missing there
    assert slopes["x2"] > 0.5


def test_one_word_is_of_all_numeric_columns(self_masked):
    X, _ = self_masked
    found = {}
    for word in ("mar", "high", "low", "agnostic"):
        model = VAEImputer(hidden_layer_sizes=(), missingness=word, random_state=0)
        found[word] = model.fit(X).missingness_slopes_
    assert found["mar"] == {}
    for word in ("high", "low", "agnostic"):
        assert list(found[word]) == ["x0", "x1", "x2"]
    assert found["high"]["x2"] == pytest.approx(found["agnostic"]["x2"], rel=1e-3)
    assert found["low"]["x2"] == pytest.approx(0, abs=1e-3)


def test_a_dict_has_a_word_by_column(self_masked):
    """Low values hide in one column, high ones in another, and one has none."""
    X = self_masked[1].copy()
    chance = 1 / (1 + np.exp(1 - 2 * X))
    draws = np.random.default_rng(1).random((2, len(X)))
    X[draws[0] < chance[:, 0], 0] = np.nan
    X[draws[1] < 1 - chance[:, 1], 1] = np.nan
    model = VAEImputer(hidden_layer_sizes=(), random_state=0)
    model.set_params(missingness={"x0": "high", 1: "low"}).fit(X)
    slopes = model.missingness_slopes_
    assert sorted(slopes) == ["x0", "x1"]
    assert slopes["x0"] > 0.5 and slopes["x1"] < -0.5
    # what a word forbids, "agnostic" finds
    model.set_params(missingness={0: "low", "x1": "agnostic"}).fit(X)
    assert model.missingness_slopes_["x0"] == pytest.approx(0, abs=1e-3)
    assert model.missingness_slopes_["x1"] < -0.5
    model.set_params(missingness={}).fit(X)
    assert model.missingness_slopes_ == {}


@pytest.mark.parametrize(
    ("missingness", "message"),
    [
        ({"x9": "high"}, "missingness names the unknown column 'x9'"),
        ({9: "high"}, "missingness names the column index 9"),
        ({"x1": "high", -4: "low"}, "missingness names the column 'x1' twice"),
        ({"x0": "up"}, "missingness of column 'x0' must be .*but got 'up'"),
        ({"x1": "high", 0: 1}, "missingness of column 0 must be .*but got 1"),
        ({"x0": "mar"}, "missingness of column 'x0'.*leaves out are missing at random"),
        ("self-masking", "The 'missingness' parameter of VAEImputer"),
        (None, "The 'missingness' parameter of VAEImputer"),
    ],
)
def test_missingness_is_checked_before_the_training(holes, missingness, message):
    model = imputer(missingness=missingness)
    with pytest.raises(ValueError, match=message):
        model.fit(holes)
    assert not hasattr(model, "_model")


def test_categories_cannot_hide_themselves(mixed_table):
    model = imputer(missingness={"island": "high"})
    with pytest.raises(ValueError, match="missingness names 'island'"):
        model.fit(mixed_table())
    # a word is of the numbers alone
    slopes = imputer(missingness="high").fit(mixed_table()).missingness_slopes_
    assert slopes and "island" not in slopes


def test_slopes_of_a_sorted_table(self_masked):
    """pandas sorts missing cells to the end: the first rows have none."""
    X = np.tile(self_masked[0], (8, 1))
    X = X[np.isnan(X[:, 2]).argsort(kind="stable")]
    model = VAEImputer(hidden_layer_sizes=(), missingness="agnostic", random_state=0)
    assert not np.isnan(X[: SETTINGS.self_masking_rows]).any()
    assert model.fit(X).missingness_slopes_["x2"] > 0.5


def test_slopes_count_weights(self_masked):
    """High values are missing from half of the rows, low ones from the others."""
    X = self_masked[0][:800].copy()
    X[400:] *= -1
    model = VAEImputer(hidden_layer_sizes=(), missingness="agnostic", random_state=0)
    for weights in ((1.0, 0.02), (0.02, 1.0)):
        model.fit(X, sample_weight=np.repeat(weights, 400))
        assert (model.missingness_slopes_["x2"] > 0.3) == (weights[0] == 1)
        assert abs(model.missingness_slopes_["x2"]) > 0.3


@pytest.mark.parametrize("strategy", ["mean", "median"])
@pytest.mark.parametrize("sizes", [(8,), ()])
def test_self_masked_points_depend_on_no_other_row(self_masked, sizes, strategy):
    X = self_masked[0][:300]
    options = {"max_iter": 2, "random_state": 0, "missingness": "high"}
    model = VAEImputer(hidden_layer_sizes=sizes, strategy=strategy, **options).fit(X)
    order = np.random.default_rng(0).permutation(300)
    filled = model.transform(X)
    assert model.missingness_slopes_["x2"] > 0
    np.testing.assert_allclose(model.transform(X[order]), filled[order], atol=1e-5)
    np.testing.assert_allclose(model.transform(X[:7]), filled[:7], atol=1e-5)


def test_missingness_by_any_label(self_masked):
    pd = pytest.importorskip("pandas")
    X = self_masked[0][:200]
    options = {"hidden_layer_sizes": (), "random_state": 0}
    for table, key in (
        (X, np.int64(2)),
        (X, -1),
        (pd.DataFrame(X, columns=[2020, 2021, 2022]), 2),
        (pd.DataFrame(X, columns=[2020, 2021, 2022]), "2022"),
        (pd.DataFrame(X, columns=list("abc")), "c"),
    ):
        model = VAEImputer(missingness={key: "high"}, **options)
        assert next(iter(model.fit(table).missingness_slopes_.values())) > 0
