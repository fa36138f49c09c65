"""Parameters by column: strings are names and integers positions, everywhere."""

import numpy as np
import pytest

from skvae import VAEClassifier, VAEImputer, VAERegressor, VAETransformer
from skvae._tables.schema import by_column, column_positions

pd = pytest.importorskip("pandas")

SHORT = {"max_iter": 1, "hidden_layer_sizes": (4,), "random_state": 0}
LABELS = [2, 0, 1]


def numbered():
    """Numbers whose labels are the positions of other columns."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(rng.integers(0, 3, size=(40, 3)).astype(float), columns=LABELS)


def test_positions():
    names = ["2", "0", "1"]
    found = column_positions(["0", 0, np.int64(2), -1], names, "p")
    assert found == [1, 0, 2, 2]
    assert by_column({"0": "a", 0: "b"}, names, "p") == {1: "a", 0: "b"}
    with pytest.raises(ValueError, match="p names the column '0' twice"):
        by_column({"0": "a", 1: "b"}, names, "p")
    for key in ("x", True, None, 1.0, ("0",)):
        with pytest.raises(ValueError, match="p names the unknown column"):
            column_positions([key], names, "p")
    with pytest.raises(ValueError, match=r"index 7, but y has 3 columns.*as strings"):
        column_positions([7], names, "p", "y")


@pytest.mark.parametrize("key", [0, "2", np.int32(0), -3])
def test_integer_labels(key):
    X, label = numbered(), "2"
    holes = X.mask(np.random.default_rng(1).random(X.shape) < 0.2)
    for class_, y in (
        (VAETransformer, None),
        (VAEImputer, None),
        (VAEClassifier, np.arange(40) % 2),
    ):
        model = class_(likelihood={key: "student_t"}, **SHORT).fit(X, y)
        assert model.likelihood_[label] == "student_t"
        model = class_(numeric_transform={key: "quantile"}, **SHORT).fit(X, y)
        assert model.numeric_transform_[label] == "quantile"
        model = class_(categorical_features=[key], **SHORT).fit(X, y)
        assert model.likelihood_[label] == "categorical"
    model = VAERegressor(likelihood={key: "student_t"}, **SHORT).fit(X, X)
    assert model.likelihood_[label] == "student_t"
    model = VAEImputer(missingness={key: "high"}, **SHORT).fit(holes)
    assert list(model.missingness_slopes_) == [label]


def test_names_and_positions_together():
    frame = pd.DataFrame({"a": [1.0, 2, 1], "1": [1.0, 3, 3], "c": [1.0, 2, 3]})
    model = VAETransformer(categorical_features=["a", 2], **SHORT).fit(frame)
    found = [model.likelihood_[name] == "categorical" for name in "a1c"]
    assert found == [True, False, True]
    mask = [np.True_, False, True]
    again = VAETransformer(categorical_features=mask, **SHORT).fit(frame)
    assert again.likelihood_ == model.likelihood_
