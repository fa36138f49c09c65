"""The contract of scikit-learn estimators, on estimators with default parameters."""

import inspect

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import ClassifierMixin
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skvae import VAEClassifier, VAEImputer, VAERegressor, VAETransformer

NEEDS_Y = "score_samples is a density of y given X: it requires y"

#: All that may fail, with the reasons.
EXPECTED_FAILURES = {
    "VAETransformer": {
        "check_sample_weight_equivalence_on_dense_data": (
            "A row of weight k and k rows differ in batches, validation rows and noise;"
            " they agree on the average, see test_weights_stand_for_repeated_rows."
        ),
    },
    "VAEImputer": {},
    "VAERegressor": {
        "check_sample_weight_equivalence_on_dense_data": "As for VAETransformer.",
        # they pass X alone; see test_the_regressor_without_its_density
        "check_methods_sample_order_invariance": NEEDS_Y,
        "check_methods_subset_invariance": NEEDS_Y,
    },
    "VAEClassifier": {
        "check_sample_weight_equivalence_on_dense_data": (
            "As for VAETransformer."  # see test_weights_stand_for_repeated_labels
        ),
        "check_classifiers_classes": (
            "It takes -1 for a label; here, as in all of scikit-learn's semi-supervised"
            " estimators, -1 marks a row without one."
        ),
    },
}

#: Checks of scikit-learn that check_estimator does not run.
EXTRA_CHECKS = [
    "check_param_validation",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_get_feature_names_out_error",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_dataframe_column_names_consistency",
]

ESTIMATORS = [VAETransformer, VAEImputer, VAEClassifier]

#: Those that would be of the imputer's second stage alone, which it has not.
STOPPING_PARAMETERS = {
    "tol",
    "n_iter_no_change",
    "early_stopping",
    "validation_fraction",
    "learning_rate",
}

LOOP_PARAMETERS = STOPPING_PARAMETERS | {
    "max_iter",
    "batch_size",
    "learning_rate_init",
    "warm_start",
    "verbose",
    "random_state",
    "activation",
    "hidden_layer_sizes",
}

#: By estimator; no one should have more than 25.
N_PARAMETERS = {
    VAETransformer: 25,
    VAEImputer: 19,
    VAEClassifier: 25,
    VAERegressor: 24,
}


def expected_failures(estimator):
    return EXPECTED_FAILURES[type(estimator).__name__]


