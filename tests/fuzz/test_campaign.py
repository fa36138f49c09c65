"""A fast part of the campaign, the same at every run; ``make fuzz`` runs for longer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import leaks, metamorphic, parameters, sessions, threads, workflows
from fuzz.columns import Column, DType
from fuzz.tables import Hostile

#: The first seeds of each part.
TABLES, PARAMETERS, WORKFLOWS = range(40), range(20), range(12)


def check(report):
    assert not report.failures, "\n".join(f"{name}: {p}" for name, p in report.failures)
    assert report.calls


@pytest.mark.parametrize("seed", TABLES)
def test_hostile_tables(seed):
    check(sessions.run(seed))


@pytest.mark.parametrize("seed", PARAMETERS)
def test_combinations_of_parameters(seed):
    check(parameters.run(seed))


@pytest.mark.parametrize("seed", WORKFLOWS)
def test_what_users_do_beside_a_fit(seed):
    check(workflows.run(seed))


@given(
    columns=st.lists(
        st.lists(st.none() | st.floats(allow_infinity=False), min_size=6, max_size=6),
        min_size=1,
        max_size=3,
    ),
    estimator=st.sampled_from(sessions.ESTIMATORS),
    library=st.sampled_from(["pandas", "polars", "pyarrow"]),
)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_any_floats(columns, estimator, library):
    """Tables of floats that hypothesis looks for, made small where a call fails."""
    dtype = DType("float64", "float", plain="float64")
    cells = [[None if v is None or v != v else v for v in column] for column in columns]
    named = (
        Column(f"c{k}", dtype, tuple(values), (), "any")
        for k, values in enumerate(cells)
    )
    X, y = Hostile(library, tuple(named), 6), None
    if estimator == "VAEClassifier":
        y = Column("y", DType("int64", "integer"), (0, 1) * 3, (), "labels")
    elif estimator == "VAERegressor":
        target = Column("y", dtype, (0.5, 1.5, -2.0, None, 3.0, 1.0), (), "any")
        y = Hostile(library, (target,), 6)
    check(sessions.Case(0, estimator, {}, X, y).run())


@pytest.mark.parametrize("relation", metamorphic.RELATIONS)
def test_relations(relation):
    check(metamorphic.run(metamorphic.seed_of(relation)))


def test_threads():
    check(threads.run(0))


def test_leaks():
    check(leaks.run(0))
