"""Streams of random numbers that are the same at every call, from one stored seed."""

from __future__ import annotations

import numpy as np
import torch

#: Streams of the stored seed: the normal's parameters, cells for the slopes of
#: self-masking, for estimates (common random numbers) and for intervals, and latents
#: for log p(x). The order is part of the results.
STREAMS = ("parameters", "slopes", "common", "intervals", "evidence")


def stream_seed(seed: int, name: str) -> int:
    """Return the seed of one of ``STREAMS``: independent streams share no noise."""
    sequence = np.random.SeedSequence(seed, spawn_key=(STREAMS.index(name),))
    return int(sequence.generate_state(1)[0])


def new_generator(seed: int, name: str, device: torch.device | str) -> torch.Generator:
    """Return the generator of one of ``STREAMS``, at its beginning."""
    return torch.Generator(device).manual_seed(stream_seed(seed, name))
