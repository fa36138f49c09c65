"""Random numbers of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .._validation import make_random_state


class Random:
    """NumPy RandomState, and a torch generator seeded from it.

    Seeds, splits and noise of a fit are drawn in one order, from here alone.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        As the estimators take it.
    device : str
        Device of the generator.
    """

    def __init__(self, random_state: Any, device: str) -> None:
        self.state: np.random.RandomState = make_random_state(random_state)
        self.generator = self.new_generator(device)

    def new_seed(self) -> int:
        """Return a new seed."""
        return int(self.state.randint(2**31 - 1))

    def new_generator(self, device: str) -> torch.Generator:
        """Return a generator with a new seed."""
        return torch.Generator(device).manual_seed(self.new_seed())
