"""Levels of any type come back as they are: by their code, from the column's own."""

import copy
import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pytest
from mixed_frames import assert_tables_equal, round_trip
from opening_encoder import TableEncoder

from skvae._tables.levels import key_of, object_from_plain, object_to_plain
from skvae._tables.missing import fill_missing, missing_mask

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")

STAMPS = pd.DatetimeIndex(["2020-01-01 12:00", "2021-05-05", "1969-12-31 23:59:59"])

PANDAS = {
    "int": [3, 1, -5],
    "int64": [2**63 - 1, -(2**63), 2**53 + 1],
    "uint64": np.array([2**64 - 1, 2**64 - 2, 0], dtype="uint64"),
    "int8": np.array([3, 1, -5], dtype="int8"),
    "float": [0.1, -0.5, 5e-324],
    "float32": np.array([0.1, -999.9, 3], dtype="float32"),
    "bool": [True, False],
    "text": ["nan", "", "1.0"],
    "text that is long or unicode": ["é" * 300, "\U0001f600", "a\nb"],
    "nullable": pd.array([2**60 + 1, 2, 3], dtype="Int64"),
    "boolean": pd.array([True, False], dtype="boolean"),
    "string": pd.array(["b", "a"], dtype="string"),
    "datetime": STAMPS,
    "seconds": STAMPS.as_unit("s"),
    "microseconds": STAMPS.as_unit("us"),
    "zone": STAMPS.tz_localize("Europe/Berlin"),
    "utc": STAMPS.tz_localize("UTC"),
    "offset": STAMPS.tz_localize("UTC+02:00"),
    "timedelta": pd.to_timedelta([1, 10**12 + 1, -5], unit="ns"),
    "months": pd.period_range("2020-01", periods=3, freq="M"),
    "weeks": pd.period_range("2020-01", periods=3, freq="W-WED"),
    "intervals": pd.interval_range(0, 3),
    "float intervals": pd.IntervalIndex.from_breaks([0.1, 0.1 + 0.2, 1, 2], "left"),
    "intervals of time": pd.interval_range(STAMPS[0], periods=3),
    "intervals of zones": pd.interval_range(STAMPS[0].tz_localize("UTC"), periods=3),
    "intervals of timedeltas": pd.interval_range(pd.Timedelta(0), periods=3),
    "dates": [date(2021, 1, 1), date(1969, 1, 1), date(1, 1, 1)],
    "objects": np.array([datetime(2020, 1, 1, microsecond=1)], dtype=object),
    "times": [time(12, 30, 0, 1), time(0)],
    "decimals": [Decimal("1.10"), Decimal("-2"), Decimal("1E+30")],
    "bytes": [b"a", b"", b"\xff"],
    "arrow": pd.array([2**60 + 1, 2], dtype="int64[pyarrow]"),
    "arrow dates": pd.array(
        [date(2020, 1, 1), date(2021, 1, 1)], dtype=pd.ArrowDtype(pa.date32())
    ),
}

ARROW = {
    "int64": pa.array([2**63 - 1, -(2**63), 2**53 + 1]),
    "uint64": pa.array([2**64 - 1, 0], pa.uint64()),
    "bool": pa.array([True, False]),
    "float": pa.array([0.1, 5e-324]),
    "float32": pa.array([0.1, -999.9], pa.float32()),
    "half": pa.array(np.array([0.1, 2], np.float16)),
    "date": pa.array([date(2020, 1, 1), date(1, 1, 1)]),
    "date64": pa.array([date(2020, 1, 1), date(1, 1, 1)], pa.date64()),
    "stamp": pa.array([1, 10**18 + 1], pa.timestamp("ns")),
    "zone": pa.array([1, 10**15 + 1], pa.timestamp("us", "Europe/Berlin")),
    "duration": pa.array([1, -7], pa.duration("ns")),
    "time32": pa.array([1, 7], pa.time32("s")),
    "time64": pa.array([1, 7], pa.time64("us")),
    "decimal": pa.array([Decimal("1.10"), Decimal("2.00")]),
    "decimal256": pa.array([Decimal(7)], pa.decimal256(50, 2)),
    "binary": pa.array([b"a", b"\xff"]),
    "large_binary": pa.array([b"a", b"\xff"], pa.large_binary()),
    "fixed": pa.array([b"aa", b"bb"], pa.binary(2)),
    "string": pa.array(["nan", ""]),
    "large_string": pa.array(["a", "b"], pa.large_string()),
    "string_view": pa.array(["a", "b" * 40], pa.string_view()),
    "interval": pa.array([(1, 2, 3), (4, 5, 6)], pa.month_day_nano_interval()),
}


def pandas_frame(levels, ordered=False):
    """Rows of all levels and two gaps."""
    index = pd.Index(levels)
    codes = [*range(len(index)), -1, *range(len(index)), -1]
    dtype = pd.CategoricalDtype(index, ordered)
    return pd.DataFrame({"a": pd.Categorical.from_codes(codes, dtype=dtype)})


