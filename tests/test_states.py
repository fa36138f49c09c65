"""Nested values in files: every value comes back with its type, nothing twice."""

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skvae._container import (
    SavedModelError,
    digest_of,
    from_plain,
    random_state_of,
    random_state_parts,
    read_state,
    to_plain,
    write_container,
    write_state,
)

pytest.importorskip("safetensors")


def objects(parts):
    array = np.empty(len(parts), dtype=object)
    array[:] = [None] * len(parts)
    for index, part in enumerate(parts):
        array[index] = part
    return array


DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(),
    hnp.unicode_string_dtypes(max_len=4),
    hnp.byte_string_dtypes(max_len=4),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
)
SCALARS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, 1)).map(lambda array: array[0])
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0))
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**100), 2**100),
    st.floats(),
    st.text(),
    st.just("~array"),
    SCALARS,
    ARRAYS,
    st.integers(0, 9).map(np.random.RandomState),
)
KEYS = st.one_of(
    st.text(max_size=3),
    st.sampled_from(["~", "~tuple", "a.b", "é"]),
    st.integers(),
    st.tuples(st.text(max_size=2), st.integers()),
    st.integers(0, 5).map(np.int64),
)
VALUES = st.recursive(
    LEAVES,
    lambda part: st.one_of(
        st.lists(part, max_size=3),
        st.lists(part, max_size=3).map(tuple),
        st.dictionaries(KEYS, part, max_size=3),
        st.lists(part, max_size=3).map(objects),
    ),
    max_leaves=12,
)


