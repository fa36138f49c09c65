"""Masks of cells that training hides."""

import pytest
import torch
from mean_models import generator, mean_settings

from skvae._imputation.masking import (
    half_permuted_mask,
    has_patterns,
    permuted_mask,
    random_mask,
    validation_mask,
)


def test_hide():
    observed = torch.rand(4_000, 10, generator=generator()) < 0.8
    mask = random_mask(observed, 0.1, 0.9, generator())
    assert not (mask & ~observed).any()
    shares = mask.sum(1) / observed.sum(1)
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    # the rate varies from row to row: more than binomial noise
    assert shares.std() > 0.25
    assert torch.equal(random_mask(observed, 0.1, 0.9, generator()), mask)
    assert not random_mask(observed, 1, 1, generator()).any()
    assert torch.equal(random_mask(observed, 0, 0, generator()), observed)


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
    mask = permuted_mask(observed, generator())
    assert kinds(mask) == {FIRST, LAST, BOTH}
    # half of the rows meet a pattern that is not theirs
    assert (mask != observed).any(1).float().mean() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(permuted_mask(observed, generator()), mask)
    assert not torch.equal(permuted_mask(observed, generator(1)), mask)


def test_half_of_the_rows_have_patterns_of_others():
    observed = patterned()
    nothing = torch.zeros_like(observed)
    mask = half_permuted_mask(nothing, observed, generator())
    assert kinds(mask) == {FIRST, LAST, BOTH, (0, 0, 0, 0, 0)}
    member_weight = (mask == nothing).all(1).float().mean()
    assert member_weight == pytest.approx(0.5, abs=0.03)


def test_patterns_need_missing_cells():
    observed = torch.ones(100, 10, dtype=torch.bool)
    assert not has_patterns(observed)
    observed[:49, 0] = False  # 4.9%
    assert not has_patterns(observed)
    observed[:51, 0] = False
    assert has_patterns(observed)


def test_estimates_are_judged_on_patterns_of_the_table():
    observed = patterned()
    assert kinds(
        validation_mask(observed, mean_settings().most_masked, generator())
    ) == {
        FIRST,
        LAST,
        BOTH,
    }
    # none to copy: at random
    complete = torch.ones(4_000, 5, dtype=torch.bool)
    mask = validation_mask(complete, mean_settings().most_masked, generator())
    assert len(kinds(mask)) == 2**5
    assert mask.float().mean() == pytest.approx(0.5, abs=0.02)
