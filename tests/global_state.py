"""What a process or a thread keeps for all code: no call may change it."""

import os
import pickle
import warnings

import numpy as np
import sklearn
import torch


def global_state():
    numpy_state = np.random.get_state()  # noqa: NPY002
    return {
        "numpy": pickle.dumps(numpy_state),
        "torch": torch.default_generator.get_state().numpy().tobytes(),
        "threads": torch.get_num_threads(),
        "interop threads": torch.get_num_interop_threads(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "anomalies": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "precision": torch.get_float32_matmul_precision(),
        "validation": torch.distributions.Distribution._validate_args,
        "floating point errors": np.geterr(),
        "print": str(np.get_printoptions()),
        "warnings": list(warnings.filters),
        "scikit-learn": sklearn.get_config(),
        "folder": os.getcwd(),
    }


def assert_untouched(call):
    """Return what a call returns; it must leave the state of the process alone."""
    before = global_state()
    result = call()
    after = global_state()
    changed = [name for name in before if before[name] != after[name]]
    assert not changed
    return result
