"""VAEImputer: what is learned, what options do, and what is saved."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from imputed_cells import cells, imputer
from mixed_tables import CONTAINERS
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skvae import VAEImputer
from skvae._distributions.location_scale import SCALE_FLOOR
from skvae._imputation.settings import SETTINGS

# -- training ------------------------------------------------------------------------


def test_what_is_learned(mixed_table):
    X = mixed_table()
    model = imputer(n_components=3, max_iter=4).fit(X)
    assert model.n_components_ == 3
    assert model.n_features_in_ == 5
    assert model.feature_names_in_.tolist() == X.columns.tolist()
    assert list(model.likelihood_) == X.columns.tolist()
    assert model.numeric_transform_ == {"mass": "standard"}
    assert set(model.stacking_weights_) == set(X.columns)
    for shares in model.stacking_weights_.values():
        assert list(shares) == ["marginal", "normal", "networks"]
        assert min(shares.values()) >= 0
        assert sum(shares.values()) == pytest.approx(1)
    assert model.missingness_slopes_ == {}
    assert model.indicator_features_.tolist() == [0, 1, 2, 3]
    assert np.isfinite(model.mean_losses_).all() and model.mean_losses_.ndim == 1
    assert model.n_iter_ == len(model.loss_curve_) == 4
    assert len(model.validation_scores_) == 4
    assert model.device_ == "cpu"


@pytest.mark.parametrize(
    ("n_rows", "given", "mean_widths", "vae_widths"),
    [
        (SETTINGS.large_table - 1, None, [128, 128], [128, 128]),
        (SETTINGS.large_table, None, [256, 256, 256], [128, 128]),
        (SETTINGS.large_table, (8,), [8], [8]),
    ],
)
def test_rows_widen_the_conditional_mean(holes, n_rows, given, mean_widths, vae_widths):
    X = np.resize(holes, (n_rows, holes.shape[1]))
    model = VAEImputer(hidden_layer_sizes=given, max_iter=1, random_state=0)
    model = pickle.loads(pickle.dumps(model.fit(X)))
    widths = [weight.shape[-1] for weight in model._model.mean.ensemble.weights]
    assert widths[:-1] == mean_widths
    layers = [
        m for m in model._model.module.decoder.hidden if hasattr(m, "out_features")
    ]
    assert [layer.out_features for layer in layers] == vae_widths[::-1]


def test_networks_leave_out_rows_and_keep_the_best_weights(holes):
    model = imputer(max_iter=30).fit(holes)
    assert model.mean_losses_.min() < model.mean_losses_[0]
    assert model._model.mean.gaussian.folds is None  # of use in training alone


def test_scales_stay_above_a_part_of_the_gaps_between_values(holes):
    X = np.column_stack([holes, np.round(2 * holes[:, 0])])
    X[:5, 5] = 0  # observed where the first column is not
    model = imputer(likelihood="normal").fit(X)
    floor = model._model.module.joint.heads[0].floor.numpy()
    column = model._encoder.columns_[5]
    assert (np.diff(column.support) == 1).all()
    gap = 1 / column.map.scale  # in units of the encoded column
    np.testing.assert_allclose(
        floor, [*[SCALE_FLOOR] * 5, SETTINGS.floor_per_gap * gap]
    )


def test_centres_are_locations_of_numbers(mixed_table):
    """Numbers whose mean is the location; not with a nonlinear map, nor counts."""
    rng = np.random.default_rng(0)
    X = mixed_table()
    X["normal"] = rng.normal(size=60)
    X["skewed"] = rng.lognormal(sigma=1.5, size=60)
    model = imputer(numeric_transform={"normal": "standard", "skewed": "quantile"})
    model.fit(X)
    outputs, sources = model._model.architecture["centres"]
    names = [model._encoder.columns_[i].name for i in model._model.groups.order]
    columns, _, locations = model._model.module.joint.location_scale_indices()
    of_output = dict(zip(locations.tolist(), columns.tolist(), strict=True))
    found = {names[of_output[output]] for output in outputs}
    assert "normal" in found and not found & {"skewed", "visits", "island"}
    mean = model._model.mean
    of_source = dict(zip(mean.outputs.tolist(), mean.columns.tolist(), strict=True))
    assert {names[of_source[source]] for source in sources} == found


def test_draws_vary_around_the_point_estimate(holes):
    """Over the nodes, locations average to the estimates, whatever was learned."""
    model = imputer(numeric_transform="standard", max_iter=10).fit(holes)
    data = model._model.batch(model._encode(holes))
    mean, vae = model._model.mean, model._model.module
    with torch.no_grad():
        c = mean.context(data.x, data.x_original, data.observed)
        nodes = vae.prior(c).rsample(vae.nodes.expand(-1, len(holes), -1))
        px = vae.decode(nodes, c)
        expected = mean.expected(data.x, data.x_original, data.observed)
    locations = px[..., vae.joint.location_scale_indices()[2]]
    torch.testing.assert_close(locations.mean(0), expected, atol=1e-5, rtol=0)
    assert locations.std(0).min() > 1e-3


def test_rows_of_weight_zero_are_not_there(mixed_table):
    X = mixed_table()
    weights = np.arange(len(X)) % 4
    X["whole"] = np.where(weights == 0, np.nan, np.arange(len(X)))
    X.loc[weights == 0, "mass"] = 1e6
    kept = X[weights > 0]
    model = imputer(add_indicator=True).fit(X, sample_weight=weights)
    removed = imputer(add_indicator=True).fit(kept, sample_weight=weights[weights > 0])
    np.testing.assert_array_equal(model.transform(kept), removed.transform(kept))
    np.testing.assert_array_equal(
        model.score_samples(kept), removed.score_samples(kept)
    )
    assert 5 not in model.indicator_features_


@pytest.mark.parametrize("hidden_layer_sizes", [(8,), ()])
def test_weights_count(hidden_layer_sizes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    X = np.column_stack([x, np.where(np.arange(200) < 100, x, -x)])
    model = imputer(hidden_layer_sizes=hidden_layer_sizes, max_iter=15)
    new = np.array([[1.0, np.nan]])
    for first, sign in ((10, 1), (0.1, -1)):
        weights = np.where(np.arange(200) < 100, first, 1.0)
        filled = model.fit(X, sample_weight=weights).transform(new)
        assert sign * filled[0, 1] > 0.3


@pytest.mark.parametrize("hidden_layer_sizes", [(8,), ()])
def test_warm_start(holes, hidden_layer_sizes):
    model = imputer(hidden_layer_sizes=hidden_layer_sizes, warm_start=True)
    first = model.fit(holes)
    n_iter, score = first.n_iter_, first.best_validation_score_
    model.fit(holes)
    assert np.isfinite(model.transform(holes)).all()
    if hidden_layer_sizes:
        assert model.n_iter_ == 2 * n_iter
        # losses of single epochs are of other hidden cells each
        assert model.best_validation_score_ > score
    else:
        assert model.n_iter_ == n_iter


def test_fit_again_forgets(holes):
    model = imputer().fit(3 * holes[:, :4] + 50)
    np.testing.assert_array_equal(
        model.fit(holes).transform(holes), imputer().fit_transform(holes)
    )


def test_a_failed_fit_changes_nothing(holes):
    model = imputer(warm_start=True).fit(holes)
    before = model.transform(holes)
    model.set_params(learning_rate_init=1e30)
    with pytest.raises(ValueError):
        model.fit(holes)
    np.testing.assert_array_equal(model.transform(holes), before)


def test_callbacks(holes, capsys):
    pytest.importorskip("rich")
    model = imputer(max_iter=3).set_callbacks(ProgressBar())
    filled = model.fit_transform(holes)
    np.testing.assert_array_equal(filled, imputer(max_iter=3).fit_transform(holes))
    imputer(hidden_layer_sizes=()).set_callbacks(ProgressBar()).fit(holes)


def test_verbose(holes, capsys):
    imputer(verbose=True).fit(holes)
    assert capsys.readouterr().out


def test_no_hidden_layer_needs_numbers(mixed_table):
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=\(\).*numeric columns"):
        imputer(hidden_layer_sizes=()).fit(mixed_table())


def test_without_layers_counts_are_numbers():
    rng = np.random.default_rng(0)
    level = rng.normal(size=300)
    X = np.column_stack([10 * level, rng.poisson(np.exp(1.5 + 0.5 * level))])
    X = X.astype(int)
    model = imputer(hidden_layer_sizes=()).fit(X)
    assert set(model.likelihood_.values()) == {"normal"}
    filled = model.transform(np.array([[-20.0, np.nan], [0, np.nan], [20, np.nan]]))
    low, mid, high = filled[:, 1]
    assert 0 <= low < mid < high
    # rows that fit the table score more than shuffled ones
    shuffled = np.column_stack([X[:, 0], np.roll(X[:, 1], 7)])
    assert model.score(X) > model.score(shuffled)


def test_scores_tell_rows_of_the_table_from_others(holes):
    model = imputer().fit(holes)
    assert model.score(holes) > model.score(holes[:, ::-1]) + 1


def test_likelihoods(numbers, holes):
    """Every likelihood fills nearer to the truth than the means of the columns."""
    missing = np.isnan(holes)

    def error(filled):
        return np.sqrt(np.mean((filled - numbers)[missing] ** 2))

    of_means = error(np.broadcast_to(np.nanmean(holes, axis=0), holes.shape))
    for likelihood in ("normal", "normal_heteroscedastic", "student_t"):
        model = imputer(likelihood=likelihood, max_iter=3).fit(holes)
        assert set(model.likelihood_.values()) == {likelihood}
        filled = model.transform(holes)
        assert error(filled) < 0.7 * of_means
        draws = np.array(model.sample(holes, 20, random_state=0))[:, missing]
        # draws vary around what is filled in, as far as this errs
        assert np.abs(draws.mean(0) - filled[missing]).mean() < 0.3
        assert 0.6 < draws.std(0).mean() / error(filled) < 1.6


def test_categories_only():
    rng = np.random.default_rng(0)
    level = rng.integers(3, size=300)
    noisy = np.where(rng.random(300) < 0.1, rng.integers(3, size=300), level)
    X = np.column_stack([level, noisy, (level + 1) % 3]).astype(float)
    truth = X.copy()
    X[rng.random(X.shape) < 0.2] = np.nan
    model = VAEImputer(
        categorical_features=[0, 1, 2],
        hidden_layer_sizes=(16,),
        max_iter=15,
        random_state=0,
    )
    filled = model.fit_transform(X)
    hidden = np.isnan(X) & (np.isnan(X).sum(axis=1, keepdims=True) < 3)
    assert (filled == truth)[hidden].mean() > 0.9
    assert list(model.stacking_weights_) == ["x0", "x1", "x2"]


def test_pipeline_and_search(holes):
    y = np.nan_to_num(holes[:, 0]) > 0
    pipeline = make_pipeline(imputer(), LogisticRegression())
    grid = {"vaeimputer__strategy": ["mean", "median"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(holes, y)
    assert search.best_score_ > 0.6
    density = GridSearchCV(imputer(), {"n_components": [1, 2]}, cv=2).fit(holes)
    scores = density.cv_results_["mean_test_score"]
    assert density.best_score_ == scores.max() and scores[0] != scores[1]


# -- state ---------------------------------------------------------------------------


def test_pickle(holes, mixed):
    for X, sizes in ((holes, (8,)), (holes, ()), (mixed, (8,))):
        model = imputer(
            hidden_layer_sizes=sizes, missingness="agnostic", add_indicator=True
        ).fit(X)
        loaded = pickle.loads(pickle.dumps(model))
        for call in (
            lambda m, X=X: m.transform(X),
            lambda m, X=X: m.sample(X, 1, random_state=0)[0],
            lambda m, X=X: m.predict_interval(X)[0],
            lambda m, X=X: m.score_samples(X)[:, None],
        ):
            assert cells_of(call(loaded)).tolist() == cells_of(call(model)).tolist()


def cells_of(table):
    return table if isinstance(table, np.ndarray) else cells(table)


def test_clone_is_unfitted(holes):
    model = imputer().fit(holes)
    assert not hasattr(clone(model), "stacking_weights_")


def test_nothing_is_said(holes, mixed_table):
    """No warning in ordinary use."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for X in (holes, *(mixed_table(container) for container in CONTAINERS)):
            model = VAEImputer(hidden_layer_sizes=(8,), max_iter=3).fit(X)
            model.transform(X)
            model.sample(X, 1)
            model.predict_interval(X)
            model.score(X)


