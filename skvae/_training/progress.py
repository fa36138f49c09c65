"""Progress of a fit: callbacks, verbose lines, interruption.

A fit consists of stages, such as epochs of a VAE behind the steps of another network.
Each is divided into units of about equal cost, which are the subtasks that callbacks of
scikit-learn count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from .._validation import warn

#: The main stage, whose unit is an epoch.
MAIN = "epoch"


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


class Progress:
    """Progress of one fit: callbacks, verbose lines, Ctrl-C.

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

    @property
    def is_over(self) -> bool:
        """Whether the fit was interrupted or stopped: further loops take no step."""
        return self.interrupted or self.stopped

    def open(self, units: Mapping[str, int]) -> None:
        """Begin the fit, given the number of units by stage."""
        if self.estimator is None:
            return
        self.units = dict(units)
        n_units = sum(self.units.values())
        self._fit = self.estimator._init_callback_context(max_subtasks=n_units)
        self._fit.call_on_fit_task_begin(estimator=self.estimator, X=self.X)

    def close(self) -> None:
        """End the fit."""
        fit, self._fit = self._fit, None
        if fit is not None:
            fit.call_on_fit_task_end(estimator=self.estimator, X=self.X)

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

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Context manager: KeyboardInterrupt ends the loop and keeps its result."""
        try:
            yield
        except KeyboardInterrupt:
            self.interrupted = True
            warn("Training interrupted by user; the best weights so far are kept.")
        self.end()  # the loop may have left in the middle of a unit

    @contextmanager
    def stage(self, name: str, n_steps: int) -> Iterator[Iterator[int]]:
        """Context manager that gives the steps of a stage to an interruptible loop."""
        with self.interruptible():
            yield self._steps(name, n_steps)

    def _steps(self, name: str, n_steps: int) -> Iterator[int]:
        n_units = min(self.units.get(name, 1), n_steps)
        for unit in range(n_units):
            if self.is_over:
                return
            self.begin(name)
            yield from range(unit * n_steps // n_units, (unit + 1) * n_steps // n_units)
            self.end()
