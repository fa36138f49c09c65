"""Objectives of a VAE with a classifier q(y | x), for few labels.

Letters as in :mod:`skvae._networks.vae`, and

``y``
    labels, (rows, n_classes): one-hot, or all zero where the label is unknown
``q``
    q(y | x), (rows, n_classes)
``inputs``
    inputs of encoder and classifier: embedded cells, and the mask of missing ones,
    if there are any

An unknown label is summed out, not drawn: its classes are a leading dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .._density.evidence import proposals
from .._distributions.families import Latent
from .._networks.batch import Batch
from .._training.bounds import Terms
from .labelled_vae import LabelledVAE
from .settings import SETTINGS

#: Noise columns beyond those for directions and masked cells: three uniform numbers
#: whose median is Beta(2, 2), the weight of a row in its mixture with a partner.
MIXING_COLUMNS = 3


@dataclass
class LabelOptions:
    """Weights of the label losses, and the training step that schedules them."""

    #: Weight of the classifier's terms against the bound.
    classification_weight: float
    #: Weight of the consistency loss within them.
    consistency_weight: float
    #: Length of the adversarial step of the VAT loss.
    vat_radius: float
    #: Fraction of the cells that are masked for the classifier, drawn at every step.
    masking_rate: float = 0.0
    #: Whether every row has a label: no other label is summed over.
    all_labelled: bool = False
    #: Steps done.
    step: int = 0
    #: Steps of the whole training.
    total_steps: int = 1

    def ramp(self) -> float:
        """Return the ramp-up factor of the interpolation loss, between 0 and 1."""
        t = min(1.0, self.step / max(1.0, SETTINGS.ramp_fraction * self.total_steps))
        return math.exp(-5 * (1 - t) ** 2)


def batch_noise_width(vae: LabelledVAE) -> int:
    """Return the width of a batch's noise: direction, masked cells, mixture."""
    return vae.n_row_inputs + vae.joint.n_columns + MIXING_COLUMNS


