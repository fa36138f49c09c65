"""The training loop, and the only file that knows skorch.

skorch gives the loop its shape (epochs, callbacks, history); what is overridden
here is what would make small tables slow: the data lie on the device once, a batch
is one ``index_select``, the loss is summed on the device, and all parameters form
one flat tensor, so that clipping and the optimizer are one kernel each.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim.adam import adam

from ._modules import MLP, VAE, Batch
from ._objectives import OBJECTIVES, Terms

#: Gradient norms above this, per square root of the number of columns, are clipped.
GRADIENT_CLIP = 5.0

#: Steps over which the learning rate rises at the start of a schedule.
LEARNING_RATE_WARMUP = 100

#: The cosine schedule ends at this fraction of the initial learning rate.
LEARNING_RATE_END = 0.01

#: Without improvement a schedule goes back to the best weights and divides the
#: learning rate by this, at most that many times, before training stops.
RATE_FACTOR, RATE_DROPS = 4.0, 3

#: The most that a validation row may say for or against the start, in nats: a row that
#: the start cannot explain at all would make the standard error as large as the gain.
GAIN_LIMIT = 10.0

#: What a gradient of zero counts as: averages of nothing but zeros would decay to
#: denormal numbers, which make Adam's step five times slower.
LEAST_GRADIENT = 1e-16

#: Draws of a validation score of the ELBO, as long as rows times draws stay below the
#: second number.
VALIDATION_DRAWS, VALIDATION_EVALUATIONS = 16, 4_000

#: Decoder outputs that validation holds at a time.
VALIDATION_CELLS = 2**22

#: Training rows that the choice between scales is fitted on.
SCALE_ROWS = 5_000

#: A latent variable is active if the variance of its posterior mean over rows
#: exceeds this share of the prior's (Burda, Grosse, Salakhutdinov 2016, section 5.2).
ACTIVE_UNIT_VARIANCE = 0.01


@dataclass(frozen=True)
class Plan:
    """How to train: the numbers of one fit, resolved by the estimator."""

    objective: str | Callable[..., Terms]
    gradient: str
    n_draws: int
    kl_weight: float
    kl_warmup_steps: int
    max_iter: int
    batch_size: int
    learning_rate_init: float
    learning_rate: str
    early_stopping: bool
    n_iter_no_change: float
    tol: float
    verbose: bool = False
    prefer_start: bool = True  # see Monitor.restore
    weight_decay: float = 0.0  # decoupled, of the weights of layers
    #: What validation rows are scored by, where that is not the objective.
    score: Callable[..., Terms] | None = None
    #: Which submodule's weights validation rows choose (and the rest ends as it is);
    #: None: all.
    judged: str | None = None

    @property
    def bound(self) -> Callable[..., Terms]:
        """The objective as a function."""
        if isinstance(self.objective, str):
            return OBJECTIVES[self.objective]
        return self.objective


@dataclass
class History:
    """What was recorded, one entry per epoch; everything in nats per row."""

    objective: list[float] = field(default_factory=list)
    reconstruction: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    active_units: list[int] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best_score: float = -math.inf
    converged: bool = False

    @property
    def scores(self) -> list[float]:
        """The monitored scores: validation where there is one."""
        return self.validation or self.objective

    def drop_unscored(self) -> None:
        """Drop an epoch that Ctrl-C cut short between training and scoring."""
        n_scored = len(self.learning_rate)
        for values in vars(self).values():
            if isinstance(values, list):
                del values[n_scored:]


class StopTraining(Exception):
    """Ends the loop from a callback."""


class Batches:
    """Rows of a resident table, in shuffled batches.

    A drop-in for the data loader that skorch expects. The last batch takes the
    remainder, so every batch has at least ``batch_size`` rows (if there are as
    many) and every row is seen once per pass.
    """

    def __init__(
        self,
        data: Batch,
        rows: Tensor,
        batch_size: int,
        generator: torch.Generator,
        prepare: Callable[[Batch], Batch] | None = None,
    ) -> None:
        self.data, self.rows, self.prepare = data, rows, prepare
        self.n_batches = max(1, len(rows) // batch_size)
        self.batch_size = min(batch_size, len(rows))
        self.generator = generator

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(
            len(self.rows), generator=self.generator, device=self.rows.device
        )
        order = self.rows[order]
        for index in range(self.n_batches - 1):
            start = index * self.batch_size
            yield self.take(order[start : start + self.batch_size])
        yield self.take(order[(self.n_batches - 1) * self.batch_size :])

    def take(self, index: Tensor) -> Batch:
        """Return the rows at ``index``, prepared."""
        batch = self.data.take(index)
        return batch if self.prepare is None else self.prepare(batch)


def flatten_parameters(module: nn.Module) -> nn.Parameter:
    """Move all parameters into one flat tensor that they become views of."""
    parameters = list(module.parameters())
    flat = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]))
    flat.grad = torch.zeros_like(flat)
    start = 0
    for p in parameters:
        part = slice(start, start + p.numel())
        p.data = flat.detach()[part].view(p.shape)
        p.grad = flat.grad[part].view(p.shape)
        start += p.numel()
    return flat


def part_of_flat(module: nn.Module, name: str | None) -> slice:
    """Return where the parameters of a submodule lie in the flat tensor."""
    if name is None:
        return slice(None)
    own = list(module.get_submodule(name).parameters())
    start = int(own[0].storage_offset())  # they are views of it, one after another
    return slice(start, start + sum(p.numel() for p in own))


def decay_of_weights(module: VAE, rate: float) -> Tensor:
    """Return the decay of every parameter: that of what bends the linear model.

    Biases, the heads and the linear paths, which start at a regression, do not decay.
    """
    decay = {
        id(p): torch.full_like(p, rate * (p.dim() > 1)) for p in module.parameters()
    }
    for p in module.joint.parameters():
        decay[id(p)].zero_()
    for part in module.modules():
        if isinstance(part, MLP):
            linear = part.linear_inputs
            decay[id(part.output.weight)][:, linear] = 0
    return torch.cat([decay[id(p)].flatten() for p in module.parameters()]).detach()


class Adam:
    """Adam on one flat parameter, in one fused kernel.

    The update is torch's functional Adam. ``torch.optim.Adam`` itself would import
    torch's compiler: some seconds and 100 MB at the first fit of a process.
    """

    def __init__(
        self, flat: nn.Parameter, learning_rate: float, decay: Tensor | None = None
    ) -> None:
        self.flat = flat
        self.learning_rate = learning_rate
        self.decay = decay
        self.state = {
            "exp_avg": torch.zeros_like(flat),
            "exp_avg_sq": torch.zeros_like(flat),
            "step": torch.zeros((), dtype=torch.float32, device=flat.device),
        }

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameter by its gradient."""
        assert self.flat.grad is not None
        if self.decay is not None:  # decoupled (Loshchilov and Hutter 2019)
            self.flat.mul_(1 - self.learning_rate * self.decay)
        adam(
            [self.flat],
            [self.flat.grad],
            [self.state["exp_avg"]],
            [self.state["exp_avg_sq"]],
            [],
            [self.state["step"]],
            fused=True,
            foreach=False,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def save(self) -> dict[str, np.ndarray]:
        """Return the state as NumPy arrays."""
        return {name: value.cpu().numpy().copy() for name, value in self.state.items()}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from a state that :meth:`save` returned."""
        for name, value in arrays.items():
            self.state[name].copy_(torch.from_numpy(np.array(value)))


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Average per-row values; weights have mean one over the training rows."""
    if weight is None:
        return values.mean()
    return (values * weight).mean()


def train_step(
    vae: VAE,
    batch: Batch,
    noise: Tensor,
    flat: nn.Parameter,
    optimizer: Adam,
    objective: Callable[..., Terms],
    gradient: str,
    kl_weight: float,
) -> Terms:
    """One step of gradient ascent on the objective; nothing leaves the device."""
    terms = objective(vae, batch, noise, kl_weight=kl_weight, gradient=gradient)
    loss = -weighted_mean(terms.objective, batch.weight)
    assert flat.grad is not None
    flat.grad.fill_(LEAST_GRADIENT)
    loss.backward()
    limit = GRADIENT_CLIP * math.sqrt(vae.joint.n_columns)
    norm = torch.linalg.vector_norm(flat.grad)
    flat.grad.mul_((limit / (norm + 1e-12)).clamp(max=1.0))
    optimizer.step()
    return Terms(*(term.detach() for term in terms))


class Net(NeuralNet):  # type: ignore[misc]
    """A skorch net over resident data.

    ``X`` of ``fit_loop`` is a pair of :class:`Batches`: training and validation
    rows (the latter may be None).
    """

    def __init__(
        self, module: VAE, plan: Plan, generator: torch.Generator, **kwargs: Any
    ):
        super().__init__(module, criterion=nn.Identity, train_split=None, **kwargs)
        self.plan = plan
        self.generator = generator

    def get_default_callbacks(self) -> list[Any]:
        return []  # the monitor prints and times nothing twice

    def initialize_optimizer(self, triggered_directly=None):  # type: ignore[no-untyped-def]
        decay = None
        if self.plan.weight_decay:
            decay = decay_of_weights(self.module_, self.plan.weight_decay)
        self.flat_ = flatten_parameters(self.module_)
        self.optimizer_ = Adam(self.flat_, self.plan.learning_rate_init, decay)
        return self

    def check_data(self, X: Any, y: Any = None) -> None:
        """Do nothing: the estimator has validated its input."""

    def get_split_datasets(self, X: Any, y: Any = None, **_: Any) -> Any:
        return X

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        return dataset

    def notify(self, method_name: str, **kwargs: Any) -> None:
        # callbacks for skorch stop training by raising KeyboardInterrupt; anywhere
        # else it means that the user pressed Ctrl-C
        getattr(self, method_name)(self, **kwargs)
        for _, callback in self.callbacks_:
            try:
                getattr(callback, method_name)(self, **kwargs)
            except KeyboardInterrupt as stop:
                if isinstance(callback, Monitor | ScikitLearnBridge):
                    raise
                raise StopTraining from stop

    def run_single_epoch(  # type: ignore[no-untyped-def]
        self, iterator, training, prefix, step_fn, **fit_params
    ) -> None:
        if not training:  # scored by Monitor, with fixed noise
            return
        self.module_.train()
        listened = any(
            type(callback).on_batch_end is not Callback.on_batch_end
            or type(callback).on_batch_begin is not Callback.on_batch_begin
            for _, callback in self.callbacks_
        )
        # One buffer for the whole epoch: small tensors kept from every batch would
        # fragment the heap by more than the table's own size.
        terms = iterator.data.x.new_empty(len(Terms._fields), len(iterator.rows))
        done = 0
        for batch in iterator:
            if listened:
                self.notify("on_batch_begin", batch=batch, training=True)
            for row, values in zip(terms, self.train_step(batch), strict=True):
                weighted = values if batch.weight is None else values * batch.weight
                row[done : done + len(batch)] = weighted
            done += len(batch)
            if listened:
                self.notify("on_batch_end", batch=batch, training=True)
        # the one synchronisation of the epoch
        means = terms.mean(1).tolist()
        if not all(math.isfinite(value) for value in means):
            raise ValueError(
                f"The loss became non-finite in epoch {len(self.record.objective) + 1}."
                " Lower learning_rate_init (now "
                f"{self.plan.learning_rate_init:g}), or look for extreme values in X"
                " and set numeric_transform='quantile'."
            )
        self.record.objective.append(means[0])
        self.record.reconstruction.append(means[1])
        self.record.kl.append(means[2])
        self.history.record("train_loss", -means[0])

    def train_step(self, batch: Batch, **_: Any) -> Terms:
        plan = self.plan
        warmup = self.kl_warmup_steps_
        kl_weight = plan.kl_weight * min(1.0, (self.step_ + 1) / (warmup + 1))
        self.optimizer_.learning_rate = self.learning_rate_at(self.step_)
        shape = (plan.n_draws, len(batch), self.module_.n_noise)
        noise = batch.x.new_empty(shape).normal_(generator=self.generator)
        terms = train_step(
            self.module_,
            batch,
            noise,
            self.flat_,
            self.optimizer_,
            plan.bound,
            plan.gradient,
            kl_weight,
        )
        self.step_ += 1
        return terms

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step under the plan's schedule."""
        plan = self.plan
        rate = plan.learning_rate_init * self.rate_factor_
        if plan.learning_rate == "constant":
            return rate
        # short fits (checks, partial budgets) warm up over a tenth of their steps
        warmup = min(LEARNING_RATE_WARMUP, self.total_steps_ // 10) + 1
        rate *= min(1.0, (step + 1) / warmup)
        if plan.learning_rate == "cosine":
            phase = 0.5 * (1 + math.cos(math.pi * step / max(1, self.total_steps_)))
            rate *= LEARNING_RATE_END + (1 - LEARNING_RATE_END) * phase
        return rate

    def prepare(self, total_steps: int, record: History) -> None:
        """Set the counters of one run."""
        self.total_steps_ = total_steps
        self.step_ = 0
        self.rate_factor_ = 1.0
        # a warm-up longer than the training would change the objective for good
        self.kl_warmup_steps_ = min(self.plan.kl_warmup_steps, total_steps // 2)
        self.record = record


class Monitor(Callback):  # type: ignore[misc]
    """Scores each epoch, keeps the best weights, decides when to stop."""

    def __init__(self, plan: Plan, valid: Batch | None, generator: torch.Generator):
        self.plan = plan
        self.valid = valid
        self.generator = generator

    def on_train_begin(self, net: Net, X: Any = None, y: Any = None, **_: Any) -> None:
        self.best_score = -math.inf
        part = part_of_flat(net.module_, self.plan.judged)
        self.judged = net.flat_.data[part]
        self.best_weights = self.judged.clone()
        self.stalled = 0
        self.drops = 0
        if self.valid is not None:
            n_rows = len(self.valid)
            n_draws = self.plan.n_draws
            if self.plan.objective == "elbo":
                affordable = VALIDATION_EVALUATIONS // n_rows
                n_draws = max(n_draws, min(VALIDATION_DRAWS, affordable))
            # the same noise at every epoch: scores differ by the weights alone
            noise = self.valid.x.new_empty(n_draws, n_rows, net.module_.n_noise)
            self.noise = noise.normal_(generator=self.generator)
            # the start itself is a candidate: it may be an exact linear model
            self.start_weights = self.best_weights.clone()
            self.start_rows = self.best_rows = self.score_rows(net)
            self.best_score = net.record.best_score = self.mean(self.start_rows)

    @torch.inference_mode()
    def score_rows(self, net: Net) -> Tensor:
        """Return the objective of each validation row, in nats."""
        assert self.valid is not None
        vae = net.module_.eval()
        objective = self.plan.score or self.plan.bound
        n_draws, n_rows = self.noise.shape[:2]
        at_once = max(1, VALIDATION_CELLS // (n_draws * vae.joint.n_outputs))
        values = []
        for start in range(0, n_rows, at_once):
            rows = self.valid.rows(start, start + at_once)
            noise = self.noise[:, start : start + at_once]
            terms = objective(vae, rows, noise, kl_weight=self.plan.kl_weight)
            values.append(terms.objective)
        return torch.cat(values)

    def mean(self, values: Tensor) -> float:
        """Average over the validation rows by their weights."""
        assert self.valid is not None
        return float(weighted_mean(values, self.valid.weight))

    def on_epoch_end(
        self, net: Net, dataset_train: Batches | None = None, **_: Any
    ) -> None:
        record, plan = net.record, self.plan
        assert dataset_train is not None
        active_units = count_active_units(net.module_, dataset_train)
        rows = None
        if self.valid is not None:
            rows = self.score_rows(net)
            record.validation.append(self.mean(rows))
            net.history.record("valid_loss", -record.validation[-1])
        record.active_units.append(active_units)
        record.learning_rate.append(net.optimizer_.learning_rate)
        if plan.verbose:
            print(
                f"Iteration {len(record.objective)}, loss = {-record.objective[-1]:.8f}"
            )
            if self.valid is not None:
                print(f"Validation score: {record.validation[-1]:f}")
        score = record.scores[-1]
        if score > self.best_score:
            self.stalled = 0 if score > self.best_score + plan.tol else self.stalled + 1
            self.best_score = record.best_score = score
            if rows is not None:
                self.best_weights.copy_(self.judged)
                self.best_rows = rows
        else:
            self.stalled += 1
        if net.step_ <= net.kl_warmup_steps_:
            self.stalled = 0
        if self.stalled >= plan.n_iter_no_change:
            self.stall(net)

    def stall(self, net: Net) -> None:
        """Go back to the best weights at a lower learning rate, or stop."""
        plan, drops = self.plan, self.drops
        what = "Validation score" if self.valid is not None else "Training objective"
        message = (
            f"{what} did not improve more than tol={plan.tol:f} for "
            f"{plan.n_iter_no_change} consecutive epochs."
        )
        if plan.learning_rate != "constant" and drops < RATE_DROPS:
            self.drops, self.stalled = drops + 1, 0
            net.rate_factor_ /= RATE_FACTOR
            if self.valid is not None:
                self.judged.copy_(self.best_weights)
            if plan.verbose:
                print(f"{message} Dividing the learning rate by {RATE_FACTOR:g}.")
            return
        if plan.verbose:
            print(f"{message} Stopping.")
        net.record.converged = True
        raise StopTraining

    def restore(self, net: Net) -> None:
        """Put the best weights back: the start, unless it is beaten clearly.

        Few validation rows favour some later weights by chance. In the spirit of the
        one-standard-error rule (Breiman et al. 1984), the simplest model stays unless
        the mean gain over rows exceeds twice its standard error.
        """
        if self.valid is None:
            return
        self.judged.copy_(self.best_weights)
        if not self.plan.prefer_start:
            return
        gain = (self.best_rows - self.start_rows).clamp(-GAIN_LIMIT, GAIN_LIMIT)
        error = float(gain.std()) / math.sqrt(len(gain)) if len(gain) > 1 else 0.0
        if self.mean(gain) < 2 * error:
            self.judged.copy_(self.start_weights)
            net.record.best_score = self.mean(self.start_rows)


class ScikitLearnBridge(Callback):  # type: ignore[misc]
    """Forward epochs to ``sklearn.callback`` as subtasks of the fit task.

    Every begin hook is matched by an end hook, and a callback that asks to stop
    ends the loop.
    """

    def __init__(self, context: Any, estimator: Any) -> None:
        self.context = context
        self.estimator = estimator
        self.task: Any = None

    def on_epoch_begin(self, net: Net, **_: Any) -> None:
        self.task = self.context.subcontext(task_name="epoch")
        self.task.call_on_fit_task_begin(estimator=self.estimator)

    def on_epoch_end(self, net: Net, **_: Any) -> None:
        if self.close():
            raise StopTraining

    def close(self) -> bool:
        """End the task of the epoch, if one is open; tell whether to stop."""
        task, self.task = self.task, None
        return task is not None and task.call_on_fit_task_end(estimator=self.estimator)


@torch.inference_mode()
def count_active_units(vae: VAE, batches: Batches, n_rows: int = 256) -> int:
    """Count latent variables whose posterior means vary over rows."""
    sample = batches.take(batches.rows[:n_rows])
    mean = vae.encode(sample.x, sample.observed, sample.c).mean
    limit = ACTIVE_UNIT_VARIANCE * vae.prior_variance()
    return int((mean.var(0, correction=0) > limit).sum())


@torch.no_grad()
def choose_scales(
    vae: VAE, train: Batch, valid: Batch, free_scale: Tensor, net: Net
) -> None:
    """Drop the scale per cell in columns where validation favours one per column."""
    vae.eval()
    sides = []
    for batch in (train, valid):
        qz = vae.encode(batch.x, batch.observed, batch.c)
        noise = batch.x.new_empty(len(batch), vae.n_noise)
        noise.normal_(generator=net.generator)
        px = vae.decode(qz.rsample(noise), batch.c)
        weight = torch.ones_like(batch.x) if batch.observed is None else batch.observed
        if batch.weight is not None:
            weight = weight * batch.weight.unsqueeze(1)
        sides.append((px, batch.x, weight.to(batch.x.dtype)))
    vae.joint.choose_scales(sides[0], sides[1], free_scale)


@torch.enable_grad()
def train(
    vae: VAE,
    data: Batch,
    train_rows: Tensor,
    valid_rows: Tensor | None,
    plan: Plan,
    generator: torch.Generator,
    *,
    callbacks: Sequence[Any] = (),
    context: Any = None,
    estimator: Any = None,
    optimizer_state: dict[str, Any] | None = None,
    free_scale: Tensor | None = None,
    prepare: Callable[[Batch], Batch] | None = None,
) -> tuple[History, dict[str, Any]]:
    """Train ``vae`` in place and return what was recorded.

    ``data`` lies on the device already. The validation rows choose the weights that
    are kept; without them the last weights stay. They also decide, for the columns of
    the mask ``free_scale``, whether a scale per cell stays. ``prepare`` makes what the
    model sees of the rows of a batch, anew at every step. Returns the history and
    Adam's state as NumPy arrays, which a later call may continue from.
    """
    record = History()
    batches = Batches(data, train_rows, plan.batch_size, generator, prepare)
    valid = None if valid_rows is None else batches.take(valid_rows)
    monitor = Monitor(plan, valid, generator)
    bridge = [] if context is None else [ScikitLearnBridge(context, estimator)]
    net = Net(
        vae,
        plan,
        generator,
        device=data.x.device,
        callbacks=[("monitor", monitor), *bridge, *callbacks],
        max_epochs=plan.max_iter,
    )
    net.initialize()
    net.prepare(len(batches) * plan.max_iter, record)
    if optimizer_state is not None:
        net.optimizer_.load(optimizer_state)
    try:
        net.notify("on_train_begin", X=None, y=None)
        net.fit_loop((batches, valid))
        net.notify("on_train_end", X=None, y=None)
    except StopTraining:
        pass
    except KeyboardInterrupt:
        warnings.warn(
            "Training interrupted by user; the best weights so far are kept.",
            stacklevel=2,
        )
        record.drop_unscored()
    for callback in bridge:  # the last epoch may have ended early
        callback.close()
    monitor.restore(net)
    if valid is not None and free_scale is not None:
        sample = batches.take(train_rows[:SCALE_ROWS])
        choose_scales(vae, sample, valid, free_scale, net)
    state = net.optimizer_.save()
    # parameters own their memory again: the flat tensor goes with the optimizer
    for p in vae.parameters():
        p.data, p.grad = p.detach().clone(), None
    vae.eval()
    return record, state
