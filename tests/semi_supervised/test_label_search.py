"""Choosing masking rate and consistency weight, where the better one is known."""

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from skvae._distributions.joint import Joint
from skvae._distributions.registry import make_head
from skvae._networks.batch import Batch
from skvae._semi_supervised import selection
from skvae._semi_supervised.fit_labels import regularisation_candidates
from skvae._semi_supervised.labelled_vae import LabelledVAE
from skvae._semi_supervised.settings import SETTINGS, Regularisation

HIDING, ALL, RULE = (
    Regularisation(0.6, 1.0),
    Regularisation(0.0, 1.0),
    Regularisation(0.0, 0.0),
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def build(n_columns, n_classes=2):
    joint = Joint([make_head("normal", n_columns, 0)])
    return LabelledVAE(
        joint, 2, (8,), "relu", generator(), n_classes=n_classes, kind="m2"
    )


def batch(x, codes, n_classes=2):
    return Batch(x, y=F.one_hot(codes, n_classes).float())


def scales(n_rows, seed=0):
    """A rule, no clusters: which of two arms with two weights is heavier.

    A hidden weight looks like one of average size.
    """
    x = torch.randint(-2, 3, (n_rows, 4), generator=generator(seed)).float()
    return x, ((x[:, 0] + 3) * (x[:, 1] + 3) > (x[:, 2] + 3) * (x[:, 3] + 3)).long()


def test_a_rule_wants_every_cell_and_no_consistency():
    x, codes = scales(160)
    vae = build(4)
    settings = [HIDING, RULE]
    wrong = selection.left_out_errors(
        vae, batch(x, codes), Batch(x), settings, 3.0, generator()
    )
    assert wrong.shape == (2, 160)
    assert wrong[1].mean() < 0.06 < 0.08 < wrong[0].mean()
    chosen = selection.choose_regularisation(
        vae, batch(x, codes), Batch(x), settings, 3.0, generator()
    )
    assert chosen == RULE


def test_clusters_want_consistency():
    """Two clusters, of each of which a few rows have a wrong label."""
    noise = torch.randn(400, 2, generator=generator(1))
    codes = torch.arange(400) % 2
    x = noise + 2.0 * (2 * codes.unsqueeze(1) - 1)
    given = codes.clone()
    given[:60][torch.rand(60, generator=generator(2)) < 0.25] ^= 1
    vae = build(2)
    errors = selection.left_out_errors(
        vae, batch(x[:60], given[:60]), Batch(x), [RULE, ALL], 2.0, generator()
    ).mean(1)
    assert errors[1] < errors[0]


def errors_of(monkeypatch, wrong):
    wrong = torch.as_tensor(np.array(wrong), dtype=torch.float32)
    monkeypatch.setattr(selection, "left_out_errors", lambda *args, **options: wrong)
    x, codes = scales(wrong.shape[1])
    return lambda weight=None: selection.choose_regularisation(
        build(4),
        batch(x, codes).replace(weight=weight),
        Batch(x),
        [HIDING, ALL],
        0.5,
        generator(),
    )


def test_a_gain_must_exceed_its_standard_error(monkeypatch):
    """Of 100 rows the second setting gains some and loses others."""
    usual = np.zeros(100)
    usual[:5] = 1
    other = np.zeros(100)
    other[5:9] = 1  # one row better: (5 - 4) / 100, its standard error 0.03
    assert errors_of(monkeypatch, [usual, other])() == HIDING
    other[6:9] = 0  # four rows better, standard error 0.024
    assert errors_of(monkeypatch, [usual, other])() == ALL


def test_rows_count_by_their_weight(monkeypatch):
    usual, other = np.zeros(40), np.zeros(40)
    usual[:20], other[20:] = 1, 1
    choose = errors_of(monkeypatch, [usual, other])
    heavy_first = torch.cat([torch.full((20,), 9.0), torch.ones(20)])
    assert choose(heavy_first) == ALL
    assert choose(heavy_first.flip(0)) == HIDING


def test_few_labels_leave_nothing_to_choose():
    params = {"masking_rate": "auto", "consistency_weight": "auto", "objective": "m2"}
    both = [SETTINGS.regularised, SETTINGS.unregularised]
    assert regularisation_candidates(params, None, SETTINGS.min_labels) == both
    assert regularisation_candidates(params, None, SETTINGS.min_labels - 1) == both[:1]
    assert regularisation_candidates(params, RULE, SETTINGS.min_labels) == [RULE]


def test_left_out_labels_are_not_seen():
    """Where rows are noise, networks that saw a row would know its label."""
    x = torch.randn(200, 6, generator=generator(3))
    codes = (torch.rand(200, generator=generator(4)) < 0.5).long()
    wrong = selection.left_out_errors(
        build(6), batch(x, codes), Batch(x), [RULE], 0.5, generator()
    )
    assert 0.35 < wrong.mean() < 0.65


@given(st.lists(st.integers(0, 4), min_size=4, max_size=60), st.integers(0, 99))
def test_classes_are_spread_over_folds(codes, seed):
    codes = torch.tensor(codes)
    folds = selection.stratified_folds(codes, generator(seed))
    for rows in (codes >= 0, *(codes == code for code in range(5))):
        counts = folds[rows].bincount(minlength=SETTINGS.n_folds)
        assert counts.max() - counts.min() <= 1


def test_folds_are_random():
    codes = torch.zeros(40, dtype=torch.long)
    folds = [selection.stratified_folds(codes, generator(seed)) for seed in (0, 0, 1)]
    assert torch.equal(folds[0], folds[1])
    assert not torch.equal(folds[0], folds[2])
