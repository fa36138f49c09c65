"""Modes and defaults of the caller change no result, and stay as they are."""

import ast
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import sklearn
import torch
from global_state import assert_untouched
from sklearn.exceptions import ConvergenceWarning
from small_estimators import ESTIMATORS, assert_same_answers, fit, fit_and_answer
from torch.utils._python_dispatch import TorchDispatchMode

import skvae
from skvae import VAETransformer
from skvae.datasets import ampute
from skvae.inference import fit_variational, gradient_samples
from skvae.plotting import ElboAnimation, ImputationDisplay, LatentTraversalDisplay


class NoTensorOf(TorchDispatchMode):
    """Raise as soon as an operation returns a tensor of a dtype."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, torch.Tensor) and value.dtype == self.dtype:
                raise RuntimeError(f"{func} made a tensor of {self.dtype}")
        return out


@contextmanager
def set_to(get, put, value):
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)


@contextmanager
def no_grad_and_autocast():
    with torch.no_grad(), torch.autocast("cpu"):
        yield


@contextmanager
def other_defaults():
    """Another dtype and device, of which no tensor may be made by default."""
    get, put = torch.get_default_dtype, torch.set_default_dtype
    device = set_to(lambda: None, torch.set_default_device, "meta")
    with set_to(get, put, torch.bfloat16), device, NoTensorOf(torch.bfloat16):
        yield


@contextmanager
def strict_libraries():
    """Settings of torch, NumPy, scikit-learn and warnings that allow or print less."""
    get = torch.are_deterministic_algorithms_enabled
    options = {"assume_finite": True, "enable_metadata_routing": True}
    options |= {"print_changed_only": False, "working_memory": 1}
    with (
        set_to(get, torch.use_deterministic_algorithms, True),
        set_to(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, True),
        set_to(torch.is_warn_always_enabled, torch.set_warn_always, True),
        set_to(lambda: False, torch.set_flush_denormal, True),
        np.errstate(all="raise"),
        np.printoptions(precision=1, threshold=2),
        sklearn.config_context(**options),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


AMBIENT = {
    "no_grad": no_grad_and_autocast,
    "inference_mode": torch.inference_mode,
    "defaults": other_defaults,
    "strict": strict_libraries,
}


@cache
def expected_answers(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_and_answer(name)


# one of each estimator for the modes, everything that makes tensors for the defaults
PAIRS = [(name, "defaults") for name in ESTIMATORS] + [
    (name, ambient)
    for name in ("transformer", "imputer", "m1+m2", "regressor")
    for ambient in AMBIENT
    if ambient != "defaults"
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "ambient"), PAIRS)
def test_results_do_not_depend_on_the_caller(name, ambient):
    expected = expected_answers(name)
    with AMBIENT[ambient]():
        found = assert_untouched(lambda: fit_and_answer(name))
    assert_same_answers(found, expected)


def variational():
    def log_joint(z):
        return -z.square().sum(-1)

    fitted = fit_variational(log_joint, max_iter=3, n_latent=2, random_state=0)
    given = {"gradient": "rloo", "n_draws": 2, "n_estimates": 3, "random_state": 0}
    gradients = gradient_samples(log_joint, "gamma", [2.0, 1.0], **given)
    return {
        **fitted.parameters,
        **gradients,
        "elbo": np.array(fitted.elbo),
        "moments": (fitted.mean, fitted.variance),
        "sample": fitted.sample(3, random_state=0),
        "log_prob": fitted.log_prob(np.ones((2, 2))),
    }


@pytest.mark.parametrize("ambient", AMBIENT)
def test_variational_fits_do_not_depend_on_the_caller(ambient):
    expected = variational()
    with AMBIENT[ambient]():
        assert_same_answers(assert_untouched(variational), expected)


def test_functions_of_numpy_do_not_depend_on_the_caller(numbers):
    """1 / 0 and the rounding to 0 of small numbers are meant in these."""

    def results():
        tables = [ampute(1e-300 * numbers, how) for how in ("mcar", "mar", "mnar")]
        estimates = np.array([[1.0, 1.0], [1.0, 2.0]])
        pooled = skvae.pool(estimates, np.full((2, 2), 1e-300))
        return {"tables": len(tables), "pooled": pooled.estimate}

    expected = results()
    with strict_libraries():
        assert_same_answers(results(), expected)


@pytest.mark.filterwarnings("ignore")
def test_displays_do_not_depend_on_the_caller():
    gamma, _, _ = fit("gamma")
    imputer, X, _ = fit("imputer")

    def displays():
        animation = ElboAnimation(concentration=[1e-3, 900.0], rate=[1e3, 1.0])
        traversal = LatentTraversalDisplay.from_estimator(gamma)
        imputed = ImputationDisplay.from_estimator(imputer, X, "mass", random_state=0)
        plt.close("all")
        found = {"p": animation.p, "q": animation.q, "paths": traversal.values}
        return {**found, "imputed": imputed.imputed}

    expected = displays()
    with np.errstate(all="raise"):
        assert_same_answers(displays(), expected)


# in the mode that looks for anomalies torch itself ends the fit
@pytest.mark.parametrize("ambient", sorted(set(AMBIENT) - {"strict"}))
def test_a_fit_that_fails_leaves_the_modes_alone(ambient, numbers):
    def fail():
        with pytest.raises(ValueError, match="non-finite"):
            VAETransformer(2, learning_rate_init=1e30).fit(numbers)

    with AMBIENT[ambient]():
        assert_untouched(fail)


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_is_made_in_inference_mode_can_be_trained_on():
    with torch.inference_mode():
        vae, X, _ = fit("transformer")
    assert vae.set_params(warm_start=True).fit(X).n_iter_ == 2


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_output_that_scikit_learn_is_set_to_changes_no_value(library):
    expected = expected_answers("vamp")["transform"]
    vae, X, _ = fit("vamp")
    with sklearn.config_context(transform_output=library):
        again, _, _ = fit("vamp")
        for model in (vae, again):
            latents = model.transform(X)
            assert type(latents).__module__.split(".")[0] == library
            np.testing.assert_array_equal(latents.to_numpy(), expected)


def test_infinity_is_refused_whatever_scikit_learn_assumes(numbers):
    vae = VAETransformer(max_iter=1).fit(numbers)
    numbers[3, 1] = np.inf
    with sklearn.config_context(assume_finite=True):
        for call in (vae.fit, vae.transform):
            with pytest.raises(ValueError, match=r"infinity.*'x1'"):
                call(numbers)


# -- the source ----------------------------------------------------------------------

FILES = sorted(Path(skvae.__file__).parent.rglob("*.py"))

#: Functions of torch that make a tensor of the default dtype or on the default device.
MAKERS = {
    *("zeros", "ones", "empty", "full", "eye", "arange", "linspace", "logspace"),
    *("tensor", "as_tensor", "asarray", "scalar_tensor", "rand", "randn", "normal"),
    *("tril_indices", "triu_indices", "empty_strided", "frombuffer", "complex"),
}
#: Functions whose dtype is int64 whatever the default is.
INTEGER_MAKERS = {"randint", "randperm"}
LAYERS = {"skip_init", "Linear", "Conv1d", "Conv2d", "Embedding", "LayerNorm"}

#: Context managers that must not be open while a generator waits for its caller.
MODES = ("inference_mode", "no_grad", "enable_grad", "autocast", "errstate", "isolated")


@cache
def nodes_of(file):
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def leaves_to_defaults(call):
    """Whether a call leaves the dtype or the device of a tensor to torch's defaults."""
    module, _, function = ast.unparse(call.func).rpartition(".")
    given = {keyword.arg or ast.unparse(keyword.value) for keyword in call.keywords}
    if "CPU_FLOATS" in given:
        return False
    if (module, function) == ("torch", "Generator"):
        return not call.args
    if module == "torch" and function in INTEGER_MAKERS:
        return "device" not in given
    if (module == "torch" and function in MAKERS) or (
        module.split(".")[0] == "nn" and function in LAYERS
    ):
        return not {"dtype", "device"} <= given
    return False


