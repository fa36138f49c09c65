"""Checkpoints: a file with the states of the loops of a fit, to resume it from.

A fit with the same data and parameters does the same from the top to the end, so only
its loops are recorded: when such a fit begins again, a loop that had ended gives back
its last state at once, and the one that was cut off goes on from the state that it kept
last. What lies between loops is computed again.
"""

from __future__ import annotations

import copy
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor

from .._container import (
    WRONG_CONTENT,
    SavedModelError,
    digest_of,
    read_state,
    write_state,
)
from .._validation import warn
from .journal import Entry, Kept, Loop, State

#: What a file says that it is.
KIND = "checkpoint"

REMEDY = "Give Checkpoint another path, or delete the file to fit anew."

#: Mark of a digest, in place of a value that is long or private.
DIGEST = "#"


class Checkpoint(Callback):  # type: ignore[misc]
    """Callback that keeps a fit in a file, from which a later call resumes it.

    ``fit`` writes the state of the training to the file. If the fit is cut off (by a
    crash, ``kill``, a power failure, Ctrl-C), the same fit, called again, goes on from
    there, and its result is bit for bit that of a fit that nothing cut off (on the same
    machine, with as many threads). After the end the file stays: the same fit, called
    again, ends at once.

    "The same" are the estimator, its parameters, the table, labels, weights, and the
    versions of the packages; any other fit is refused, as is a second fit that writes
    to the same file, for instance in a search.

    Parameters
    ----------
    path : str or path-like
        The file. It is replaced by a complete one at every write.

    every : float, default=30
        Minimum number of seconds between two writes; at most as much work is lost. The
        state is kept after every epoch, and ten times or more in the other stages.

    See Also
    --------
    skvae.save : Saves a fitted estimator.

    Notes
    -----
    Needs safetensors (``pip install "skvae[files]"``).

    With ``random_state=None`` a resumed fit goes on with the random numbers of the
    first one. Other callbacks are told of the epochs before once more, without their
    batches. A first write that fails is an error, such as a folder that does not exist;
    later, where the disk is full for instance, the fit warns and goes on, and the file
    stays as it was. ``partial_fit`` takes no checkpoint: save the estimator.

    The file holds the parameters, the state of the training (weights, means and
    covariances, validation scores by row) and hashes of the table, but no cells of it.
    The weights of a VampPrior begin at rows of the table.

    Examples
    --------
    >>> import os, tempfile
    >>> from skvae import Checkpoint, VAETransformer
    >>> from skvae.datasets import load_penguins
    >>> X = load_penguins().data
    >>> path = os.path.join(tempfile.mkdtemp(), "fit.ckpt")
    >>> model = VAETransformer(
    ...     max_iter=3, callbacks=[Checkpoint(path)], random_state=0
    ... )
    >>> scores = model.fit(X).score_samples(X)
    >>> again = VAETransformer(**model.get_params()).fit(X)  # ends at once
    >>> bool((again.score_samples(X) == scores).all())
    True
    >>> model.set_params(max_iter=4).fit(X)
    Traceback (most recent call last):
    ...
    ValueError: ...fit.ckpt is the checkpoint of another fit: max_iter is 4 and was 3...
    """

    __module__ = "skvae"

    def __init__(self, path: str | os.PathLike[str], every: float = 30) -> None:
        self.path = path
        self.every = every

    def __repr__(self) -> str:
        return f"Checkpoint({os.fspath(self.path)!r}, every={self.every!r})"


def find_checkpoint(
    callbacks: Sequence[Any], *, incremental: bool
) -> Checkpoint | None:
    """Return the checkpoint among the callbacks, if there is one.

    Raises
    ------
    ValueError
        If there are two, or if the fit is ``incremental``.
    """
    found = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
    if len(found) > 1:
        raise ValueError("callbacks holds more than one Checkpoint: give one.")
    if found and incremental:
        raise ValueError(
            "callbacks holds a Checkpoint, which partial_fit does not take: save the "
            "estimator after a chunk."
        )
    return found[0] if found else None


