"""The file of a state: arrays and JSON in safetensors, checked before it is believed.

A file starts with the number of its format and its digest: SHA-256 of the file with
zeros for the digits of the digest, so that no byte changes unnoticed. Reading runs no
code and takes memory in proportion to the size of the file.

A state is nested values: see :func:`write_state` for their types.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

#: Number of the format; another one is refused.
CONTAINER_FORMAT = 1

#: The JSON of a file may become objects of this many bytes: so many times the size of
#: the file, and a constant. Its arrays are in memory twice, so reading takes at most
#: four times the size of the file, and some 16 MiB.
OBJECT_BYTES_PER_BYTE = 2
FREE_OBJECT_BYTES = 2**23

#: Upper bounds of what parts of JSON take as objects of Python, in bytes.
OBJECT_BYTES = {b"{": 240, b"[": 96, b":": 104, b",": 64}
CHARACTER_BYTES = 4  # of a text with characters beyond ASCII

#: Text of safetensors begins after its length, a number of eight bytes.
LENGTH_BYTES = 8
METADATA = b'{"__metadata__":{"skvae":'
BEFORE_FORMAT = METADATA + b'"{\\"format\\":'
BEFORE_DIGEST = b',\\"sha256\\":\\"'
START = re.compile(
    re.escape(BEFORE_FORMAT) + rb"(\d{1,9})" + re.escape(BEFORE_DIGEST) + b"([0-9a-f]+)"
)
ZEROS = b"0" * 64  # in place of the digest

#: Numbers of safetensors. Other dtypes are stored as bytes.
NUMBERS = {"BOOL": "bool", "F16": "float16", "F32": "float32", "F64": "float64"}
NUMBERS |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}
NUMBERS |= {f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)}
AS_BYTES = re.compile(r"[<>|=]?[biufcSUMm][1-9]\d{0,8}(\[\w+\])?")
LAST_CHARACTER = 0x10FFFF

#: What a wrong content raises where it is read.
WRONG_CONTENT = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)

FOREIGN = "not a skvae model, or one whose first bytes are corrupt"

#: First character of the only key of an object of JSON that stands for another type.
MARK = "~"

#: Numbers in the state of a Mersenne Twister.
TWISTER_WORDS = 624


class SavedModelError(ValueError):
    """Error of a file or a state that is not a model this version can read.

    The message says which: corrupt (damaged, cut off or changed), of another version
    of skvae, or not a skvae model.

    See Also
    --------
    load : Load an estimator from a file.

    Examples
    --------
    >>> import tempfile
    >>> import skvae
    >>> with tempfile.NamedTemporaryFile() as empty:
    ...     try:
    ...         skvae.load(empty.name)
    ...     except skvae.SavedModelError as error:
    ...         print("not a skvae model" in str(error))
    True
    """


def write_container(
    path: str | os.PathLike[str], header: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    """Write a file, which takes the place of the old one once it is complete.

    Parameters
    ----------
    path : str or path-like
        The file. If it is a link, the file that it points to.
    header : dict
        Values that JSON has; infinities and NaN are allowed.
    arrays : dict of str to ndarray
        Arrays of numbers, booleans, text, bytes or dates, by names of ASCII characters.

    Raises
    ------
    OSError
        If the file cannot be written; the old one is left as it was.
    TypeError
        If a value is none that JSON has, or an array holds Python objects.
    """
    content = memoryview(_serialised(header, arrays))
    digest = hashlib.sha256(content).hexdigest().encode()
    begin, end = _place_of_digest(content)
    path = os.path.realpath(os.fsdecode(path))
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}-{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666)  # as open() does; mkstemp: 0o600
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in (content[:begin], digest, content[end:]):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def read_container(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return header and arrays of a file that :func:`write_container` wrote.

    Takes memory of at most four times the size of the file, and 16 MiB.

    Raises
    ------
    OSError
        If the file cannot be read.
    SavedModelError
        If it is corrupt, of another version, or not a skvae model.
    """
    path = os.fsdecode(path)
    library = _safetensors()
    try:
        content = _checked_content(path)
        text = _metadata(content)
        tensors = library.deserialize(content)
        del content
        found = json.loads(text)
        header, dtypes = found["header"], found["dtypes"]
        arrays = {name: _array(part, dtypes.get(name)) for name, part in tensors}
        if not isinstance(header, dict):
            raise TypeError("its header is no dict")
    except SavedModelError as error:
        raise SavedModelError(f"{path}: {error}.") from None
    except (*WRONG_CONTENT, library.SafetensorError) as error:
        raise SavedModelError(f"{path}: corrupt ({error}).") from error
    return header, arrays


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "Files of skvae need safetensors: pip install 'skvae[files]'."
        ) from error
    return safetensors