@parametrize_with_checks(
    [
        VAETransformer(max_iter=2),
        VAEImputer(max_iter=2),
        VAEClassifier(max_iter=2),
        VAERegressor(max_iter=2),
    ],
    expected_failed_checks=expected_failures,
    xfail_strict=True,
)
def test_common_checks(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize("name", EXTRA_CHECKS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_extra_checks(name, estimator):
    check = getattr(estimator_checks, name)
    check(estimator.__name__, estimator(max_iter=2))


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
def test_the_linear_imputer_keeps_the_contract():
    linear = VAEImputer(hidden_layer_sizes=())
    for name in EXTRA_CHECKS:
        getattr(estimator_checks, name)("VAEImputer", linear)
    for result in estimator_checks.check_estimator(linear, on_skip=None):
        assert result["status"] in ("passed", "skipped")


class WithoutDensity(VAERegressor):
    """The regressor for checks that call ``score_samples`` without y."""

    @property
    def score_samples(self):
        raise AttributeError(NEEDS_Y)


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize(
    "name",
    [
        *(k for k, v in EXPECTED_FAILURES["VAERegressor"].items() if v == NEEDS_Y),
        "check_dataframe_column_names_consistency",
    ],
)
def test_the_regressor_without_its_density(name):
    assert not hasattr(WithoutDensity(), "score_samples")
    getattr(estimator_checks, name)("VAERegressor", WithoutDensity(max_iter=2))


def test_extra_checks_of_the_regressor():
    estimator_checks.check_param_validation("VAERegressor", VAERegressor(max_iter=2))
    tags = VAERegressor().__sklearn_tags__()
    assert tags.input_tags.allow_nan and tags.input_tags.categorical
    assert tags.target_tags.required and tags.target_tags.multi_output


def test_tags():
    for estimator in ESTIMATORS:
        tags = estimator().__sklearn_tags__()
        assert tags.input_tags.allow_nan and tags.input_tags.categorical
        assert not tags.input_tags.sparse
        assert tags.target_tags.required == issubclass(estimator, ClassifierMixin)
    # latents are float32; cells that are there keep their dtype
    tags = VAEImputer().__sklearn_tags__()
    assert set(tags.transformer_tags.preserves_dtype) == {"float64", "float32"}


def test_column_names_of_later_chunks():
    # the part for partial_fit is skipped where early_stopping is on
    check = estimator_checks.check_dataframe_column_names_consistency
    check("VAETransformer", VAETransformer(max_iter=2, early_stopping=False))


@pytest.mark.parametrize("estimator", N_PARAMETERS)
def test_the_number_of_parameters(estimator):
    ours = set(inspect.signature(estimator).parameters)
    assert len(ours) == N_PARAMETERS[estimator] <= 25
    assert set(estimator._parameter_constraints) == ours
    assert set(estimator().get_params()) == ours


@pytest.mark.parametrize("estimator", N_PARAMETERS)
def test_loop_parameters_are_named_as_in_the_mlp(estimator):
    ours = inspect.signature(estimator).parameters
    if estimator is VAEImputer:
        assert set(ours) >= LOOP_PARAMETERS - STOPPING_PARAMETERS
        assert not set(ours) & STOPPING_PARAMETERS
    else:
        assert set(ours) >= LOOP_PARAMETERS
    assert set(inspect.signature(MLPClassifier).parameters) >= LOOP_PARAMETERS
    first, *others = ours.values()
    assert first.name == "n_components"
    assert all(parameter.kind == parameter.KEYWORD_ONLY for parameter in others)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_html_representation(numbers, estimator):
    vae = estimator(max_iter=1)
    assert estimator.__name__ in vae._repr_html_()
    y = np.arange(len(numbers)) % 2
    assert "fitted" in vae.fit(numbers, y)._repr_html_().lower()


# -- weights of the rows -------------------------------------------------------------


@pytest.fixture
def weighted_rows():
    """Two clusters, and weights that make the small one the larger one."""
    rng = np.random.default_rng(0)
    centres = np.repeat([[0.0, 0, 0], [4, 2, -3]], [48, 12], axis=0)
    X = centres + rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3))
    return X, np.repeat([1, 9], [48, 12])


def test_weights_stand_for_repeated_rows(weighted_rows):
    X, weights = weighted_rows
    repeated = X.repeat(weights, axis=0)

    def mean_score(rows, sample_weight):
        # a linear model: it converges, so that the noise of training averages out
        vae = VAETransformer(2, hidden_layer_sizes=(), learning_rate_init=0.03)
        # all rows in one batch: as many steps, however many rows
        vae.set_params(max_iter=120, batch_size=len(rows), early_stopping=False)
        return np.mean(
            [
                vae.set_params(random_state=seed)
                .fit(rows, sample_weight=sample_weight)
                .score(repeated)
                for seed in range(4)
            ]
        )

    with_copies = mean_score(repeated, None)
    assert mean_score(X, weights) == pytest.approx(with_copies, abs=0.05)
    # and weights that were ignored would show
    assert with_copies - mean_score(X, None) > 0.5


@pytest.mark.parametrize("early_stopping", [True, False])
def test_rows_of_weight_zero_are_not_there(mixed_table, early_stopping):
    X = mixed_table()
    weights = np.arange(len(X)) % 4  # 0, 1, 2, 3, ...
    # nothing may be learned from the rows without weight: neither scales, nor
    # categories, nor that a cell can be missing
    X["island"] = X["island"].astype("object")
    X.loc[weights == 0, "island"] = "Atlantis"
    X.loc[weights == 0, "mass"] = 1e6
    X["whole"] = np.where(weights == 0, np.nan, np.arange(len(X)))
    X["constant"] = np.where(weights == 0, 2.0, 1.0)
    X = X.astype({"island": "string"})
    vae = VAETransformer(max_iter=3, early_stopping=early_stopping, random_state=0)
    kept = X[weights > 0]
    left_out = vae.fit(X, sample_weight=weights).score_samples(kept)
    removed = vae.fit(kept, sample_weight=weights[weights > 0]).score_samples(kept)
    np.testing.assert_array_equal(left_out, removed)


