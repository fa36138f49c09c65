"""What the methods return: library, shape, dtype, finite values, levels, order."""

import datetime
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from fuzz.cells import is_finite, is_missing, read


@dataclass(frozen=True)
class Fitted:
    """An estimator with the tables that it was fitted to."""

    estimator: Any
    X: Any  # Hostile
    native: Any
    y: Any = None  # Hostile outputs, or a column of labels
    native_y: Any = None
    weights: tuple | None = None

    def is_empty(self, place):
        """Whether a column had no observed cell in training."""
        rows = (
            range(len(self.X)) if self.weights is None else np.flatnonzero(self.weights)
        )
        marker = self.estimator.get_params().get("missing_values")
        cells = read(self.native)[place]
        gaps = cells.missing | marked(cells, marker)
        return bool(gaps[list(rows)].all())


def marked(cells, marker):
    """Which values equal the user's marker of missing cells."""
    if is_missing(marker):
        return np.zeros(len(cells.values), dtype=bool)
    is_bool = isinstance(marker, bool)
    pairs = zip(cells.values, cells.missing, strict=True)
    same = (
        not gap and isinstance(v, bool) == is_bool and v == marker for v, gap in pairs
    )
    return np.array(list(same), dtype=bool)


def library(table):
    table = nw.to_native(table, pass_through=True)
    return (
        "numpy"
        if isinstance(table, list | tuple)
        else type(table).__module__.split(".")[0]
    )


def array(value, shape, dtypes=("float32", "float64")):
    """Problems of an array of finite numbers."""
    if not isinstance(value, np.ndarray):
        return [f"is no array but {type(value).__name__}"]
    found = []
    if value.shape != tuple(shape):
        found.append(f"has the shape {value.shape}, not {tuple(shape)}")
    if str(value.dtype) not in dtypes:
        found.append(f"has the dtype {value.dtype}")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        found.append("has NaN" if np.isnan(value).any() else "has infinity")
    return found


def latents(value, fitted, n_rows):
    return array(value, (n_rows, fitted.estimator.n_components_), ["float32"])


def probabilities(value, fitted, n_rows):
    found = array(value, (n_rows, len(fitted.estimator.classes_)), ["float32"])
    if not found and (value < 0).any():
        found.append("has negative probabilities")
    if not found and abs(value.sum(axis=1) - 1).max() > 1e-5:
        found.append("has probabilities that do not sum to 1")
    return found


def labels(value, fitted, n_rows):
    if not isinstance(value, np.ndarray) or value.shape != (n_rows,):
        return [f"is no array of {n_rows} labels"]
    known = set(map(repr, fitted.estimator.classes_.tolist()))
    return [] if set(map(repr, value.tolist())) <= known else ["has unknown labels"]


def number(value, low=-np.inf, high=np.inf):
    if not isinstance(value, float) or not np.isfinite(value):
        return [f"is {value!r}"]
    return [] if low <= value <= high else [f"is out of range: {value}"]


# -- tables ----------------------------------------------------------------------------


def levels_of(column, cells):
    """Texts of the values that a column of categories may hold, None for numbers."""
    is_category = column.dtype.is_category or column.dtype.family in (
        "string",
        "boolean",
    )
    if not is_category:
        return None
    if column.dtype.family == "boolean" and cells.dtype.startswith("float"):
        return None  # a list of booleans and NaN is an array of numbers
    if column.dtype.family == "boolean" and not column.dtype.is_category:
        return {"True", "False", "0.0", "1.0", "0", "1"}
    levels = list(map(_as_pandas_has_it, column.levels))
    return set(map(repr, [*column.levels, *levels, *cells.observed]))


def _as_pandas_has_it(level):
    if isinstance(level, datetime.datetime):
        return pd.Timestamp(level)
    return pd.Timedelta(level) if isinstance(level, datetime.timedelta) else level


def one_column(new, column, trained_cells, *, may_miss=False, dtype=None):
    """Problems of a column that came out of a model."""
    found = []
    if new.missing.any() and not may_miss:
        found.append("has missing cells")
    elif not is_finite(new.observed):
        found.append("has infinite cells")
    known = levels_of(column, trained_cells)
    if known is not None and not may_miss:
        strange = set(map(repr, new.observed)) - known
        if strange:
            found.append(f"has the level {min(strange)[:40]} of type {new.dtype}")
    if dtype is not None and new.dtype != dtype:
        found.append(f"has the dtype {new.dtype}, not {dtype}")
    return found


