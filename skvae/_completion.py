"""What every cell is expected to be, given the visible ones, and how that is learned.

:class:`ConditionalMean` is the regression part of the imputer: a multivariate normal
and an ensemble of networks that corrects it. It gives point estimates, and the context
of the conditional VAE, which models what is left. Letters as in ``_modules``; besides

``y``
    the rows as the point estimate sees them: numbers in their own units, shifted and
    scaled to mean 0 and variance 1, codes of categories; a missing cell holds 0
``v``
    mask of the visible cells, a random part of the observed ones in training
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._distributions import Bernoulli, Categorical, Joint
from ._ensemble import Ensemble
from ._gaussian import Gaussian
from ._training import LEAST_GRADIENT, Adam, flatten_parameters

#: Probabilities of the normal, which may be negative, are cut off here.
PROBABILITY_FLOOR = 0.002

#: Frequencies of the periodic features of a number (Gorishniy et al. 2022, On
#: Embeddings for Numerical Features in Tabular Deep Learning).
N_FREQUENCIES = 16

#: Weight of visible cells in the loss: to copy them keeps the features informative.
VISIBLE_WEIGHT = 0.1

#: Decay of averaged weights.
AVERAGING = 0.995

#: The most rows that networks leave out: to average weights, and to blend.
LEFT_OUT_ROWS = 3_000

#: Cells of other columns that count in the choice of a column's blend, the number of
#: shares that are tried, and the least gain over the normal in nats per cell.
BLEND_CELLS, N_SHARES, LEAST_GAIN = 50.0, 11, 0.01

#: Normals without a part of the rows, per network.
FOLDS_PER_MEMBER = 2

#: Missing share of a table from which patterns are copied, and patterns per row.
LEAST_MISSING, MOST_PATTERNS = 0.05, 4

#: Parts of the variance left that may be errors of estimation, and the standard errors
#: that a gain from shrinking by them has to exceed.
SHRINKAGES, LEAST_EVIDENCE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0), 2.0

#: Times that the averaged weights are scored on left-out rows.
N_SCORES = 10


class Recipe(NamedTuple):
    """What the number of rows decides: small tables need restraint, large ones time."""

    hidden_layer_sizes: tuple[int, ...]
    n_members: int
    #: Share of a row's observed cells that is hidden, uniform up to here, by row and
    #: step: to see few cells at a time keeps networks from fitting single rows.
    most_hidden: float
    #: Decoupled weight decay (Loshchilov and Hutter 2019).
    weight_decay: float
    batch_size: int
    n_steps: int
    #: Learning rate, in units of the estimator's.
    pace: float
    #: Wider inputs are left out of the normal: its cost at every step grows with their
    #: cube, and large tables need it less.
    widest_normal: int
    #: Whether training rows meet normals that have not seen them: in large tables it
    #: makes no difference.
    cross_fit: bool


#: The smallest share that is hidden.
LEAST_HIDDEN = 0.1

#: Rows from which a table is large.
LARGE = 5_000


def choose_recipe(n_rows: int, n_columns: int) -> Recipe:
    """Return the recipe for a table of so many rows and columns."""
    if n_rows < LARGE:
        batch_size = 256
        # batches of few rows leave time for wider matrices
        widest = int(128 * max(1.0, batch_size / n_rows) ** (1 / 3))
        return Recipe((128, 128), 4, 0.9, 0.3, batch_size, 1_500, 2.0, widest, True)
    n_steps = min(max(250 * n_columns, 1_500), 4_000)
    return Recipe((256, 256, 256), 2, 0.5, 0.02, 512, n_steps, 1.0, 48, False)


class Rows(NamedTuple):
    """Resident rows of the training table."""

    x: Tensor  # (rows, columns) encoded
    y: Tensor  # (rows, columns)
    observed: Tensor  # (rows, columns) bool
    weight: Tensor  # (rows,)
    fold: Tensor | None = None  # (rows,) who leaves the row out, see fold_of

    def take(self, index: Tensor) -> Rows:
        """Return the rows at ``index``."""
        parts = [t if t is None else t.index_select(0, index) for t in self]
        return Rows._make(parts)


class ConditionalMean(nn.Module):
    """Expected value of every cell given the visible cells.

    Parameters
    ----------
    joint : Joint
        One Normal head with a scale per column for numbers, Bernoulli and Categorical
        heads for the others: losses and point estimates of ``y``.
    hidden_layer_sizes : sequence of int
        Widths of the networks; without any, the normal stands alone.
    n_members : int
        Number of networks.
    activation : str
        A key of ``ACTIVATIONS``.
    generator : torch.Generator
        Source of the initial weights, on the CPU.
    widest_normal : int
        With more inputs the normal takes those of numbers alone, or none.
    """

    def __init__(
        self,
        joint: Joint,
        hidden_layer_sizes: tuple[int, ...],
        n_members: int,
        activation: str,
        generator: torch.Generator,
        widest_normal: int = 128,
    ) -> None:
        super().__init__()
        self.joint = joint
        columns, inputs, outputs = joint.number_slots()
        self.columns: Tensor
        self.inputs: Tensor
        self.outputs: Tensor
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("inputs", inputs, persistent=False)
        self.register_buffer("outputs", outputs, persistent=False)
        # the normal takes all inputs, or the numbers alone, or nothing
        slots = torch.arange(joint.n_inputs)
        if hidden_layer_sizes and len(slots) > widest_normal:
            slots = inputs if len(inputs) <= widest_normal else inputs[:0]
        self.slots: Tensor
        self.register_buffer("slots", slots, persistent=False)
        self.gaussian = Gaussian(len(slots))
        # where the normal's estimates go among the outputs: those of numbers are
        # locations, those of 0/1 inputs of categories logits
        target = torch.full((joint.n_inputs,), -1)
        target[inputs] = outputs
        is_flag = torch.zeros(joint.n_inputs)
        first_input = first_output = 0
        for head, n_in, n_out in zip(
            joint.heads, joint.inputs, joint.outputs, strict=True
        ):
            if isinstance(head, Bernoulli | Categorical):
                target[first_input : first_input + n_in] = torch.arange(
                    first_output, first_output + n_out
                )
            if isinstance(head, Bernoulli):
                is_flag[first_input : first_input + n_in] = 1
            first_input, first_output = first_input + n_in, first_output + n_out
        used = target[slots] >= 0
        self.slot_used: Tensor
        self.slot_outputs: Tensor
        self.slot_is_number: Tensor
        self.slot_is_flag: Tensor
        self.register_buffer("slot_used", used.nonzero()[:, 0], persistent=False)
        self.register_buffer("slot_outputs", target[slots][used], persistent=False)
        # where the numbers are among what the normal knows, if they are
        slot_of = {int(slot): k for k, slot in enumerate(slots)}
        numbers = [slot_of[int(slot)] for slot in inputs if int(slot) in slot_of]
        self.number_slots: Tensor
        self.register_buffer(
            "number_slots", torch.tensor(numbers, dtype=torch.long), persistent=False
        )
        is_number = torch.isin(slots, inputs)
        self.register_buffer("slot_is_number", is_number, persistent=False)
        self.register_buffer("slot_is_flag", is_flag[slots], persistent=False)
        self.n_members = n_members if hidden_layer_sizes else 0
        self.ensemble: Ensemble | None = None
        if hidden_layer_sizes:
            n_features = (
                joint.n_inputs
                + len(slots)
                + 2 * N_FREQUENCIES * len(columns)
                + joint.n_columns
            )
            widths = [n_features, *hidden_layer_sizes, joint.n_outputs]
            self.ensemble = Ensemble(n_members, widths, activation, generator)
            frequencies = torch.empty(len(columns), N_FREQUENCIES)
            self.frequencies = nn.Parameter(frequencies.normal_(generator=generator))
        # log-odds and zeros that the networks' outputs are added to
        self.start: Tensor
        self.register_buffer("start", torch.zeros(joint.n_outputs))
        # average log-deviation that the normal leaves to hidden cells, by number
        self.usual_deviation: Tensor
        self.register_buffer("usual_deviation", torch.zeros(len(numbers)))
        # how far estimates of every column go from the marginal, and the networks'
        # share in them
        self.reach: Tensor
        self.register_buffer("reach", torch.ones(joint.n_columns))
        self.share: Tensor
        self.register_buffer(
            "share", torch.full((joint.n_columns,), float(self.n_members > 0))
        )

    @property
    def n_context(self) -> int:
        """Width of :meth:`context`."""
        joint = self.joint
        n_deviations = len(self.number_slots)
        return joint.n_outputs + joint.n_inputs + joint.n_columns + n_deviations

    def gaussian_inputs(self, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows as the normal sees them, and their visibility."""
        visible = self._spread(v)[..., self.slots].to(y.dtype)
        return self.joint.embed(y, v)[..., self.slots], visible

    def _spread(self, v: Tensor) -> Tensor:
        """Repeat the mask of columns for every input of a column."""
        return torch.cat(
            [
                part.repeat_interleave(n_inputs // n_columns, -1)
                for part, n_inputs, n_columns in zip(
                    v.split(self.joint.columns, -1),
                    self.joint.inputs,
                    self.joint.columns,
                    strict=True,
                )
            ],
            -1,
        )

    def features(
        self, x: Tensor, y: Tensor, v: Tensor, fold: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what the networks see, and the outputs that they correct.

        Those are the normal's estimates of numbers and of the probabilities of
        categories, as logits; where there is no normal, the marginals.
        """
        mask = v.to(y.dtype)
        embedded = self.joint.embed(y, v)
        parts = [embedded, mask]
        start = self.start.expand(len(y), -1)
        if len(self.slots):
            spread = self._spread(v)[..., self.slots].to(y.dtype)
            completed = self.gaussian.condition(embedded[..., self.slots], spread, fold)
            parts.append(completed)
            estimate = self._as_outputs(completed)
            start = start.index_copy(-1, self.slot_outputs, estimate)
        if len(self.columns):
            # ranks: encoded numbers are near N(0, 1)
            rank = torch.erf(x[..., self.columns] / math.sqrt(2))
            angle = 2 * math.pi * rank.unsqueeze(-1) * self.frequencies
            waves = torch.cat([angle.sin(), angle.cos()], -1)
            waves = waves * mask[..., self.columns].unsqueeze(-1)
            parts.append(waves.flatten(-2))
        return torch.cat(parts, -1), start

    def _as_outputs(self, completed: Tensor) -> Tensor:
        """Return the normal's estimates as outputs, in ``slot_outputs``."""
        chance = completed.clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
        logit = chance.log() - self.slot_is_flag * (1 - chance).log()
        return torch.where(self.slot_is_number, completed, logit)[:, self.slot_used]

    def members(
        self, x: Tensor, y: Tensor, v: Tensor, fold: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return outputs of the networks and those that they correct.

        Shapes (members, rows, n_outputs) and (rows, n_outputs).
        """
        assert self.ensemble is not None
        features, start = self.features(x, y, v, fold)
        return self.ensemble(features) + start, start

    def expected(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return means of numbers, probabilities and modes, (rows, columns)."""
        if self.ensemble is None:
            inputs, visible = self.gaussian_inputs(y, v)
            return self.gaussian.condition(inputs, visible)
        outputs, start = self.members(x, y, v)
        return self.joint.point(self._blended(outputs.mean(0), start))

    def _blended(self, outputs: Tensor, start: Tensor) -> Tensor:
        """Return a mixture of networks' outputs, what they correct, and marginals."""
        share, reach = self.by_output(self.share), self.by_output(self.reach)
        mixed = start + share * (outputs - start)
        return mixed + (1 - reach) * (self.start - mixed)

    def by_output(self, values: Tensor) -> Tensor:
        """Repeat values of columns for every output of a column."""
        return torch.cat(
            [
                part.repeat_interleave(n_outputs // n_columns)
                for part, n_outputs, n_columns in zip(
                    values.split(self.joint.columns),
                    self.joint.outputs,
                    self.joint.columns,
                    strict=True,
                )
            ]
        )

    def blend(self) -> list[dict[str, float]]:
        """Return the shares of marginal, normal and networks, by column."""
        return [
            {
                "marginal": 1 - reach,
                "normal": reach * (1 - share),
                "networks": reach * share,
            }
            for reach, share in zip(
                self.reach.tolist(), self.share.tolist(), strict=True
            )
        ]

    def context(
        self, x: Tensor, y: Tensor, v: Tensor, fold: Tensor | None = None
    ) -> Tensor:
        """Return what the conditional VAE knows of the visible cells.

        That is the blended outputs, the cells, their mask, and how much the normal
        leaves open of each number, as log-deviations from its average. Rows of the
        training table come with their ``fold``: the outputs are then those of the
        network that has not seen the row, so the VAE learns from honest residuals.
        """
        outputs, start = self.members(x, y, v, fold)
        if fold is None:
            own = outputs.mean(0)
        else:
            # rows that every network has seen (fold -1) get the average
            member = member_of(fold, self.n_members)
            own = outputs[member, torch.arange(len(x), device=x.device)]
            own = torch.where((fold < 0).unsqueeze(-1), outputs.mean(0), own)
        parts = [self._blended(own, start), self.joint.embed(y, v), v.to(y.dtype)]
        if len(self.number_slots):
            parts.append(self._log_deviation(y, v, fold) - self.usual_deviation)
        return torch.cat(parts, -1)

    def redrawn(
        self, c: Tensor, y: Tensor, v: Tensor, draws: Sequence[int | None]
    ) -> Iterator[Tensor]:
        """Yield the context by each of the drawn parameters of the normal.

        Its estimates change, and what it leaves open; the corrections by the networks
        stay. None stands for the fitted parameters.
        """
        if len(self.slots) and any(draw is not None for draw in draws):
            inputs, visible = self.gaussian_inputs(y, v)
            fitted = self._as_outputs(self.gaussian.condition(inputs, visible))
            reach = self.by_output(self.reach)[self.slot_outputs]
        for draw in draws:
            if not len(self.slots) or draw is None:
                yield c
                continue
            drawn = self.gaussian.condition(inputs, visible, draw=draw)
            shift = reach * (self._as_outputs(drawn) - fitted)
            context = c.index_add(-1, self.slot_outputs, shift)
            n_deviations = len(self.number_slots)
            if n_deviations:
                left = self.gaussian.deviation(visible, self.number_slots, draw=draw)
                context[:, -n_deviations:] = left.log() - self.usual_deviation
            yield context

    def _log_deviation(self, y: Tensor, v: Tensor, fold: Tensor | None) -> Tensor:
        _, visible = self.gaussian_inputs(y, v)
        return self.gaussian.deviation(visible, self.number_slots, fold).log()

    # -- training ----------------------------------------------------------------

    @torch.no_grad()
    def start_at(self, rows: Rows) -> list[float]:
        """Start at the marginals and the normal; return the normal's EM trace."""
        weight = rows.observed * rows.weight.unsqueeze(1)
        start = self.joint.start_at(rows.y, weight)
        start[self.outputs] = 0  # the mean of y, where the normal knows no better
        self.start.copy_(start)
        if not len(self.slots):
            return []
        inputs, visible = self.gaussian_inputs(rows.y, rows.observed)
        return self.gaussian.fit(inputs, visible, rows.weight)

    @torch.no_grad()
    def draw_parameters(self, rows: Rows, generator: torch.Generator) -> None:
        """Draw the normal's parameters from their posterior, given the same rows."""
        if len(self.slots):
            inputs, visible = self.gaussian_inputs(rows.y, rows.observed)
            self.gaussian.draw_parameters(inputs, visible, rows.weight, generator)

    @torch.no_grad()
    def set_usual_deviation(self, rows: Rows, v: Tensor) -> None:
        """Average what the normal leaves open over the hidden cells of some rows."""
        if len(self.number_slots):
            hidden = (rows.observed & ~v)[:, self.columns].to(rows.y.dtype)
            total = (self._log_deviation(rows.y, v, rows.fold) * hidden).sum(0)
            self.usual_deviation.copy_(total / hidden.sum(0).clamp(min=1))

    def loss(self, rows: Rows, v: Tensor, kept: Tensor) -> Tensor:
        """Return the mean loss per cell; ``kept`` (members, rows) are their shares."""
        outputs, _ = self.members(rows.x, rows.y, v, rows.fold)
        cells = -self.joint.log_prob_cells(outputs, rows.y.expand(len(outputs), -1, -1))
        weight = rows.observed * torch.where(v, VISIBLE_WEIGHT, 1.0)
        per_row = (cells * weight).sum(-1) * rows.weight
        return (per_row * kept).sum() / (kept.shape[1] * rows.x.shape[1])


def hide(
    observed: Tensor, low: float, high: float, generator: torch.Generator
) -> Tensor:
    """Return the mask of the cells that stay visible: a random part of the observed."""
    device = observed.device
    rate = torch.rand(len(observed), 1, generator=generator, device=device)
    chance = torch.rand(observed.shape, generator=generator, device=device)
    return observed & (chance > low + (high - low) * rate)


def hide_like_others(observed: Tensor, generator: torch.Generator) -> Tensor:
    """Return the mask of the cells that stay visible if rows swap their patterns."""
    order = torch.randperm(len(observed), generator=generator, device=observed.device)
    return observed & observed[order]


def some_like_others(v: Tensor, observed: Tensor, generator: torch.Generator) -> Tensor:
    """Return the mask ``v``, in half of the rows that of another row."""
    half = torch.rand(len(v), 1, generator=generator, device=v.device) < 0.5
    return torch.where(half, hide_like_others(observed, generator), v)


def has_patterns(observed: Tensor) -> bool:
    """Tell whether enough cells are missing for patterns to copy."""
    return float(observed.float().mean()) < 1 - LEAST_MISSING


def train_conditional_mean(
    model: ConditionalMean,
    rows: Rows,
    recipe: Recipe,
    learning_rate: float,
    generator: torch.Generator,
    *,
    verbose: bool = False,
) -> tuple[list[float], Tensor | None]:
    """Train the networks; return the losses of left-out rows, in nats per cell.

    Every network leaves out its own part of the rows. On those the averaged weights are
    scored as training goes on, the best are kept, and the blend is chosen: cells are
    predicted there by a network that has not seen their row. Returned as well: which
    network that is, by row (None where there are too few rows for it).
    """
    assert model.ensemble is not None
    matrices = list(model.ensemble.weights)
    n_rows, device, n_steps = len(rows.x), rows.x.device, recipe.n_steps
    order = torch.randperm(n_rows, generator=generator, device=device)
    held_out = order[:LEFT_OUT_ROWS]
    folds = torch.full((n_rows,), -1, device=device)
    members = torch.arange(model.n_members, device=device).unsqueeze(1)
    enough = n_rows >= 5 * model.n_members
    if enough:
        n_folds = FOLDS_PER_MEMBER * model.n_members
        folds[held_out] = torch.arange(len(held_out), device=device) % n_folds
        rows = rows._replace(fold=folds)
        if recipe.cross_fit and len(model.slots):
            inputs, visible = model.gaussian_inputs(rows.y, rows.observed)
            model.gaussian.fit_folds(inputs, visible, rows.weight, folds, n_folds)
    # several patterns for every row, for more cells to judge by
    held_out = held_out.repeat(
        max(1, min(MOST_PATTERNS, LEFT_OUT_ROWS // len(held_out)))
    )
    left_out = rows.take(held_out)
    left_out_visible = judged(left_out.observed, recipe, generator)
    owner = member_of(folds, model.n_members)
    left_out_kept = (owner[held_out] == members) | (owner[held_out] < 0)
    model.set_usual_deviation(left_out, left_out_visible)
    holder = nn.ParameterList(model.parameters())
    flat = flatten_parameters(holder)
    decays = torch.cat(
        [p.new_full((p.numel(),), float(any(p is w for w in matrices))) for p in holder]
    )
    highest_rate = recipe.pace * learning_rate
    optimizer = Adam(flat, highest_rate)
    averaged = flat.detach().clone()
    best, best_loss, losses = averaged.clone(), math.inf, []
    warmup = max(1, n_steps // 10)
    scored = {n_steps * (k + 1) // N_SCORES - 1 for k in range(N_SCORES)}

    @torch.no_grad()
    def score(weights: Tensor) -> None:
        nonlocal best, best_loss
        live = flat.detach().clone()
        flat.copy_(weights)
        losses.append(float(model.loss(left_out, left_out_visible, left_out_kept)))
        if losses[-1] < best_loss:
            best, best_loss = weights.clone(), losses[-1]
        flat.copy_(live)

    for step in range(n_steps):
        index = torch.randint(
            n_rows,
            (min(recipe.batch_size, n_rows),),
            generator=generator,
            device=device,
        )
        batch = rows.take(index)
        visible = hide(batch.observed, LEAST_HIDDEN, recipe.most_hidden, generator)
        kept = (owner[index] != members).to(batch.x.dtype)
        loss = model.loss(batch, visible, kept)
        assert flat.grad is not None
        flat.grad.fill_(LEAST_GRADIENT)
        loss.backward()
        norm = torch.linalg.vector_norm(flat.grad)
        flat.grad.mul_((math.sqrt(model.n_members) / (norm + 1e-12)).clamp(max=1.0))
        phase = max(0, step - warmup) / max(1, n_steps - warmup)
        rate = min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * phase))
        optimizer.learning_rate = highest_rate * rate
        with torch.no_grad():
            flat.mul_(1 - optimizer.learning_rate * recipe.weight_decay * decays)
            optimizer.step()
            averaged.lerp_(flat.detach(), 1 - min(AVERAGING, (step + 1) / (step + 10)))
            if step in scored:
                score(averaged)
                if verbose:
                    print(
                        f"Conditional mean, step {step + 1} of {n_steps}, "
                        f"loss = {losses[-1]:.8f}"
                    )
    if not all(math.isfinite(loss) for loss in losses):
        raise ValueError(
            "The loss of the conditional mean became non-finite. Lower "
            f"learning_rate_init (now {learning_rate:g}), or look for extreme values "
            "in X and set numeric_transform='quantile'."
        )
    with torch.no_grad():
        flat.copy_(best)
        for p in holder:
            p.data, p.grad = p.detach().clone(), None
        if not enough:  # nothing to choose by: the normal, if there is one
            model.share.fill_(float(not len(model.slots)))
            return losses, None
        choose_blend(model, left_out, left_out_visible)
    return losses, folds


def judged(observed: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Return the mask of the cells that stay visible where estimates are judged.

    Patterns of missing cells as in other rows are what the estimates are for: under
    MAR the cells of an observed row are no fair sample in other patterns. A table with
    few missing cells has no patterns to copy.
    """
    if has_patterns(observed):
        return hide_like_others(observed, generator)
    return hide(observed, LEAST_HIDDEN, recipe.most_hidden, generator)


def member_of(fold: Tensor, n_members: int) -> Tensor:
    """Return the network that leaves out the rows of a fold, -1 for none."""
    return torch.where(fold < 0, fold, fold % n_members)


def choose_blend(model: ConditionalMean, rows: Rows, v: Tensor) -> None:
    """Choose share and reach of every column on rows that the networks have not seen.

    The share is that of the networks in a mixture with the normal. The loss of a column
    counts beside that of BLEND_CELLS cells of all columns of its kind, as a column with
    few cells says little; networks that gain less than LEAST_GAIN get no share, so that
    linear relations stay exactly as the normal has them. The reach tells how far
    estimates of a column of numbers depart from its mean, see :func:`choose_reach`;
    categories keep theirs.

    A left-out row is judged by one network. The average over networks, which is used
    later, errs less by the part of their variance that averaging removes.
    """
    assert rows.fold is not None
    outputs, start = model.members(rows.x, rows.y, v, rows.fold)
    member = member_of(rows.fold, model.n_members)
    own = outputs[member, torch.arange(len(rows.x), device=rows.x.device)]
    numbers = outputs[..., model.outputs]
    removed = torch.zeros_like(own[:, model.outputs])
    if model.n_members > 1 and numbers.numel():
        removed = numbers.var(0) * (1 - 1 / model.n_members)
    weight = (rows.observed & ~v) * rows.weight.unsqueeze(1)
    n_cells = weight.sum(0)
    is_number = torch.zeros_like(n_cells, dtype=torch.bool)
    is_number[model.columns] = True
    truth = rows.y[:, model.columns]

    steps = torch.linspace(0, 1, N_SHARES).to(n_cells)
    tried = n_cells.new_empty(N_SHARES, len(n_cells))
    for k, share in enumerate(steps):
        mixed = start + share * (own - start)
        cells = -model.joint.log_prob_cells(mixed, rows.y)
        squares = (truth - mixed[:, model.outputs]).square()
        cells[:, model.columns] = squares - share**2 * removed
        tried[k] = (weight * cells).sum(0)
    # squared errors in units of the normal's: nats, whatever the scales are
    variance = (tried[0] / n_cells.clamp(min=1)).clamp(min=1e-12)
    tried = torch.where(is_number, tried / (2 * variance), tried)
    pooled = tried.clone()
    for kind in (is_number, ~is_number):
        mean = tried[:, kind].sum(1, keepdim=True) / n_cells[kind].sum().clamp(min=1)
        pooled[:, kind] += BLEND_CELLS * mean
    best = pooled.argmin(0)
    gain = tried[0] - tried.gather(0, best.unsqueeze(0)).squeeze(0)
    best[gain < LEAST_GAIN * n_cells] = 0
    model.share.copy_(steps[best])

    mixed = start + model.by_output(model.share) * (own - start)
    model.reach[model.columns] = choose_reach(
        truth,
        mixed[:, model.outputs],
        weight[:, model.columns],
        model.share[model.columns] ** 2 * removed,
    )


def choose_reach(
    truth: Tensor, estimate: Tensor, weight: Tensor, removed: Tensor
) -> Tensor:
    """Return how far estimates of numbers should go from the marginal mean, by column.

    An estimate of variance s^2 that leaves the variance r^2, of which a part k r^2 is
    error of estimation, is best shrunk by 1 - k r^2 / s^2: not at all where a column
    is told by the others, to the mean where it is noise. k is a matter of rows and
    columns, and chosen for all columns together, as single ones say little; 0 stands
    unless the gain exceeds what chance makes of it.
    """
    n_cells = weight.sum(0).clamp(min=1)
    squares = (truth - estimate).square() - removed
    left = ((weight * squares).sum(0) / n_cells).clamp(min=1e-12)
    spread = ((weight * estimate.square()).sum(0) / n_cells).clamp(min=1e-12)
    usual = (weight * squares / (2 * left)).sum(1)
    best, best_gain = torch.ones_like(left), usual.new_zeros(())
    for k in SHRINKAGES:
        reach = (1 - k * left / spread).clamp(min=0)
        errors = (truth - reach * estimate).square() - reach**2 * removed
        gain = usual - (weight * errors / (2 * left)).sum(1)
        total = gain.sum()
        # a row comes with several patterns, which are no independent witnesses
        chance = (MOST_PATTERNS * gain.square().sum()).sqrt()
        better = (total > LEAST_EVIDENCE * chance) & (total > best_gain)
        best = torch.where(better, reach, best)
        best_gain = torch.where(better, total, best_gain)
    return best
