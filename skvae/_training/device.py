"""Which device a name stands for."""

from __future__ import annotations

import torch


def resolve_device(device: str | None) -> str:
    """Return the torch device that ``device`` stands for.

    Raises
    ------
    ValueError
        If the name is unknown or the device is not there.
    """
    cuda = torch.cuda.is_available()
    mps = torch.backends.mps.is_available()
    if device is None:
        return "cpu"
    if device == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, index = str(device).partition(":")
    available = {"cpu": True, "cuda": cuda, "mps": mps}
    if kind not in available or (index and not index.isdigit()):
        raise ValueError(
            f"Unknown device {device!r}: use None, 'auto', 'cpu', 'cuda', 'cuda:0' "
            "(or another index) or 'mps'."
        )
    if not available[kind] or (
        kind == "cuda" and index and int(index) >= torch.cuda.device_count()
    ):
        raise ValueError(
            f"Device {device!r} is not available on this machine: use device='auto' "
            "to take the best one that is."
        )
    return str(device)
