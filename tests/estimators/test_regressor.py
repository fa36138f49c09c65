"""VAERegressor: tables of every kind, images, and what it refuses."""

import pickle
import warnings

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import pytest
import torch
from linear_rows import linear_rows
from sklearn.base import clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from skvae import VAERegressor

# -- what the networks add -----------------------------------------------------------


def wave(n_rows, seed):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, size=(n_rows, 2))
    mean = np.sin(2 * X[:, 0]) * X[:, 1]
    return X, mean + 0.1 * rng.normal(size=n_rows), mean


def test_a_curved_mean_is_learned():
    X, y, _ = wave(600, 0)
    vae = VAERegressor(hidden_layer_sizes=(64, 64), max_iter=60, random_state=0)
    X_test, y_test, _ = wave(400, 1)
    assert vae.fit(X, y).score(X_test, y_test) > 0.85
    assert LinearRegression().fit(X, y).score(X_test, y_test) < 0.2


def test_two_answers_are_drawn():
    # y is x or -x: the mean says nothing, draws do
    rng = np.random.default_rng(0)
    X = rng.uniform(1, 2, size=(600, 1))
    sign = rng.choice([-1, 1], size=(600, 1))
    y = sign * X + 0.05 * rng.normal(size=(600, 2))
    vae = VAERegressor(1, hidden_layer_sizes=(32,), max_iter=40, random_state=0)
    draws = vae.fit(X, y).sample([[1.5]], n_draws=500, random_state=0)[:, 0]
    assert np.mean(np.sign(draws[:, 0]) == np.sign(draws[:, 1])) > 0.95
    assert np.abs(draws).mean() == pytest.approx(1.5, abs=0.5)
    assert np.abs(vae.predict([[1.5]])).max() < 0.4


def test_means_of_transformed_outputs_are_means_of_y():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 1))
    y = np.exp(0.5 * X[:, 0] + rng.normal(size=3000))
    vae = VAERegressor(
        hidden_layer_sizes=(), numeric_transform="quantile", max_iter=5, random_state=0
    ).fit(X, y)
    mean, deviation = vae.predict([[0.0]], return_std=True)
    assert mean[0] == pytest.approx(np.exp(0.5), rel=0.2)
    assert deviation[0] == pytest.approx(np.exp(0.5) * np.sqrt(np.e - 1), rel=0.35)


@pytest.mark.parametrize(
    "likelihood", ["normal_heteroscedastic", "student_t", "student_t_heteroscedastic"]
)
def test_likelihoods_of_numbers(likelihood):
    X, y, _ = wave(200, 0)
    vae = VAERegressor(likelihood=likelihood, max_iter=3, random_state=0).fit(X, y)
    mean, deviation = vae.predict(X, return_std=True)
    assert np.isfinite(mean).all() and (deviation > 0).all()
    draws = vae.sample(X[:1], n_draws=4000, random_state=0)
    assert draws.std() == pytest.approx(deviation[0], rel=0.25)


def test_counts_and_rates():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    y = np.column_stack([rng.poisson(np.exp(X[:, 0])), rng.random(400) < 0.3])
    heads = {0: "poisson", 1: "bernoulli"}
    vae = VAERegressor(likelihood=heads, max_iter=30, random_state=0).fit(X, y)
    assert vae.likelihood_ == {"y0": "poisson", "y1": "bernoulli"}
    mean = vae.predict([[1.0, 0], [-1.0, 0]])
    assert mean[0, 0] > 2 * mean[1, 0]
    assert mean[:, 1] == pytest.approx(0.3, abs=0.15)
    for temperature in (0.0, 0.5, 1.0):
        draws = vae.sample(X, 2, temperature=temperature, random_state=0)
        assert draws.dtype == y.dtype and draws.min() >= 0


# -- containers ----------------------------------------------------------------------


def one_output(container, y):
    if container == "list":
        return y.tolist()
    if container == "pandas":
        return pd.Series(y, name="price")
    if container == "polars":
        return pytest.importorskip("polars").Series("price", y)
    if container == "pyarrow":
        return pytest.importorskip("pyarrow").chunked_array([y])
    return y


@pytest.mark.parametrize("container", ["array", "list", "pandas", "polars", "pyarrow"])
def test_one_output_in_one_dimension(container):
    X, y, _ = wave(80, 0)
    outputs = one_output(container, y)
    vae = VAERegressor(max_iter=2, random_state=0).fit(X, outputs)
    expected = VAERegressor(max_iter=2, random_state=0).fit(X, y)
    mean, deviation = vae.predict(X, return_std=True)
    np.testing.assert_array_equal(mean, expected.predict(X))
    assert mean.shape == deviation.shape == (80,) and mean.dtype == np.float64
    assert vae.sample(X, 3).shape == (3, 80)
    assert [bound.shape for bound in vae.predict_interval(X)] == [(80,)] * 2
    assert vae.score(X, outputs) == pytest.approx(r2_score(y, mean))
    assert vae.score_samples(X, outputs).shape == (80,)