def open_checkpoint(
    checkpoint: Checkpoint,
    identity: Mapping[str, str],
    random_state: np.random.RandomState,
    *,
    is_seeded: bool,
) -> CheckpointFile:
    """Return the file of a fit, with what it knows of its loops.

    Parameters
    ----------
    checkpoint : Checkpoint
        Path and frequency.
    identity : mapping of str to str
        What makes the fit the one that it is, see :func:`described`.
    random_state : RandomState
        That of the fit. Unless it ``is_seeded``, it gets the state of the fit that is
        resumed.
    is_seeded : bool
        Whether the user has given a seed.

    Raises
    ------
    OSError
        If the file cannot be read or written.
    TypeError
        If the path or the frequency has the wrong type.
    ValueError
        If the file is that of another fit, or no checkpoint; if the frequency is
        negative.
    """
    path, every = checkpoint.path, checkpoint.every
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path of Checkpoint must be a path, but got {path!r}.")
    if not isinstance(every, Real) or isinstance(every, bool):
        raise TypeError(f"every of Checkpoint must be a number, but got {every!r}.")
    if not every >= 0:
        raise ValueError(
            f"every of Checkpoint must not be negative, but got {every!r}."
        )
    file = CheckpointFile(os.fspath(path), float(every), identity)
    if os.path.exists(file.path):
        file.read()
    if file.random_state is not None and not is_seeded:
        random_state.set_state(file.random_state.get_state())
    file.random_state = copy.deepcopy(random_state)
    if not file.is_ours:  # a second fit sees that the file is taken
        file.write([])
    return file


class CheckpointFile:
    """File of one fit.

    Parameters
    ----------
    path : str
        The file.
    every : float
        Minimum number of seconds between two writes.
    identity : mapping of str to str
        What makes the fit the one that it is.
    """

    def __init__(self, path: str, every: float, identity: Mapping[str, str]) -> None:
        self.path, self.every, self.identity = path, every, dict(identity)
        #: RandomState at the beginning of the fit.
        self.random_state: np.random.RandomState | None = None
        self.entries: list[Entry] = []
        self.is_ours = False  # whether the file holds this fit
        self.is_current = False  # whether it holds what this fit has kept last
        self.owner = secrets.token_hex(8)  # of what this process writes
        self.owners = {self.owner}  # of what the file may hold
        self.stamp: tuple[int, ...] | None = None  # of the file as this fit left it
        self.told: set[str] = set()  # warnings
        self.time = time.monotonic()  # of the last write

    def read(self) -> None:
        """Read the file, which must be that of this fit."""
        stamp = stamp_of(self.path)
        try:
            found = read_state(self.path, KIND)
            identity = {k: str(v) for k, v in found["identity"].items()}
            self.owners.add(found["owner"])
            self.random_state = found["random_state"]
            for loop in found["loops"]:
                state = replaced(loop["state"], np.ndarray, to_tensor)
                kept = Kept(state, loop["n_done"], loop["stopped"])
                self.entries.append(Entry(loop["name"], 0, kept, loop["start"]))
        except SavedModelError as error:
            raise ValueError(f"{error} {REMEDY}") from error
        except WRONG_CONTENT as error:
            raise ValueError(f"{self.path}: corrupt ({error}). {REMEDY}") from error
        self._check_identity(identity)
        self.stamp = stamp
        self.is_ours = self.is_current = True

    def _check_identity(self, found: Mapping[str, str]) -> None:
        """Raise ValueError if the file is that of another fit."""
        differences = []
        for name in dict.fromkeys([*self.identity, *found]):
            now, then = self.identity.get(name, "none"), found.get(name, "none")
            if now == then:
                continue
            if DIGEST in (now[0], then[0]):
                differences.append(f"{name} is another one")
            else:
                differences.append(f"{name} is {now} and was {then}")
        if differences:
            raise ValueError(
                f"{self.path} is the checkpoint of another fit: "
                f"{', '.join(differences)}. {REMEDY}"
            )

    def write_if_due(self, entries: Sequence[Entry]) -> None:
        """Write the file if the last time is long enough ago."""
        if time.monotonic() - self.time >= self.every:
            self.write(entries)

    def write(self, entries: Sequence[Entry]) -> None:
        """Write what is known of the loops.

        Raises
        ------
        OSError
            If it is the first write and fails; later there is a warning.
        ValueError
            If another fit has written to the file.
        """
        if self.is_ours:
            self._check_owner()
        loops = [
            {
                "name": entry.name,
                "start": entry.start,
                "n_done": entry.kept.n_done,
                "stopped": entry.kept.stopped,
                "state": plain_state(entry.kept.state),
            }
            for entry in entries
            if entry.kept is not None  # all but the last one have kept something
        ]
        content = {
            "identity": self.identity,
            "owner": self.owner,
            "random_state": self.random_state,
            "loops": loops,
        }
        try:
            write_state(self.path, KIND, content)
            self.is_ours = self.is_current = True
        except OSError as error:
            if not self.is_ours:
                raise
            self._warn_once(
                f"The checkpoint {self.path} cannot be written ({error}). The fit "
                "goes on; a fit that resumes it begins at the last write."
            )
        self.time, self.stamp = time.monotonic(), stamp_of(self.path)

    def _check_owner(self) -> None:
        """Raise ValueError if another fit has written to the file."""
        if stamp_of(self.path) in (None, self.stamp):
            return
        try:
            owner = read_state(self.path, KIND)["owner"]
        except (OSError, *WRONG_CONTENT):
            owner = None
        if owner not in self.owners:
            raise ValueError(
                f"Another fit writes to {self.path}, too: give every fit a Checkpoint "
                "with a path of its own, and a search none."
            )

    def _warn_once(self, text: str) -> None:
        kind = text.partition("(")[0]
        if kind not in self.told:
            self.told.add(kind)
            warn(text)

    def check_start(self, entry: Entry, loop: Loop) -> None:
        """Compare the beginning of a loop with that of the fit that is resumed."""
        state = plain_state(loop.save())
        start = digest_of(state)
        if entry.kept is None:
            entry.start = start
            return
        if form_of(plain_state(entry.kept.state)) != form_of(state):
            raise ValueError(
                f"{self.path}: corrupt (it does not fit the model). {REMEDY}"
            )
        if start != entry.start:
            self._warn_once(
                f"The fit that {self.path} resumes began with other numbers, as on "
                "another machine or with another number of threads: its result is not "
                "bit for bit that of one fit."
            )


