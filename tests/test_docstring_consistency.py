"""Parameters and attributes that estimators share are documented in the same words."""

import inspect
import warnings

import pytest
from sklearn.utils._testing import assert_docstring_consistency

from skvae import VAEClassifier, VAEImputer, VAERegressor, VAETransformer

numpydoc = pytest.importorskip("numpydoc.docscrape")

ESTIMATORS = [VAETransformer, VAEImputer, VAEClassifier, VAERegressor]

OF_Y = "it describes the outputs y, or tells the features X from them"
TWO_STAGES = "it says which of the two stages is meant"
OF_LABELS = "it says what becomes of the labelled rows"
REFERS = "it refers to VAETransformer and adds what is its own"
OTHER = "another thing of the same name"
OTHER_DEFAULT = "its default is another"

#: Sections of the docstrings, and by name who may word it in another way, and why.
MAY_DIFFER = {
    "Parameters": {
        "n_components": {VAERegressor: OF_Y},
        "hidden_layer_sizes": {
            VAEImputer: OTHER_DEFAULT,
            VAEClassifier: "it names the networks",
            VAERegressor: "linear, it is a regression",
        },
        "activation": {VAEImputer: OTHER_DEFAULT},
        "likelihood": {
            VAEImputer: REFERS,
            VAEClassifier: REFERS,
            VAERegressor: OF_Y,
        },
        "numeric_transform": {
            VAEImputer: REFERS,
            VAEClassifier: REFERS,
            VAERegressor: OF_Y,
        },
        "categorical_features": {VAERegressor: OF_Y},
        "objective": {VAEClassifier: OTHER},
        "latent": {VAERegressor: REFERS},
        "prior": {VAERegressor: "its default is a network of the features"},
        "kl_weight": {
            VAEClassifier: "its loss is no bound, whatever the weight",
            VAERegressor: OF_Y,
        },
        "max_iter": {VAEImputer: TWO_STAGES, VAEClassifier: OTHER_DEFAULT},
        "batch_size": {VAEImputer: TWO_STAGES, VAEClassifier: OF_LABELS},
        "learning_rate_init": {VAEImputer: TWO_STAGES, VAEClassifier: OTHER_DEFAULT},
        "early_stopping": {VAEClassifier: OF_LABELS},
        "validation_fraction": {VAEClassifier: OF_LABELS},
        "n_iter_no_change": {VAEClassifier: OTHER_DEFAULT},
        "warm_start": {VAEClassifier: "it keeps the classes, too"},
        "callbacks": {VAEImputer: TWO_STAGES, VAEClassifier: "m1+m2 has two stages"},
        "device": {VAEImputer: "it takes double precision, which MPS lacks"},
        "verbose": {VAEImputer: TWO_STAGES},
    },
    "Attributes": {
        "likelihood_": {VAERegressor: OF_Y},
        "numeric_transform_": {VAERegressor: OF_Y},
        "n_features_in_": {VAERegressor: OF_Y},
        "feature_names_in_": {VAERegressor: OF_Y},
        "n_iter_": {VAEImputer: TWO_STAGES},
        "loss_": {VAERegressor: OF_Y},
        "validation_scores_": {VAEClassifier: OF_LABELS, VAERegressor: OF_Y},
        "best_validation_score_": {
            VAEImputer: "no linear start is kept",
            VAEClassifier: "no linear start is kept",
        },
    },
}

OPTIONS = {"Parameters": "include_params", "Attributes": "include_attrs"}


def entries(estimator, section):
    """Type and description of what a section documents, by name."""
    doc = numpydoc.NumpyDocString(inspect.getdoc(estimator))
    return {
        name: (" ".join(kind.split()), " ".join(" ".join(text).split()))
        for name, kind, text in doc[section]
    }


ENTRIES = {
    section: {estimator: entries(estimator, section) for estimator in ESTIMATORS}
    for section in OPTIONS
}

#: What two estimators or more have.
SHARED = [
    (section, name)
    for section, found in ENTRIES.items()
    for name in dict.fromkeys(name for names in found.values() for name in names)
    if sum(name in names for names in found.values()) > 1
]


def in_common_words(section, name):
    """The estimators that must agree, one at least, and those that need not."""
    owners = [e for e in ESTIMATORS if name in ENTRIES[section][e]]
    others = MAY_DIFFER[section].get(name, {})
    return [e for e in owners if e not in others], list(others)


@pytest.mark.parametrize(("section", "name"), SHARED)
def test_shared_names_are_documented_alike(section, name):
    agree, _ = in_common_words(section, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is skipped
        if len(agree) > 1:
            assert_docstring_consistency(agree, **{OPTIONS[section]: [name]})


def test_what_may_differ_does():
    """No exception that is not needed, nor one for a name that nobody shares."""
    for section, names in MAY_DIFFER.items():
        for name in names:
            assert (section, name) in SHARED
            (first, *_), others = in_common_words(section, name)
            common = ENTRIES[section][first][name]
            for other in others:
                assert ENTRIES[section][other][name] != common, (other, name)


def test_every_parameter_is_documented_in_order():
    for estimator in ESTIMATORS:
        parameters = list(inspect.signature(estimator).parameters)
        assert list(ENTRIES["Parameters"][estimator]) == parameters
