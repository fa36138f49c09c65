"""Training loop, based on that of skorch.

skorch gives epochs, callbacks and history. Overridden is what would make small tables
slow: the data lie in device memory, a batch is one ``index_select``, the loss is summed
on the device, and all parameters form one flat tensor, so that clipping and the
optimizer are one kernel each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dis import opname
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
    Adam,
    cosine,
    decay_of_weights,
    flatten_parameters,
    minimise,
    non_finite,
    unflatten_parameters,
)
from .plan import History, Plan, weighted_mean
from .progress import MAIN, Progress
from .settings import SETTINGS
from .threads import threads_for


def train_step(
    vae: VAE,
    batch: Batch,
    noise: Tensor,
    optimizer: Adam,
    objective: Callable[..., Terms],
    gradient: str,
    kl_weight: float,
    clip: float = SETTINGS.gradient_clip,
) -> Terms:
    """Take one step of gradient ascent, without synchronising with the host."""
    terms = objective(vae, batch, noise, kl_weight=kl_weight, gradient=gradient)
    loss = -weighted_mean(terms.objective, batch.weight)
    minimise(loss, optimizer, clip=clip * math.sqrt(vae.joint.n_columns))
    return Terms(*(term.detach() for term in terms))


class Net(NeuralNet):  # type: ignore[misc]
    """skorch net on rows in device memory.

    ``X`` of ``fit_loop`` is a pair: training :class:`Batches`, validation rows or None.
    """

    def __init__(
        self, module: VAE, plan: Plan, generator: torch.Generator, **kwargs: Any
    ):
        super().__init__(
            module,
            criterion=nn.Identity,
            train_split=None,
            max_epochs=plan.max_iter,
            **kwargs,
        )
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
        self._tell([callback for _, callback in self.callbacks_], method_name, kwargs)

    def _tell(
        self, callbacks: Sequence[Any], method_name: str, kwargs: dict[str, Any]
    ) -> None:
        for callback in callbacks:
            try:
                getattr(callback, method_name)(self, **kwargs)
            except KeyboardInterrupt as stop:
                if isinstance(callback, Monitor | Reporter) or not is_raised(stop):
                    raise
                raise StopTraining from stop

    def tell_of_epochs(
        self, progress: Progress, data: tuple[Batches, Batch | None]
    ) -> None:
        """Tell callbacks of the epochs that a checkpoint has restored."""
        told = {"dataset_train": data[0], "dataset_valid": data[1]}
        own = Monitor | Reporter
        others = [c for _, c in self.callbacks_ if not isinstance(c, own)]
        reporter: Reporter = dict(self.callbacks_)["reporter"]
        rows, self.history[:] = list(self.history), []
        for row in rows:
            progress.begin(reporter.stage)
            self.history.append(row)
            self._tell(others, "on_epoch_begin", told)
            progress.end()
            self._tell(others, "on_epoch_end", told)

    # -- state between two epochs ------------------------------------------------

    @property
    def monitor(self) -> Monitor:
        """The monitor among the callbacks."""
        monitor: Monitor = dict(self.callbacks_)["monitor"]
        return monitor

    def save(self) -> dict[str, Any]:
        """Return the state at the end of an epoch."""
        return {
            **self.optimizer_.clone(),
            "generator": self.generator.get_state(),
            "n_steps": self.step_,
            "learning_rate_factor": self.learning_rate_factor_,
            "record": self.record.save(),
            "history": list(self.history),
            "monitor": self.monitor.save(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state that :meth:`save` returned."""
        self.optimizer_.restore(state)
        self.generator.set_state(state["generator"])
        self.step_ = state["n_steps"]
        self.learning_rate_factor_ = float(state["learning_rate_factor"])
        self.record.load(state["record"])
        self.history[:] = state["history"]
        self.monitor.load(state["monitor"])

    def run_single_epoch(  # type: ignore[no-untyped-def]
        self, iterator, training, prefix, step_fn, **fit_params
    ) -> None:
        if not training:  # scored by Monitor, with fixed noise
            return
        self.module_.train()
        listened = self._are_batches_listened_to()
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
        self._record_epoch(*terms.mean(1).tolist())  # the only synchronisation

    def _are_batches_listened_to(self) -> bool:
        return any(
            type(callback).on_batch_end is not Callback.on_batch_end
            or type(callback).on_batch_begin is not Callback.on_batch_begin
            for _, callback in self.callbacks_
        )

    def _record_epoch(self, objective: float, reconstruction: float, kl: float) -> None:
        record = self.record
        if not all(math.isfinite(value) for value in (objective, reconstruction, kl)):
            epoch = len(record.objective) + 1
            raise non_finite(
                f"The loss became non-finite in epoch {epoch}",
                self.plan.learning_rate_init,
            )
        record.objective.append(objective)
        record.reconstruction.append(reconstruction)
        record.kl.append(kl)
        self.history.record("train_loss", -objective)

    def train_step(self, batch: Batch, **_: Any) -> Terms:
        plan = self.plan
        warmup = self.kl_warmup_steps_
        kl_weight = plan.kl_weight * min(1.0, (self.step_ + 1) / (warmup + 1))
        self.optimizer_.learning_rate = self.learning_rate_at(self.step_)
        bound = plan.bound
        if hasattr(bound, "step"):  # its weights follow a schedule
            bound.step = self.step_
        shape = (plan.n_draws, len(batch), self.module_.n_noise)
        noise = batch.x.new_empty(shape).normal_(generator=self.generator)
        terms = train_step(
            self.module_,
            batch,
            noise,
            self.optimizer_,
            bound,
            plan.gradient,
            kl_weight,
            plan.settings.gradient_clip,
        )
        self.step_ += 1
        return terms

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step under the plan's schedule."""
        plan, n_steps = self.plan, self.total_steps_
        rate = plan.learning_rate_init * self.learning_rate_factor_
        if plan.learning_rate == "constant":
            return rate
        warmup = min(plan.settings.learning_rate_warmup, n_steps // 10) + 1
        # "adaptive" falls by steps of its own, see Monitor.stall
        end = plan.settings.cosine_end if plan.learning_rate == "cosine" else 1.0
        return cosine(step, n_steps, initial=rate, warmup=warmup, end=end)

    def prepare(self, total_steps: int, record: History) -> None:
        """Reset the step counters for a run of ``total_steps``."""
        self.total_steps_ = total_steps
        self.step_ = 0
        self.learning_rate_factor_ = 1.0
        # a warm-up longer than the training would change the objective for good
        self.kl_warmup_steps_ = min(self.plan.kl_warmup_steps, total_steps // 2)
        self.record = record


class Reporter(Callback):  # type: ignore[misc]
    """Callback that reports epochs to ``progress`` and stops when that asks to."""

    def __init__(self, progress: Progress, stage: str) -> None:
        self.progress = progress
        self.stage = stage

    def on_epoch_begin(self, net: Net, **_: Any) -> None:
        self.progress.begin(self.stage)

    def on_epoch_end(self, net: Net, **_: Any) -> None:
        self.progress.keep(len(net.record.objective))
        if self.progress.end():
            raise StopTraining


def is_raised(exception: BaseException) -> bool:
    """Return whether a ``raise`` statement raised it: Ctrl-C strikes anywhere."""
    trace = exception.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code.co_code
    return opname[code[trace.tb_lasti]] in ("RAISE_VARARGS", "RERAISE")


@torch.no_grad()
def choose_scales(
    vae: VAE, train: Batch, valid: Batch, free_scale: Tensor, net: Net
) -> None:
    """Choose one scale per column, not per cell, where validation favours it."""
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
    stage: str = MAIN,
    optimizer_state: dict[str, Any] | None = None,
    free_scale: Tensor | None = None,
    prepare: Callable[[Batch], Batch] | None = None,
    usable_from: float = 0,
) -> tuple[History, dict[str, Any]]:
    """Train ``vae`` in place; return the history and the state of Adam.

    Parameters
    ----------
    vae : VAE
        The module, on the device of ``data``.
    data : Batch
        The table, on the device.
    train_rows : Tensor
        Indices of the training rows.
    valid_rows : Tensor or None
        Indices of the validation rows, which choose the weights; None keeps the last.
    plan : Plan
        Training plan.
    generator : torch.Generator
        Source of the order of rows and of all noise, on the device.
    progress : Progress, default=None
        Progress of the fit. If the fit is over already, no step is taken.
    stage : str, default="epoch"
        Name of the units. The callbacks of skorch watch the main stage alone.
    optimizer_state : dict, default=None
        Initial state of Adam, as an earlier call returned it.
    free_scale : Tensor, default=None
        Mask of the columns whose kind of scale the validation rows choose.
    prepare : callable, default=None
        Maps the rows of a batch to the input of the model, at every step.
    usable_from : float, default=0
        Number of epochs from which on Ctrl-C leaves a model that can be used.

    Returns
    -------
    record : History
        One entry per epoch.
    optimizer_state : dict of str to ndarray
        Adam's state.
    """
    progress = Progress() if progress is None else progress
    batches = Batches(data, train_rows, plan.batch_size, generator, prepare)
    valid = None if valid_rows is None else batches.take(valid_rows)
    monitor = Monitor(plan, valid, generator, progress)
    callbacks = [("monitor", monitor), ("reporter", Reporter(progress, stage))]
    callbacks += progress.callbacks if stage == MAIN else []
    net = Net(vae, plan, generator, device=data.x.device, callbacks=callbacks)
    net.initialize()
    net.prepare(len(batches) * plan.max_iter, History())
    if optimizer_state is not None:
        net.optimizer_.load(optimizer_state)
    with threads_for(plan.batch_size * net.flat_.numel()):
        with progress.loop(stage, net, usable_from), suppress(StopTraining):
            run_epochs(net, (batches, valid), progress)
        with suppress(StopTraining):
            net.notify("on_train_end", X=None, y=None)
        monitor.restore(net)
        if valid is not None and free_scale is not None:
            sample = batches.take(train_rows[: plan.settings.scale_rows])
            choose_scales(vae, sample, valid, free_scale, net)
    state = net.optimizer_.save()
    unflatten_parameters(vae)  # the flat tensor goes with the optimizer
    vae.eval()
    return net.record, state


def run_epochs(
    net: Net, data: tuple[Batches, Batch | None], progress: Progress
) -> None:
    """Run epochs until the budget, a callback or Ctrl-C ends them."""
    net.notify("on_train_begin", X=None, y=None)
    n_done = progress.resume()
    if not progress.is_over:
        net.tell_of_epochs(progress, data)
    if not progress.is_over and n_done < net.max_epochs:
        net.fit_loop(data, epochs=net.max_epochs - int(n_done))
