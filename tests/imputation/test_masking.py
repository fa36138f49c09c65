"""Input masks of training and validation."""

import pytest
import torch
from mean_models import generator

from skvae._imputation.masking import (
    has_patterns,
    permuted_mask,
    random_mask,
    training_mask,
    validation_mask,
)
from skvae._imputation.settings import Settings


def test_hide():
    observed = torch.rand(4_000, 10, generator=generator()) < 0.8
    mask = random_mask(observed, 0.1, 0.9, generator())
    assert not (mask & ~observed).any()
    kept = mask.sum(1) / observed.sum(1)
    assert kept.mean() == pytest.approx(0.5, abs=0.02)
    # the rate varies from row to row: more than binomial noise
    assert kept.std() > 0.25
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


@pytest.mark.parametrize("rate", [0.5, 0.2])
def test_some_training_rows_have_permuted_masks(rate):
    observed = patterned()
    nothing = Settings(masking_range=(1.0, 1.0), permuted_rows=rate)
    mask = training_mask(observed, generator(), permuted=True, settings=nothing)
    assert kinds(mask) == {FIRST, LAST, BOTH, (0, 0, 0, 0, 0)}
    assert mask.any(1).float().mean() == pytest.approx(rate, abs=0.03)
    mask = training_mask(observed, generator(), permuted=False, settings=nothing)
    assert not mask.any()


def test_patterns_need_missing_cells():
    observed = torch.ones(100, 10, dtype=torch.bool)
    assert not has_patterns(observed)
    observed[:49, 0] = False  # 4.9%
    assert not has_patterns(observed)
    observed[:51, 0] = False
    assert has_patterns(observed)


def test_validation_masks_are_patterns_of_the_table():
    observed = patterned()
    assert kinds(validation_mask(observed, 0.9, generator())) == {FIRST, LAST, BOTH}
    # none to copy: at random
    complete = torch.ones(4_000, 5, dtype=torch.bool)
    mask = validation_mask(complete, 0.9, generator())
    assert len(kinds(mask)) == 2**5
    assert mask.float().mean() == pytest.approx(0.5, abs=0.02)
