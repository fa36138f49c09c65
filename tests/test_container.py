"""Files of arrays and JSON: exact, written whole or not at all, never read damaged."""

import builtins
import json
import os
import stat
import sys
import tracemalloc
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skvae._container import SavedModelError, read_container, write_container

safetensors_numpy = pytest.importorskip("safetensors.numpy")

HEADER = {"name": "é", "limits": [float("inf"), -0.0, 1e-310], "none": None, "n": 2**70}
ARRAYS = {"weights.0": np.arange(6.0).reshape(2, 3), "flags": np.array([True, False])}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(), part),
    max_leaves=8,
)
DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(),
    hnp.unicode_string_dtypes(endianness="?", max_len=5),
    hnp.byte_string_dtypes(max_len=5),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a small file."""
    path = tmp_path_factory.mktemp("small") / "model"
    write_container(path, HEADER, ARRAYS)
    return path.read_bytes()


def read_bytes(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    return read_container(tmp_path / "other")


@settings(max_examples=60, deadline=None)
@given(
    header=st.dictionaries(st.text(), VALUES, max_size=4),
    arrays=st.dictionaries(
        st.sampled_from(["a", "weights.0", "sha256", " "]), hnp.arrays(DTYPES, SHAPES)
    ),
)
def test_what_is_written_is_read(tmp_path_factory, header, arrays):
    path = tmp_path_factory.getbasetemp() / "any"
    write_container(path, header, arrays)
    found, read = read_container(path)
    assert json.dumps(found) == json.dumps(header)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        assert read[name].tobytes() == array.tobytes()
        assert read[name].flags.writeable


def test_arrays_that_are_not_contiguous(tmp_path):
    array = np.arange(24.0).reshape(4, 6)[::-1, ::2]
    write_container(tmp_path / "x", {}, {"a": array, "b": array.T})
    _, arrays = read_container(tmp_path / "x")
    np.testing.assert_array_equal(arrays["a"], array)
    np.testing.assert_array_equal(arrays["b"], array.T)


def test_others_can_read_the_file(tmp_path, content):
    arrays = safetensors_numpy.load(content)
    np.testing.assert_array_equal(arrays["weights.0"], ARRAYS["weights.0"])


def test_equal_contents_give_equal_files(tmp_path, content):
    write_container(tmp_path / "x", HEADER, ARRAYS)
    assert (tmp_path / "x").read_bytes() == content


@pytest.mark.parametrize(
    ("header", "arrays"),
    [
        ({"a": object()}, {}),
        ({}, {"a": np.array([None, 1])}),
        ({}, {"a": np.zeros(2, dtype="i4,f8")}),
        ({}, {"a": np.zeros(2, dtype="V3")}),
    ],
)
def test_what_a_file_cannot_hold_is_an_error(tmp_path, header, arrays):
    with pytest.raises(TypeError):
        write_container(tmp_path / "x", header, arrays)
    assert not list(tmp_path.iterdir())


# -- damaged files -------------------------------------------------------------------


def test_every_flipped_bit_is_seen(tmp_path, content):
    for index in range(len(content)):
        damaged = bytearray(content)
        damaged[index] ^= 1 << (index % 8)
        with pytest.raises(SavedModelError, match=r"corrupt|another version"):
            read_bytes(tmp_path, damaged)


def test_every_cut_is_seen(tmp_path, content):
    for length in range(0, len(content), 3):
        with pytest.raises(SavedModelError, match="corrupt"):
            read_bytes(tmp_path, content[:length])
    with pytest.raises(SavedModelError, match="corrupt"):
        read_bytes(tmp_path, content + b"\0")


@pytest.mark.parametrize(
    "other", [b"", b"\x80\x05K\x01.", b"PK\3\4" + bytes(50), b"{}", os.urandom(2000)]
)
def test_other_files_are_no_models(tmp_path, other):
    with pytest.raises(SavedModelError, match="not a skvae model"):
        read_bytes(tmp_path, other)


def test_safetensors_of_others_are_no_models(tmp_path):
    other = safetensors_numpy.save({"a": np.ones(3)}, {"format": "pt"})
    with pytest.raises(SavedModelError, match="not a skvae model"):
        read_bytes(tmp_path, other)


def test_a_file_of_another_version_says_so(tmp_path, content):
    later = content.replace(b'\\"format\\":1', b'\\"format\\":7', 1)
    with pytest.raises(SavedModelError, match=r"format 7; this version reads format 1"):
        read_bytes(tmp_path, later)


def test_the_error_names_the_file(tmp_path):
    with pytest.raises(SavedModelError, match="other"):
        read_bytes(tmp_path, b"abc")
    with pytest.raises(FileNotFoundError):
        read_container(tmp_path / "missing")


# -- made to harm: the digest is right, the content is not ---------------------------


def sealed(tmp_path, text, tensors=None):
    """Return a file with any JSON text and the digest that belongs to it."""
    zeros = "0" * 64
    start = f'{{"format":1,"sha256":"{zeros}",'
    raw = safetensors_numpy.save(tensors or {}, {"skvae": start + text})
    return raw.replace(zeros.encode(), sha256(raw).hexdigest().encode(), 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        '"dtypes":{}}',
        '"dtypes":{},"header":[]}',
        '"dtypes":[],"header":{}}',
        '"dtypes":{"a":"O"},"header":{}}',
        '"dtypes":{"a":"<U900000000"},"header":{}}',
        '"dtypes":{"a":"<U1"},"header":{}}',
        '"dtypes":{"a":"i4,i4"},"header":{}}',
        '"dtypes":{"a":["|S4"]},"header":{}}',
        '"dtypes":{},"header":' + "[" * 100_000,
        '"dtypes":{},"header":{"a":' + "9" * 5000 + "}}",
    ],
)
def test_a_wrong_content_is_corrupt(tmp_path, text):
    codes = np.full((1, 4), 255, dtype=np.uint8)  # no character has this number
    with pytest.raises(SavedModelError, match="corrupt"):
        read_bytes(tmp_path, sealed(tmp_path, text, {"a": codes}))


@pytest.mark.parametrize(
    "part", ["[],", "{},", '{"a":{}},', "1.5,", '"ab",', '"\\u00e9\\ud83d\\ude00",']
)
def test_memory_is_in_proportion_to_the_file(tmp_path, part):
    text = '"dtypes":{},"header":{"a":[' + part * (3_000_000 // len(part)) + "0]}}"
    (tmp_path / "bomb").write_bytes(sealed(tmp_path, text))
    tracemalloc.start()
    try:
        with pytest.raises(SavedModelError, match="memory"):
            read_container(tmp_path / "bomb")
        assert tracemalloc.get_traced_memory()[1] < 4 * 3_100_000 + 2**24
    finally:
        tracemalloc.stop()


def test_a_file_of_many_columns_and_few_weights_can_be_read(tmp_path):
    header = {"columns": [{"name": f"x{i}", "mean": 0.1} for i in range(40_000)]}
    write_container(tmp_path / "wide", header, {})
    tracemalloc.start()
    try:
        found, _ = read_container(tmp_path / "wide")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == header
    assert peak < 4 * (tmp_path / "wide").stat().st_size + 2**24


def test_arrays_are_in_memory_twice_at_most(tmp_path):
    write_container(tmp_path / "x", {}, {"a": np.zeros(2**20), "b": np.zeros(2**19)})
    tracemalloc.start()
    try:
        read_container(tmp_path / "x")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.1 * (tmp_path / "x").stat().st_size


# -- written whole or not at all -----------------------------------------------------


def only_the_old(folder, content):
    assert [path.name for path in folder.iterdir()] == ["model"]
    assert (folder / "model").read_bytes() == content


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_the_old_file_survives_a_failure(tmp_path, monkeypatch, content, step, error):
    (tmp_path / "model").write_bytes(content)

    def fail(*args, **kwargs):
        raise error

    if step == "write":
        monkeypatch.setattr("os.fdopen", fail)
    else:
        monkeypatch.setattr(f"os.{step}", fail)
    with pytest.raises(type(error)):
        write_container(tmp_path / "model", {}, {"a": np.ones(9)})
    only_the_old(tmp_path, content)


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of POSIX")
def test_a_full_disk_leaves_the_old_file(tmp_path, content):
    import resource

    (tmp_path / "model").write_bytes(content)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError):
            write_container(tmp_path / "model", {}, {"a": np.ones(9000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    only_the_old(tmp_path, content)


def test_a_link_and_its_target_stay(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "model")
    write_container(tmp_path / "link", HEADER, ARRAYS)
    assert (tmp_path / "link").is_symlink()
    assert read_container(tmp_path / "folder" / "model")[0] == HEADER


@pytest.mark.skipif(sys.platform == "win32", reason="needs permissions of POSIX")
def test_permissions_are_those_of_any_new_file(tmp_path):
    write_container(tmp_path / "model", {}, {})
    (tmp_path / "plain").write_bytes(b"")
    modes = [stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("model", "plain")]
    assert modes[0] == modes[1]


def test_safetensors_is_asked_for(tmp_path, monkeypatch):
    found = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("safetensors"):
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for call in (
        lambda: write_container(tmp_path / "x", {}, {}),
        lambda: read_container(tmp_path / "x"),
    ):
        with pytest.raises(ImportError, match=r"pip install 'skvae\[files\]'"):
            call()
