"""The oracle: what every call must hold, whatever its arguments.

A call ends in its documented output, or in a TypeError or ValueError whose message
names the parameter, the column, or the table. It leaves its arguments and the global
state as they were, prints nothing, and lets no warning of another library through.
"""

import contextlib
import io
import os
import random
import re
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.exceptions import (
    ConvergenceWarning,
    NotFittedError,
    UndefinedMetricWarning,
)
from sklearn.utils._param_validation import InvalidParameterError

from fuzz import ambient
from fuzz.cells import fingerprint

#: The errors that a user may get.
CLEAN = (TypeError, ValueError, NotFittedError, InvalidParameterError)

#: What an error may say about a table as a whole, in scikit-learn's words.
OF_TABLE = re.compile(
    r"\bX\b|\by\b|\bZ\b|sample\(s\)|feature\(s\)|features\b|[Ff]eature names|"
    r"number of samples|numbers of samples|Reshape your data|Found array with dim|"
    r"[Ss]ample weights|not fitted yet|[Ss]parse data|Complex data|"
    r"Unknown label type"
)

#: Warnings of scikit-learn about the arguments; they come from its own checks.
OF_SKLEARN = re.compile(
    r"X (does not have valid|has) feature names|A column-vector y was passed"
)

#: Warnings that skvae gives, at the line of the user.
ALLOWED = (UserWarning, ConvergenceWarning, UndefinedMetricWarning)

#: Processor seconds of one call on a small table, far above what any needs.
TOO_LONG = 30.0


@dataclass
class Outcome:
    """What a call gave: its value or its error, and what was wrong with it."""

    value: Any = None
    error: BaseException | None = None
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_ok(self):
        return self.error is None


def call(function, *args, names=(), must_work=False, must_fail=False, **kwargs):
    """Call a function and judge what is the same for all: errors, warnings, state.

    ``names`` are those of parameters and columns, one of which an error must mention.
    """
    outcome = Outcome()
    before = fingerprint([args, kwargs])
    printed = io.StringIO()
    with (
        ambient.entered(),
        warnings.catch_warnings(record=True) as caught,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        warnings.simplefilter("always")
        around = ambient_state()
        start = time.process_time()
        try:
            outcome.value = function(*args, **kwargs)
        except Exception as error:
            outcome.error = error
        outcome.seconds = time.process_time() - start
        after = ambient_state()
    outcome.problems += filter(None, map(_problem_of_warning, caught))
    if outcome.error is not None:
        outcome.problems += _problems_of_error(outcome.error, names, must_work)
    elif must_fail:
        outcome.problems.append("accepted what it must refuse")
    if fingerprint([args, kwargs]) != before:
        outcome.problems.append("an argument was changed")
    changed = [name for name, value in after.items() if value != around[name]]
    outcome.problems += [f"{name} was changed" for name in changed]
    if printed.getvalue():
        outcome.problems.append(f"printed {printed.getvalue()[:60]!r}")
    if outcome.seconds > TOO_LONG:
        outcome.problems.append("took too long")
    return outcome


def ambient_state():
    """What no call may change."""
    keys, position = np.random.get_state()[1:3]  # noqa: NPY002
    return {
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "NumPy's random state": (keys.tobytes(), position),
        "Python's random state": hash(random.getstate()),
        "the number of threads": torch.get_num_threads(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": str(torch.get_default_device()),
        "autocast": torch.is_autocast_enabled("cpu"),
        "the grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "torch's determinism": torch.are_deterministic_algorithms_enabled(),
        "NumPy's error state": tuple(np.geterr().items()),
        "scikit-learn's configuration": tuple(sklearn.get_config().items()),
        "the environment": hash(frozenset(os.environ.items())),
    }


def _problem_of_warning(warning):
    text = f"{warning.category.__name__}: {str(warning.message)[:100]}"
    own = issubclass(warning.category, UserWarning)
    if own and OF_SKLEARN.search(str(warning.message)):
        return None
    at_caller = Path(warning.filename) == Path(__file__)
    if at_caller and warning.category in ALLOWED:
        return None
    place = "/".join(Path(warning.filename).parts[-2:])
    return f"warning at {place}:{warning.lineno}: {text}"


def _problems_of_error(error, names, must_work):
    found = []
    text = f"{type(error).__name__}: {str(error)[:160]}"
    if must_work:
        found.append(f"refused, but must work: {text}")
    elif type(error) not in CLEAN:
        found.append(f"leaked {text}")
    elif not is_named(str(error), names):
        found.append(f"names no parameter or column: {text}")
    return [f"{problem} [{_place(error)}]" for problem in found]


def is_named(message, names):
    """Whether a message mentions a parameter or a column, or speaks of the table."""
    words = set(re.findall(r"\w+", message))
    for name in names:
        if isinstance(name, str) and name.isidentifier() and name in words:
            return True
        if repr(name) in message or (str(name) and str(name) in message):
            return True
    return bool(OF_TABLE.search(message))


def _place(error):
    """The last line of skvae in the traceback of an error."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "/skvae/" in f.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].name}"


def signature(problem):
    """Return a problem without what differs from table to table, to group by."""
    problem = re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", problem)
    return re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?(?!\w* \w+\])", "#", problem)[:170]
