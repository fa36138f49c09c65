"""Results of finished cells, and the keys by which they may be used again.

A key holds all that a result depends on: a digest of the case (data, split, mask), the
method with its settings, the version of the package that computes it, and the seed.
skvae has no version but a digest of its sources, so that a result of other sources is
never taken for one of these.
"""

import functools
import hashlib
import importlib.util
import json
from pathlib import Path

from .report import RESULTS, installed

#: The packages that a result of ours depends on.
OURS = ("skvae", "torch")


def cache_path(name):
    """Return a path in the cache folder, which git ignores."""
    folder = RESULTS / ".cache"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    return folder / name


class Cache:
    """Finished results in a file of JSON lines; the last line of a key wins.

    Every result is one appended line, so that an interrupted run loses at most the
    result in progress and two processes may add to one file.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.records = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:
                    continue  # the line that was being written at an interruption
                self.records[tuple(record["key"])] = record["value"]

    def __contains__(self, key):
        return tuple(key) in self.records

    def get(self, key):
        """Return the result of a key, or None."""
        return self.records.get(tuple(key))

    def put(self, key, value):
        """Store a result and append it to the file."""
        line = json.dumps({"key": list(key), "value": value})
        self.records[tuple(key)] = json.loads(line)["value"]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(line + "\n")


def cell_key(case, method, version, seed, **settings):
    """Return the key of a result, a tuple of strings and a number."""
    return (case, method, version, seed, json.dumps(settings, sort_keys=True))


def version(*packages):
    """Return packages with their versions, skvae with a digest of its sources."""
    versions = {name: installed(name) for name in packages if name != "skvae"}
    if "skvae" in packages:
        folder = Path(importlib.util.find_spec("skvae").origin).parent
        versions = {"skvae": sources_digest(folder), **versions}
    return ", ".join(f"{name} {text}" for name, text in versions.items())


@functools.cache
def sources_digest(folder):
    """Return a short hash of the Python files of a package."""
    found = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*.py")):
        found.update(path.relative_to(folder).as_posix().encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def digest(*parts):
    """Return a short hash of arrays, tables, masks and plain values."""
    found = hashlib.sha256()
    for part in parts:
        found.update(_bytes(part))
    return found.hexdigest()[:12]


def _bytes(part):
    if hasattr(part, "columns"):  # a pandas table
        from pandas.util import hash_pandas_object

        names = repr([(name, str(part[name].dtype)) for name in part])
        return names.encode() + hash_pandas_object(part).to_numpy().tobytes()
    if hasattr(part, "dtype") and part.dtype != object:
        return f"{part.dtype}{part.shape}".encode() + part.tobytes()
    return repr(part.tolist() if hasattr(part, "tolist") else part).encode()