def test_every_tensor_is_made_with_a_dtype_and_on_a_device():
    left = [
        f"{file.name}:{node.lineno}: {ast.unparse(node)}"
        for file in FILES
        for node in nodes_of(file)
        if isinstance(node, ast.Call) and leaves_to_defaults(node)
    ]
    assert not left


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("torch.zeros(3)", True),
        ("torch.zeros(3, device=x.device)", True),
        ("torch.ones(3, dtype=torch.float32)", True),
        ("torch.Generator()", True),
        ("torch.randperm(3, generator=g)", True),
        ("nn.utils.skip_init(nn.Linear, 2, 3)", True),
        ("torch.zeros(3, **CPU_FLOATS)", False),
        ("torch.zeros(3, dtype=x.dtype, device=x.device)", False),
        ("torch.randperm(3, generator=g, device=g.device)", False),
        ("torch.zeros_like(x)", False),
        ("x.new_zeros(3)", False),
    ],
)
def test_what_is_left_to_defaults_is_seen(source, expected):
    assert leaves_to_defaults(ast.parse(source).body[0].value) is expected


def test_no_generator_waits_inside_a_mode():
    """Its caller would run in that mode, and after an error go on in it."""
    for file in FILES:
        for node in nodes_of(file):
            if not isinstance(node, ast.With):
                continue
            opened = " ".join(ast.unparse(item.context_expr) for item in node.items)
            waits = any(
                isinstance(part, ast.Yield | ast.YieldFrom)
                for statement in node.body
                for part in ast.walk(statement)
            )
            is_manager = file.name in ("ambient.py", "_validation.py")
            if waits and any(mode in opened for mode in MODES):
                assert is_manager, f"{file.name}:{node.lineno}"


def test_nothing_is_set_for_the_whole_process():
    setters = ("torch.set_", "torch.use_", "torch.manual_seed", "np.random.seed")
    setters += ("np.seterr", "np.set_", "sklearn.set_config", "pd.set_option")
    setters += ("warnings.", "os.chdir", "os.environ", "locale.setlocale")
    allowed = {
        ("_validation.py", "warnings.warn"),
        ("threads.py", "torch.set_num_threads"),  # of one thread, and as before
    }
    for file in FILES:
        for node in nodes_of(file):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                where = f"{file.name}:{node.lineno}: {name}"
                assert not name.startswith(setters) or (file.name, name) in allowed, (
                    where
                )


def test_public_methods_are_isolated():
    for file in FILES:
        if file.parent.name != "_estimators" and file.name != "inference.py":
            continue
        for node in nodes_of(file):
            if not isinstance(node, ast.ClassDef | ast.Module):
                continue
            if getattr(node, "name", "").startswith("_"):
                continue
            if isinstance(node, ast.Module) and file.name not in PUBLIC_FUNCTIONS:
                continue
            for method in node.body:
                if not isinstance(method, ast.FunctionDef) or (
                    method.name.startswith("_") and method.name != "__setstate__"
                ):
                    continue
                decorators = [ast.unparse(d) for d in method.decorator_list]
                is_isolated = "isolated()" in decorators
                assert is_isolated is (method.name not in NO_TORCH), method.name


#: Files with public functions, and those of their functions that make no tensor.
PUBLIC_FUNCTIONS = {"files.py", "inference.py"}
NO_TORCH = {"get_feature_names_out", "indicator_", "variational_bound"}
