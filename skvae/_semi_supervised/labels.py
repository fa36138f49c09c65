"""Labels as classes and codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from .._tables.libraries import declared_categories, observed_values
from .._tables.values import is_missing, observed_of_objects
from .._validation import warn

#: Rows from which more than half as many classes are worth a warning, as in
#: scikit-learn.
MIN_ROWS = 20


def read_labels(y: Any, estimator: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as an array of their own type, and where they are missing.

    Missing ones are None, NaN, NaT and null, and "nan" in an array of text, where NumPy
    writes NaN so. They hold any value in the array.

    Raises
    ------
    ValueError
        If there are no labels, or if these are not of one kind.
    """
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is "
            "None."
        )
    observed, missing = observed_values(y)
    if observed.ndim != 1:
        observed = column_or_1d(observed, warn=True)
        missing = np.zeros(len(observed), dtype=bool)
    if observed.dtype.kind == "O":
        flags = [is_missing(label) for label in observed.tolist()]
    elif observed.dtype.kind in "fmM":
        flags = observed != observed  # NaN and NaT
    elif observed.dtype.kind == "U" and isinstance(y, np.ndarray):
        flags = observed == "nan"
        if flags.any():
            warn(
                "y is an array of text that holds 'nan', as NumPy writes NaN: these "
                "rows count as rows without a label. If 'nan' is a class, give y as a "
                "list or with dtype=object."
            )
    else:
        flags = np.zeros(len(observed), dtype=bool)
    flags = np.array(flags, dtype=bool)
    known = observed[~flags]
    if known.dtype.kind == "O":
        known = _of_one_type(known)
    missing[~missing] = flags
    labels = np.zeros(len(missing), dtype=known.dtype)
    labels[~missing] = known
    return labels, missing


def _of_one_type(labels: np.ndarray) -> np.ndarray:
    """Return objects as text, or as numbers or booleans of their own dtype."""
    if len({isinstance(label, str) for label in labels}) > 1:
        raise ValueError(
            "y mixes strings and other labels: give labels of one kind, and None to a "
            "row without one."
        )
    kinds = {isinstance(label, bool | np.bool_) for label in labels}
    if kinds == {True}:
        return labels.astype(bool)
    try:
        return observed_of_objects(labels)[0] if kinds == {False} else labels
    except (TypeError, ValueError, OverflowError):  # no numbers: text, dates, ...
        return labels


def declared_classes(y: Any) -> list[Any]:
    """Return the categories that a pandas column of labels declares."""
    return [name for name in declared_categories(y) if name != -1]


def is_labelled(labels: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return the mask of the rows with a label: -1 among numbers marks none."""
    if labels.dtype.kind in "if":
        return ~missing & (labels != -1)
    return ~missing


def warn_of_lost_class(labels: np.ndarray, missing: np.ndarray) -> None:
    """Warn if the labels are -1 and 1 alone, where -1 is hardly meant as a mark."""
    if labels.dtype.kind in "if" and set(labels[~missing].tolist()) == {-1, 1}:
        warn(
            "y holds -1 and 1 alone, and -1 marks a row without a label, so that 1 is "
            "the only class. If -1 is a class, give the classes other labels, such as "
            "0 and 1."
        )


def encode_labels(
    labels: np.ndarray, missing: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted classes and the class index of every row, -1 if unlabelled.

    Raises
    ------
    ValueError
        If no row has a label, or if the labels are not those of classes.
    """
    labelled = is_labelled(labels, missing)
    known = labels[labelled]
    if known.dtype.kind == "f" and np.isinf(known).any():
        raise ValueError("y contains infinity, which is no label.")
    if not len(known):
        raise ValueError(
            "y has no label: label at least one row of every class (-1, or None and "
            "NaN, mark rows without a label)."
        )
    # twice: it warns of one row per class, which is usual where few have a label
    check_classification_targets(np.tile(known, 2))
    classes, places = np.unique(known, return_inverse=True)
    n_rows = len(labels)
    if labelled.all() and n_rows > MIN_ROWS and len(classes) > n_rows / 2:
        warn(
            f"y has {len(classes)} classes in {n_rows} rows: a class of one row is "
            "hardly learned. Numbers are predicted by VAERegressor."
        )
    codes = np.full(n_rows, -1, dtype=np.int64)
    codes[labelled] = places
    return classes, codes


def codes_of(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the class index of every label, -1 for those that are no class."""
    if labels.dtype.kind == classes.dtype.kind and labels.dtype.kind in "mM":
        labels = labels.astype(classes.dtype)  # in the same unit
    places = {label: code for code, label in enumerate(classes.tolist())}
    codes = [places.get(label, -1) for label in labels.tolist()]
    return np.array(codes, dtype=np.int64)


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
