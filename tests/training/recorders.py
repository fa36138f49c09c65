"""Callbacks that record or stop a training, and keys pressed in the middle of it."""

from skorch.callbacks import Callback

from skvae._training import loop


class Recorder(Callback):
    """Keep the net, and the weights after every epoch."""

    def on_train_begin(self, net, **kwargs):
        self.net, self.weights = net, []

    def on_epoch_end(self, net, dataset_train=None, **kwargs):
        self.weights.append(net.flat_.detach().clone())
        self.batches = dataset_train

    @property
    def monitor(self):
        return dict(self.net.callbacks_)["monitor"]


class StopAt(Callback):
    """A callback for skorch that stops as skorch's own do."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


def interrupt_epoch(monkeypatch, epoch):
    """Press Ctrl-C in the second batch of an epoch."""
    function, seen = loop.Net.train_step, []

    def interrupted(self, batch, **kwargs):
        if len(self.history) == epoch:
            if seen:
                raise KeyboardInterrupt
            seen.append(batch)
        return function(self, batch, **kwargs)

    monkeypatch.setattr(loop.Net, "train_step", interrupted)


def lengths(vae):
    return {len(values) for values in [*vae.history_.values(), vae.loss_curve_]}
