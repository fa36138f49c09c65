"""The state of an encoder is plain, and all that encoding and decoding need."""

import copy
import pickle

import numpy as np
import pytest
from opening_encoder import TableEncoder

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

N_ROWS = 600
WORDS = ["low", "mid", "high"]


def columns():
    """Numbers of every map, counts, booleans, categories, and an empty column."""
    rng = np.random.default_rng(0)
    codes = rng.integers(3, size=N_ROWS)
    table = {
        "standard": rng.normal(7, 3, N_ROWS).tolist(),
        "quantile": rng.lognormal(0, 1, N_ROWS).tolist(),
        "repeated": rng.choice([1.5, 2.0, 40.0], N_ROWS).tolist(),
        "constant": [3.0] * N_ROWS,
        "flag": (rng.random(N_ROWS) < 0.3).tolist(),
        "word": [WORDS[code] for code in codes],
        "size": [WORDS[code] for code in codes],
        "empty": [None] * N_ROWS,
    }
    for place, values in enumerate(table.values()):
        values[place] = None
    return table | {"visits": rng.poisson(2, N_ROWS).tolist()}


def arrow_table():
    size = pa.DictionaryArray.from_arrays(
        pa.array([None if v is None else WORDS.index(v) for v in columns()["size"]]),
        WORDS,
        ordered=True,
    )
    word = pa.array(columns()["word"]).dictionary_encode()
    return pa.table(columns() | {"size": size, "word": word})


def pandas_frame():
    frame = pd.DataFrame(columns()).astype({"flag": "boolean", "word": "category"})
    size = pd.Categorical(frame["size"], WORDS, ordered=True)
    days = pd.Series(pd.to_datetime(frame["visits"], unit="D", utc=True))
    return frame.assign(
        size=size,
        range=pd.cut(frame["standard"], [-20.0, 5, 6, 40]),
        week=pd.cut(days, days.sort_values().iloc[[0, 200, 400, -1]].unique()),
        text=pd.array(frame["word"], dtype="string"),
        arrow=pd.array(columns()["standard"], dtype="double[pyarrow]"),
    )


def polars_frame():
    schema = {"size": pl.Enum(WORDS), "word": pl.Categorical}
    return pl.DataFrame(columns(), schema_overrides=schema)


def object_array():
    return np.array(list(columns().values()), dtype=object).T


TABLES = {
    "pandas": pandas_frame,
    "polars": polars_frame,
    "pyarrow": arrow_table,
    "numpy-object": object_array,
    "numpy": lambda: np.random.default_rng(0).lognormal(size=(N_ROWS, 3)),
}
DECLARED = {"numpy-object": [5, 6]}


def fitted(container):
    declared = DECLARED.get(container, "from_dtype")
    encoder = TableEncoder(categorical_features=declared)
    return encoder.fit(TABLES[container]())


def assert_plain(value):
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            assert_plain(item)
    elif isinstance(value, np.ndarray):
        assert type(value) is np.ndarray
        assert value.dtype.kind in "fiu"
    else:
        assert value is None or type(value) in (str, bool, int, float), value


def assert_same_table(left, right):
    assert type(left) is type(right)
    if isinstance(left, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right, check_exact=True)
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        pd.testing.assert_frame_equal(pd.DataFrame(left), pd.DataFrame(right))
    else:  # NaN and null compare as equal here
        assert left.equals(right)


@pytest.mark.parametrize("container", TABLES)
def test_an_encoder_from_its_state_does_the_same(container):
    encoder, table = fitted(container), TABLES[container]()
    transforms = {column.transform for column in encoder.columns_}
    assert "quantile" in transforms
    state = encoder.to_state()
    assert_plain(state)
    restored = encoder.restored(copy.deepcopy(state))
    values, observed = encoder.encode(table)
    again, seen = restored.encode(table)
    np.testing.assert_array_equal(again, values)
    np.testing.assert_array_equal(seen, observed)
    np.testing.assert_array_equal(
        restored.log_jacobian(values), encoder.log_jacobian(values)
    )
    for drawn in (False, True):
        noisy = values + 0.3 * np.random.default_rng(1).normal(size=values.shape)
        assert_same_table(
            restored.decode(noisy, drawn=drawn), encoder.decode(noisy, drawn=drawn)
        )
    assert repr(restored.to_state()) == repr(state)


def test_a_state_is_no_part_of_its_encoder():
    encoder = fitted("polars")
    state = encoder.to_state()
    state["columns"][0]["map"]["mean"] = 1e9
    state["columns"][1]["map"]["knots"][:] = 0
    state["columns"][5]["categories"].clear()
    state["columns"][2]["support"][:] = 0
    state["schema"]["types"][6]["categories"].clear()
    assert encoder.columns_[0].map.mean != 1e9
    assert encoder.columns_[1].map.knots.any()
    assert len(encoder.columns_[5].categories) == 3
    assert encoder.columns_[2].support.any()
    assert encoder.to_state()["schema"]["types"][6]["categories"] == WORDS


@pytest.mark.parametrize(
    "labels",
    [
        pd.RangeIndex(2),
        pd.Index([3, 1], dtype="uint8"),
        pd.Index([0.5, 2.5]),
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2)]),
    ],
    ids=["range", "integers", "floats", "pairs"],
)
def test_labels_of_every_kind(labels):
    frame = pd.DataFrame(np.arange(6.0).reshape(3, 2))
    frame.columns = labels
    encoder = TableEncoder().fit(frame)
    state = encoder.to_state()
    assert_plain(state)
    restored = encoder.restored(state)
    values, _ = restored.encode(frame)
    pd.testing.assert_index_equal(
        restored.decode(values).columns, encoder.decode(values).columns
    )


def test_dates_as_labels_become_text():
    frame = pd.DataFrame(np.arange(6.0).reshape(3, 2))
    frame.columns = pd.to_datetime(["2020-01-01", "2020-02-01"])
    encoder = TableEncoder().fit(frame)
    values, _ = encoder.encode(frame)
    decoded = encoder.restored(encoder.to_state()).decode(values)
    assert decoded.columns.tolist() == ["2020-01-01 00:00:00", "2020-02-01 00:00:00"]


def test_copies_and_pickles_hold_no_code():
    encoder = fitted("pandas").encoder
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert other.likelihoods == {}
        assert repr(other.to_state()) == repr(encoder.to_state())
    assert encoder.likelihoods
