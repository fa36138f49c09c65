"""VAERegressor: the conditional distribution of outputs given features."""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
import torch
from scipy.stats import norm, t
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.callback._callback_support import callback_management_context
from sklearn.metrics import r2_score
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ._base import (
    EVIDENCE_DRAWS,
    INFERENCE_FLOATS,
    MAX_DEFAULT_COMPONENTS,
    BaseVAE,
    build_module,
    check_count,
    check_weights,
    head_key,
    is_constant,
    make_random_state,
    pieces,
    resolve_device,
    weighted_rows,
)
from ._columns import Column
from ._context import Context
from ._convolution import ImageVAE, shape_of_context
from ._distributions import Joint, LocationScale, StudentT, make_head
from ._encoding import TableEncoder, unchanged_on_error
from ._filling import missing_mask
from ._imputer import INTERVAL_DRAWS, sorted_quantiles
from ._linear_start import factor_analysis, regression
from ._modules import VAE, Batch
from ._numeric import Affine, PiecewiseLinear
from ._predictive import by_head, cell_moments, tempered_draws
from ._training import Plan

#: Head of numbers where ``likelihood`` leaves it to the data.
AUTO_LIKELIHOOD = "normal"

#: Draws of z behind predicted means and deviations, in pairs of opposite signs.
MEAN_DRAWS = 64

#: Points that stand for the noise of an output with a quantile map.
NOISE_POINTS = 50


class Outputs(NamedTuple):
    """Which containers ``y`` came in: predictions come in the like."""

    is_1d: bool
    is_frame: bool


