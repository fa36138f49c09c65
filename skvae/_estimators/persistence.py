"""What fitted estimators store, and how they are read again.

The state holds plain containers and NumPy arrays only: it loads on any device, with
skops, and after any move of a file inside the package.
"""

from __future__ import annotations

from typing import Any

import torch

from .._validation import warn
from .._version import __version__

#: Number of the format; another one is refused.
FORMAT = 1


def package_versions() -> dict[str, str]:
    """Return the versions that a fitted model depends on."""
    torch_version = str(torch.__version__).partition("+")[0]  # whatever its device
    return {"skvae": __version__, "torch": torch_version}


def check_saved(state: dict[str, Any], name: str) -> None:
    """Refuse another format, and warn of another version.

    Raises
    ------
    ValueError
        If the estimator was saved in a format that is not read any more.
    """
    if state.get("_format") != FORMAT:
        raise ValueError(
            f"This {name} was saved by a development version of skvae before 0.1.0: "
            "fit it again."
        )
    saved, installed = state["_versions"], package_versions()
    if saved != installed:
        then, now = (
            " and ".join(f"{package} {versions[package]}" for package in installed)
            for versions in (saved, installed)
        )
        warn(
            f"This {name} was saved with {then} and is loaded with {now}: check its "
            "results, or fit it again."
        )