def test_threads_are_left_alone(holes):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    imputer().fit_transform(holes)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_table_of_counts_alone():
    X = np.random.default_rng(0).poisson(2, (80, 3)).astype(float)
    X[::4, 0] = np.nan
    model = imputer(likelihood="poisson").fit(X)
    assert set(model.likelihood_.values()) == {"poisson"}
    # columns that say nothing of each other are filled by their mean
    filled = model.transform(X)[::4, 0]
    assert filled.mean() == pytest.approx(np.nanmean(X[:, 0]), abs=0.4)
    draws = np.array(model.sample(X, 30, random_state=0))[:, ::4, 0]
    assert draws.min() >= 0 and (draws == draws.round()).all()
    assert draws.mean() == pytest.approx(np.nanmean(X[:, 0]), abs=0.4)
    assert draws.var() == pytest.approx(np.nanvar(X[:, 0]), rel=0.4)


def test_both_parts_of_the_training_are_told(holes, capsys):
    imputer(verbose=True, max_iter=20).fit(holes)
    out = capsys.readouterr().out
    assert out.count("Conditional mean, step") == 10
    assert "Iteration 1, loss" in out


def test_mps_is_refused(holes, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="double precision, which MPS lacks"):
        imputer(device="mps").fit(holes)
    assert imputer(device="auto").fit(holes).device_ == "cpu"
