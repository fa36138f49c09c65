"""Small imputers, and how tests read the cells of any table."""

import narwhals.stable.v2 as nw
import numpy as np

from skvae import VAEImputer

CONTAINERS = ["pandas", "polars", "pyarrow"]

SMALL = {"max_iter": 2, "hidden_layer_sizes": (8,), "random_state": 0}


def imputer(**kwargs):
    return VAEImputer(**(SMALL | kwargs))


def schema(table):
    """Names and dtypes of a data frame, with the categories that a dtype declares."""
    if hasattr(table, "schema") and hasattr(table.schema, "types"):  # pyarrow
        return dict(zip(table.schema.names, table.schema.types, strict=True))
    table = nw.from_native(table)
    return {name: table[name].to_native().dtype for name in table.columns}


def cells(table):
    """Cells of a table as rows of Python objects, None where missing."""
    rows = list(nw.from_native(table, eager_only=True).iter_rows())
    return np.array(
        [[None if _is_nothing(v) else v for v in row] for row in rows], dtype=object
    )


def _is_nothing(value):
    return value is None or type(value).__name__ == "NAType" or value != value


def assert_observed_stay(X, filled):
    """Observed cells are what they were, and nothing is missing any more."""
    before, after = cells(X), cells(filled)
    observed = before != np.array(None)
    assert not observed.all()
    np.testing.assert_array_equal(after[observed], before[observed])
    assert not (after == np.array(None)).any()
