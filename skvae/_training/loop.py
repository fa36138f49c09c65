"""The training loop, and the only file that knows skorch.

skorch gives the loop its shape (epochs, callbacks, history); what is overridden
here is what would make small tables slow: the data lie on the device once, a batch
is one ``index_select``, the loss is summed on the device, and all parameters form
one flat tensor, so that clipping and the optimizer are one kernel each.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn

from .._networks.batch import Batch
from .._networks.vae import VAE
from .batches import Batches
from .bounds import Terms
from .monitor import Monitor, StopTraining
from .optimizer import (
    LEARNING_RATE_END,
    LEARNING_RATE_WARMUP,
    LEAST_GRADIENT,
    Adam,
    decay_of_weights,
    flatten_parameters,
)
from .plan import History, Plan, weighted_mean
from .progress import Progress

#: Gradient norms above this, per square root of the number of columns, are clipped.
GRADIENT_CLIP = 5.0

#: Training rows that the choice between scales is fitted on.
SCALE_ROWS = 5_000


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
    progress: Progress | None = None,
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
    progress = Progress() if progress is None else progress
    bridge = []
    if progress.context is not None:
        bridge = [ScikitLearnBridge(progress.context, progress.estimator)]
    net = Net(
        vae,
        plan,
        generator,
        device=data.x.device,
        callbacks=[("monitor", monitor), *bridge, *progress.callbacks],
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