def described(value: Any) -> str:
    """Return a short text that tells values apart: as written, or a digest."""
    text = repr(value)
    if isinstance(value, str | int | float | bool | list | dict | None) and (
        len(text) <= 60
    ):
        return text
    return DIGEST + digest_of(value)


def stamp_of(path: str) -> tuple[int, ...] | None:
    """Return what changes with every write of a file, None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


# -- states of files -----------------------------------------------------------------


def replaced(value: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """Return a nested value with ``function(part)`` for its parts of a type."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, dict):
        return {name: replaced(part, kind, function) for name, part in value.items()}
    return value


def plain_state(state: State) -> State:
    """Return a state with arrays for tensors, and the numbers of skorch's history."""
    plain: State = replaced(state, Tensor, lambda tensor: tensor.cpu().numpy())
    if "history" in plain:
        plain["history"] = [plain_row(row) for row in plain["history"]]
    return plain


def plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a row of skorch's history says in numbers and text."""
    plain = {k: v for k, v in row.items() if type(v) in (str, int, float, bool)}
    return {**plain, "batches": []}


def to_tensor(array: np.ndarray) -> Tensor:
    """Return a tensor with a copy of an array, which may be read-only."""
    return torch.from_numpy(np.array(array))


def form_of(state: State) -> Any:
    """Return names, and shapes and dtypes of the arrays, of a state."""
    form = {
        name: form_of(part) if isinstance(part, dict) else None
        for name, part in state.items()
        if not isinstance(part, np.ndarray)
    }
    arrays = {n: a for n, a in state.items() if isinstance(a, np.ndarray)}
    return form, {name: (array.shape, array.dtype) for name, array in arrays.items()}
