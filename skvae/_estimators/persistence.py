"""What fitted estimators store, and how they are read again."""

from __future__ import annotations

import torch


def package_versions() -> dict[str, str]:
    """Return the versions that a fitted model depends on."""
    # not the installed metadata: those of an editable install may be out of date
    from .._version import __version__

    return {"torch": str(torch.__version__), "skvae": __version__}
