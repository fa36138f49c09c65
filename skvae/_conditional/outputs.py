"""Outputs: the containers that y comes in, and errors that name them."""

from __future__ import annotations

import math
from contextlib import contextmanager
from numbers import Integral
from typing import Any, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.base import BaseEstimator

from .._density.rows import head_key
from .._distributions.registry import LIKELIHOODS
from .._tables.columns import CATEGORY_KINDS, Column
from .._tables.encoder import TableEncoder
from .._tables.libraries import TableSchema, open_table
from .._tables.table import Table
from .._tables.transforms import Affine
from .image_vae import shape_of_context

#: Likelihood of numbers where ``likelihood`` leaves it to the data.
AUTO_LIKELIHOOD = "normal"


class Outputs(NamedTuple):
    """Which containers ``y`` came in: predictions come in the like."""

    is_1d: bool
    is_frame: bool


def declared_categories(likelihood: str | dict, outputs: Table) -> str | list[int]:
    """Return which outputs hold categories.

    In arrays that are not of numbers those that have a likelihood of categories.
    """
    if outputs.library != "numpy" or outputs.array is not None:
        return "from_dtype"
    if isinstance(likelihood, dict):
        return [key for key, name in likelihood.items() if name in CATEGORY_KINDS]
    return list(range(outputs.n_columns)) if likelihood in CATEGORY_KINDS else []


def completed_likelihood(
    likelihood: dict, outputs: Table, categories: str | list[int]
) -> dict:
    """Return likelihoods by index, with those of numbers that the dict leaves out."""
    plain = TableEncoder(
        LIKELIHOODS, categorical_features=categories, likelihood=AUTO_LIKELIHOOD
    ).fit(outputs)
    labels = plain.schema_.labels
    numbers = [i for i, c in enumerate(plain.columns_) if c.kind == "numeric"]
    completed: dict = dict.fromkeys(numbers, AUTO_LIKELIHOOD)
    for key, name in likelihood.items():
        if name != "auto":
            completed[labels.index(key) if key in labels else key] = name
    return completed


def output_encoder(
    outputs: Table, likelihood: str | dict, transform: str | dict, sample_weight: Any
) -> TableEncoder:
    """Fit the encoder of outputs.

    Raises
    ------
    ValueError
        If an output has no value.
    """
    with naming_outputs():
        categories = declared_categories(likelihood, outputs)
        if isinstance(likelihood, dict):
            likelihood = completed_likelihood(likelihood, outputs, categories)
        encoder = TableEncoder(
            LIKELIHOODS,
            categorical_features=categories,
            numeric_transform=transform,
            likelihood=likelihood,
        ).fit(outputs, sample_weight)
    if encoder.schema_.library == "numpy":
        for index, column in enumerate(encoder.columns_):
            column.name = f"y{index}"
    empty = [column.name for column in encoder.columns_ if column.is_empty]
    if empty:
        raise ValueError(
            f"Outputs without any value: {', '.join(map(repr, empty))}. Drop these "
            "columns of y."
        )
    return encoder


def share_map(columns: list[Column]) -> None:
    """Give all columns of pixels the mean and the scale of all their cells."""
    maps, spread = [], []
    for column in columns:
        if isinstance(column.map, Affine) and not column.is_empty:
            maps.append(column.map)
            spread.append(0.0 if column.constant is not None else column.map.scale)
    means = np.array([map_.mean for map_ in maps])
    mean = float(means.mean())
    scale = float(np.sqrt(np.mean(np.square(spread) + np.square(means - mean)))) or 1.0
    for column in columns:
        if column.transform == "standard":
            column.map = Affine(mean, scale)
        column.constant = None


def as_table(y: Any, name: Any = None) -> tuple[Any, Outputs]:
    """Return outputs as a table, and what they came as.

    ``name`` is that of a single output, whatever the name of the series.
    """
    y = nw.to_native(y, pass_through=True)
    series = nw.from_native(y, series_only=True, pass_through=True)
    if isinstance(series, nw.Series):
        if name is not None:
            series = series.rename(name)
        return series.to_frame().to_native(), Outputs(True, True)
    if nw.dependencies.is_into_dataframe(y):
        return y, Outputs(False, True)
    array = np.asarray(y)
    if array.ndim == 1:
        return array.reshape(-1, 1), Outputs(True, False)
    if array.ndim != 2:
        raise ValueError(
            f"y must be one- or two-dimensional, but has {array.ndim} dimensions."
        )
    return array, Outputs(False, False)


def open_outputs(
    estimator: Any, outputs: Any, schema: TableSchema | None = None
) -> Table:
    """Check a table of outputs and give access to its columns.

    With ``schema`` it must have the columns of the training table. The estimator is
    named in errors; its feature names are those of X, and stay so.
    """
    owner = type(type(estimator).__name__, (BaseEstimator,), {})()
    if schema is not None:
        owner.n_features_in_ = len(schema.labels)
        if schema.library != "numpy" and all(isinstance(n, str) for n in schema.labels):
            owner.feature_names_in_ = np.array(schema.labels, dtype=object)
    with naming_outputs():
        return open_table(owner, outputs, reset=schema is None)


@contextmanager
def naming_outputs():
    """Say of errors in a table of outputs that y is meant."""
    try:
        yield
    except (ValueError, TypeError) as error:
        text = (
            str(error)
            .replace("Input X", "Input y")
            .replace(
                "declare it in categorical_features", "give it likelihood='categorical'"
            )
        )
        raise type(error)(f"In the outputs y: {text}") from error


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
            "image_shape needs pixels of one kind: numbers with one likelihood and "
            "numeric_transform 'auto', 'standard' or 'none'."
        )
    return [int(side) for side in (1, *shape)[-3:]]


def is_double(X: Any) -> bool:
    """Tell whether predictions are computed in double precision: not of float32."""
    return getattr(X, "dtype", None) != np.float32
