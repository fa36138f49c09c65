"""What stands for no value among Python objects."""

from datetime import date
from decimal import Decimal

import numpy as np
import pytest
from opening_encoder import TableEncoder

from skvae._semi_supervised.labels import encode_labels, read_labels
from skvae._tables.libraries import library_of
from skvae._tables.missing import missing_mask, replace_marker
from skvae._tables.values import is_missing

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

MISSING = [
    None,
    float("nan"),
    np.float16("nan"),
    np.float64("nan"),
    complex("nan"),
    Decimal("NaN"),
    Decimal("sNaN"),
    np.datetime64("NaT"),
    np.timedelta64("NaT", "D"),
    pd.NaT,
    pd.NA,
]
VALUES = [
    0,
    -1,
    0.0,
    float("inf"),
    False,
    np.False_,
    "",
    "nan",
    "NA",
    "None",
    Decimal(0),
    date(2020, 1, 1),
    np.datetime64("2020-01-01"),
    pd.Timestamp("2020-01-01"),
    (),
    [],
    [float("nan")],
    {},
    np.array([]),
    np.array([np.nan]),
    np.array([np.nan, 1.0]),
    pd.Series([None, 1.0]),
]


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_missing_objects(value):
    assert is_missing(value) is True
    cells = np.empty((2, 1), dtype=object)
    cells[0, 0], cells[1, 0] = value, "a"
    assert missing_mask(cells).tolist() == [[True], [False]]
    classes, codes = encode_labels(*read_labels(cells[:, 0], None))
    assert (classes.tolist(), codes.tolist()) == (["a"], [-1, 0])


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_are_not_missing(value):
    assert is_missing(value) is False


@pytest.mark.parametrize("names", [[""], ["a", ""], ["column_0", ""]])
def test_polars_columns_without_a_name(names):
    frame = pl.DataFrame({name: [1.0, None, 3.0] for name in names})
    encoder = TableEncoder().fit(frame)
    assert encoder.decode(encoder.encode(frame)[0]).columns == names
    masked = np.ones((3, len(names)), dtype=bool)
    assert library_of(frame).mask_cells(frame, masked).columns == names
    assert replace_marker(frame, 1.0).columns == names


def test_integers_of_128_bits_are_refused_by_name():
    frame = pl.DataFrame({"a": pl.Series([1, 2, 3], dtype=pl.Int128)})
    with pytest.raises(ValueError, match="Column 'a' has the dtype Int128"):
        TableEncoder().fit(frame)