def split_noise(vae: LabelledVAE, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the parts of a batch's noise."""
    widths = [vae.n_row_inputs, vae.joint.n_columns, MIXING_COLUMNS]
    direction, cells, mixture = noise.split(widths, -1)
    return direction, cells, mixture


def log_label(vae: LabelledVAE, batch: Batch, masking_rate: float = 0.0) -> Tensor:
    """Return log q(y | x) under random masking of cells, (rows, n_classes)."""
    observed = batch.observed
    if masking_rate and batch.noise is not None:
        _, cells, _ = split_noise(vae, batch.noise)
        kept = torch.special.ndtr(cells) >= masking_rate
        observed = kept if observed is None else kept & observed
    return F.log_softmax(vae.logits(vae.inputs(batch.x, observed)), -1)


def classification(vae: LabelledVAE, batch: Batch, options: LabelOptions) -> Tensor:
    """Return the classification term, the weighted mean over the labelled rows."""
    labelled = batch.labelled
    assert labelled is not None
    assert labelled.y is not None
    log_q = log_label(vae, labelled, options.masking_rate)
    value = (labelled.y * log_q).sum(-1)
    if labelled.weight is None:
        return value.mean()
    return (value * labelled.weight).sum() / labelled.weight.sum()


def label_bounds(
    vae: LabelledVAE, inputs: Tensor, batch: Batch, noise: Tensor
) -> Terms:
    """Return bounds on log p(x | y) for every label, (rows, n_classes).

    All labels share the noise, (1, rows, latent), so that they differ by the model.
    """
    qz = vae.encode_every_label(inputs)
    px = vae.decode_every_label(qz.rsample(noise))
    reconstruction = vae.joint.log_prob(px, batch.x, batch.observed)
    kl = qz.kl(vae.prior()).expand_as(reconstruction)
    return Terms((reconstruction - kl).t(), reconstruction.t(), kl.t())


def known_label_bound(
    vae: LabelledVAE, inputs: Tensor, batch: Batch, noise: Tensor
) -> Terms:
    """Return bounds on log p(x | y) of the label of each row, (rows, 1).

    One pass, while :func:`label_bounds` makes one for every class.
    """
    assert batch.y is not None
    qz = vae.encode_inputs(inputs, batch.y)
    px = vae.decode(qz.rsample(noise[0]), batch.y)
    reconstruction = vae.joint.log_prob(px, batch.x, batch.observed).unsqueeze(1)
    kl = qz.kl(vae.prior()).unsqueeze(1)
    return Terms(reconstruction - kl, reconstruction, kl)


def average_over_labels(
    vae: LabelledVAE,
    bounds: Terms,
    y: Tensor,
    log_q: Tensor,
    kl_weight: float | Tensor,
) -> Terms:
    """Return bounds on log p(x, y) of known and log p(x) of unknown labels, (rows,).

    Known: the bound of the label plus log p(y). Unknown: the mean under q(y | x) plus
    its entropy, Kingma et al. (2014), eq. 6 and 7.
    """
    unknown = 1 - y.sum(-1, keepdim=True)
    probability = y + unknown * log_q.exp()
    # a single bound is that of the known label: the probabilities sum to one
    reconstruction = (probability * bounds.reconstruction).sum(-1)
    kl = (probability * bounds.kl).sum(-1)
    label = (probability * (vae.log_prior - unknown * log_q)).sum(-1)
    objective = reconstruction - kl_weight * kl + label
    return Terms(objective, reconstruction.detach(), kl.detach())


def vat_loss(
    logits: Callable[[Tensor], Tensor],
    inputs: Tensor,
    log_q: Tensor,
    noise: Tensor,
    radius: float,
) -> Tensor:
    """Return the virtual adversarial training loss, in nats, (..., rows).

    KL(q(y | x) || q(y | x + r)), where r points where that grows fastest at a random
    place so far from x; closer to x little changes, and the direction is worse.
    ``noise`` (..., rows, n_inputs) gives the place, ``logits`` maps inputs to
    log q(y | x) up to a constant per row.

    References
    ----------
    Miyato, Maeda, Koyama, Ishii (2019), Virtual Adversarial Training, algorithm 1.
    """
    target = log_q.detach()

    def divergence(shift: Tensor) -> Tensor:
        moved = F.log_softmax(logits(inputs + shift), -1)
        return (target.exp() * (target - moved)).sum(-1)

    if not torch.is_grad_enabled():  # a direction needs a gradient
        return log_q.new_zeros(log_q.shape[:-1])
    direction = F.normalize(noise, dim=-1).requires_grad_(True)
    probe = divergence(radius * direction).sum()
    (gradient,) = torch.autograd.grad(probe, direction)
    length = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
    direction = gradient / length.clamp(min=1e-20)
    return divergence(radius * direction)


def entropy_and_balance(
    log_q: Tensor, log_prior: Tensor, weight: Tensor | None
) -> Tensor:
    """Return the entropy of q(y | x), with a penalty for unbalanced classes.

    In nats, (..., rows). The penalty is the divergence of the mean m of q(y | x) over
    rows from p(y): without it one class could take all rows. The mean over rows is
    H(y | x) + KL(m || p(y)), and so is its gradient: the derivative of log m sums to 0.

    References
    ----------
    Krause, Perona, Gomes (2010), Discriminative Clustering by Regularized Information
    Maximization, eq. 3.
    """
    q = log_q.exp()
    weighted = q if weight is None else q * (weight / weight.mean()).unsqueeze(1)
    log_mean = weighted.detach().mean(-2, keepdim=True).clamp(min=1e-9).log()
    return (q * (log_mean - log_prior - log_q)).sum(-1)


def nearest_partners(qz: Latent) -> Tensor:
    """Return argmin over j != i of KL(q(z | x_i) || q(z | x_j)), (rows,).

    References
    ----------
    Feng et al. (2021), SHOT-VAE, section 4.2.
    """
    family = type(qz)
    rows = family(*(parameter.unsqueeze(1) for parameter in qz))
    partners = family(*(parameter.unsqueeze(0) for parameter in qz))
    return rows.kl(partners).fill_diagonal_(math.inf).argmin(-1)


def mixing_weight(noise: Tensor) -> Tensor:
    """Return Beta(2, 2) draws: medians of three uniform numbers, (rows, 1)."""
    return torch.special.ndtr(noise).median(-1, keepdim=True).values


def interpolation(
    vae: LabelledVAE,
    inputs: Tensor,
    y: Tensor,
    log_q: Tensor,
    noise: Tensor,
) -> Tensor:
    """Return the mixup loss KL(mixed labels || q(y | mixed inputs)), (rows,).

    ``noise`` (rows, 3) gives the weights of the mixture, Beta(2, 2).

    References
    ----------
    Feng et al. (2021), SHOT-VAE, eq. 12 to 14.
    """
    n_rows = len(inputs)
    if n_rows < 2:  # nobody to mix with
        return log_q.new_zeros(n_rows)
    with torch.no_grad():
        partner = nearest_partners(vae.encode_inputs(inputs, None))
        weight = mixing_weight(noise)
        label = y + (1 - y.sum(-1, keepdim=True)) * log_q.exp()
        target = weight * label + (1 - weight) * label[partner]
        mixture = weight * inputs + (1 - weight) * inputs[partner]
    found = F.log_softmax(vae.logits(mixture), -1)
    return (torch.xlogy(target, target) - target * found).sum(-1)


def m1(
    vae: LabelledVAE,
    batch: Batch,
    noise: Tensor,
    options: LabelOptions,
    *,
    kl_weight: float | Tensor = 1.0,
) -> Terms:
    """Return the M1 objective: ELBO of x plus classifier terms of q(y | z), per row."""
    inputs = vae.inputs(batch.x, batch.observed)
    bounds = label_bounds(vae, inputs, batch, noise)
    reconstruction, kl = bounds.reconstruction[:, 0], bounds.kl[:, 0]
    value = reconstruction - kl_weight * kl
    log_q = log_label(vae, batch, options.masking_rate)
    value = value + _classifier_terms(vae, batch, inputs, log_q, options)
    return Terms(value, reconstruction.detach(), kl.detach())


def m2(
    vae: LabelledVAE,
    batch: Batch,
    noise: Tensor,
    options: LabelOptions,
    *,
    kl_weight: float | Tensor = 1.0,
) -> Terms:
    """Return the M2 objective: ELBO of (x, y) or x plus classifier terms, per row.

    Without a consistency weight the bounds do not train q(y | x): where classes are no
    clusters of rows, they would pull it away from the labels.

    References
    ----------
    Kingma, Rezende, Mohamed, Welling (2014), eq. 8 and 9.
    """
    assert batch.y is not None
    inputs = vae.inputs(batch.x, batch.observed)
    log_q = log_label(vae, batch, options.masking_rate)
    bounds_of = known_label_bound if options.all_labelled else label_bounds
    bounds = bounds_of(vae, inputs, batch, noise)
    given = log_q if options.consistency_weight else log_q.detach()
    terms = average_over_labels(vae, bounds, batch.y, given, kl_weight)
    extra = _classifier_terms(vae, batch, inputs, log_q, options)
    return terms._replace(objective=terms.objective + extra)


def shot(
    vae: LabelledVAE,
    batch: Batch,
    noise: Tensor,
    options: LabelOptions,
    *,
    kl_weight: float | Tensor = 1.0,
) -> Terms:
    """Return the SHOT-VAE objective: smooth ELBO and mixup loss, per row.

    References
    ----------
    Feng et al. (2021), SHOT-VAE, eq. 8 and 15.
    """
    assert batch.y is not None
    inputs = vae.inputs(batch.x, batch.observed)
    log_q = log_label(vae, batch, options.masking_rate)
    bounds_of = known_label_bound if options.all_labelled else label_bounds
    bounds = bounds_of(vae, inputs, batch, noise)
    unknown = 1 - batch.y.sum(-1, keepdim=True)
    probability = batch.y + unknown * log_q.exp()
    reconstruction = (probability * bounds.reconstruction).sum(-1)
    kl = bounds.kl[:, 0]
    # the divergence of q(y | x) from p(y) is there for known labels, too
    label_kl = (log_q.exp() * (log_q - vae.log_prior)).sum(-1)
    value = reconstruction - kl_weight * kl - label_kl
    weight = options.classification_weight
    if batch.labelled is not None:
        value = value + weight * classification(vae, batch, options)
    if options.consistency_weight and batch.noise is not None:
        _, _, noise = split_noise(vae, batch.noise)
        mixed = interpolation(vae, inputs, batch.y, log_q, noise)
        value = value - weight * options.consistency_weight * options.ramp() * mixed
    return Terms(value, reconstruction.detach(), kl.detach())


def _classifier_terms(
    vae: LabelledVAE,
    batch: Batch,
    inputs: Tensor,
    log_q: Tensor,
    options: LabelOptions,
) -> Tensor:
    """Return the classification and consistency terms, (rows,)."""
    weight = options.classification_weight
    value = inputs.new_zeros(len(inputs))
    if batch.labelled is not None:
        value = value + weight * classification(vae, batch, options)
    if options.consistency_weight and batch.noise is not None:
        noise, _, _ = split_noise(vae, batch.noise)
        loss = vat_loss(vae.logits, inputs, log_q, noise, options.vat_radius)
        loss = loss + entropy_and_balance(log_q, vae.log_prior, batch.weight)
        value = value - weight * options.consistency_weight * loss
    return value


OBJECTIVES: dict[str, Callable[..., Terms]] = {"m1": m1, "m2": m2, "shot": shot}


def label_score(vae: LabelledVAE, batch: Batch, noise: Tensor, **_: object) -> Terms:
    """Return the validation score: log q(y | x) of the known labels, per row."""
    assert batch.y is not None
    value = (batch.y * log_label(vae, batch)).sum(-1)
    return Terms(value, value, torch.zeros_like(value))


def log_evidence(
    vae: LabelledVAE,
    x: Tensor,
    observed: Tensor | None,
    noise: Tensor,  # (K, 1 or rows, n_noise)
    prior_noise: Tensor | None = None,  # (K, 1, n_prior_noise)
) -> Tensor:
    """Return log p̂(x) for every draw, the label summed out, (K, rows).

    Importance weights p(x | z, y) p(z) / q(z | x, y) for every label, averaged under
    p(y). With ``prior_noise`` there are draws of the prior too, see ``proposals``.
    """
    qz = vae.encode_every_label(vae.inputs(x, observed))
    if prior_noise is not None:
        prior_noise = prior_noise.unsqueeze(1)
    z, log_prior, log_q = proposals(vae.prior(), qz, noise.unsqueeze(1), prior_noise)
    log_p = vae.joint.log_prob(vae.decode_every_label(z), x, observed)
    log_weight = log_p + log_prior - log_q
    if vae.kind == "m1":
        return log_weight[:, 0]
    return torch.logsumexp(log_weight + vae.log_prior.view(1, -1, 1), 1)
