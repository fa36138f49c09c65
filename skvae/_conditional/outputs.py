"""Outputs of a conditional model: their checks, encoder and shape."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import numpy as np

from .._density.rows import head_key
from .._distributions.registry import LIKELIHOODS, models_categories
from .._tables.columns import Column
from .._tables.encoder import TableEncoder
from .._tables.libraries import TableSchema, checked_table, take_rows
from .._tables.missing import missing_mask
from .._tables.table import Table
from .._tables.transforms import Affine
from .image_vae import shape_of_context


def complete_pairs(weights: Any, X: Any, outputs: Any) -> tuple[Any, Any, Any]:
    """Return the rows with an output; others do not inform p(y | x)."""
    has_output = (~missing_mask(outputs)).any(1)
    if not has_output.any():
        raise ValueError("Input y contains NaN only: there is nothing to learn.")
    if not has_output.all():
        rows = np.flatnonzero(has_output)
        X, outputs = take_rows(X, rows), take_rows(outputs, rows)
        weights = None if weights is None else weights[rows]
    return weights, X, outputs


def fit_output_encoder(
    outputs: Table, weights: np.ndarray | None, **options: Any
) -> TableEncoder:
    """Fit the encoder of outputs.

    Raises
    ------
    ValueError
        If an output has no value.
    """
    categories = categorical_outputs(options["likelihood"], outputs)
    encoder = TableEncoder(LIKELIHOODS, categorical_features=categories, **options)
    encoder.fit(outputs, weights)
    empty = [column.name for column in encoder.columns_ if column.is_empty]
    if empty:
        raise ValueError(
            f"Outputs without any value: {', '.join(map(repr, empty))}. Drop these "
            "columns of y."
        )
    return encoder


def categorical_outputs(likelihood: str | dict, outputs: Table) -> str | list:
    """Return the outputs that hold categories, as ``categorical_features``.

    In arrays that are not numeric, those with a likelihood of categories.
    """
    if outputs.library != "numpy" or outputs.array is not None:
        return "from_dtype"
    if isinstance(likelihood, dict):
        return [key for key, name in likelihood.items() if models_categories(name)]
    return list(range(outputs.n_columns)) if models_categories(likelihood) else []


def share_map(columns: list[Column]) -> None:
    """Standardise pixel columns with one common mean and standard deviation."""
    maps, scales = [], []
    for column in columns:
        if isinstance(column.map, Affine) and not column.is_empty:
            maps.append(column.map)
            scales.append(0.0 if column.constant is not None else column.map.scale)
    means = np.array([map_.mean for map_ in maps])
    mean = float(means.mean())
    scale = float(np.sqrt(np.mean(np.square(scales) + np.square(means - mean)))) or 1.0
    for column in columns:
        if column.transform == "standard":
            column.map = Affine(mean, scale)
        column.constant = None


def open_outputs(
    estimator: Any, outputs: Any, schema: TableSchema | None = None
) -> Table:
    """Return checked outputs; with ``schema`` they must have its columns."""
    name = type(estimator).__name__
    table = checked_table(outputs, name, "y", min_rows=2 if schema is None else 1)
    if schema is None:
        return table
    if table.n_columns != len(schema.labels):
        raise ValueError(
            f"y has {table.n_columns} columns, but {name} was fitted with "
            f"{len(schema.labels)} outputs."
        )
    labels = [*table.labels, *schema.labels]
    is_named = all(isinstance(label, str) for label in labels)
    is_array = "numpy" in (table.library, schema.library)
    if is_named and not is_array and table.labels != schema.labels:
        raise ValueError(
            f"The columns of y must be {', '.join(map(repr, schema.labels))} in this "
            f"order, but are {', '.join(map(repr, table.labels))}."
        )
    return table


def image_shapes(
    image_shape: Any, columns: list[Column], feature_columns: list[Column]
) -> dict[str, list[int] | None]:
    """Return the shapes of the outputs and of the features, if these are pixels.

    Empty where the outputs are no image; "context_shape" is None where the features
    are none.

    Raises
    ------
    ValueError
        If the outputs cannot be the pixels of such an image.
    """
    if image_shape is None:
        return {}
    shape = checked_image_shape(image_shape, columns)
    context = shape_of_context(shape, len(feature_columns))
    if any(column.kind != "numeric" for column in feature_columns):
        context = None
    return {
        "image_shape": list(shape),
        "context_shape": None if context is None else list(context),
    }


def checked_image_shape(image_shape: Any, columns: list[Column]) -> list[int]:
    """Return channels, height and width of the outputs."""
    shape = tuple(image_shape)
    if len(shape) not in (2, 3) or any(
        not isinstance(side, Integral) or side < 1 for side in shape
    ):
        raise ValueError(
            "image_shape must be (height, width) or (channels, height, width), but "
            f"got {image_shape!r}."
        )
    if math.prod(shape) != len(columns):
        raise ValueError(
            f"image_shape={image_shape!r} stands for {math.prod(shape)} outputs, but y "
            f"has {len(columns)}."
        )
    heads = {head_key(column) for column in columns}
    if len(heads) > 1 or any(
        column.kind not in ("numeric", "boolean", "count")
        or column.transform not in ("standard", "none")
        for column in columns
    ):
        raise ValueError(
            "image_shape needs pixels of one kind: numeric columns with one likelihood "
            "and numeric_transform 'auto', 'standard' or 'none'."
        )
    return [int(side) for side in (1, *shape)[-3:]]


def wants_float64(X: Any) -> bool:
    """Return whether predictions are computed in float64: unless X is float32."""
    return getattr(X, "dtype", None) != np.float32
