"""Streams of random numbers: one seed is stored, and no two uses share noise."""

import numpy as np
import torch

from skvae import VAEImputer
from skvae._imputation import streams
from skvae._imputation.streams import STREAMS, new_generator, stream_seed


def test_streams_have_their_own_random_numbers():
    seeds = [stream_seed(seed, name) for seed in range(50) for name in STREAMS]
    assert len(set(seeds)) == len(seeds)
    assert stream_seed(0, "intervals") == stream_seed(0, "intervals")
    draws = [torch.rand(3, generator=new_generator(0, name, "cpu")) for name in STREAMS]
    assert len({tuple(draw.tolist()) for draw in draws}) == len(STREAMS)


def test_every_use_has_its_own_stream(monkeypatch):
    """One seed is stored: parameter draws, intervals and evidence do not share it."""
    asked = []

    def record(seed, name):
        asked.append(name)
        return stream_seed(seed, name)

    monkeypatch.setattr(streams, "stream_seed", record)
    monkeypatch.setattr("skvae._imputation.model.stream_seed", record)
    X = np.random.default_rng(0).normal(size=(60, 3))
    X[::3, 0] = np.nan
    imputer = VAEImputer(
        hidden_layer_sizes=(8,), max_iter=2, missingness="agnostic", random_state=0
    ).fit(X)
    assert asked == ["parameters", "slopes"]
    for call, name in (
        (imputer.predict_interval, "intervals"),
        (imputer.transform, "common"),
        (imputer.score_samples, "evidence"),
    ):
        asked.clear()
        call(X)
        assert name in asked and "parameters" not in asked
