"""Progress of a fit: its loops, Ctrl-C, callbacks, verbose lines.

A fit consists of stages, such as epochs of a VAE behind the steps of another network.
Each is divided into units of about equal cost, which are the subtasks that callbacks of
scikit-learn count.

A stage is a loop that keeps its state now and then. Ctrl-C in a loop restores what it
kept last, and no loop takes a step from then on. Ctrl-C anywhere else in a fit that
has something to keep runs the fit again from the top, where the loops give back at once
what they kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from .._validation import warn
from .checkpoint import CheckpointFile
from .journal import Entry, Kept, Loop
from .settings import SETTINGS

#: The main stage, whose unit is an epoch.
MAIN = "epoch"

Result = TypeVar("Result")
Given = TypeVar("Given")


class Interrupts:
    """Ctrl-C of the whole process: twice within two seconds ends all fits."""

    def __init__(self) -> None:
        self.last = -math.inf

    def note(self) -> bool:
        """Note Ctrl-C; return whether it is the second in a short time."""
        now = time.monotonic()
        is_second = now - self.last < SETTINGS.seconds_between_interrupts
        self.last = now
        return is_second


#: Of this process: a search over many fits is stopped by the second Ctrl-C.
INTERRUPTS = Interrupts()


class Stage(NamedTuple):
    """Stage of a fit, with its cost per step."""

    name: str
    n_steps: int
    floats_per_step: float


def plan_units(main: Stage, n_epochs: int, others: Sequence[Stage]) -> dict[str, int]:
    """Return the number of units of every stage, by name.

    The unit of the main stage is the epoch. Others have as many units as their cost in
    epochs, at least one and at most one per step.
    """
    epoch = main.n_steps * main.floats_per_step / n_epochs
    units = {
        name: min(n_steps, max(1, round(n_steps * floats / epoch)))
        for name, n_steps, floats in others
    }
    return {**units, main.name: n_epochs}


class LoopContext(Generic[Given]):
    """Context manager of a loop, see :meth:`Progress.loop`.

    A class, as a generator would be lost between its own lines, where Ctrl-C strikes
    as well.
    """

    def __init__(
        self,
        progress: Progress,
        name: str,
        loop: Loop | None,
        usable_from: float,
        given: Given,
    ) -> None:
        self.progress, self.given = progress, given
        self.arguments = name, loop, usable_from

    def __enter__(self) -> Given:
        self.was_over = self.progress.is_over
        self.progress.begin_loop(*self.arguments)
        return self.given

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if error is not None and not isinstance(error, KeyboardInterrupt):
            return False
        try:
            if error is not None:
                raise error
            if not self.was_over:
                self.progress.end_loop()
        except KeyboardInterrupt as stop:
            self.progress.interrupt_loop(stop)
        self.progress.end()  # the loop may have left in the middle of a unit
        return True


def check_callbacks(callbacks: Sequence[Any]) -> None:
    """Raise TypeError for what is no callback of skorch, alone or with a name."""
    for item in callbacks:
        is_pair = isinstance(item, tuple) and len(item) == 2
        callback = item[1] if is_pair else item
        if not (hasattr(callback, "initialize") and hasattr(callback, "set_params")):
            raise TypeError(
                "callbacks must hold callbacks of skorch, or pairs of a name and one, "
                f"but one item is {item!r}."
            )


class Progress:
    """Progress of one fit: loops, Ctrl-C, callbacks, verbose lines.

    Every loop of a fit reports to the same object. Without an estimator, or before
    :meth:`open`, nothing is reported.

    Parameters
    ----------
    estimator : estimator, default=None
        Estimator with callbacks of scikit-learn.
    X : array-like, default=None
        Table for callbacks.
    callbacks : sequence, default=()
        Callbacks of skorch for the main stage.
    verbose : bool, default=False
        Whether lines are printed.

    Attributes
    ----------
    interrupted : bool
        Whether Ctrl-C was pressed.
    stopped : bool
        Whether a callback of scikit-learn asked to stop.
    units : dict of str to int
        Number of units by stage.
    """

    def __init__(
        self,
        estimator: Any = None,
        X: Any = None,
        *,
        callbacks: Sequence[Any] = (),
        verbose: bool = False,
    ) -> None:
        self.estimator, self.X = estimator, X
        self.callbacks = list(callbacks)
        self.verbose = verbose
        self.interrupted = self.stopped = False
        self.units: dict[str, int] = {}
        self._fit: Any = None  # contexts of scikit-learn
        self._unit: Any = None
        self.checkpoint: CheckpointFile | None = None
        self._entries: list[Entry] = []  # of the loops, in the order of the fit
        self._position = 0  # of the next loop
        self._entry: Entry | None = None  # of the loop that runs
        self._loop: Loop | None = None

    @property
    def is_over(self) -> bool:
        """Whether the fit was interrupted or stopped: further loops take no step."""
        return self.interrupted or self.stopped

    # -- the fit -----------------------------------------------------------------

    def use(self, checkpoint: CheckpointFile) -> None:
        """Write to a file what the loops keep, and go on from what it holds."""
        self.checkpoint, self._entries = checkpoint, checkpoint.entries

    def run(self, fit: Callable[[], Result]) -> Result:
        """Return ``fit()``, run again if Ctrl-C came outside of its loops.

        ``fit`` must do the same at every call, but for its loops.
        """
        try:
            return fit()
        except KeyboardInterrupt as stop:
            if not any(e.kept is not None and e.is_usable for e in self._entries):
                self._write()
                raise
            self._interrupt(stop)
        self.end()
        self._position = 0
        return fit()

    def open(self, units: Mapping[str, int]) -> None:
        """Begin the fit, given the number of units by stage."""
        if self.estimator is None or self._fit is not None:
            return
        self.units = dict(units)
        n_units = sum(self.units.values())
        self._fit = self.estimator._init_callback_context(max_subtasks=n_units)
        self._fit.call_on_fit_task_begin(estimator=self.estimator, X=self.X)

    def close(self) -> None:
        """End the fit; Ctrl-C comes too late to change it."""
        fit, self._fit = self._fit, None
        try:
            if not self.interrupted:
                self._write()
            if fit is not None:
                fit.call_on_fit_task_end(estimator=self.estimator, X=self.X)
        except KeyboardInterrupt as stop:
            self._interrupt(stop)

    def begin(self, name: str) -> None:
        """Begin a unit of a stage."""
        if name in self.units and self._fit is not None:
            self._unit = self._fit.subcontext(task_name=name)
            self._unit.call_on_fit_task_begin(estimator=self.estimator)

    def end(self) -> bool:
        """End the unit, if one has begun; return whether a callback asks to stop."""
        unit, self._unit = self._unit, None
        if unit is None:
            return False
        stop = bool(unit.call_on_fit_task_end(estimator=self.estimator))
        self.stopped |= stop
        return stop

    def say(self, line: str) -> None:
        """Print a line if the fit is verbose."""
        if self.verbose:
            print(line)

    # -- its loops ---------------------------------------------------------------

    def loop(
        self, name: str, loop: Loop | None = None, usable_from: float = 0
    ) -> LoopContext[None]:
        """Return the context manager of a loop.

        Ctrl-C in it restores the state that the loop kept last: by :meth:`resume` at
        the beginning, by :meth:`keep` within it. Before ``usable_from`` steps Ctrl-C
        passes.
        """
        return LoopContext(self, name, loop, usable_from, None)

    def stage(
        self,
        name: str,
        n_steps: int,
        loop: Loop | None = None,
        *,
        n_saves: int = SETTINGS.n_saves,
        usable_from: float = 0,
    ) -> LoopContext[Iterator[int]]:
        """Return the context manager of a loop, which gives it the steps of a stage.

        The state is kept ``n_saves`` times, at equal distances.
        """
        steps = self._steps(name, n_steps, n_saves)
        return LoopContext(self, name, loop, usable_from, steps)

    def resume(self) -> float:
        """Restore what the loop kept, or keep its start; return the steps done."""
        assert self._entry is not None
        kept = self._entry.kept
        if self.checkpoint is not None and self._loop is not None:
            self.checkpoint.check_start(self._entry, self._loop)
        if kept is None:
            self.keep(0)
            return 0
        if self._loop is not None:
            self._loop.load(kept.state)
        if not self.is_over:
            self.say(f"Resumed from a checkpoint: {self._entry.name}")
        self.stopped |= kept.stopped
        return kept.n_done

    def keep(self, n_done: float) -> None:
        """Keep the state of the loop after ``n_done`` steps, infinite at its end."""
        assert self._entry is not None
        state = {} if self._loop is None else self._loop.save()
        self._entry.kept = Kept(state, n_done, self.stopped)
        if self.checkpoint is not None and not self.interrupted:
            self.checkpoint.is_current = False
            self.checkpoint.write_if_due(self._entries)

    def _write(self) -> None:
        if self.checkpoint is not None and not self.checkpoint.is_current:
            self.checkpoint.write(self._entries)

    def begin_loop(self, name: str, loop: Loop | None, usable_from: float) -> None:
        """Begin a loop, the next one of the fit."""
        if self._position == len(self._entries):
            self._entries.append(Entry(name))
        entry = self._entries[self._position]
        if entry.name != name:
            raise ValueError(f"The checkpoint has {entry.name!r} in place of {name!r}.")
        entry.usable_from = usable_from
        self._position += 1
        self._entry, self._loop = entry, loop

    def end_loop(self) -> None:
        """End a loop that nothing has interrupted."""
        assert self._entry is not None
        kept = self._entry.kept
        if kept is None or kept.n_done < math.inf:
            self.keep(math.inf)

    def interrupt_loop(self, stop: KeyboardInterrupt) -> None:
        """Restore the state that the loop kept last, or let Ctrl-C pass."""
        assert self._entry is not None
        if not self._entry.is_usable:
            raise stop
        self._interrupt(stop)
        if self._loop is not None and self._entry.kept is not None:
            self._loop.load(self._entry.kept.state)

    def _steps(self, name: str, n_steps: int, n_saves: int) -> Iterator[int]:
        done = self.resume()
        kept = {n_steps * (k + 1) // n_saves for k in range(n_saves)}
        n_units = min(self.units.get(name, 1), n_steps)
        for unit in range(n_units):
            if self.is_over:
                return
            self.begin(name)
            first = unit * n_steps // n_units
            for step in range(first, (unit + 1) * n_steps // n_units):
                if step >= done:
                    yield step
                    if step + 1 in kept:
                        self.keep(step + 1)
            self.end()

    def _interrupt(self, stop: KeyboardInterrupt) -> None:
        """Note Ctrl-C with one warning, or let it pass if it is the second."""
        if INTERRUPTS.note() or self.interrupted:
            raise stop
        self._write()
        self.interrupted = True
        try:
            warn("Training interrupted by user; the best weights so far are kept.")
        except UserWarning:  # made an error by a filter
            raise KeyboardInterrupt from None
