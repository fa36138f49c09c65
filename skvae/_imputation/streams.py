"""Streams of random numbers that are the same at every call, from one stored seed."""

from __future__ import annotations

import numpy as np
import torch

from .._distributions.noise import RowStream

#: Streams of the stored seed: the normal's parameters, cells for the slopes of
#: self-masking, for estimates (common random numbers) and for intervals, latents for
#: log p(x), and choices among the draws of intervals. The order is part of the results.
STREAMS = (
    "parameters",
    "slopes",
    "common",
    "intervals",
    "evidence",
    "resampling",
)


def stream_seed(seed: int, name: str) -> int:
    """Return the seed of one of ``STREAMS``: independent streams share no noise."""
    sequence = np.random.SeedSequence(seed, spawn_key=(STREAMS.index(name),))
    return int(sequence.generate_state(1)[0])


def new_generator(seed: int, name: str, device: torch.device | str) -> torch.Generator:
    """Return the generator of one of ``STREAMS``, at its beginning."""
    return torch.Generator(device).manual_seed(stream_seed(seed, name))


def new_row_stream(seed: int, name: str) -> RowStream:
    """Return one of ``STREAMS`` as noise by the content of rows."""
    return RowStream(stream_seed(seed, name))
