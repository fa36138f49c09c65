"""Construction of the parts of the imputation model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._density.model import resolve_layers
from .._density.rows import make_joint
from .._distributions.head import CPU_FLOATS
from .._distributions.joint import Joint
from .._distributions.location_scale import SCALE_FLOOR
from .._tables.columns import Column
from .conditional_mean import ConditionalMean
from .settings import SETTINGS, Settings, choose_mean_settings


def describe_mean(
    architecture: Mapping[str, Any],
    params: Mapping[str, Any],
    shape: tuple[int, ...],
    settings: Settings,
) -> dict[str, Any]:
    """Return the options of the conditional mean for a table of this shape."""
    layers = params["hidden_layer_sizes"]
    n_rows, n_columns = shape
    own = choose_mean_settings(n_rows, n_columns, settings)
    layers = own.hidden_layer_sizes if layers is None else resolve_layers(layers)
    if not layers and not make_joint(architecture["heads"]).is_numeric:
        raise ValueError(
            "hidden_layer_sizes=() is the linear model, a multivariate normal, and "
            "takes numeric columns only: encode the others, or give "
            "hidden_layer_sizes at least one layer."
        )
    n_inputs = make_joint(architecture["heads"]).n_inputs
    if not layers and n_inputs > settings.widest_linear:
        raise ValueError(
            "hidden_layer_sizes=() fits one multivariate normal, whose cost grows with "
            f"the cube of the number of columns: at most {settings.widest_linear} may "
            f"vary, but X has {n_inputs}. Leave columns out, or give "
            "hidden_layer_sizes at least one layer."
        )
    return {
        "hidden_layer_sizes": list(layers),
        "n_members": own.n_members,
        "widest_normal": own.widest_normal,
    }


def build_mean(
    architecture: Mapping[str, Any],
    options: Mapping[str, Any],
    seed: int = 0,
    settings: Settings = SETTINGS,
) -> ConditionalMean:
    """Build the conditional mean for ``architecture``, on the CPU."""
    joint = Joint(
        [head.point_estimate_head() for head in make_joint(architecture["heads"])]
    )
    return ConditionalMean(
        joint,
        activation=architecture["activation"],
        generator=torch.Generator("cpu").manual_seed(seed),
        settings=settings,
        **options,
    )


def scale_floors(joint: Joint, columns: list[Column], floor_per_gap: float) -> Tensor:
    """Return minimum scales: a fraction of the median gap between repeated values."""
    places, _, _ = joint.location_scale_indices()
    floors = torch.full((len(places),), SCALE_FLOOR, **CPU_FLOATS)
    for index, place in enumerate(places.tolist()):
        column = columns[place]
        if column.support is not None:
            gaps = np.diff(column.map.forward(column.support))
            floors[index] = max(SCALE_FLOOR, floor_per_gap * float(np.median(gaps)))
    return floors
