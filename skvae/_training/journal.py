"""What a fit knows of its loops: the state that each of them kept last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

#: State of a loop: tensors, numbers and lists of numbers, by name.
State = dict[str, Any]


class Loop(Protocol):
    """Loop whose state can be saved between two steps, and loaded."""

    def save(self) -> State:
        """Return the state, of which later steps change nothing."""
        ...

    def load(self, state: State) -> None:
        """Restore a state that :meth:`save` returned."""
        ...


class Kept(NamedTuple):
    """State of a loop after ``n_done`` steps, or at its end."""

    state: State
    n_done: float  # infinite at the end
    stopped: bool = False  # whether a callback has stopped the fit


@dataclass
class Entry:
    """What is known of a loop: its name and the state that it kept last.

    From ``usable_from`` steps on the state makes a model that can be used.
    """

    name: str
    usable_from: float = 0
    kept: Kept | None = None
    #: Hash of the state at the beginning, for a checkpoint.
    start: str | None = None

    @property
    def is_usable(self) -> bool:
        """Whether Ctrl-C leaves something that can be used."""
        n_done = 0 if self.kept is None else self.kept.n_done
        return n_done >= self.usable_from