def write_state(path: str | os.PathLike[str], kind: str, state: dict[str, Any]) -> None:
    """Write a file with a nested state, as :func:`write_container` does.

    Parameters
    ----------
    path : str or path-like
        The file.
    kind : str
        What it is, for :func:`read_state`.
    state : dict
        Nested dicts, lists and tuples of None, booleans, numbers, text, scalars and
        arrays of NumPy, and ``RandomState``. All come back with their types; other
        objects that NumPy makes an array of, such as a pandas index, come back as that.

    Raises
    ------
    OSError
        If the file cannot be written; the old one is left as it was.
    TypeError
        If a value has another type.
    """
    arrays: dict[str, np.ndarray] = {}
    plain = to_plain(state, arrays, kind)
    write_container(path, {"kind": kind, "state": plain}, arrays)


def read_state(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Return the state of a file that :func:`write_state` wrote.

    Raises
    ------
    OSError
        If the file cannot be read.
    SavedModelError
        If it is corrupt, of another version or kind, or not a skvae model.
    """
    header, arrays = read_container(path)
    path = os.fsdecode(path)
    try:
        found, plain = header["kind"], header["state"]
        state = from_plain(plain, arrays)
        if arrays or not isinstance(state, dict):
            raise ValueError("it holds more, or other, than a state")
    except WRONG_CONTENT as error:
        raise SavedModelError(f"{path}: corrupt ({error}).") from error
    if found != kind:
        raise SavedModelError(f"{path}: not a skvae {kind}, but a {found!s:.50}.")
    return state


def digest_of(state: Any) -> str:
    """Return the SHA-256 of a state; of values without a type of files, their type."""
    arrays: dict[str, np.ndarray] = {}
    plain = to_plain(state, arrays, "", _type_name)
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        # pickle may change the order of bytes
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


# -- nested values -------------------------------------------------------------------


def to_plain(
    value: Any,
    arrays: dict[str, np.ndarray],
    path: str,
    other: Callable[[Any, str], Any] | None = None,
) -> Any:
    """Return a nested value as JSON has it; put its arrays into ``arrays``.

    ``path`` names the value, in errors too, and ``other`` returns what stands for a
    value of another type.
    """

    def plain(part: Any, name: Any) -> Any:
        return to_plain(part, arrays, f"{path}.{name}", other)

    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, dict):
        if all(type(key) is str and not key.startswith(MARK) for key in value):
            return {key: plain(part, key) for key, part in value.items()}
        pairs = [[plain(k, "key"), plain(part, k)] for k, part in value.items()]
        return {f"{MARK}dict": pairs}
    if type(value) in (list, tuple):
        parts = [plain(part, index) for index, part in enumerate(value)]
        return parts if type(value) is list else {f"{MARK}tuple": parts}
    if isinstance(value, np.generic) and value.dtype.kind not in "OV":
        scalar = np.array([value])  # a text without characters gets one
        return {f"{MARK}scalar": [scalar.dtype.str, scalar.tobytes().hex()]}
    if isinstance(value, np.random.RandomState):
        return {f"{MARK}random_state": plain(random_state_parts(value), "state")}
    array = _as_array(value)
    if array is not None and array.dtype == object:
        parts = [plain(part, index) for index, part in enumerate(array.ravel())]
        return {f"{MARK}objects": [list(array.shape), parts]}
    if array is not None and AS_BYTES.fullmatch(array.dtype.str):
        if not path.isascii() or path in arrays:
            path = f"array {len(arrays)}"
        arrays[path] = array
        return {f"{MARK}array": path}
    if other is None:
        raise TypeError(f"A file cannot hold {path}, of type {type(value).__name__}.")
    return other(value, path)


def _as_array(value: Any) -> np.ndarray | None:
    is_masked = isinstance(value, np.ma.MaskedArray)
    if is_masked or isinstance(value, np.generic) or not hasattr(value, "__array__"):
        return None
    return np.asarray(value)


def _type_name(value: Any, path: str) -> Any:
    return {f"{MARK}other": f"{type(value).__module__}.{type(value).__qualname__}"}


def from_plain(plain: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return the value of :func:`to_plain`; take its arrays out of ``arrays``.

    No array can be used twice: a small file would become a large model. Lists and dicts
    become those of the value, which saves the memory of copies.
    """
    if isinstance(plain, list):
        for index, part in enumerate(plain):
            plain[index] = from_plain(part, arrays)
    if not isinstance(plain, dict):
        return plain
    mark = next(iter(plain), "")
    if not mark.startswith(MARK):
        for key, part in plain.items():
            plain[key] = from_plain(part, arrays)
        return plain
    (content,) = plain.values()
    if mark == f"{MARK}array":
        return arrays.pop(content)
    parts = from_plain(content, arrays)
    if not isinstance(parts, list):
        raise TypeError(f"{mark} holds no list")
    return READERS[mark](parts)


def _objects(parts: list[Any]) -> np.ndarray:
    shape, values = parts
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):  # a list in a cell stays one
        array[index] = value
    return array.reshape(shape)


