"""States of torch, NumPy, pandas and scikit-learn that a user may have set."""

import contextlib

import numpy as np
import pandas as pd
import sklearn
import torch


@contextlib.contextmanager
def _set(change, value, before):
    change(value)
    try:
        yield
    finally:
        change(before)


#: What is set around a call, by name; "" leaves all as it is.
STATES = {
    "": contextlib.nullcontext,
    "float64": lambda: _set(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": lambda: _set(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "device": lambda: torch.device("meta"),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "anomaly": lambda: _set(torch.autograd.set_detect_anomaly, True, False),
    "deterministic": lambda: _set(torch.use_deterministic_algorithms, True, False),
    "threads": lambda: _set(torch.set_num_threads, 2, torch.get_num_threads()),
    "errstate": lambda: np.errstate(all="raise"),
    "silent": lambda: np.errstate(all="ignore"),
    "printoptions": lambda: np.printoptions(precision=1, threshold=2),
    "assume_finite": lambda: sklearn.config_context(assume_finite=True),
    "routing": lambda: sklearn.config_context(enable_metadata_routing=True),
}
if int(pd.__version__.split(".")[0]) < 3:  # later the only way
    STATES["infer_string"] = lambda: pd.option_context("future.infer_string", True)

_current = [""]


@contextlib.contextmanager
def every_call(state):
    """Within this context each judged call is made in a state."""
    before, _current[0] = _current[0], state
    try:
        yield
    finally:
        _current[0] = before


def entered():
    """Return the context of one call."""
    return STATES[_current[0]]()