def same(left, right):
    """Whether two values are equal bit for bit, with their types."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        pairs = zip(left.items(), right.items(), strict=True)
        return len(left) == len(right) and all(
            same(a, b) and same(v, w) for (a, v), (b, w) in pairs
        )
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, np.ndarray) and left.dtype == object:
        return left.shape == right.shape and same(left.tolist(), right.tolist())
    if isinstance(left, np.ndarray | np.generic):
        kind = left.dtype, left.shape, left.tobytes()
        return kind == (right.dtype, right.shape, right.tobytes())
    if isinstance(left, np.random.RandomState):
        return same(random_state_parts(left), random_state_parts(right))
    return repr(left) == repr(right)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_values_come_back(value):
    arrays = {}
    plain = json.loads(json.dumps(to_plain(value, arrays, "é")))
    assert same(from_plain(plain, arrays), value)
    assert not arrays
    assert digest_of(value) == digest_of(pickle.loads(pickle.dumps(value)))


def test_a_state_comes_back_from_a_file(tmp_path):
    state = {"a": (1, [math.inf, {2: np.float32(0.1)}]), "b": {"c": np.arange(3)}}
    write_state(tmp_path / "x", "thing", state)
    assert same(read_state(tmp_path / "x", "thing"), state)


def test_the_state_of_a_generator_goes_on(tmp_path):
    random_state = np.random.RandomState(3)
    random_state.normal(size=5)  # one of a pair is kept for the next call
    write_state(tmp_path / "x", "thing", {"random": random_state})
    loaded = read_state(tmp_path / "x", "thing")["random"]
    assert loaded.normal() == random_state.normal()
    assert loaded.randint(1000) == random_state.randint(1000)


def test_array_likes_become_arrays():
    pd = pytest.importorskip("pandas")
    arrays = {}
    plain = to_plain({"index": pd.Index(["a", "b"])}, arrays, "state")
    found = from_plain(plain, arrays)["index"]
    assert found.tolist() == ["a", "b"]
    assert type(found) is np.ndarray


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(object(), id="object"),
        {1, 2},
        len,
        1j,
        b"a",
        np.ma.masked_array([1, 2], [True, False]),
        np.zeros(2, "i4,f8"),
        [{"deep": object}],
    ],
    ids=str,
)
def test_a_value_of_another_type_is_named(tmp_path, value):
    with pytest.raises(TypeError, match=r"cannot hold thing\.prior"):
        write_state(tmp_path / "x", "thing", {"prior": value})
    assert not list(tmp_path.iterdir())


def test_other_generators_are_refused():
    with pytest.raises(TypeError, match="RandomState of PCG64"):
        random_state_parts(np.random.RandomState(np.random.PCG64(0)))


# -- digests -------------------------------------------------------------------------


def test_a_digest_sees_every_change():
    state = {"a": np.arange(3.0), "b": [1, True, "x"], "c": {"d": None}}
    others = [
        {**state, "a": np.arange(3.0).astype("f4")},
        {**state, "a": np.array([0.0, 1.0, np.nextafter(2, 3)])},
        {**state, "a": np.arange(3.0)[None]},
        {**state, "b": [1, 1, "x"]},
        {**state, "b": (1, True, "x")},
        {**state, "b": [1.0, True, "x"]},
        {**state, "c": {"e": None}},
        {**state, "c": {"d": object()}},
        {"a": state["a"], "b": state["b"]},
    ]
    assert len({digest_of(other) for other in [state, *others]}) == 1 + len(others)


def test_the_order_of_keys_does_not_matter():
    first = {"a": np.arange(2), "b": {"c": np.arange(3), "d": 1}}
    second = {"b": {"d": 1, "c": np.arange(3)}, "a": np.arange(2)}
    assert digest_of(first) == digest_of(second)


def test_other_types_count_by_their_name():
    assert digest_of({"callbacks": [len]}) == digest_of({"callbacks": [max]})
    assert digest_of({"callbacks": [len]}) != digest_of({"callbacks": [object()]})


# -- wrong contents ------------------------------------------------------------------


def words(size=624, dtype="u4"):
    return np.zeros(size, dtype=dtype)


@pytest.mark.parametrize(
    ("plain", "arrays"),
    [
        ({"a": {"~array": "a"}, "b": {"~array": "a"}}, {"a": np.ones(2)}),
        ({"a": {"~array": "b"}}, {}),
        ({}, {"unused": np.ones(2)}),
        ({"a": {"~unknown": [1]}}, {}),
        ({"a": {"~tuple": "text"}}, {}),
        ({"a": {"~tuple": [1], "b": 2}}, {}),
        ({"a": {"~dict": [[[1], 2]]}}, {}),
        ({"a": {"~dict": [[1]]}}, {}),
        ({"a": {"~objects": [[3], [1, 2]]}}, {}),
        ({"a": {"~objects": [["b"], [1]]}}, {}),
        ({"a": {"~scalar": ["O", "00"]}}, {}),
        ({"a": {"~scalar": ["<f8", "00"]}}, {}),
        ({"a": {"~scalar": ["<f8", ""]}}, {}),
        ({"a": {"~scalar": ["|b1", "07"]}}, {}),
        ({"a": {"~scalar": ["<U1", "ffffffff"]}}, {}),
        ({"a": {"~scalar": ["<f8", "zz"]}}, {}),
        ({"a": {"~random_state": [1, 2]}}, {}),
        ([1], {}),
        (None, {}),
    ],
)
def test_a_wrong_state_is_corrupt(tmp_path, plain, arrays):
    write_container(tmp_path / "x", {"kind": "thing", "state": plain}, arrays)
    with pytest.raises(SavedModelError, match="corrupt"):
        read_state(tmp_path / "x", "thing")


@pytest.mark.parametrize("header", [{}, {"kind": "thing"}, {"state": {}}])
def test_a_header_without_a_state_is_corrupt(tmp_path, header):
    write_container(tmp_path / "x", header, {})
    with pytest.raises(SavedModelError, match="corrupt"):
        read_state(tmp_path / "x", "thing")


def test_another_kind_of_file_says_so(tmp_path):
    write_state(tmp_path / "x", "checkpoint", {})
    with pytest.raises(SavedModelError, match="not a skvae thing, but a checkpoint"):
        read_state(tmp_path / "x", "thing")


@pytest.mark.parametrize(
    "parts",
    [
        ["MT19937", words(), 625, 0, 0.0],  # NumPy would read beyond the words
        ["MT19937", words(), -1, 0, 0.0],
        ["MT19937", words(623), 0, 0, 0.0],
        ["MT19937", words(dtype="u8"), 0, 0, 0.0],
        ["PCG64", words(), 0, 0, 0.0],
        ["MT19937", words(), 0, 0],
    ],
)
def test_a_wrong_state_of_a_generator_is_refused(parts):
    with pytest.raises(ValueError):
        random_state_of(parts)