class VAERegressor(MultiOutputMixin, RegressorMixin, BaseVAE):
    """TODO."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseVAE._parameter_constraints,
        "image_shape": ["array-like", None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
    }

    _torch_parts: ClassVar[tuple[str, ...]] = ("_module", "_context")

    def __init__(
        self,
        n_components=None,
        *,
        image_shape=None,
        hidden_layer_sizes=(128, 128),
        activation="relu",
        likelihood="auto",
        numeric_transform="standard",
        categorical_features="from_dtype",
        objective="elbo",
        gradient="pathwise",
        n_draws=1,
        kl_weight=1.0,
        kl_warmup_steps=None,
        max_iter=None,
        batch_size="auto",
        learning_rate_init=5e-3,
        learning_rate="cosine",
        weight_decay=0.5,
        early_stopping=True,
        validation_fraction=None,
        n_iter_no_change=None,
        tol=1e-4,
        warm_start=False,
        callbacks=None,
        device=None,
        verbose=False,
        random_state=None,
    ):
        super().__init__(
            n_components,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            likelihood=likelihood,
            numeric_transform=numeric_transform,
            categorical_features=categorical_features,
            objective=objective,
            gradient=gradient,
            n_draws=n_draws,
            kl_weight=kl_weight,
            kl_warmup_steps=kl_warmup_steps,
            max_iter=max_iter,
            batch_size=batch_size,
            learning_rate_init=learning_rate_init,
            learning_rate=learning_rate,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            warm_start=warm_start,
            callbacks=callbacks,
            device=device,
            verbose=verbose,
            random_state=random_state,
        )
        self.image_shape = image_shape
        self.weight_decay = weight_decay

    def _plan(self, n_rows: int, one_pass: bool) -> Plan:
        plan = super()._plan(n_rows, one_pass)
        return replace(plan, weight_decay=self.weight_decay)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        with unchanged_on_error(self), callback_management_context(self):
            return self._fit_pair(X, y, sample_weight)

    def _fit_pair(self, X, y, sample_weight):
        self._check_gradient()
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is "
                "None."
            )
        device = resolve_device(self.device)
        outputs, form = as_table(y)
        check_consistent_length(X, outputs)
        if sample_weight is not None:
            weights = check_weights(sample_weight, X)
            X = weighted_rows(X, weights)[0]
            outputs, sample_weight = weighted_rows(outputs, weights)
        seen = ~missing_mask(outputs)
        if not seen.any():
            raise ValueError("Input y contains NaN only: there is nothing to learn.")
        if not seen.any(1).all():  # a row without output says nothing of y given X
            rows = np.flatnonzero(seen.any(1))
            X, outputs = _safe_indexing(X, rows), _safe_indexing(outputs, rows)
            sample_weight = None if sample_weight is None else sample_weight[rows]
        going_on = self.warm_start and hasattr(self, "_module")
        if going_on:
            # trained in place: if that fails, what was there must be as it was
            for name in self._torch_parts:
                setattr(self, name, copy.deepcopy(getattr(self, name)))
        else:
            self._fit_encoders(X, outputs, sample_weight)
        self._form = form
        self.n_outputs_ = len(self._encoder.columns_)
        self._random = make_random_state(self.random_state)
        self.device_ = device
        generator = torch.Generator(device).manual_seed(self._new_seed())
        features = self._context_encoder.encode(X, estimator=self)
        with naming_outputs():
            values, observed = self._encoder.encode(outputs)
        if not going_on:
            self._settle_heads(scored=self.early_stopping)
            self._start_context(*features)
            self._start_pair(features, values, observed, sample_weight)
        self._module.to(device)
        self._context.to(device)
        data = self._batch(values, observed, sample_weight)
        data = Batch(data.x, data.observed, data.weight, self._contexts(*features))
        self._train(X, data, generator, going_on=going_on, one_pass=False)
        return self

    def _fit_encoders(self, X, outputs, sample_weight):
        is_table = self.image_shape is None
        likelihood, transform = self.likelihood, self.numeric_transform
        if likelihood == "auto":
            likelihood = AUTO_LIKELIHOOD if is_table else "normal_isotropic"
        if transform == "auto" and not is_table:
            transform = "standard"
        self._context_encoder = TableEncoder(
            categorical_features=self.categorical_features,
            numeric_transform="auto" if is_table else "standard",
            likelihood="normal",
        ).fit(X, sample_weight, estimator=self)
        with naming_outputs():
            self._encoder = TableEncoder(
                numeric_transform=transform, likelihood=likelihood
            ).fit(outputs, sample_weight)
        columns = self._encoder.columns_
        if self._encoder.layout_.library == "numpy":
            for index, column in enumerate(columns):
                column.name = f"y{index}"
        empty = [column.name for column in columns if column.is_empty]
        if empty:
            raise ValueError(
                f"Outputs without any value: {', '.join(map(repr, empty))}. Drop these "
                "columns of y."
            )
        self._settle_images()

    def _settle_images(self):
        """Give all pixels one scale, and find out whether the features are pixels."""
        self._image = {}
        if self.image_shape is None:
            return
        shape = self._checked_image_shape()
        share_map(self._encoder.columns_)
        columns = self._context_encoder.columns_
        context_shape = shape_of_context(shape, len(columns))
        if context_shape is not None and all(c.kind == "numeric" for c in columns):
            share_map(columns)
        else:
            context_shape = None
        self._image = {"image_shape": shape, "context_shape": context_shape}

    def _checked_image_shape(self) -> tuple[int, int, int]:
        """Return channels, height and width of the outputs."""
        shape = tuple(self.image_shape)
        n_outputs = len(self._encoder.columns_)
        if len(shape) not in (2, 3) or any(
            not isinstance(side, Integral) or side < 1 for side in shape
        ):
            raise ValueError(
                "image_shape must be (height, width) or (channels, height, width), but "
                f"got {self.image_shape!r}."
            )
        if math.prod(shape) != n_outputs:
            raise ValueError(
                f"image_shape={self.image_shape!r} stands for {math.prod(shape)} "
                f"outputs, but y has {n_outputs}."
            )
        heads = {head_key(column) for column in self._encoder.columns_}
        if len(heads) > 1 or any(
            c.kind not in ("numeric", "boolean", "count")
            or c.transform not in ("standard", "none")
            for c in self._encoder.columns_
        ):
            raise ValueError(
                "image_shape needs pixels of one kind: numbers with one likelihood and "
                "numeric_transform 'auto', 'standard' or 'none'."
            )
        return (1, *shape)[-3:]

    def _start_context(self, values, observed):
        """Settle what the networks see of the features."""
        columns = self._context_encoder.columns_
        keys = {i: head_key(c) for i, c in enumerate(columns) if not is_constant(c)}
        if self._image.get("context_shape"):
            keys = {}  # all of them: pixels keep their places
        if not keys:  # or nothing varies: a context that says nothing
            keys = {i: head_key(c) for i, c in enumerate(columns)}
        counts = Counter(keys.values())
        self._context_order = np.array(
            [index for group in counts for index, key in keys.items() if key == group]
        )
        self._context_architecture = {
            "heads": [(name, counts[name, n], n) for name, n in counts],
            "masked": observed is not None and not observed.all(),
        }
        self._context = build_context(**self._context_architecture)
        x, seen = self._context_cells(values, observed)
        self._context.fit(x, seen, scale=not self._image.get("context_shape"))

    def _context_cells(self, values, observed):
        """Return features in the order of their heads, as tensors on the CPU."""
        x = torch.from_numpy(np.ascontiguousarray(values[:, self._context_order]))
        if observed is None:
            return x, None
        return x, torch.from_numpy(observed[:, self._context_order])

    def _contexts(self, values, observed) -> Tensor:
        """Return the context of every row, on the device."""
        x, seen = self._context_cells(values, observed)
        x = x.to(self.device_)
        with torch.no_grad():
            return self._context(x, None if seen is None else seen.to(self.device_))

    def _start_pair(self, features, values, observed, sample_weight):
        """Build the module, started at a regression and the factors of its residuals."""
        self._describe(masked=observed is not None and not observed.all())
        self._architecture["n_context"] = self._context.n_outputs
        self._architecture.update(self._image)
        self._module = build_pair(self._architecture, self._new_seed())
        self._evidence_seed = self._new_seed()
        rows = self._choose_starting_rows(len(values), sample_weight)
        seen = None if observed is None else observed[rows]
        x, weight = super()._starting_rows(values[rows], seen, None)
        self._module.start_at_marginals(x, weight)
        columns, _, slots = self._module.joint.number_slots()
        if not len(columns):
            return
        cells = [None if part is None else part[rows] for part in features]
        c = self._context(*self._context_cells(*cells)).double().numpy()
        intercept, coefficients, residuals = regression(
            c, x[:, columns].double().numpy(), weight[:, columns].numpy() > 0
        )
        loadings, noise = factor_analysis(residuals, self.n_components_)
        with torch.no_grad():
            bias = self._module.decoder.output.bias
            bias[slots] = torch.from_numpy(intercept).to(bias)
        self._module.start_at_factor_analysis(
            torch.from_numpy(loadings),
            torch.from_numpy(noise),
            torch.from_numpy(coefficients),
        )

    def _resolve_n_components(self) -> int:
        if self.n_components is not None:
            return int(self.n_components)
        return min(max(1, len(self._order) - 1), MAX_DEFAULT_COMPONENTS)

    # -- inference ---------------------------------------------------------------

    def predict(self, X, return_std=False):
        check_is_fitted(self)
        columns = self._encoder.columns_
        named = [column.name for column in columns if column.has_categories]
        if return_std and named:
            raise ValueError(
                "return_std needs numeric outputs, but these hold categories: "
                f"{', '.join(map(repr, named))}. Use sample or predict_interval."
            )
        mean, deviation = self._moments(X)
        if named:
            for index, column in enumerate(columns):
                if not column.has_categories:
                    mean[:, index] = column.map.forward(mean[:, index])
            return self._table(mean)
        mean = self._shaped(mean)
        return (mean, self._shaped(deviation)) if return_std else mean

    def _moments(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Return means and standard deviations of all outputs, in their units.

        Categories are codes, with the deviation 0.
        """
        module, c = self._for_inference(X)
        columns = self._encoder.columns_
        shape = (len(c), len(columns))
        mean, deviation = np.zeros(shape), np.zeros(shape)
        for index, column in enumerate(columns):
            if column.constant is not None:
                mean[:, index] = column.constant
        bent = {
            position: columns[index].map
            for position, index in enumerate(self._order)
            if isinstance(columns[index].map, PiecewiseLinear)
        }
        noise = self._mean_noise(c)
        start = 0
        for px in self._decoded_pieces(module, c, noise):
            means, variances = (m.cpu().numpy() for m in cell_moments(module.joint, px))
            rows = slice(start, start + len(means))
            for position, index in enumerate(self._order):
                map_ = columns[index].map
                if position in bent:
                    continue
                mean[rows, index] = map_.inverse(means[:, position])
                deviation[rows, index] = np.sqrt(variances[:, position]) * map_.scale
            for position, values in self._mapped_points(module.joint, px, bent):
                index = self._order[position]
                mean[rows, index] = values.mean((0, 1))
                deviation[rows, index] = values.std((0, 1))
            start += len(means)
        return mean, deviation

    def _for_inference(self, X) -> tuple[VAE, Tensor]:
        """Return the module and the contexts of a table, in the precision of X.

        In float64 results do not depend on which rows are predicted together.
        """
        values, observed = self._context_encoder.encode(X, estimator=self)
        c = self._contexts(values, observed)
        single = getattr(X, "dtype", None) == np.float32
        if single or self.device_.startswith("mps"):
            return self._module, c
        return copy.deepcopy(self._module).double(), c.double()

    def _mean_noise(self, c: Tensor) -> Tensor:
        """Return draws of N(0, I), the same for every row, in opposite pairs."""
        generator = torch.Generator().manual_seed(self._evidence_seed)
        half = torch.randn(
            MEAN_DRAWS // 2, 1, self.n_components_, generator=generator, dtype=c.dtype
        )
        return torch.cat([half, -half]).to(c.device)

    def _decoded_pieces(self, module, c, noise, temperature=1.0) -> Iterator[Tensor]:
        """Yield decoder outputs of prior draws, (draws, rows, n_outputs)."""
        n_draws = len(noise)
        for rows in c.split(self._rows_at_once(n_draws)):
            with torch.inference_mode():
                pz = module.prior(rows)
                z = pz.loc + temperature * pz.log_scale.exp() * noise
                yield module.decode(z, rows)

    def _widths(self) -> list[int]:
        widths = super()._widths()
        if isinstance(self._module, ImageVAE):
            widths.append(self._module.widest_map)
        return widths

    def _rows_at_once(self, n_draws: int) -> int:
        width = max(*self._widths(), self._module.n_latent + self._module.n_context)
        return max(1, INFERENCE_FLOATS // (width * n_draws))

    def _mapped_points(self, joint, px, bent):
        """Yield values of outputs with a quantile map, (points, draws, rows)."""
        if not bent:
            return
        position = 0
        levels = (np.arange(NOISE_POINTS) + 0.5) / NOISE_POINTS
        for head, part in by_head(joint, px):
            if isinstance(head, LocationScale):
                locs = head.loc(part).cpu().numpy()
                scales = head.scale(part).expand_as(head.loc(part)).cpu().numpy()
                for k in range(head.n_columns):
                    if position + k not in bent:
                        continue
                    points = norm.ppf(levels)
                    if isinstance(head, StudentT):
                        points = t.ppf(levels, float(head.freedom()[k]))
                    points = points[:, None, None] * scales[..., k]
                    encoded = locs[..., k] + points
                    yield position + k, bent[position + k].inverse(encoded)
            position += head.n_columns

    def sample(
        self, X, n_draws=1, temperature=1.0, random_state=None, *, add_noise=True
    ):
        check_is_fitted(self)
        n_draws = check_count(n_draws, "n_draws")
        temperature = check_temperature(temperature)
        generator = self._generator(random_state)
        values, observed = self._context_encoder.encode(X, estimator=self)
        c = self._contexts(values, observed)
        parts = [
            x.cpu().numpy()
            for x in self._draws(c, n_draws, generator, temperature, add_noise)
        ]
        encoded = np.concatenate(parts, axis=1)
        draws = [self._table(self._all_columns(x)) for x in encoded]
        if self._form.is_frame and not self._form.is_1d:
            return draws
        return np.stack(draws)

    def _draws(self, c, n_draws, generator, temperature=1.0, add_noise=True):
        """Yield draws of encoded outputs, (n_draws, rows, columns)."""
        vae = self._module
        for rows in c.split(self._rows_at_once(n_draws)):
            with torch.inference_mode():
                noise = rows.new_empty(n_draws, len(rows), vae.n_latent)
                noise.normal_(generator=generator)
                pz = vae.prior(rows)
                z = pz.loc + temperature * pz.log_scale.exp() * noise
                px = vae.decode(z, rows)
                if add_noise:
                    yield tempered_draws(vae.joint, px, generator, temperature)
                else:
                    yield vae.joint.point(px)

    def predict_interval(self, X, coverage=0.9):
        check_is_fitted(self)
        if not 0 < coverage < 1:
            raise ValueError(
                f"coverage must lie between 0 and 1, but got {coverage!r}."
            )
        values, observed = self._context_encoder.encode(X, estimator=self)
        c = self._contexts(values, observed)
        generator = torch.Generator(self.device_).manual_seed(self._evidence_seed)
        levels = [(1 - coverage) / 2, (1 + coverage) / 2]
        columns = self._encoder.columns_
        parts = [
            sorted_quantiles(x.cpu().numpy(), levels)
            for x in self._draws(c, INTERVAL_DRAWS, generator)
        ]
        bounds = np.concatenate(parts, axis=1)
        unordered = [
            position
            for position, index in enumerate(self._order)
            if columns[index].has_categories and columns[index].kind != "ordinal"
        ]
        if unordered:
            bounds[..., unordered] = self._moments(X)[0][:, self._order[unordered]]
        encoded = [self._all_columns(bound) for bound in bounds]
        if any(column.has_categories for column in columns):
            return tuple(self._table(part) for part in encoded)
        return tuple(self._shaped(self._in_units(part)) for part in encoded)

    def _in_units(self, encoded: np.ndarray) -> np.ndarray:
        """Return encoded numbers as float64 in the units of y."""
        units = encoded.astype(np.float64)
        for index, column in enumerate(self._encoder.columns_):
            units[:, index] = column.map.inverse(units[:, index])
            if column.constant is not None:
                units[:, index] = column.constant
        return units

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        return values[:, 0] if self._form.is_1d else values

    def _table(self, encoded: np.ndarray) -> Any:
        """Return encoded outputs as a table like y; one-dimensional ones as arrays."""
        table = self._encoder.decode(encoded)
        if not self._form.is_1d:
            return table
        if isinstance(table, np.ndarray):
            return table[:, 0]
        return nw.from_native(table, eager_only=True)[:, 0].to_numpy()

    def score_samples(self, X, y=None):
        check_is_fitted(self)
        values, observed = self._context_encoder.encode(X, estimator=self)
        if y is None:
            warnings.warn(
                "y is None: nothing is observed, which has the log-likelihood 0.",
                UserWarning,
                stacklevel=2,
            )
            return np.zeros(len(values), dtype=np.float32)
        outputs, _ = as_table(y)
        check_consistent_length(values, outputs)
        with naming_outputs():
            encoded, seen = self._encoder.encode(outputs)
        data = self._batch(encoded, seen, None)
        data = Batch(data.x, data.observed, None, self._contexts(values, observed))
        scores = self._evidence(data, EVIDENCE_DRAWS) + self._log_jacobian(data)
        if seen is not None:
            scores[~seen.any(1)] = 0  # nothing has probability 1
        return scores.astype(np.float32)

    def score(self, X, y, sample_weight=None):
        check_is_fitted(self)
        named = [c.name for c in self._encoder.columns_ if c.has_categories]
        if named:
            raise ValueError(
                "R² needs numeric outputs, but these hold categories: "
                f"{', '.join(map(repr, named))}. Use score_samples."
            )
        table, _ = as_table(y)
        if not isinstance(table, np.ndarray):
            table = nw.from_native(table, eager_only=True).to_numpy()
        truth, predicted = table.astype(np.float64), self._moments(X)[0]
        check_consistent_length(truth, predicted)
        seen = ~np.isnan(truth)
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, truth)
        scores = []
        for index, rows in enumerate(seen.T):
            weights = None if sample_weight is None else sample_weight[rows]
            cells = truth[rows, index], predicted[rows, index]
            scores.append(r2_score(*cells, sample_weight=weights))
        return float(np.mean(scores))

    def __sklearn_tags__(self):
        """Return the tags: missing outputs are accepted."""
        return super().__sklearn_tags__()

    def _build(self, part: str) -> torch.nn.Module:
        if part == "_context":
            return build_context(**self._context_architecture)
        return build_pair(self._architecture, seed=0)