@pytest.mark.parametrize("container", ["pandas", "polars", "pyarrow"])
def test_mixed_tables(mixed_table, container):
    outputs = mixed_table(container)
    features = mixed_table(container)
    vae = VAERegressor(max_iter=2, random_state=0).fit(features, outputs)
    predicted = vae.predict(features)
    assert type(predicted) is type(outputs) and predicted.shape == outputs.shape
    for draw in vae.sample(features, 2, temperature=0.7, random_state=0):
        assert type(draw) is type(outputs)
        if container == "pandas":
            assert (draw.dtypes == outputs.dtypes).all()
            assert draw.notna().to_numpy().all()
    lower, upper = vae.predict_interval(features)
    if container == "pandas":
        assert (lower["mass"] <= upper["mass"]).all()
        assert (lower["size"] <= upper["size"]).all()
        assert lower["island"].equals(predicted["island"])
    assert np.isfinite(vae.score_samples(features, outputs)).all()
    with pytest.raises(ValueError, match=r"return_std needs numeric outputs.*'island'"):
        vae.predict(features, return_std=True)
    with pytest.raises(ValueError, match="R² needs numeric outputs"):
        vae.score(features, outputs)


def test_numeric_frames_give_arrays_and_draws_like_them():
    X, y, *_ = linear_rows(100, seed=0)
    frame = pd.DataFrame(y, columns=list("abcde"))
    vae = VAERegressor(max_iter=2, random_state=0).fit(X, frame)
    assert isinstance(vae.predict(X), np.ndarray)
    assert list(vae.likelihood_) == list("abcde")
    (draw,) = vae.sample(X)
    assert list(draw) == list("abcde")
    assert vae.score(X, frame) == pytest.approx(r2_score(y, vae.predict(X)))


def test_missing_and_unknown_features():
    X, y, _ = wave(200, 0)
    X[::4, 0] = np.nan
    vae = VAERegressor(max_iter=3, random_state=0).fit(X, y)
    assert vae._model.embedding.masked
    nothing = np.full((2, 2), np.nan)
    assert np.isfinite(vae.predict(nothing)).all()
    # missing for the first time in a new row
    vae = VAERegressor(max_iter=3, random_state=0).fit(X[1::4], y[1::4])
    assert not vae._model.embedding.masked
    assert np.isfinite(vae.predict(nothing)).all()
    frame = pd.DataFrame({"kind": ["a", "b"] * 100, "size": X[:, 1]})
    frame = frame.astype({"kind": "category"})
    vae = VAERegressor(max_iter=3, random_state=0).fit(frame, y)
    new = pd.DataFrame({"kind": ["c"], "size": [0.0]}).astype({"kind": "category"})
    with pytest.warns(UserWarning, match="not seen in training"):
        assert np.isfinite(vae.predict(new)).all()


def test_constants():
    X, y, _ = wave(60, 0)
    Y = np.column_stack([y, np.full(60, 7.0)])
    mean, deviation = (
        VAERegressor(max_iter=2, random_state=0).fit(X, Y).predict(X, return_std=True)
    )
    assert (mean[:, 1] == 7).all() and (deviation[:, 1] == 0).all()
    vae = VAERegressor(max_iter=2, random_state=0).fit(np.ones((60, 1)), y)
    assert vae.predict([[1.0]])[0] == pytest.approx(y.mean(), abs=0.2)


# -- errors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y"),
        (np.zeros((20, 2, 2)), "one- or two-dimensional"),
        (np.full(20, np.nan), "Input y contains NaN only"),
        (
            np.column_stack([np.ones(20), np.full(20, np.nan)]),
            "without any value: 'y1'",
        ),
        (np.r_[np.inf, np.ones(19)], "Input y contains infinity .*'y0'"),
        (np.ones(19), "inconsistent numbers of samples"),
    ],
)
def test_outputs_that_cannot_be_used(y, message):
    with pytest.raises(ValueError, match=message):
        VAERegressor(max_iter=1).fit(np.arange(40.0).reshape(20, 2), y)


