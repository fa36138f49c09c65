"""The methods that training_speed.py times.

Every ``*_method`` function builds a method for one network, data, batch size and
number of epochs, and returns a timer: a function without arguments that returns
(seconds of one epoch, seconds of set-up or None).
"""

import functools
import time

import numpy as np


def layer_shapes(network):
    """Return (inputs, outputs) of the six linear layers."""
    inputs, first, second, latents = network
    encoder = [(inputs, first), (first, second), (second, 2 * latents)]
    return [*encoder, (latents, second), (second, first), (first, inputs)]


def time_loop(run_epoch, n_epochs):
    """Time an epoch as the mean of ``n_epochs`` consecutive ones."""
    start = time.perf_counter()
    for _ in range(n_epochs):
        run_epoch()
    return (time.perf_counter() - start) / n_epochs, None


def time_fit(fit, n_epochs):
    """Time an epoch as the difference of two fits, set-up as the rest of the short."""
    start = time.perf_counter()
    fit(1)
    short = time.perf_counter()
    fit(1 + n_epochs)
    end = time.perf_counter()
    epoch = ((end - short) - (short - start)) / n_epochs
    return epoch, (short - start) - epoch


def bound_method(network, X, batch, n_epochs):
    """Return a timer of the bare matrix products."""
    import torch

    layers = [
        (torch.randn(b, a), torch.randn(batch, a), torch.randn(batch, b))
        for a, b in layer_shapes(network)
    ]

    def run_epoch():
        for _ in range(len(X) // batch):
            for index, (weight, inputs, gradient) in enumerate(layers):
                inputs @ weight.t()
                gradient.t() @ inputs
                if index:
                    gradient @ weight

    return lambda: time_loop(run_epoch, n_epochs)


def plain_vae(network):
    """Return a class: the VAE as one would write it by hand."""
    import torch
    from torch import nn

    class PlainVAE(nn.Module):
        def __init__(self):
            super().__init__()
            layers = [nn.Linear(a, b) for a, b in layer_shapes(network)]
            relu = nn.ReLU()
            self.encoder = nn.Sequential(layers[0], relu, layers[1], relu, layers[2])
            self.decoder = nn.Sequential(layers[3], relu, layers[4], relu, layers[5])
            self.log_scale = nn.Parameter(torch.zeros(network[0]))

        def forward(self, x):
            mean, log_variance = self.encoder(x).chunk(2, 1)
            z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
            return self.decoder(z), mean, log_variance, self.log_scale

    return PlainVAE


def negative_elbo(outputs, x):
    """Return the mean negative ELBO of a batch, in nats."""
    decoded, mean, log_variance, log_scale = outputs
    standardised = (x - decoded) * (-log_scale).exp()
    nll = (0.5 * standardised**2 + log_scale + 0.5 * np.log(2 * np.pi)).sum(1)
    kl = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(1)
    return (nll + kl).mean()


def loop_method(network, X, batch, n_epochs, loader=False, fused=None):
    """Return a timer of a hand-written loop, by slicing or with a DataLoader."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    data = torch.from_numpy(X)
    batches = DataLoader(TensorDataset(data), batch_size=batch, shuffle=True)
    model = plain_vae(network)()
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)

    def step(x):
        optimizer.zero_grad()
        negative_elbo(model(x), x).backward()
        optimizer.step()

    def run_epoch():
        if loader:
            for (x,) in batches:
                step(x)
        else:
            shuffled = data[torch.randperm(len(data))]
            for start in range(0, len(data), batch):
                step(shuffled[start : start + batch])

    return lambda: time_loop(run_epoch, n_epochs)


def ours_method(network, X, batch, n_epochs):
    """Return a timer of VAETransformer.fit."""
    from skvae import VAETransformer

    def fit(max_iter):
        model = VAETransformer(
            network[-1],
            hidden_layer_sizes=network[1:-1],
            activation="relu",
            likelihood="normal",
            numeric_transform="standard",
            early_stopping=False,
            n_iter_no_change=1000,
            batch_size=batch,
            max_iter=max_iter,
            random_state=0,
        ).fit(X)
        if model.n_iter_ != max_iter:
            raise RuntimeError(f"Expected {max_iter} epochs, but got {model.n_iter_}")

    return lambda: time_fit(fit, n_epochs)


def skorch_method(network, X, batch, n_epochs):
    """Return a timer of skorch's NeuralNet with its defaults, no validation split."""
    import torch
    from skorch import NeuralNet

    class Criterion(torch.nn.Module):
        forward = staticmethod(negative_elbo)

    module = plain_vae(network)

    def fit(max_epochs):
        NeuralNet(
            module,
            Criterion,
            optimizer=torch.optim.Adam,
            lr=1e-3,
            batch_size=batch,
            max_epochs=max_epochs,
            train_split=None,
            iterator_train__shuffle=True,
            verbose=0,
        ).fit(X, X)

    return lambda: time_fit(fit, n_epochs)


def mlp_method(network, X, batch, n_epochs):
    """Return a timer of scikit-learn's MLPRegressor as an autoencoder."""
    from sklearn.neural_network import MLPRegressor

    hidden = network[1:-1]

    def fit(max_iter):
        MLPRegressor(
            hidden_layer_sizes=(*hidden, network[-1], *reversed(hidden)),
            batch_size=batch,
            max_iter=max_iter,
            n_iter_no_change=1000,
            random_state=0,
        ).fit(X, X)

    return lambda: time_fit(fit, n_epochs)


# The slow ones are timed over one epoch a repetition.
METHODS = {
    "bound": bound_method,
    "ours": ours_method,
    "loop": loop_method,
    "loop, fused Adam": functools.partial(loop_method, fused=True),
    "DataLoader": functools.partial(loop_method, loader=True),
    "skorch": skorch_method,
    "MLPRegressor": mlp_method,
}
SLOW = {"DataLoader", "skorch", "MLPRegressor"}
