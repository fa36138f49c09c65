"""Torch devices by name."""

from __future__ import annotations

import torch


def resolve_device(device: str | None, *, double: bool = False) -> str:
    """Return the torch device that ``device`` stands for.

    Parameters
    ----------
    device : str or None
        As the estimators take it.
    double : bool, default=False
        Whether double precision is needed, which MPS lacks.

    Raises
    ------
    ValueError
        If the name is unknown, or the device or its precision is not available.
    """
    cuda = torch.cuda.is_available()
    mps = torch.backends.mps.is_available()
    if device is None:
        return "cpu"
    if device == "auto":
        return "cuda" if cuda else "mps" if mps and not double else "cpu"
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
    if kind == "mps" and double:
        raise ValueError(
            "This estimator computes in double precision, which MPS lacks: use "
            "device='auto' or 'cpu'."
        )
    return str(device)


def available_device(device: str, *, double: bool = False) -> str:
    """Return ``device`` if available, else the best that is."""
    try:
        return resolve_device(device, double=double)
    except ValueError:
        return resolve_device("auto", double=double)