def _scalar(parts: list[Any]) -> np.generic:
    name, digits = parts
    scalar: np.generic = _of_bytes(bytes.fromhex(digits), name)[0]
    return scalar


def random_state_parts(random_state: np.random.RandomState) -> list[Any]:
    """Return the state of a ``RandomState`` in plain values and an array.

    Raises
    ------
    TypeError
        If it draws from another generator than the Mersenne Twister.
    """
    state = random_state.get_state(legacy=False)
    name, own = state["bit_generator"], state["state"]
    if name != "MT19937":
        raise TypeError(
            f"A RandomState of {name} cannot be saved: give random_state an int."
        )
    return [name, own["key"], int(own["pos"]), state["has_gauss"], state["gauss"]]


def random_state_of(parts: list[Any]) -> np.random.RandomState:
    """Return the ``RandomState`` that :func:`random_state_parts` was called on."""
    name, words, position, has_gauss, gauss = parts
    if (
        name != "MT19937"
        or (words.dtype, words.shape) != (np.uint32, (TWISTER_WORDS,))
        or not 0 <= position <= TWISTER_WORDS  # NumPy would read beyond the words
    ):
        raise ValueError("no state of a RandomState")
    random_state = np.random.RandomState()
    random_state.set_state((name, words, int(position), int(has_gauss), float(gauss)))
    return random_state


READERS: dict[str, Callable[[list[Any]], Any]] = {
    f"{MARK}tuple": tuple,
    f"{MARK}dict": dict,
    f"{MARK}objects": _objects,
    f"{MARK}scalar": _scalar,
    f"{MARK}random_state": random_state_of,
}


# -- writing -------------------------------------------------------------------------