def dictionary(levels, codes, ordered=False):
    indices = pa.array(codes, pa.int8(), mask=np.array(codes) < 0)
    return pa.DictionaryArray.from_arrays(indices, levels, ordered=ordered)


def arrow_table(levels, ordered=False):
    """The same in two chunks, with dictionaries of a different order."""
    codes = np.array([*range(len(levels)), -1])
    backwards = levels_reversed(levels)
    flipped = np.where(codes < 0, -1, len(levels) - 1 - codes)
    chunks = [
        dictionary(levels, codes, ordered),
        dictionary(backwards, flipped, ordered),
    ]
    return pa.table({"a": pa.chunked_array(chunks)})


def levels_reversed(levels):
    return pa.array(levels.to_pylist()[::-1], levels.type)


def pandas_arrow_frame(levels, ordered=False):
    column = arrow_table(levels, ordered)["a"]
    return pd.DataFrame({"a": pd.Series(pd.arrays.ArrowExtensionArray(column))})


TABLES = [
    *(pytest.param(pandas_frame, v, id=f"pandas-{k}") for k, v in PANDAS.items()),
    *(pytest.param(arrow_table, v, id=f"arrow-{k}") for k, v in ARROW.items()),
    *(pytest.param(pandas_arrow_frame, v, id=f"both-{k}") for k, v in ARROW.items()),
]


def restored(encoder):
    """The encoder after its state went through JSON, as through any serialiser."""
    state = encoder.to_state()
    for column in state["columns"]:
        assert column["support"] is None
    return encoder.restored(json.loads(json.dumps(state)))


def cells(table):
    return table["a"].tolist() if hasattr(table, "iloc") else table["a"].to_pylist()


def dtype_of(table):
    return table["a"].dtype if hasattr(table, "iloc") else table["a"].type


def fill_with(encoder, table, codes):
    columns = encoder.encoder.decode_columns(np.array(codes, dtype=float)[:, None])
    mask = missing_mask(table)
    return fill_missing(table, encoder.encoder.schema_, columns, mask, [0], {}, [])


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(("build", "levels"), TABLES)
def test_levels_come_back(build, levels, ordered):
    table, before = build(levels, ordered), build(levels, ordered)
    known = cells(table)[: len(levels)]
    if build is pandas_frame:  # a list with gaps has other intervals
        known = table["a"].cat.categories.tolist()
    fitted = TableEncoder().fit(table)
    column = fitted.columns_[0]
    assert column.kind == ("ordinal" if ordered else "categorical")
    assert len(set(column.categories)) == len(levels)
    expected = [key_of(level) for level in known]
    assert column.categories == (expected if ordered else sorted(expected))
    for encoder in (fitted, restored(fitted)):
        assert_same(round_trip(encoder, table), table)
        # gaps get members of the levels, of their type, and all else stays
        for code in range(len(levels)):
            filled = fill_with(encoder, table, [code] * len(cells(table)))
            assert dtype_of(filled) == dtype_of(table)
            place = expected.index(column.categories[code])
            for old, new in zip(cells(table), cells(filled), strict=True):
                wanted = known[place] if is_gap(old) else old
                assert new == wanted and type(new) is type(known[0])
    assert_same(table, before)


def is_gap(value):
    return value is None or value is pd.NA or value != value


def assert_same(left, right):
    if not isinstance(left, pa.Table):
        left, right = ({"a": cells(t)} for t in (left, right))
        assert str(left) == str(right)
        return
    assert left.schema.equals(right.schema)
    assert left["a"].to_pylist() == right["a"].to_pylist()


@pytest.mark.parametrize(("build", "levels"), TABLES)
def test_levels_that_a_new_table_lacks_are_added(build, levels):
    table = build(levels)
    encoder = restored(TableEncoder().fit(table))
    few = build(levels[:1])
    for code in range(len(levels)):
        filled = cells(fill_with(encoder, few, [code] * len(cells(few))))
        level = encoder.columns_[0].categories[code]
        assert [key_of(v) for v in filled] == [key_of(filled[0]), level] * 2
        assert type(filled[1]) is type(cells(table)[0])


def test_levels_of_another_library():
    dates = [date(2020, 1, 1), date(2021, 1, 1)]
    tables = pandas_frame(dates), arrow_table(pa.array(dates))
    for trained, given in (tables, tables[::-1]):
        encoder = TableEncoder().fit(trained)
        filled = fill_with(encoder, given, [1] * len(cells(given)))
        assert cells(filled)[2] == date(2021, 1, 1)
        text = pd.DataFrame({"a": ["2020-01-01", None]}, dtype="string")
        filled = fill_with(encoder, text, [1, 1])
        assert cells(filled) == ["2020-01-01", "2021-01-01"]


class Colour:
    def __init__(self, name):
        self.name = name

    def __lt__(self, other):
        return self.name < other.name


