"""Modes that the caller has entered, and what the public methods set against them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from .._validation import numpy_defaults

#: Kinds of device for which torch has automatic mixed precision.
AUTOCAST = ("cpu", "cuda", "mps")


@contextmanager
def isolated() -> Iterator[None]:
    """Context manager, and decorator: modes of the caller change no result.

    Inside, torch builds graphs and multiplies in the precision of the tensors, and
    NumPy treats floating point errors as by default. All of this is set for the current
    thread alone, and as before afterwards. Defaults that torch keeps for the whole
    process (dtype, device) are not touched: tensors are created with both.
    """
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.enable_grad())
        for kind in AUTOCAST:
            if torch.is_autocast_enabled(kind):
                modes.enter_context(torch.autocast(kind, enabled=False))
        modes.enter_context(numpy_defaults())
        yield
