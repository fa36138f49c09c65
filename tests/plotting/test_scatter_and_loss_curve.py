"""Displays of latents by label and of trainings, drawn on Agg."""

import numpy as np
import pytest
from mixed_tables import CONTAINERS, make_mixed_table
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from small_models import fit

from skvae import VAEImputer, VAETransformer
from skvae.plotting import (
    LatentScatterDisplay,
    LossCurveDisplay,
)
from skvae.plotting._scatter import _as_array

# ---------------------------------------------------------------------------
# Scatter
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("container", CONTAINERS)
def test_scatter(container):
    X = make_mixed_table(container)
    model = fit(VAETransformer(n_components=3), X)
    display = LatentScatterDisplay.from_estimator(
        model, X, X["island"], components=(2, 0)
    )
    Z = model.transform(X)
    assert_array_equal(display.latents, Z[:, [2, 0]])
    assert_array_equal(display.classes_, ["Biscoe", "Dream", "Torgersen"])
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["unknown", "Biscoe", "Dream", "Torgersen"]
    drawn = [np.asarray(c.get_offsets()) for c in display.ax_.collections]
    assert sum(map(len, drawn)) == 60
    names = make_mixed_table("pandas")["island"]
    assert_allclose(drawn[2], Z[(names == "Dream").to_numpy()][:, [2, 0]])
    assert display.ax_.get_xlabel() == "latent component 2"


def test_scatter_of_numbers_and_of_nothing(images):
    model, X = images
    numbers = np.linspace(0, 1, 40)
    numbers[0] = np.nan
    display = LatentScatterDisplay.from_estimator(model, X, numbers)
    assert display.classes_ is None
    assert_allclose(display.ax_.collections[1].get_array(), numbers[1:])
    plain = LatentScatterDisplay.from_estimator(model, X)
    assert plain.ax_.get_legend() is None
    few_labels = LatentScatterDisplay.from_estimator(model, X, np.arange(40) % 3)
    assert_array_equal(few_labels.classes_, [0, 1, 2])
    some = np.where(numbers < 0.5, 1.0, np.nan)
    labels = LatentScatterDisplay.from_estimator(model, X, some).ax_.get_legend()
    assert [text.get_text() for text in labels.get_texts()] == ["unknown", "1"]
    mixture = np.array([10, 9, "b", True] * 10, dtype=object)
    assert len(LatentScatterDisplay.from_estimator(model, X, mixture).classes_) == 4


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    ("labels", "kind"),
    [([0, 1], "i"), ([0, None], "f"), ([0.5, 1.5], "f"), ([True, None], "O")],
)
def test_labels_keep_their_kind(container, labels, kind):
    series = {
        "pandas": lambda pd: pd.Series(labels),
        "polars": lambda pl: pl.Series(labels),
        "pyarrow": lambda pa: pa.chunked_array([labels]),
    }[container](pytest.importorskip(container))
    array = _as_array(series)
    assert array.dtype.kind == kind
    assert_array_equal(array[:1], labels[:1])


def test_scatter_of_another_transformer(images):
    _, X = images
    pca = PCA(2).fit(X)
    display = LatentScatterDisplay.from_estimator(pca, X)
    assert_array_equal(display.latents, pca.transform(X))


def test_scatter_of_a_transformer_that_predicts_intervals(images):
    """Intervals alone do not make an imputer."""
    X = images[1]
    pca = PCA(2).fit(X)
    pca.predict_interval = lambda X: None
    display = LatentScatterDisplay.from_estimator(pca, X)
    assert_array_equal(display.latents, pca.transform(X))


def test_bad_y(images):
    model, X = images
    with pytest.raises(ValueError, match=r"y must have the shape \(40,\)"):
        LatentScatterDisplay.from_estimator(model, X, np.zeros(39))


# ---------------------------------------------------------------------------
# Loss curve
# ---------------------------------------------------------------------------


def test_loss_curve(images):
    model, _ = images
    display = LossCurveDisplay.from_estimator(model)
    for name in ("objective", "reconstruction", "kl", "active_units"):
        assert_array_equal(getattr(display, name), model.history_[name])
    assert_array_equal(display.validation, model.validation_scores_)
    assert display.kept == model.best_validation_score_
    objective, reconstruction, kl, units = display.axes_
    training, validation, kept = objective.lines
    assert_array_equal(training.get_xdata(), [1, 2, 3])
    assert_allclose(training.get_ydata(), display.objective)
    assert_allclose(validation.get_ydata(), display.validation)
    assert_allclose(kept.get_ydata(), display.kept)
    assert_allclose(reconstruction.lines[0].get_ydata(), display.reconstruction)
    assert_allclose(kl.lines[0].get_ydata(), display.kl)
    assert_allclose(units.lines[0].get_ydata(), display.active_units)


def test_loss_curve_without_validation_rows(images):
    _, X = images
    model = fit(VAETransformer(n_components=2, early_stopping=False), X)
    display = LossCurveDisplay.from_estimator(model)
    assert display.validation is None
    assert len(display.axes_[0].lines) == 1


def test_scores_of_a_warm_start_belong_to_the_last_epochs():
    display = LossCurveDisplay(
        objective=[-9, -5, -4, -3],
        reconstruction=[-8, -4, -3, -2],
        kl=[1, 1, 1, 1],
        active_units=[0, 1, 1, 2],
        validation=[-4.5, -3.5],
    ).plot()
    assert_array_equal(display.axes_[0].lines[1].get_xdata(), [3, 4])


def test_a_bad_start_does_not_flatten_the_curve():
    objective = np.concatenate([[-1e6], -10 / np.arange(1.0, 60)])
    parts = dict.fromkeys(["objective", "reconstruction", "kl"], objective)
    display = LossCurveDisplay(**parts, active_units=[1] * 60).plot()
    low, high = display.axes_[0].get_ylim()
    # of 60 epochs the first two may be out of sight
    assert -7 < low < -5 and -0.2 < high < 3


def test_loss_curve_of_an_imputer(images):
    X = images[1].copy()
    X[::3, 1] = np.nan
    imputer = fit(VAEImputer(), X)
    display = LossCurveDisplay.from_estimator(imputer)
    assert_array_equal(display.objective, imputer.history_["objective"])
