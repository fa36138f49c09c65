"""Masks of cells that training hides."""

import pytest
import torch
from mean_models import generator, recipe

from skvae._imputation.masking import (
    has_patterns,
    hide,
    hide_like_others,
    judged,
    some_like_others,
)


def test_hide():
    observed = torch.rand(4_000, 10, generator=generator()) < 0.8
    visible = hide(observed, 0.1, 0.9, generator())
    assert not (visible & ~observed).any()
    shares = visible.sum(1) / observed.sum(1)
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    # the rate varies from row to row: more than binomial noise
    assert shares.std() > 0.25
    assert torch.equal(hide(observed, 0.1, 0.9, generator()), visible)
    assert not hide(observed, 1, 1, generator()).any()
    assert torch.equal(hide(observed, 0, 0, generator()), observed)


def patterned(n_rows=4_000):
    """Two kinds of rows: the first cell is missing, or the last two are."""
    observed = torch.ones(n_rows, 5, dtype=torch.bool)
    observed[::2, 0] = False
    observed[1::2, 3:] = False
    return observed


def kinds(masks):
    return {tuple(row) for row in masks.int().tolist()}


FIRST, LAST, BOTH = (0, 1, 1, 1, 1), (1, 1, 1, 0, 0), (0, 1, 1, 0, 0)


def test_patterns_of_other_rows():
    observed = patterned()
    visible = hide_like_others(observed, generator())
    assert kinds(visible) == {FIRST, LAST, BOTH}
    # half of the rows meet a pattern that is not theirs
    assert (visible != observed).any(1).float().mean() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(hide_like_others(observed, generator()), visible)
    assert not torch.equal(hide_like_others(observed, generator(1)), visible)


def test_half_of_the_rows_have_patterns_of_others():
    observed = patterned()
    nothing = torch.zeros_like(observed)
    visible = some_like_others(nothing, observed, generator())
    assert kinds(visible) == {FIRST, LAST, BOTH, (0, 0, 0, 0, 0)}
    kept = (visible == nothing).all(1).float().mean()
    assert kept == pytest.approx(0.5, abs=0.03)


def test_patterns_need_missing_cells():
    observed = torch.ones(100, 10, dtype=torch.bool)
    assert not has_patterns(observed)
    observed[:49, 0] = False  # 4.9%
    assert not has_patterns(observed)
    observed[:51, 0] = False
    assert has_patterns(observed)


def test_estimates_are_judged_on_patterns_of_the_table():
    observed = patterned()
    assert kinds(judged(observed, recipe().most_hidden, generator())) == {
        FIRST,
        LAST,
        BOTH,
    }
    # none to copy: at random
    complete = torch.ones(4_000, 5, dtype=torch.bool)
    visible = judged(complete, recipe().most_hidden, generator())
    assert len(kinds(visible)) == 2**5
    assert visible.float().mean() == pytest.approx(0.5, abs=0.02)