@pytest.mark.parametrize(
    "levels",
    [
        [(1, 2), (3, 4)],
        [Colour("red"), Colour("blue")],
        [date(2020, 1, 1), "2020-01-01"],
        [frozenset([1])],
        [1j],
        [np.datetime64("2020-01-01", "ns")],
    ],
)
def test_levels_that_cannot_be_stored_are_refused(levels):
    index = pd.Index(pd.Series(levels, dtype=object), dtype=object)
    frame = pd.DataFrame({"a": pd.Categorical([None, *levels], categories=index)})
    with pytest.raises(ValueError, match=r"Column 'a' has the dtype category of .*not"):
        TableEncoder().fit(frame)


@pytest.mark.parametrize(
    "levels",
    [
        pa.array([[1], [2]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array([1, 7], pa.time64("ns")),
    ],
    ids=str,
)
def test_dictionaries_that_cannot_be_read_are_refused(levels):
    table = pa.table({"a": dictionary(levels, [0, 1, -1])})
    with pytest.raises(ValueError, match=r"Column 'a' has the dtype dict.*not support"):
        TableEncoder().fit(table)


def test_dictionaries_with_repeated_and_missing_levels():
    levels = pa.array(["b", None, "a", "b"])
    table = pa.table({"a": dictionary(levels, [0, 1, 2, 3, -1])})
    assert missing_mask(table)[:, 0].tolist() == [False, True, False, False, True]
    encoder = TableEncoder().fit(table)
    assert encoder.columns_[0].categories == ["a", "b"]
    assert encoder.encode(table)[0][:, 0].tolist() == [1, 0, 0, 1, 0]
    assert cells(fill_with(encoder, table, [0] * 5)) == ["b", "a", "a", "b", "a"]
    floats = pa.table({"a": dictionary(pa.array([1.5, np.nan]), [0, 1, -1, 0])})
    assert missing_mask(floats)[:, 0].tolist() == [False, True, True, False]
    encoder = TableEncoder().fit(floats)
    assert cells(fill_with(encoder, floats, [0] * 4)) == [1.5] * 4


def test_dictionaries_of_nulls():
    for type_ in (pa.null(), pa.string(), pa.int64(), pa.date32()):
        column = pa.nulls(3, pa.dictionary(pa.int8(), type_))
        table = pa.table({"a": pa.chunked_array([column[:1], column[1:]])})
        encoder = TableEncoder().fit(table)
        assert encoder.columns_[0].is_empty
        assert_tables_equal(round_trip(encoder, table), table)
        mask = missing_mask(table)
        assert mask.all()
        columns = encoder.encoder.decode_columns(np.zeros((3, 1)))
        schema = encoder.encoder.schema_
        filled = fill_missing(table, schema, columns, mask, [0], {0: False}, [])
        zeros = {
            "null": 0,
            "string": "missing_value",
            "int64": 0,
            "date32[day]": date(1970, 1, 1),
        }
        assert cells(filled) == [zeros[str(type_)]] * 3


def test_wider_indices_where_levels_are_too_many():
    table = pa.table({"a": dictionary(pa.array(range(200)), [0, 100, -1])})
    few = pa.table({"a": dictionary(pa.array(range(-128, 0)), [0, 100, -1])})
    encoder = TableEncoder().fit(table)
    filled = fill_with(encoder, few, [150] * 3)
    assert cells(filled) == [-128, -28, 150]
    assert dtype_of(filled).index_type == pa.int32()


@pytest.mark.parametrize(
    "value",
    [
        b"\x00\xff",
        date(1, 1, 1),
        datetime(2020, 1, 1, 2, 3, 4, 5),
        time(1, 2, 3, 4),
        timedelta(-1, 2, 3),
        Decimal("1.10"),
        2**70,
        -0.0,
        "",
        True,
    ],
    ids=repr,
)
def test_objects_as_plain_values(value):
    plain = json.loads(json.dumps(object_to_plain(value)))
    again = object_from_plain(plain)
    assert again == value and type(again) is type(value) and repr(again) == repr(value)


def test_subclasses_have_built_in_keys():
    from enum import Enum, IntEnum

    class Word(str, Enum):  # noqa: UP042
        RED = "red"

    class Number(IntEnum):
        ONE = 1

    for value, expected in (
        (Word.RED, "red"),
        (Number.ONE, 1),
        (np.str_("a"), "a"),
        (np.float32(0.5), 0.5),
        (np.True_, True),
        (np.datetime64("2020-01-01", "ns"), "2020-01-01T00:00:00.000000000"),
    ):
        key = key_of(value)
        assert key == expected and type(key) is type(expected)


def test_a_state_is_a_copy():
    encoder = TableEncoder().fit(pandas_frame(PANDAS["dates"]))
    state = encoder.to_state()
    before = copy.deepcopy(state)
    state["schema"]["types"][0]["details"]["levels"]["values"].clear()
    assert encoder.to_state() == before
