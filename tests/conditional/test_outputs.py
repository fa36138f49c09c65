"""Outputs of VAERegressor: their checks, and errors that say y."""

import numpy as np
import pytest

from skvae import VAERegressor
from skvae._tables import infer
from skvae._tables.encoder import TableEncoder

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

X = np.arange(80.0).reshape(40, 2)
Y = np.random.default_rng(0).normal(size=(40, 2))
FRAME = pd.DataFrame(Y, columns=["a", "b"])


def with_value(value, row=3):
    y = Y.copy()
    y[row, 1] = value
    return y


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (with_value(np.inf), "Input y contains infinity in column 'y1'"),
        (FRAME.assign(b=np.inf), "Input y contains infinity in column 'b'"),
        (pl.DataFrame({"b": [np.inf] * 40}), "Input y contains infinity in column 'b'"),
        (FRAME.set_axis(["a", "a"], axis=1), "names of y must be unique.* 'a'"),
        (
            FRAME.assign(b=pd.Series(["s"] * 40, dtype=object)),
            "Column 'b' of y has the dtype object.*give it likelihood='categorical'",
        ),
        (
            FRAME.assign(b=pd.date_range("2020-01-01", periods=40)),
            "Column 'b' of y has the dtype datetime.*not supported",
        ),
        (Y[:1], r"Found array with 1 sample\(s\).*VAERegressor"),
        (pl.LazyFrame({"b": [1.0] * 40}), "y is a polars LazyFrame"),
    ],
)
def test_errors_in_training_name_the_outputs(y, message):
    features = X[: len(y)] if hasattr(y, "__len__") else X
    with pytest.raises((ValueError, TypeError), match=message) as error:
        VAERegressor(max_iter=1).fit(features, y)
    assert "categorical_features" not in str(error.value)


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        ({0: "poisson"}, "Column 'y0' of y cannot have the likelihood 'poisson'"),
        ({7: "poisson"}, "likelihood names the column index 7, but y has 2 columns"),
        ({"y2": "poisson"}, "likelihood names the unknown column 'y2'"),
    ],
)
def test_errors_of_likelihoods_name_the_outputs(likelihood, message):
    with pytest.raises(ValueError, match=message):
        VAERegressor(max_iter=1, likelihood=likelihood).fit(X, Y)


@pytest.fixture(scope="module", params=["array", "frame"])
def fitted(request):
    y = Y if request.param == "array" else FRAME
    options = {"likelihood": {1: "bernoulli"}} if request.param == "array" else {}
    if options:
        y = np.column_stack([Y[:, 0], Y[:, 1] > 0])
    model = VAERegressor(max_iter=1, random_state=0, **options).fit(X, y)
    return model, y


def test_errors_after_training_name_the_outputs(fitted):
    model, y = fitted
    wider = np.column_stack([y, Y])
    with pytest.raises(
        ValueError, match="y has 4 columns, but VAERegressor was fitted"
    ):
        model.score_samples(X, wider)
    unfit = np.array(y, dtype=float)
    unfit[0, 0] = -np.inf
    with pytest.raises(ValueError, match="Input y contains infinity"):
        model.score(X, unfit)
    if isinstance(y, np.ndarray):
        with pytest.raises(ValueError, match="Column 'y1' of y has the likelihood"):
            model.score_samples(X, y + 2.0)
    else:
        with pytest.raises(ValueError, match="The columns of y must be 'a', 'b'"):
            model.score(X, y[["b", "a"]])
        with pytest.raises(ValueError, match="Column 'a' of y was numeric in training"):
            model.score_samples(X, y.astype({"a": str}))


def test_names_of_outputs_in_an_array():
    model = VAERegressor(likelihood={"y1": "student_t"}, max_iter=1).fit(X, Y)
    assert model.likelihood_ == {"y0": "normal", "y1": "student_t"}


def test_a_likelihood_by_output_fits_every_encoder_once(monkeypatch):
    """Outputs that the dict leaves out have a default, so nothing is fitted for it."""
    encoders, searches = [], []
    fit, helps = TableEncoder.fit, infer.quantile_helps

    def counted_fit(self, *args):
        encoders.append(self)
        return fit(self, *args)

    def counted_search(*args):
        searches.append(args)
        return helps(*args)

    monkeypatch.setattr(TableEncoder, "fit", counted_fit)
    monkeypatch.setattr(infer, "quantile_helps", counted_search)
    model = VAERegressor(
        likelihood={1: "student_t"}, numeric_transform="auto", max_iter=1
    ).fit(X, Y)
    assert len(encoders) == 2  # features and outputs
    assert len(searches) == 4  # a column each
    assert model.likelihood_ == {"y0": "normal", "y1": "student_t"}