def test_arguments_that_cannot_be_used():
    X, y, _ = wave(40, 0)
    vae = VAERegressor(max_iter=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="coverage must lie between 0 and"):
        vae.predict_interval(X, 1.0)
    with pytest.raises(ValueError, match="n_draws must be an int"):
        vae.sample(X, 0)
    for temperature in (-1, np.nan, np.inf, "hot", True):
        with pytest.raises(ValueError, match="temperature must be a number"):
            vae.sample(X, temperature=temperature)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'y'"):
        vae.score_samples(X)
    before = vars(vae).copy()
    with pytest.raises(ValueError, match="Input y contains infinity"):
        vae.fit(X, np.r_[np.inf, y[1:]])
    assert vars(vae) == before


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 3), {}, "stands for 6 outputs, but y has 16"),
        ((16,), {}, "must be .height, width."),
        ((4, 4), {"likelihood": {0: "bernoulli"}}, "pixels of one kind"),
        ((4, 4), {"numeric_transform": "quantile"}, "pixels of one kind"),
    ],
)
def test_images_that_are_none(shape, options, message):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=message):
        VAERegressor(image_shape=shape, max_iter=1, **options).fit(
            rng.random((30, 4)), rng.random((30, 16))
        )


# -- estimator -----------------------------------------------------------------------


def test_results_do_not_depend_on_neighbours_and_inputs_stay():
    X, y, _ = wave(60, 0)
    kept_X, kept_y = X.copy(), y.copy()
    vae = VAERegressor(max_iter=3, random_state=0).fit(X, y)
    one_by_one = [vae.predict(row[None])[0] for row in X]
    np.testing.assert_allclose(vae.predict(X), one_by_one, rtol=1e-9)
    np.testing.assert_allclose(vae.predict(X.astype(np.float32)), one_by_one, rtol=1e-3)
    np.testing.assert_array_equal(X, kept_X)
    np.testing.assert_array_equal(y, kept_y)


@pytest.mark.parametrize("image", [False, True])
def test_pickles_and_clones_agree(image):
    rng = np.random.default_rng(0)
    X, y = rng.random((40, 4)), rng.random((40, 16))
    shape = (4, 4) if image else None
    vae = VAERegressor(3, image_shape=shape, max_iter=2, random_state=0).fit(X, y)
    state = torch.get_rng_state()
    loaded = pickle.loads(pickle.dumps(vae))
    np.testing.assert_array_equal(loaded.predict(X), vae.predict(X))
    np.testing.assert_array_equal(loaded.score_samples(X, y), vae.score_samples(X, y))
    np.testing.assert_array_equal(
        loaded.sample(X, random_state=1), vae.sample(X, random_state=1)
    )
    again = clone(vae).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), vae.predict(X))
    assert torch.equal(torch.get_rng_state(), state)


def test_warm_start_goes_on():
    X, y, _ = wave(200, 0)
    vae = VAERegressor(max_iter=2, warm_start=True, random_state=0)
    vae.set_params(early_stopping=False).fit(X, y)
    first = vae.score(X, y)
    for _ in range(4):
        vae.fit(X, y)
    assert vae.n_iter_ == 10 and vae.score(X, y) > first


def test_weights_count():
    X, y, _ = wave(100, 0)
    weights = np.arange(100) % 2
    vae = VAERegressor(max_iter=2, random_state=0)
    weighted = vae.fit(X, y, sample_weight=weights).predict(X)
    kept = weights > 0
    np.testing.assert_array_equal(weighted, vae.fit(X[kept], y[kept]).predict(X))
    weighted = vae.score(X, y, sample_weight=weights)
    assert weighted == pytest.approx(vae.score(X[kept], y[kept]))


@pytest.mark.parametrize(
    "options",
    [
        {"latent": "gamma"},
        {"latent": "lognormal"},
        {"latent": "beta"},
        {"latent": "dirichlet", "n_components": 3},
        {"prior": {"mixture": 3}},
        {"prior": {"vamp": 3}},
        {"prior": (1.0, 2.0)},
    ],
)
def test_latent_families_and_priors(options):
    random = np.random.default_rng(0)
    X = random.normal(size=(120, 2))
    Y = X @ [[1.0, 0.5], [0.0, 1.0]] + 0.3 * random.normal(size=(120, 2))
    holes = Y.copy()
    holes[::7, 0] = np.nan
    model = VAERegressor(max_iter=15, random_state=0, **options).fit(X, holes)
    assert model.score(X, Y) > 0.5
    assert np.isfinite(model.score_samples(X, holes)).all()
    centre = model.sample(X, 1, temperature=0, random_state=0)
    cool = model.sample(X, 50, temperature=0.5, random_state=0)
    warm = model.sample(X, 50, random_state=0)
    assert np.isfinite(centre).all()
    assert cool.std(0).mean() < warm.std(0).mean()
    if options.get("latent", "normal") != "normal":
        with pytest.raises(ValueError, match="leave the range of latent"):
            model.sample(X, 1, temperature=1.5)


