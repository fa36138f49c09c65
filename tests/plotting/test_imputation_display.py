import builtins
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from mixed_tables import CONTAINERS, LEVELS, make_mixed_table
from numpy.testing import assert_allclose, assert_array_equal

from skvae import VAEImputer
from skvae.datasets import ampute
from skvae.plotting import ImputationDisplay

from_estimator = ImputationDisplay.from_estimator


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def linear():
    """Return a multivariate normal of three columns, its table and the truth."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3))
    X_missing = ampute(X, rate=0.3, random_state=0)
    imputer = VAEImputer(hidden_layer_sizes=(), random_state=0).fit(X_missing)
    return imputer, X_missing, X


@pytest.fixture(scope="module")
def mixed():
    """Return a model of the mixed pandas table."""
    return fit_mixed("pandas")[0]


def fit_mixed(container):
    X = make_mixed_table(container)
    imputer = VAEImputer(hidden_layer_sizes=(8,), max_iter=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two epochs do not converge
        return imputer.fit(X), X


def heights(container):
    return [bar.get_height() for bar in container]


# ---------------------------------------------------------------------------
# What from_estimator stores
# ---------------------------------------------------------------------------
def test_it_stores_observed_cells_draws_and_intervals(linear):
    imputer, X, truth = linear
    missing = np.isnan(X[:, 1])
    display = from_estimator(
        imputer, X, 1, n_draws=3, coverage=0.8, truth=truth[:, 1], random_state=0
    )
    assert display.feature_name == "x1"
    assert display.categories is None
    assert_array_equal(display.observed, X[~missing, 1])
    drawn = imputer.sample(X[missing], n_draws=3, random_state=0)
    assert_array_equal(display.imputed, [table[:, 1] for table in drawn])
    rows = np.flatnonzero(missing)[:20]
    assert_array_equal(display.rows, rows)
    lower, upper = imputer.predict_interval(X[rows], coverage=0.8)
    assert_array_equal(display.lower, lower[:, 1])
    assert_array_equal(display.upper, upper[:, 1])
    assert_array_equal(display.point, imputer.transform(X[rows])[:, 1])
    assert_array_equal(display.true_imputed, truth[missing, 1])
    assert_array_equal(display.true_point, truth[rows, 1])
    assert display.coverage == 0.8


def test_same_random_state_same_draws(linear):
    imputer, X, _ = linear
    first, second, other = (
        from_estimator(imputer, X, 0, random_state=seed).imputed for seed in (0, 0, 1)
    )
    assert_array_equal(first, second)
    assert (first != other).any()


def test_chosen_rows(linear):
    imputer, X, _ = linear
    rows = np.flatnonzero(np.isnan(X[:, 2]))[[3, 1]]
    display = from_estimator(imputer, X, "x2", kind="intervals", rows=rows)
    assert_array_equal(display.rows, rows)
    assert_array_equal(display.point, imputer.transform(X[rows])[:, 2])
    labels = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert labels == [str(row) for row in rows]


def test_position_and_name_mean_the_same_column(mixed):
    X = make_mixed_table("pandas")
    by_name = from_estimator(mixed, X, "size", random_state=0)
    for position in (2, np.int64(2), -3):
        by_position = from_estimator(mixed, X, position, random_state=0)
        assert by_position.feature_name == "size"
        assert_array_equal(by_position.imputed, by_name.imputed)


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_and_kind_of_column(container):
    imputer, X = fit_mixed(container)
    plain = make_mixed_table("pandas")
    categories = {
        "island": {"Biscoe", "Dream", "Torgersen"},
        "size": set(LEVELS),
        "flag": {False, True},
    }
    for name in ("mass", "island", "size", "flag"):
        display = from_estimator(imputer, X, name, n_draws=2, random_state=0)
        observed = plain[name].dropna().tolist()
        assert list(display.observed) == observed
        assert display.imputed.shape == (2, 60 - len(observed))
        if name == "mass":
            assert display.categories is None
            assert display.imputed.dtype == float
            assert np.isfinite(display.imputed).all()
        else:
            assert set(display.categories) == categories[name]
            assert set(display.imputed.ravel()) <= categories[name]
        assert (display.rows is not None) == (name in ("mass", "size"))
    assert from_estimator(imputer, X, "size").categories == LEVELS


def test_array_of_objects_with_declared_categories():
    rng = np.random.default_rng(0)
    X = np.empty((40, 2), dtype=object)
    X[:, 0] = rng.normal(size=40)
    X[:, 1] = rng.choice(["a", "b"], 40)
    X[::5, 1] = np.nan
    imputer = VAEImputer(
        hidden_layer_sizes=(4,), max_iter=2, categorical_features=[1], random_state=0
    )
    display = from_estimator(imputer.fit(X), X, "x1")
    assert display.categories == ["a", "b"]
    assert display.imputed.shape == (5, 8)


def test_a_marker_of_missing_cells(linear):
    _, X, _ = linear
    marked = np.where(np.isnan(X), -99, X)
    imputer = VAEImputer(missing_values=-99, hidden_layer_sizes=()).fit(marked)
    display = from_estimator(imputer, marked, 0)
    assert len(display.observed) == (~np.isnan(X[:, 0])).sum()
    assert -99 not in display.observed


@pytest.mark.filterwarnings("ignore:Columns without any observed value")
@pytest.mark.parametrize("keep_empty_features", [False, True])
def test_columns_beside_an_empty_one(linear, keep_empty_features):
    _, X, _ = linear
    X = np.insert(X, 0, np.nan, axis=1)
    imputer = VAEImputer(
        hidden_layer_sizes=(),
        keep_empty_features=keep_empty_features,
        add_indicator=True,
        random_state=0,
    ).fit(X)
    display = from_estimator(imputer, X, 2, random_state=0)
    rows = display.rows
    names = imputer.get_feature_names_out().tolist()
    assert_array_equal(display.point, imputer.transform(X[rows])[:, names.index("x2")])
    with pytest.raises(ValueError, match="'x0' had no observed cell"):
        from_estimator(imputer, X, 0)


def test_output_of_another_library(linear):
    pytest.importorskip("pandas")
    imputer, X, _ = linear
    before = from_estimator(imputer, X, 0, random_state=0)
    pandas = VAEImputer(hidden_layer_sizes=(), random_state=0).fit(X)
    pandas.set_output(transform="pandas")
    after = from_estimator(pandas, X, 0, random_state=0)
    assert_array_equal(before.point, after.point)


def test_unknown_truth_is_left_out(linear):
    imputer, X, truth = linear
    rows = np.flatnonzero(np.isnan(X[:, 0]))
    partly = truth[:, 0].copy()
    partly[rows[0]] = np.nan
    display = from_estimator(imputer, X, 0, truth=partly)
    assert_array_equal(display.true_imputed, truth[rows[1:], 0])
    assert np.isnan(display.true_point[0])
    display.plot(kind="intervals")


@pytest.mark.parametrize("container", CONTAINERS)
def test_truth_from_any_library(container):
    X = make_mixed_table(container)
    imputer, hidden = fit_mixed(container)[0], ampute(X, rate=0.5, random_state=0)
    truth = X["island"]
    display = from_estimator(imputer, hidden, "island", truth=truth)
    assert set(display.true_imputed) == {"Biscoe", "Dream", "Torgersen"}


# ---------------------------------------------------------------------------
# What is drawn
# ---------------------------------------------------------------------------
def test_histograms_are_densities_with_common_bins(linear):
    imputer, X, truth = linear
    display = from_estimator(imputer, X, 0, truth=truth[:, 0], random_state=0)
    bars = display.ax_.containers[0].patches
    left = np.array([bar.get_x() for bar in bars])
    widths = np.array([bar.get_width() for bar in bars])
    assert_allclose(widths, widths[0])
    assert heights(bars) @ widths == pytest.approx(1)
    edges = np.append(left, left[-1] + widths[-1])
    expected, _ = np.histogram(display.observed, edges, density=True)
    assert_allclose(heights(bars), expected)
    everything = np.concatenate([display.observed, display.imputed.ravel()])
    assert edges[0] <= everything.min() and edges[-1] >= everything.max() - 1e-9
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == [
        f"{len(display.observed)} observed cells",
        "missing cells, 5 draws",
        "truth of the missing cells",
    ]
    assert display.ax_.get_xlabel() == "x0"


def test_whole_numbers_have_a_bar_each():
    display = ImputationDisplay(
        feature_name="visits", observed=[0, 1, 1, 4], imputed=[[2, 2]]
    ).plot()
    drawn = display.ax_.containers[0]
    assert_allclose(heights(drawn), [0.25, 0.5, 0, 0, 0.25])


@pytest.mark.parametrize("value", [0, 2.5])
def test_a_constant_column(value):
    display = ImputationDisplay(
        feature_name="same", observed=[value] * 3, imputed=[[value]]
    ).plot()
    for bars in display.ax_.containers:
        assert len(bars) == 1  # in the middle, and of area one
        assert bars[0].get_x() + bars[0].get_width() / 2 == value
        assert bars[0].get_width() * bars[0].get_height() == pytest.approx(1)


def test_nothing_observed():
    """The draws are shown alone."""
    imputed = [0.5, 1.5]
    display = ImputationDisplay(feature_name="x", observed=[], imputed=[imputed]).plot()
    (polygon,) = display.ax_.patches
    corners = polygon.get_xy()
    edges = np.unique(corners[:, 0])
    assert edges[0] <= 0.5 and edges[-1] >= 1.5


def test_shares_of_categories():
    display = ImputationDisplay(
        feature_name="size",
        observed=["low", "low", "mid", "mid"],
        imputed=[["high", "mid"], ["mid", "mid"]],
        categories=LEVELS,
        true_imputed=["high", "high"],
    ).plot()
    observed, imputed, truth = display.ax_.containers
    assert_allclose(heights(observed), [0.5, 0.5, 0])
    assert_allclose(heights(imputed), [0, 0.75, 0.25])
    assert_allclose(heights(truth), [0, 0, 1])
    labels = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert labels == LEVELS


def test_intervals_of_numbers(linear):
    imputer, X, truth = linear
    display = from_estimator(imputer, X, 0, kind="intervals", truth=truth[:, 0])
    ends = np.array(display.ax_.collections[0].get_segments())[:, :, 1]
    assert_allclose(ends[:, 0], display.lower)
    assert_allclose(ends[:, 1], display.upper)
    points, true = display.ax_.lines
    assert_allclose(points.get_ydata(), display.point)
    assert_allclose(true.get_ydata(), display.true_point)


def test_intervals_of_ordered_categories():
    display = ImputationDisplay(
        feature_name="size",
        observed=["low"],
        imputed=[["mid", "low"]],
        categories=LEVELS,
        rows=[3, 7],
        point=["mid", "low"],
        lower=["low", "low"],
        upper=["high", "mid"],
    ).plot(kind="intervals")
    ends = np.array(display.ax_.collections[0].get_segments())[:, :, 1]
    assert_array_equal(ends, [[0, 2], [0, 1]])
    labels = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert labels == LEVELS


def test_axes_and_figure(linear):
    imputer, X, _ = linear
    figure, axes = plt.subplots(1, 2)
    display = from_estimator(imputer, X, 0, ax=axes[1])
    assert display.ax_ is axes[1]
    assert display.figure_ is figure
    assert display.plot(axes[0], kind="intervals") is display
    assert display.ax_ is axes[0]
    own = from_estimator(imputer, X, 0)
    assert own.figure_ is not figure


# ---------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------
def test_unknown_features(linear):
    imputer, X, _ = linear
    with pytest.raises(ValueError, match="no feature 'height'"):
        from_estimator(imputer, X, "height")
    with pytest.raises(ValueError, match="no feature 3; the table has 3"):
        from_estimator(imputer, X, 3)
    with pytest.raises(TypeError, match="name or the position"):
        from_estimator(imputer, X, 1.0)


def test_nothing_missing(linear):
    imputer, _, truth = linear
    with pytest.raises(ValueError, match="'x1' has no missing cell"):
        from_estimator(imputer, truth, 1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([60], "between 0 and 59, but feature 'x0'"),
        ([-1], "between 0 and 59, but feature 'x0'"),
        ([0.5], "positions of rows in which feature 'x0'"),
        ([], "positions of rows in which feature 'x0'"),
    ],
)
def test_bad_rows(linear, rows, message):
    imputer, X, _ = linear
    with pytest.raises(ValueError, match=message):
        from_estimator(imputer, X, 0, kind="intervals", rows=rows)


def test_observed_rows(linear):
    imputer, X, _ = linear
    observed = int(np.flatnonzero(~np.isnan(X[:, 0]))[0])
    with pytest.raises(ValueError, match=f"'x0' is observed in row {observed}"):
        from_estimator(imputer, X, 0, rows=[observed])


def test_unordered_categories_have_no_intervals(mixed):
    X = make_mixed_table("pandas")
    with pytest.raises(ValueError, match="'island' has no intervals"):
        from_estimator(mixed, X, "island", kind="intervals")


def test_truth_of_the_wrong_shape(linear):
    imputer, X, truth = linear
    with pytest.raises(ValueError, match=r"'x0', of shape \(60,\)"):
        from_estimator(imputer, X, 0, truth=truth)


def test_unknown_kind(linear):
    imputer, X, _ = linear
    with pytest.raises(ValueError, match="kind must be one of"):
        from_estimator(imputer, X, 0, kind="violin")


def test_without_matplotlib(monkeypatch, linear):
    imputer, X, _ = linear
    real_import = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        from_estimator(imputer, X, 0)
    display = ImputationDisplay(feature_name="x", observed=[1], imputed=[[2]])
    with pytest.raises(ImportError, match="pip install matplotlib"):
        display.plot()


def test_the_global_random_state_is_left_alone(linear):
    imputer, X, _ = linear
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    from_estimator(imputer, X, 0)
    assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
