"""Labels as classes and codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from .._tables.libraries import declared_categories, series_values
from .._tables.values import is_missing
from .._validation import warn

#: Rows from which more than half as many classes are worth a warning, as in
#: scikit-learn.
MIN_ROWS = 20


def labels_of(y: Any, estimator: Any) -> np.ndarray:
    """Return the labels as one array; raise ValueError for None."""
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is "
            "None."
        )
    return column_or_1d(series_values(y), warn=True)


def declared_classes(y: Any) -> list[Any]:
    """Return the categories that a pandas column of labels declares."""
    return [name for name in declared_categories(y) if name != -1]


def encode_labels(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted classes and the class index of every row, -1 if unlabelled.

    Raises
    ------
    ValueError
        If no row has a label, or if the labels are not those of classes.
    """
    if y.dtype.kind == "O":
        missing = np.array([is_missing(label) for label in y.tolist()], dtype=bool)
        labels = y[~missing].tolist()
        if len({isinstance(label, str) for label in labels}) > 1:
            raise ValueError(
                "y mixes strings and other labels: give labels of one kind, and None "
                "to a row without one."
            )
        known = y[~missing]
        if not isinstance(labels[0] if labels else "", str):
            known = np.array(labels)  # numbers and booleans get their own dtype
    else:
        missing = np.isnat(y) if y.dtype.kind in "mM" else np.zeros(len(y), dtype=bool)
        known = y[~missing]
    if known.dtype.kind in "if":
        unmarked = known != -1
        if known.dtype.kind == "f":
            if np.isinf(known).any():
                raise ValueError("y contains infinity, which is no label.")
            unmarked &= ~np.isnan(known)
        missing[~missing] = ~unmarked
        known = known[unmarked]
    if not len(known):
        raise ValueError(
            "y has no label: label at least one row of every class (-1, or None and "
            "NaN, mark rows without a label)."
        )
    # twice: it warns of one row per class, which is usual where few have a label
    check_classification_targets(np.tile(known, 2))
    classes, places = np.unique(known, return_inverse=True)
    if len(known) == len(y) > MIN_ROWS and len(classes) > len(y) / 2:
        warn(
            f"y has {len(classes)} classes in {len(y)} rows: a class of one row is "
            "hardly learned. Numbers are predicted by VAERegressor."
        )
    codes = np.full(len(y), -1, dtype=np.int64)
    codes[~missing] = places
    return classes, codes


def labels_to_score(y: Any, classes: np.ndarray, estimator: Any) -> np.ndarray:
    """Return the index of every row's label in ``classes``.

    It is -1 of a row without a label, and ``len(classes)`` of a label that they lack.

    Raises
    ------
    ValueError
        If no row has a label, or if labels and classes are of different kinds.
    """
    given, codes = encode_labels(labels_of(y, estimator))
    kinds = [isinstance(names.tolist()[0], str) for names in (given, classes)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"y holds labels such as {given.tolist()[0]!r}, but those of the fit are "
            f"{classes.tolist()!r}."
        )
    positions = {name: place for place, name in enumerate(classes.tolist())}
    places = [positions.get(name, len(classes)) for name in given.tolist()]
    return np.where(codes < 0, -1, np.array(places)[codes])


def check_declared(declared: list[Any], classes: np.ndarray) -> None:
    """Raise ValueError for categories that y declares and no row has."""
    seen = set(classes.tolist())
    missing = [name for name in declared if name not in seen]
    if missing:
        raise ValueError(
            f"No row is labelled {missing[0]!r}, a category that y declares: label at "
            "least one, or drop it (in pandas by y.cat.remove_unused_categories())."
        )


def known_codes(
    classes: np.ndarray, codes: np.ndarray, fitted: np.ndarray
) -> np.ndarray:
    """Return the codes of labels among the classes of an earlier fit."""
    unseen = [name for name in classes.tolist() if name not in fitted]
    if unseen:
        raise ValueError(
            f"y holds the label {unseen[0]!r}, which the first fit did not see: "
            f"warm_start=True goes on with the classes {fitted.tolist()!r}. Set "
            "warm_start=False."
        )
    places = np.searchsorted(fitted, classes)
    return np.where(codes < 0, -1, places[codes])
