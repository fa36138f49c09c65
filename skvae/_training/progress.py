"""What the training loops of a fit report to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Progress:
    """Stub."""

    def __init__(
        self,
        estimator: Any = None,
        X: Any = None,
        *,
        callbacks: Sequence[Any] = (),
        verbose: bool = False,
    ) -> None:
        self.estimator, self.X = estimator, X
        self.callbacks, self.verbose = list(callbacks), verbose
        self.context: Any = None

    def open(self, n_units: int) -> None:
        """Open."""
        if self.estimator is not None:
            self.context = self.estimator._init_callback_context(max_subtasks=n_units)
            self.context.call_on_fit_task_begin(estimator=self.estimator, X=self.X)

    def close(self) -> None:
        """Close."""
        if self.context is not None:
            self.context.call_on_fit_task_end(estimator=self.estimator, X=self.X)