def test_equal_weights_are_no_weights(numbers):
    vae = VAETransformer(max_iter=3, random_state=0)
    plain = vae.fit(numbers).transform(numbers)
    weighted = vae.fit(numbers, sample_weight=np.full(80, 2.5)).transform(numbers)
    np.testing.assert_array_equal(plain, weighted)


@pytest.mark.parametrize("container", ["pandas", "polars", "pyarrow"])
def test_weights_with_every_container(mixed_table, container):
    X = mixed_table(container)
    vae = VAETransformer(max_iter=3, random_state=0)
    weights = np.arange(X.shape[0]) % 3
    scores = vae.fit(X, sample_weight=weights).score_samples(X)
    reference = mixed_table("pandas")
    expected = vae.fit(reference, sample_weight=weights).score_samples(reference)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_validation_rows_are_weighted(numbers):
    X, weights = numbers.copy(), np.ones(80)
    X[7], weights[7] = 1e3, 1e-9  # as good as absent, where weights count
    vae = VAETransformer(2, max_iter=1, validation_fraction=0.5)
    for seed in range(6):  # some of them validate on row 7
        vae.set_params(random_state=seed).fit(X, sample_weight=weights)
        assert vae.validation_scores_[0] > -20


# -- metadata routing ----------------------------------------------------------------


def test_weights_are_routed_through_a_pipeline(numbers):
    weights = np.random.default_rng(0).integers(1, 4, size=len(numbers))
    with config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        vae = VAETransformer(max_iter=2, random_state=0)
        vae.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = Pipeline([("scale", scaler), ("vae", vae)])
        pipeline.fit(numbers, sample_weight=weights)
        score = pipeline.score(numbers, sample_weight=weights)

    scaled = StandardScaler().fit_transform(numbers)
    by_hand = VAETransformer(max_iter=2, random_state=0)
    by_hand.fit(scaled, sample_weight=weights)
    assert score == by_hand.score(scaled, sample_weight=weights)
    assert score != by_hand.score(scaled)


def test_weights_are_routed_through_a_search(numbers):
    weights = np.random.default_rng(0).integers(1, 4, size=len(numbers))
    with config_context(enable_metadata_routing=True):
        vae = VAETransformer(max_iter=2, random_state=0)
        vae.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(vae, {"n_components": [2]}, cv=2)
        search.fit(numbers, sample_weight=weights)
    first, second = np.split(np.arange(80), 2)
    vae = VAETransformer(2, max_iter=2, random_state=0)
    vae.fit(numbers[second], sample_weight=weights[second])
    expected = vae.score(numbers[first], sample_weight=weights[first])
    assert search.cv_results_["split0_test_score"][0] == pytest.approx(expected)


def test_weights_need_a_request(numbers):
    with config_context(enable_metadata_routing=True):
        pipeline = Pipeline([("vae", VAETransformer(max_iter=2))])
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            pipeline.fit(numbers, sample_weight=np.ones(80))


def test_fit_transform_passes_weights_on(numbers):
    weights = np.arange(80) % 3
    vae = VAETransformer(max_iter=2, random_state=0)
    at_once = vae.fit_transform(numbers, sample_weight=weights)
    expected = vae.fit(numbers, sample_weight=weights).transform(numbers)
    np.testing.assert_array_equal(at_once, expected)


def test_weights_reach_the_imputer(numbers):
    weights = np.arange(80) % 3
    X = numbers.copy()
    X[::3, 1] = np.nan
    with config_context(enable_metadata_routing=True):
        vae = VAEImputer(max_iter=2, random_state=0)
        vae.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = Pipeline([("vae", vae)]).fit(X, sample_weight=weights)
        score = pipeline.score(X, sample_weight=weights)
    by_hand = VAEImputer(max_iter=2, random_state=0).fit(X, sample_weight=weights)
    assert score == by_hand.score(X, sample_weight=weights)
    assert score != by_hand.score(X)