def test_scores_are_of_the_outputs_of_training():
    X, y, _ = wave(60, 0)
    table = pd.DataFrame({"a": y, "b": -y})
    model = VAERegressor(max_iter=2, random_state=0).fit(X, table)
    score = model.score(X, table)
    with pytest.raises(ValueError, match="columns of y must be 'a', 'b' in this order"):
        model.score(X, table[["b", "a"]])
    with pytest.raises(ValueError, match="y has 1 columns"):
        model.score(X, table[["a"]])
    nothing = table.assign(b=np.nan)
    alone = VAERegressor(max_iter=2, random_state=0).fit(X, table).score(X, nothing)
    assert alone > 0 and np.isfinite(score)
    with pytest.raises(ValueError, match="no observed value"):
        model.score(X, table * np.nan)


def test_the_name_of_a_series_does_not_matter():
    X, y, _ = wave(60, 0)
    model = VAERegressor(max_iter=2, random_state=0).fit(X, pd.Series(y, name="a"))
    other = pd.Series(y, name="b")
    assert np.isfinite(model.score_samples(X, other)).all()
    plain = VAERegressor(max_iter=2, random_state=0).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plain.score(X, other) == plain.score(X, y)
    assert model.score(X, other) == model.score(X, pd.Series(y, name="a"))


def test_nullable_booleans_are_scored():
    """As the rows that have an output, with a dtype that cannot be missing."""
    X, y, _ = wave(60, 0)
    flags = pd.Series(np.where(y > 1, None, y > 0), dtype="boolean")
    model = VAERegressor(max_iter=2, random_state=0).fit(X, flags)
    observed = flags.notna().to_numpy()
    assert 0 < observed.sum() < 60
    expected = model.score(X[observed], flags[observed].astype(bool))
    assert model.score(X, flags) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("likelihood", ["categorical", {0: "categorical"}])
def test_arrays_of_strings(likelihood):
    X = np.random.default_rng(0).normal(size=(60, 1))
    labels = np.where(X[:, 0] > 0, "up", "down")
    with pytest.raises(ValueError, match="give it likelihood='categorical'"):
        VAERegressor(max_iter=2).fit(X, labels)
    model = VAERegressor(likelihood=likelihood, max_iter=30, random_state=0)
    predicted = model.fit(X, labels).predict(X)
    assert (predicted == labels).mean() > 0.8


def test_shares_need_two_latent_variables():
    X, y, _ = wave(60, 0)
    model = VAERegressor(latent="dirichlet", max_iter=2, random_state=0).fit(X, y)
    assert model.n_components_ == 2
    with pytest.raises(ValueError, match="at least 2 with latent='dirichlet'"):
        model.set_params(n_components=1).fit(X, y)


def test_sides_of_images_may_be_numpy_integers():
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(30, 16))
    model = VAERegressor(image_shape=np.array([4, 4]), max_iter=1, random_state=0)
    found = model.fit(Y[:, :4], Y).predict(Y[:2, :4])
    expected = model.set_params(image_shape=(4, 4)).fit(Y[:, :4], Y).predict(Y[:2, :4])
    np.testing.assert_array_equal(found, expected)


def test_frames_have_the_index_of_the_features(mixed_table):
    Y = mixed_table("pandas")
    X = pd.DataFrame({"x": np.arange(len(Y)) * 1.0}, index=[f"r{i}" for i in Y.index])
    model = VAERegressor(max_iter=1, random_state=0).fit(X, Y)
    assert model.predict(X).index.equals(X.index)
    assert model.sample(X)[0].index.equals(X.index)
    assert model.predict_interval(X)[1].index.equals(X.index)


def test_score_needs_two_values_of_an_output():
    X, y, _ = wave(60, 0)
    Y = np.column_stack([y, -y])
    model = VAERegressor(max_iter=1, random_state=0).fit(X, Y)
    with pytest.warns(UndefinedMetricWarning, match="two observed") as caught:
        assert np.isnan(model.score(X[:1], Y[:1]))
    assert [warning.filename for warning in caught] == [__file__]
    Y[1:, 0] = np.nan
    expected = r2_score(Y[:, 1], model.predict(X)[:, 1])
    assert model.score(X, Y) == pytest.approx(expected)
    weights = np.zeros(60)
    weights[:1] = 1
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(model.score(X, Y, weights))


def test_rows_in_a_wrapper_keep_their_index():
    X, _, _ = wave(20, 0)
    frame = pd.DataFrame(X, columns=["a", "b"], index=[f"r{k}" for k in range(20)])
    model = VAERegressor(max_iter=1, random_state=0).fit(frame, frame)
    rows = nw.from_native(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model.sample(rows, random_state=0)[0]
    expected = model.sample(frame, random_state=0)[0]
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_scores_of_outputs_of_another_size_are_finite(size):
    X, y, _ = wave(20, 0)
    model = VAERegressor(max_iter=1, random_state=0).fit(X, y)
    assert np.isfinite(model.score(X, y * size))
