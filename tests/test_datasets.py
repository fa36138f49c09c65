import sys

import numpy as np
import pytest

from skvae.datasets import load_penguins

NUMERIC = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]


def test_penguins_as_frame():
    pd = pytest.importorskip("pandas")
    penguins = load_penguins()
    assert penguins.data.shape == (344, 6)
    assert list(penguins.data.columns) == penguins.feature_names
    assert penguins.frame.shape == (344, 7)
    assert all(penguins.data[name].dtype == np.float64 for name in NUMERIC)
    for name in ["island", "sex", "species"]:
        assert isinstance(penguins.frame[name].dtype, pd.CategoricalDtype)
    assert penguins.data.isna().sum().tolist() == [0, 2, 2, 2, 2, 11]
    # known totals of the published table
    assert penguins.target.value_counts().to_dict() == {
        "Adelie": 152,
        "Gentoo": 124,
        "Chinstrap": 68,
    }
    assert penguins.data["body_mass_g"].mean() == pytest.approx(4201.754, abs=1e-3)


def test_penguins_as_arrays_hold_the_same_cells():
    pytest.importorskip("pandas")
    arrays = load_penguins(as_frame=False)
    frames = load_penguins()
    assert arrays.frame is None
    assert arrays.data.dtype == object
    assert arrays.target.tolist() == frames.target.tolist()
    assert arrays.target_names.tolist() == frames.target_names.tolist()
    missing = frames.data.isna().to_numpy()
    assert all(np.isnan(cell) for cell in arrays.data[missing])
    expected = frames.data.astype(object).to_numpy()
    assert (arrays.data[~missing] == expected[~missing]).all()


@pytest.mark.parametrize("as_frame", [False, True])
def test_penguins_return_X_y(as_frame):
    if as_frame:
        pytest.importorskip("pandas")
    penguins = load_penguins(as_frame=as_frame)
    X, y = load_penguins(return_X_y=True, as_frame=as_frame)
    assert type(X) is type(penguins.data)
    assert X.shape == (344, 6)
    assert list(y) == list(penguins.target)


def test_penguins_are_fresh_at_each_call():
    first = load_penguins(as_frame=False)
    first.data[0, 0] = "nowhere"
    assert load_penguins(as_frame=False).data[0, 0] == "Torgersen"


def test_penguins_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert load_penguins(as_frame=False).data.shape == (344, 6)
    with pytest.raises(ImportError, match="pip install pandas"):
        load_penguins()


def test_penguins_description_cites_its_sources():
    description = load_penguins(as_frame=False).DESCR
    assert "Gorman" in description
    assert "Horst" in description
    assert "CC0" in description