def like_training(value, table, native, n_rows, is_empty):
    """Problems of a table like the training table: X, or the outputs of a regressor."""
    expected = library(native)
    if library(value) != expected:
        return [f"is of {library(value)}, not {expected}"]
    new, trained = read(value), read(native)
    if len(new) != len(trained):
        return [f"has {len(new)} columns, not {len(trained)}"]
    if expected != "numpy" and [c.label for c in new] != [c.label for c in trained]:
        return ["has other labels"]
    found = []
    for place, (cells, seen) in enumerate(zip(new, trained, strict=True)):
        if len(cells.values) != n_rows:
            return [f"has {len(cells.values)} rows, not {n_rows}"]
        column = table.columns[place]
        dtype = None if seen.dtype == "object" or is_empty(place) else seen.dtype
        may_miss = is_empty(place)
        problems = one_column(cells, column, seen, may_miss=may_miss, dtype=dtype)
        found += [f"{problem} ({column.dtype.name})" for problem in problems]
    return found


def completed(value, fitted, given, native, *, may_mix=False):
    """Problems of a table whose missing cells were filled."""
    params = fitted.estimator.get_params()
    expected = library(native)
    if library(value) != expected:
        return [f"is of {library(value)}, not {expected}"]
    keeps = params["keep_empty_features"]
    places = range(len(given.columns))
    kept = [k for k in places if keeps or not fitted.is_empty(k)]
    new, old, trained = read(value), read(native), read(fitted.native)
    names = fitted.estimator.get_feature_names_out()
    if len(new) != len(names) or len(new) < len(kept):
        return [f"has {len(new)} columns, not {len(names)}"]
    found = []
    for cells, place in zip(new, kept, strict=False):
        if len(cells.values) != len(given):
            return [f"has {len(cells.values)} rows, not {len(given)}"]
        column = given.columns[place]
        gaps = old[place].missing | marked(old[place], params["missing_values"])
        pairs = zip(cells.texts, old[place].texts, gaps, strict=True)
        problems = []
        if any(a != b for a, b, gap in pairs if not gap):
            problems.append("has changed observed cells")
        problems += _filled(cells, gaps, column, trained[place], fitted.is_empty(place))
        is_open = column.dtype.family not in ("float", "integer") or expected == "numpy"
        if (
            cells.dtype != old[place].dtype
            and not is_open
            and not column.dtype.is_category
        ):
            problems.append(f"has the dtype {cells.dtype}, not {old[place].dtype}")
        found += [f"{problem} ({column.dtype.name})" for problem in problems]
    return found


def _filled(cells, gaps, column, trained_cells, was_empty):
    if cells.missing[gaps].any():
        return ["has missing cells"]
    values = [v for v, gap in zip(cells.values, gaps, strict=True) if gap]
    if not is_finite(values):
        return ["has infinite cells"]
    known = levels_of(column, trained_cells)
    if known is None or was_empty:
        return []
    strange = set(map(repr, values)) - known
    return [f"was filled with the level {min(strange)[:40]}"] if strange else []


def interval(bounds, table, native_of_ends=None):
    """Problems of the ends of intervals: the lower one is not above the upper one."""
    if not isinstance(bounds, tuple) or len(bounds) != 2:
        return ["is no pair"]
    found = []
    for place, (low, high) in enumerate(zip(*map(read, bounds), strict=True)):
        if place >= len(table.columns):
            break
        column = table.columns[place]
        order = {level: k for k, level in enumerate(column.levels)}
        for a, b in zip(low.values, high.values, strict=True):
            if column.dtype.is_ordered and a in order and b in order:
                a, b = order[a], order[b]
            if isinstance(a, int | float) and isinstance(b, int | float) and a > b:
                found.append(
                    f"has a lower end above the upper one ({column.dtype.name})"
                )
                break
    return found


def amputed(value, given, native):
    """Problems of a table from which cells were removed."""
    if library(value) != library(native):
        return [f"is of {library(value)}, not {library(native)}"]
    found, new, old = [], read(value), read(native)
    for cells, before, column in zip(new, old, given.columns, strict=True):
        stays = ~cells.missing
        if (before.missing & stays).any():
            found.append(f"fills missing cells ({column.dtype.name})")
        pairs = zip(cells.values, before.values, stays, strict=True)
        if any(a != b for a, b, stay in pairs if stay):
            found.append(f"changes cells that stay ({column.dtype.name})")
    return found