def share_map(columns: list[Column]) -> None:
    """Give all columns of pixels the mean and the scale of all their cells."""
    maps = [column.map for column in columns]
    mean = float(np.mean([m.mean for m in maps]))
    spread = [0 if c.constant is not None else c.map.scale for c in columns]
    shift = [m.mean - mean for m in maps]
    scale = float(np.sqrt(np.mean(np.square([spread, shift]).sum(0)))) or 1.0
    for column in columns:
        if column.transform == "standard":
            column.map = Affine(mean, scale)
        column.constant = None


def build_pair(architecture: dict[str, Any], seed: int) -> VAE:
    """Build the module of outputs given features, on the CPU."""
    if "image_shape" not in architecture:
        return build_module(architecture, seed)
    options = dict(architecture)
    joint = Joint([make_head(*head) for head in options.pop("heads")])
    generator = torch.Generator().manual_seed(seed)
    return ImageVAE(joint, generator=generator, **options).float()


def build_context(heads, masked) -> Context:
    """Build the part that reads features, on the CPU."""
    return Context(Joint([make_head(*head) for head in heads]), masked).float()


def as_table(y: Any) -> tuple[Any, Outputs]:
    """Return outputs as a table, and what they came as."""
    y = nw.to_native(y, pass_through=True)
    series = nw.from_native(y, series_only=True, pass_through=True)
    if isinstance(series, nw.Series):
        return series.to_frame().to_native(), Outputs(True, True)
    if nw.dependencies.is_into_dataframe(y):
        return y, Outputs(False, True)
    array = np.asarray(y)
    if array.ndim == 1:
        return array.reshape(-1, 1), Outputs(True, False)
    if array.ndim != 2:
        raise ValueError(
            f"y must be one- or two-dimensional, but has {array.ndim} dimensions."
        )
    return array, Outputs(False, False)


@contextmanager
def naming_outputs():
    """Say of errors in a table of outputs that y is meant."""
    try:
        yield
    except (ValueError, TypeError) as error:
        text = str(error).replace("Input X", "Input y")
        raise type(error)(f"In the outputs y: {text}") from error


def check_temperature(temperature: Any) -> float:
    """Return a finite number of at least 0."""
    if (
        not isinstance(temperature, Real)
        or isinstance(temperature, bool)
        or not 0 <= temperature < np.inf
    ):
        raise ValueError(
            f"temperature must be a number of at least 0, but got {temperature!r}."
        )
    return float(temperature)
