"""The oracle sees what it is there to see."""

import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import skvae
from fuzz import outputs
from fuzz.columns import Column, DType
from fuzz.oracle import call, signature
from fuzz.outputs import Fitted
from fuzz.sessions import draw_case
from fuzz.tables import LIBRARIES, Hostile, draw_table, variants


def problems(function, *args, **kwargs):
    return call(function, *args, **kwargs).problems


def fails(error):
    def function():
        raise error

    return function


def test_a_call_that_is_fine():
    assert not problems(lambda X: X + 1, np.zeros(3))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("of torch"),
        IndexError("list index out of range"),
        ValueError("could not convert"),
        np.linalg.LinAlgError("singular matrix of X"),
    ],
)
def test_errors_that_leak(error):
    assert problems(fails(error), names=["prior"])


def test_errors_that_name_a_parameter_a_column_or_the_table():
    for text in ("prior must be a str", "Column 'c 1' is empty", "X has no rows"):
        error = fails(ValueError(text))
        assert not problems(error, names=["prior", "c 1"])
        assert problems(error, names=["prior", "c 1"], must_work=True)


def test_what_is_accepted_but_must_be_refused():
    assert problems(lambda: None, must_fail=True)


def set_first(X):
    X[0] = 7


def test_arguments_that_are_changed():
    assert problems(set_first, np.zeros(3))
    assert problems(set_first, [1, 2])
    assert problems(lambda X: X.setflags(write=False), np.zeros(3))
    table = draw_table(np.random.default_rng(0), "pandas", 5, 2, odd=False)
    for change in (
        lambda X: setattr(X.index, "name", "new"),
        lambda X: X.attrs.update(a=1),
        lambda X: X.isetitem(0, [1, 2, 3, 4, 5]),
        lambda X: X.insert(0, "new", 1),
    ):
        assert problems(change, table.build())
    assert not problems(lambda X: X.describe(), table.build())


@pytest.mark.parametrize(
    ("change", "undo"),
    [
        (lambda: torch.manual_seed(1), lambda: None),
        (lambda: np.random.seed(1), lambda: None),  # noqa: NPY002
        (lambda: random.seed(1), lambda: None),
        (lambda: torch.set_grad_enabled(False), lambda: torch.set_grad_enabled(True)),
        (
            lambda: torch.set_default_dtype(torch.float64),
            lambda: torch.set_default_dtype(torch.float32),
        ),
        (lambda: np.seterr(all="raise"), lambda: np.seterr(all="warn", under="ignore")),
        (lambda: print("left in"), lambda: None),
    ],
)
def test_what_is_left_behind(change, undo):
    try:
        assert problems(change)
    finally:
        undo()


def test_warnings():
    assert problems(lambda: np.float64(1) / np.float64(0))
    assert problems(lambda: warnings.warn("from here", stacklevel=1))
    assert not problems(lambda: warnings.warn("to the caller", stacklevel=2))
    assert problems(lambda: warnings.warn("soon", FutureWarning, stacklevel=2))


def test_signatures_group_what_differs_by_table():
    first = signature("refused: Column 'a' has 3 rows [infer.py:12 fit]")
    assert first == signature("refused: Column 'b' has 17 rows [infer.py:12 fit]")


def table_of(*columns):
    return Hostile("pandas", columns, len(columns[0].values))


NUMBERS = Column("a", DType("float64", "float"), (0.5, 2.0, None))
COLOURS = Column("b", DType("string[python]", "string"), ("red", "blue", None))


def fitted_imputer(table):
    X = table.build()
    model = skvae.VAEImputer(max_iter=1, hidden_layer_sizes=(4,), random_state=0).fit(X)
    return Fitted(model, table, X), X


def test_completed_tables():
    table = table_of(NUMBERS, COLOURS)
    fitted, X = fitted_imputer(table)
    filled = fitted.estimator.transform(X)

    def found(value):
        return outputs.completed(value, fitted, table, X)

    assert not found(filled)
    assert found(X)
    assert found(filled.to_numpy())
    assert found(filled[:2])
    assert found(filled.assign(a=[0.5, 2.5, 1.0]))
    assert found(filled.assign(a=[0.5, 2.0, np.inf]))
    assert found(filled.assign(b=["red", "blue", "green"]))
    assert found(filled.astype({"a": "float32"}))


def test_tables_like_that_of_training():
    table = table_of(
        replace(NUMBERS, values=(1.0, 2.0)), replace(COLOURS, values=("red", "blue"))
    )
    X = table.build()

    def found(value):
        return outputs.like_training(value, table, X, 2, lambda place: False)

    assert not found(X)
    assert found(X[:1])
    assert found(X.rename(columns={"a": "c"}))
    assert found(X.assign(a=[1, 2]))
    assert found(X.assign(b=["red", "green"]).astype(X.dtypes))


def test_arrays_and_probabilities():
    assert not outputs.array(np.zeros((2, 3)), (2, 3))
    for value in (
        np.zeros(2),
        np.zeros((2, 3), int),
        np.full((2, 3), np.nan),
        [[0.0] * 3] * 2,
    ):
        assert outputs.array(value, (2, 3))


@pytest.mark.parametrize("seed", range(5))
def test_sessions_are_drawn_from_their_seed(seed):
    first, second = draw_case(seed), draw_case(seed)
    assert str(first) == str(second)
    rows = range(len(first.X) // 2)
    assert len(first.rows(rows).X) == len(rows)


def test_every_kind_of_variant_can_be_built():
    rng = np.random.default_rng(0)
    for library in LIBRARIES:
        table = draw_table(rng, library, 6, 3, odd=True)
        for variant in variants(rng).values():
            variant(table).build()