def _serialised(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """Return the content of a file, with zeros for its digest."""
    stored, dtypes = {}, {}
    for name, array in arrays.items():
        if not name.isascii() or name == "__metadata__":
            raise ValueError(f"An array of a file cannot have the name {name!r}.")
        stored[name] = np.asarray(array, order="C")
        if array.dtype.isnative and array.dtype.name in NUMBERS.values():
            continue
        if not AS_BYTES.fullmatch(array.dtype.str):
            raise TypeError(f"A file cannot hold {name!r} of dtype {array.dtype}.")
        dtypes[name] = array.dtype.str
        flat = np.frombuffer(stored[name].tobytes(), dtype=np.uint8)
        stored[name] = flat.reshape(*array.shape, array.dtype.itemsize)
    text = json.dumps(
        {
            "format": CONTAINER_FORMAT,
            "sha256": ZEROS.decode(),
            "dtypes": dtypes,
            "header": header,
        },
        separators=(",", ":"),
    )
    library = _safetensors().numpy
    content: bytes = library.save(stored, {"skvae": text})
    missing = _excess_objects(content)
    if missing:  # many columns, hardly any weights: what can be read, can be written
        content = library.save(stored, {"skvae": text + " " * missing})
    return content


def _place_of_digest(content: memoryview) -> tuple[int, int]:
    begin = LENGTH_BYTES + len(BEFORE_FORMAT) + len(BEFORE_DIGEST)
    begin += len(str(CONTAINER_FORMAT))
    return begin, begin + len(ZEROS)


def _sync_folder(folder: str) -> None:
    """Make the new name of a file last, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- reading -------------------------------------------------------------------------


def _checked_content(path: str) -> bytes:
    """Return the bytes of a file whose start, sizes and digest are right.

    The start is looked at before the rest is read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        found = START.match(file.read(1024))
        if not found:
            raise SavedModelError(FOREIGN)
        if int(found[1]) != CONTAINER_FORMAT:
            raise SavedModelError(
                f"another version wrote it, in format {int(found[1])}; this version "
                f"reads format {CONTAINER_FORMAT}"
            )
        if LENGTH_BYTES + length > size:
            raise SavedModelError("corrupt (cut off)")
        file.seek(0)
        content = file.read(size)
    digest = hashlib.sha256()
    view = memoryview(content)
    begin, end = _place_of_digest(view)
    for part in (view[:begin], ZEROS, view[end:]):
        digest.update(part)
    if digest.hexdigest().encode() != found[2]:
        raise SavedModelError("corrupt (its digest is another one)")
    if _excess_objects(content):
        raise SavedModelError("corrupt (its JSON needs more memory than its size says)")
    return content


def _excess_objects(content: bytes) -> int:
    """Return by how many bytes a file is too small for the objects of its JSON."""
    end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    needed = sum(
        size * content.count(mark, LENGTH_BYTES, end)
        for mark, size in OBJECT_BYTES.items()
    )
    if content.find(b"\\u", LENGTH_BYTES, end) >= 0:
        needed += CHARACTER_BYTES * (end - LENGTH_BYTES)
    allowed = OBJECT_BYTES_PER_BYTE * len(content) + FREE_OBJECT_BYTES
    return max(0, needed - allowed)


def _metadata(content: bytes) -> str:
    """Return the text of skvae in the header of safetensors."""
    begin = LENGTH_BYTES + len(METADATA)
    end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    text, _ = json.JSONDecoder().raw_decode(content[begin:end].decode("ascii"))
    return str(text)


def _array(tensor: dict[str, Any], name: Any) -> np.ndarray:
    """Return an array of safetensors, of the dtype ``name`` if it is none of these."""
    data, shape = tensor["data"], tensor["shape"]
    if name is None:
        array = np.frombuffer(data, NUMBERS[tensor["dtype"]]).reshape(shape)
        if array.dtype == bool:
            _check_booleans(array)
        return array
    if tensor["dtype"] != "U8" or shape[-1] != _dtype(name).itemsize:
        raise ValueError(f"bytes of shape {shape} hold no {name}")
    return _of_bytes(data, name).reshape(shape[:-1])


def _of_bytes(data: bytes, name: Any) -> np.ndarray:
    """Return an array of the dtype ``name`` whose values are all possible."""
    dtype = _dtype(name)
    array = np.frombuffer(data, dtype)
    if dtype.kind == "U":
        codes = np.frombuffer(data, np.dtype("u4").newbyteorder(dtype.byteorder))
        if np.max(codes, initial=0) > LAST_CHARACTER:
            raise ValueError("a text has characters that Unicode lacks")
    elif dtype.kind == "b":
        _check_booleans(array)
    return array


def _dtype(name: Any) -> np.dtype:
    if not isinstance(name, str) or not AS_BYTES.fullmatch(name):
        raise TypeError(f"a dtype is {name!r}")
    return np.dtype(name)


def _check_booleans(array: np.ndarray) -> None:
    if np.max(array.view(np.uint8), initial=0) > 1:
        raise ValueError("a boolean is neither 0 nor 1")
