"""VAERegressor: the conditional distribution of outputs given features."""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

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

from .._conditional.image_vae import ImageVAE, shape_of_context
from .._conditional.model import (
    MEAN_DRAWS,
    NOISE_POINTS,
    SPREAD_COVERAGE,
    SPREAD_ROWS,
    build_context,
    build_pair,
)
from .._conditional.outputs import (
    AUTO_LIKELIHOOD,
    as_table,
    completed_likelihood,
    declared_categories,
    naming_outputs,
    share_map,
)
from .._density.evidence import EVIDENCE_DRAWS, INFERENCE_FLOATS
from .._density.linear_start import factor_analysis, regression
from .._density.model import head_key, is_constant
from .._distributions.intervals import INTERVAL_DRAWS, interval_draws, sorted_quantiles
from .._distributions.location_scale import LocationScale, StudentT
from .._distributions.predictive import cell_moments, tempered_latents
from .._networks.batch import Batch
from .._networks.vae import VAE
from .._tables.encoder import TableEncoder
from .._tables.missing import missing_mask
from .._tables.transforms import Affine, PiecewiseLinear
from .._training.plan import Plan
from .._validation import (
    check_count,
    check_weights,
    make_random_state,
    restored_on_error,
    weighted_rows,
)
from .base import BaseVAE


class VAERegressor(MultiOutputMixin, RegressorMixin, BaseVAE):
    """Conditional variational autoencoder: the distribution of y given X.

    Where a regression gives the mean of the outputs, this gives their distribution,
    p(y | x) = ∫ p(y | z, x) p(z | x) dz: a prior network makes the latent variables z
    depend on the features, a decoder network gives the distribution p(y | z, x) of
    every output [1]_. Both are trained, with an encoder q(z | y, x), to maximise the
    evidence lower bound on log p(y | x). Outputs that vary together given the features
    are drawn together: the pixels of an image, the columns of a table.

    Training starts at a ridge regression of the numeric outputs with a factor analysis
    of its residuals, the linear special case of the model, and keeps the weights that
    score best on validation rows.

    Parameters
    ----------
    n_components : int, default=None
        Number of latent variables. None takes one less than the number of outputs, at
        least 1 (2 with ``latent="dirichlet"``) and at most 32.

    image_shape : tuple of int, default=None
        (height, width) or (channels, height, width) of the outputs, if these are the
        pixels of an image, row by row. Convolutions then correct the dense networks,
        and all pixels share their scale. If there are as many features as pixels, or
        so many that they make an image whose sides are smaller by a whole factor, the
        features are taken as an image too.

    hidden_layer_sizes : tuple of int, default=(128, 128)
        Widths of the hidden layers of encoder and prior; the decoder has them in
        reverse. With ``()`` all are linear and the model is a linear regression with
        a factor analysis of its residuals.

    activation : {"relu", "silu", "gelu", "tanh"}, default="relu"
        Activation function of the hidden layers.

    likelihood : str or dict, default="auto"
        Distribution p(y | z, x) of the outputs: a name as in :class:`VAETransformer`,
        or a dict from name or index of an output to such a name; outputs that a dict
        leaves out follow "auto". That takes "normal" for numbers, so that the
        predicted mean has the least squared error ("normal_isotropic" with
        ``image_shape``), "bernoulli" for booleans, "ordinal" for ordered categories
        and "categorical" for others. "normal_heteroscedastic" and
        "student_t_heteroscedastic" let the noise depend on the features.

    numeric_transform : {"standard", "quantile", "auto", "none"} or dict, \
            default="standard"
        Map of the numeric outputs, as in :class:`VAETransformer`. Predicted means are
        means of y itself in any case.

    categorical_features : "from_dtype", array-like of str, int or bool, or None, \
            default="from_dtype"
        Columns of X that hold categories: by their dtype in a data frame, by names,
        indices or a mask, or none. Categories of y are found by dtype, or given by
        ``likelihood``.

    objective : {"elbo", "iwae"}, default="elbo"
        What is maximised: the evidence lower bound or the importance-weighted
        bound of ``n_draws`` draws, which is tighter and slower.

    gradient : {"pathwise", "stl", "dreg", "score", "rloo", "grep"}, \
            default="pathwise"
        Gradient estimator, as in :class:`VAETransformer`.

    n_draws : int, default=1
        Draws of z per row and step.

    latent : {"normal", "lognormal", "gamma", "beta", "dirichlet"}, default="normal"
        Family of the latent variables, as in :class:`VAETransformer`. The linear start
        belongs to normal ones.

    prior : tuple, dict or {"mixture", "vamp"}, default=None
        The prior. None makes it a network of the features, p(z | x), in the family
        ``latent``; anything else, as in :class:`VAETransformer`, makes it a p(z) that
        does not see the features.

    n_prior_components : int, default=10
        Number of components of the priors "mixture" and "vamp".

    kl_weight : float, default=1.0
        Weight of the Kullback-Leibler term; values other than 1 give a
        beta-VAE, whose ``loss_`` no longer bounds log p(x).

    kl_warmup_steps : int, default=None
        Optimizer steps over which the weight of the Kullback-Leibler term rises
        from 0 to ``kl_weight``, at most half of the training. None takes 1,000 if no
        output is numeric and 0 otherwise, as numeric outputs start at a linear model.

    max_iter : int, default=None
        Number of epochs (passes over the training rows). None takes 50, or as many
        as make 5,000 steps if that is more.

    batch_size : int or "auto", default="auto"
        Rows per step. "auto" takes an eighth of the rows, between 16 and 256, and
        1024 from 100,000 rows up.

    learning_rate_init : float, default=5e-3
        Learning rate of Adam, the highest one of a schedule.

    learning_rate : {"cosine", "adaptive", "constant"}, default="cosine"
        Schedule: "cosine" falls to 1% over ``max_iter`` epochs. Both "cosine" and
        "adaptive" go back to the best weights and divide the rate by 4, three times
        at most, when the score has not improved for ``n_iter_no_change`` epochs.

    weight_decay : float, default=0.5
        Rate, relative to the learning rate, at which the weights of the hidden layers
        decay, and with them what bends the linear model (decoupled from Adam [2]_).

    early_stopping : bool, default=True
        Whether to set rows aside, score them after each epoch, keep the weights
        that score best and stop when the score no longer improves. The linear start
        is kept if nothing beats it by more than two standard errors. Without early
        stopping the last weights are kept and the training objective decides when to
        stop.

    validation_fraction : float, default=None
        Share of the rows set aside, at most 10,000 rows. None takes a tenth, and of
        small tables up to a quarter to have 50 rows.

    n_iter_no_change : int or numpy.inf, default=None
        Epochs without improvement after which the learning rate falls (see
        ``learning_rate``) or training stops. None takes 10, or as many as make 1,000
        steps if that is more.

    tol : float, default=1e-4
        Improvement in nats per row that counts.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the previous weights and column kinds.

    callbacks : list of skorch callbacks, default=None
        Passed on to the training loop. Callbacks of scikit-learn are set with
        ``set_callbacks``.

    device : str, default=None
        "cpu", "cuda", "cuda:1", "mps", "auto" for the best that is there; None is
        the CPU.

    verbose : bool, default=False
        Whether to print the progress.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the validation rows, batches and noise. None
        takes a fresh seed; the global states of NumPy and torch are never touched.

    Attributes
    ----------
    n_components_ : int
        Number of latent variables.

    n_outputs_ : int
        Number of outputs.

    likelihood_ : dict of str to str
        Distribution of every output.

    numeric_transform_ : dict of str to str
        Map of every numeric output.

    n_features_in_ : int
        Number of features.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where the table has string names.

    n_iter_ : int
        Number of epochs.

    loss_ : float
        Negative objective of the last epoch, in nats per row of the encoded outputs.

    best_loss_ : float
        The lowest ``loss_`` over epochs.

    loss_curve_ : ndarray of shape (n_iter_,)
        ``loss_`` by epoch.

    validation_scores_ : ndarray of shape (n_epochs,) or None
        Objective on the validation rows by epoch of the last call of ``fit``, in nats
        per row of the encoded outputs; None without early stopping.

    best_validation_score_ : float or None
        Score of the weights that were kept: the highest of ``validation_scores_``, or
        that of the linear start where no epoch improved on it clearly.

    history_ : dict of str to ndarray of shape (n_iter_,)
        "objective", "reconstruction" and "kl" in nats per row, "active_units" and
        "learning_rate", by epoch.

    spread_ : ndarray of shape (n_outputs_,)
        Factor, at least 1, by which the distribution of an output is stretched around
        its mean, so that intervals of 90% cover as many outputs of the validation rows
        (conformal prediction [3]_). 1 for categories and counts, for outputs with a
        quantile map, with ``image_shape``, without early stopping and where fewer
        than 20 validation rows have the output.

    device_ : str
        The device that the model was trained on, or loaded to.

    See Also
    --------
    sklearn.neural_network.MLPRegressor : The mean alone, by a network.
    skvae.VAEImputer : Any columns given any others.

    Notes
    -----
    ``y`` may be one- or two-dimensional, an array or a data frame, and hold NaN: a
    missing output is integrated out, and a row without any output is left out of the
    training. Outputs without categories give arrays of float64, one-dimensional if y
    was; if an output of ``y`` has categories, predictions are tables like y.

    References
    ----------
    .. [1] K. Sohn, H. Lee, X. Yan (2015). Learning Structured Output Representation
       using Deep Conditional Generative Models. Equation 4.
    .. [2] I. Loshchilov, F. Hutter (2019). Decoupled Weight Decay Regularization.
    .. [3] Y. Romano, E. Patterson, E. Candès (2019). Conformalized Quantile Regression.
       Algorithm 1, with a factor in place of a term.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae import VAERegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 1))
    >>> y = 2 * X[:, 0] + 0.5 * rng.normal(size=300)
    >>> model = VAERegressor(max_iter=5, random_state=0).fit(X, y)
    >>> mean, deviation = model.predict([[1.0]], return_std=True)
    >>> mean.round(), deviation.round(1)
    (array([2.]), array([0.5]))
    >>> model.sample([[1.0]], n_draws=3, random_state=0).shape
    (3, 1)
    """

    __module__ = "skvae"

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
        latent="normal",
        prior=None,
        n_prior_components=10,
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
            latent=latent,
            prior=prior,
            n_prior_components=n_prior_components,
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
        """Learn the distribution of y given X.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Features of at least two rows; NumPy, pandas, polars or pyarrow. Missing
            cells are NaN or null.
        y : array-like or data frame of shape (n_samples,) or (n_samples, n_outputs)
            Outputs; cells may be missing.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows; a row of weight zero is left out.

        Returns
        -------
        self : VAERegressor
            The fitted estimator.

        Raises
        ------
        ValueError
            If a table or a parameter cannot be used, or if the loss becomes
            non-finite; an already fitted estimator stays as it was.
        """
        with restored_on_error(self), callback_management_context(self):
            return self._fit_pair(X, y, sample_weight)

    def _fit_pair(self, X, y, sample_weight):
        self._check_options()
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is "
                "None."
            )
        device = self._resolve_device(self.device)
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
        if not going_on:
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
        held_out = self._train(X, data, generator, going_on=going_on, one_pass=False)
        self.spread_ = np.ones(self.n_outputs_)
        if held_out is not None and self.image_shape is None:
            self._widen(data.take(held_out))
        return self

    def _widen(self, held_out: Batch):
        """Set ``spread_`` by rows that were not trained on.

        Conformal prediction with quantiles [3]_, but intervals widen by a factor: that
        which covers SPREAD_COVERAGE of the held-out outputs, one more counted as lost.
        These rows chose the weights too, so that a factor below 1 is not believed.
        """
        generator = torch.Generator(self.device_).manual_seed(self._evidence_seed)
        levels = [(1 - SPREAD_COVERAGE) / 2, (1 + SPREAD_COVERAGE) / 2]
        bounds = [
            sorted_quantiles(x.cpu().numpy(), levels)
            for x in self._draws(held_out.c, INTERVAL_DRAWS, generator)
        ]
        lower, upper = np.concatenate(bounds, axis=1)
        mean = self._encoded_means(self._module, held_out.c).cpu().numpy()
        error = held_out.x.cpu().numpy() - mean
        reach = np.where(error > 0, upper - mean, mean - lower).clip(min=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            needed = np.where(error == 0, 0.0, np.abs(error) / reach)
        weight = np.ones(len(error))
        if held_out.weight is not None:
            weight = held_out.weight.cpu().numpy().astype(np.float64)
        for position in self._stretched_positions():
            rows = np.arange(len(error))
            if held_out.observed is not None:
                rows = np.flatnonzero(held_out.observed[:, position].cpu().numpy())
            if len(rows) < SPREAD_ROWS:
                continue
            rows = rows[needed[rows, position].argsort()]
            covered = weight[rows].cumsum() / (weight[rows].sum() + weight[rows].mean())
            last = min(covered.searchsorted(SPREAD_COVERAGE), len(rows) - 1)
            factor = needed[rows[last], position]
            if np.isfinite(factor):  # not where intervals have no width
                self.spread_[self._order[position]] = max(1.0, factor)

    def _stretched_positions(self) -> list[int]:
        """Return the places, in the order of the heads, of outputs that may stretch.

        Numbers with a location and a scale whose map is linear: the mean stays.
        """
        positions, _, _ = self._module.joint.location_scale_indices()
        columns = self._encoder.columns_
        return [
            position
            for position in positions.tolist()
            if isinstance(columns[self._order[position]].map, Affine)
        ]

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
            categories = declared_categories(likelihood, outputs)
            if isinstance(likelihood, dict):
                likelihood = completed_likelihood(likelihood, outputs, categories)
            self._encoder = TableEncoder(
                categorical_features=categories,
                numeric_transform=transform,
                likelihood=likelihood,
            ).fit(outputs, sample_weight)
        columns = self._encoder.columns_
        if self._encoder.schema_.library == "numpy":
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
        channels, height, width = map(int, (1, *shape)[-3:])
        return channels, height, width

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
        """Build the module, started at a regression and factors of its residuals."""
        self._describe(masked=observed is not None and not observed.all())
        self._architecture["n_context"] = self._context.n_outputs
        self._architecture.update(self._image)
        self._module = build_pair(self._architecture, self._new_seed())
        self._evidence_seed = self._new_seed()
        rows = self._choose_starting_rows(len(values), sample_weight)
        seen = None if observed is None else observed[rows]
        x, weight = super()._starting_rows(values[rows], seen, None)
        self._module.initialise_marginals(x, weight)
        columns, _, slots = self._module.joint.location_scale_indices()
        if not len(columns) or not self._architecture["linear_path"]:
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
        self._module.initialise_factor_analysis(
            torch.from_numpy(loadings),
            torch.from_numpy(noise),
            torch.from_numpy(coefficients),
        )

    @property
    def _n_explained(self) -> int:
        return len(self._order)

    # -- inference ---------------------------------------------------------------

    def predict(self, X, return_std=False):
        """Return the mean of the outputs, and how much they vary around it.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table. Cells may be missing.
        return_std : bool, default=False
            Whether to return standard deviations too.

        Returns
        -------
        y_mean : ndarray of shape (n_samples,) or (n_samples, n_outputs), float64
            E[y | x] over 64 draws of p(z | x), the same for every row, in the units of
            y; for booleans the probability. If an output holds categories, a table
            like y with the most probable ones.
        y_std : ndarray like ``y_mean``
            Standard deviation of p(y | x): noise and latent variables together. Only
            with ``return_std``.

        Raises
        ------
        ValueError
            If X does not fit the training table, or if deviations are asked for and
            an output holds categories.
        """
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
            return self._table(mean, X)
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
        start = 0
        for px in self._decoded_pieces(module, c):
            means, variances = (m.cpu().numpy() for m in cell_moments(module.joint, px))
            rows = slice(start, start + len(means))
            for position, index in enumerate(self._order):
                map_ = columns[index].map
                if position in bent:
                    continue
                mean[rows, index] = map_.inverse(means[:, position])
                deviation[rows, index] = np.sqrt(variances[:, position]) * map_.scale
                deviation[rows, index] *= self.spread_[index]
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
        """Return draws of N(0, I), the same for every row.

        Opposite pairs, and orthogonal where there are enough of them: averages of
        quadratic functions of normal latents come out exactly.
        """
        generator = torch.Generator().manual_seed(self._evidence_seed)
        n_pairs, n_noise = MEAN_DRAWS // 2, self._module.n_prior_noise
        half = torch.randn(n_pairs, n_noise, generator=generator, dtype=torch.float64)
        if n_noise <= n_pairs:
            half = torch.linalg.qr(half).Q * math.sqrt(n_pairs)
        return torch.cat([half, -half]).unsqueeze(1).to(c)

    def _decoded_pieces(self, module, c) -> Iterator[Tensor]:
        """Yield decoder outputs of prior draws, (MEAN_DRAWS, rows, n_outputs)."""
        noise = self._mean_noise(c)
        for rows in c.split(self._rows_at_once(MEAN_DRAWS)):
            with torch.inference_mode():
                z = module.prior(rows).rsample(noise.expand(-1, len(rows), -1))
                yield module.decode(z, rows)

    def _encoded_means(self, module, c) -> Tensor:
        """Return the means of the encoded outputs, (rows, columns)."""
        means = [
            cell_moments(module.joint, px)[0] for px in self._decoded_pieces(module, c)
        ]
        return torch.cat(means)

    def _widths(self) -> list[int]:
        widths = super()._widths()
        widths.append(self._module.n_latent + self._module.n_context)
        if isinstance(self._module, ImageVAE):
            widths.append(self._module.widest_map)
        return widths

    def _rows_at_once(self, n_draws: int) -> int:
        return max(1, INFERENCE_FLOATS // (max(self._widths()) * n_draws))

    def _mapped_points(self, joint, px, bent):
        """Yield values of outputs with a quantile map, (points, draws, rows)."""
        if not bent:
            return
        position = 0
        levels = (np.arange(NOISE_POINTS) + 0.5) / NOISE_POINTS
        for head, part in joint.split(px):
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
        """Draw outputs from p(y | x).

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table. Cells may be missing.
        n_draws : int, default=1
            Number of draws for every row.
        temperature : float, default=1.0
            Factor of the deviations of z and of the noise from their means; categories
            have their logits divided by it. 1 draws from the model, 0 gives its
            centre. Above 1 it needs ``latent="normal"``.
        random_state : int, RandomState instance or None, default=None
            Determines the draws; None gives fresh ones at every call.
        add_noise : bool, default=True
            Whether to draw from p(y | z, x). Otherwise every draw is the mean (or the
            mode) given z: an image without the noise of its pixels.

        Returns
        -------
        draws : ndarray of shape (n_draws, n_samples) or \
                (n_draws, n_samples, n_outputs), or list of data frames
            The outputs of a row are drawn jointly. ``n_draws`` data frames like y if
            that was a data frame, an array if it was an array or a single column.

        Raises
        ------
        ValueError
            If ``n_draws`` is no positive int, ``temperature`` is negative, or X does
            not fit the training table.
        """
        check_is_fitted(self)
        n_draws = check_count(n_draws, "n_draws")
        temperature = check_temperature(temperature)
        if temperature > 1 and self.latent != "normal":
            raise ValueError(
                f"temperature={temperature!r} would leave the range of latent="
                f"{self.latent!r}: use at most 1, or latent='normal'."
            )
        generator = self._generator(random_state)
        values, observed = self._context_encoder.encode(X, estimator=self)
        c = self._contexts(values, observed)
        parts = [
            x.cpu().numpy()
            for x in self._draws(c, n_draws, generator, temperature, add_noise)
        ]
        encoded = np.concatenate(parts, axis=1)
        draws = [self._table(self._all_columns(x), X) for x in encoded]
        if self._form.is_frame and not self._form.is_1d:
            return draws
        return np.stack(draws)

    def _draws(self, c, n_draws, generator, temperature=1.0, add_noise=True):
        """Yield draws of encoded outputs, (n_draws, rows, columns)."""
        vae, spread = self._module, self._encoded_spread(c)
        for rows in c.split(self._rows_at_once(n_draws)):
            with torch.inference_mode():
                noise = rows.new_empty(n_draws, len(rows), vae.n_prior_noise)
                noise.normal_(generator=generator)
                z = tempered_latents(vae.prior(rows), noise, temperature)
                px = vae.decode(z, rows)
                if add_noise:
                    x = vae.joint.sample(px, generator, temperature)
                else:
                    x = vae.joint.point(px)
                if spread is not None:
                    mean = self._encoded_means(vae, rows)
                    x = torch.where(spread > 1, mean + spread * (x - mean), x)
                yield x

    def _encoded_spread(self, c: Tensor) -> Tensor | None:
        """Return ``spread_`` in the order of the heads; None if nothing widens."""
        if (self.spread_ == 1).all():
            return None
        spread = self.spread_[self._order]
        return torch.tensor(spread, dtype=c.dtype, device=c.device)

    def predict_interval(self, X, coverage=0.9):
        """Return intervals that the outputs lie in.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table. Cells may be missing.
        coverage : float, default=0.9
            Probability that an output lies in its interval, between 0 and 0.9999.

        Returns
        -------
        lower, upper : ndarray or data frame like the result of :meth:`predict`
            Quantiles of 99 draws (more if ``coverage`` exceeds 0.98), the same at
            every call with the same table. Categories without order have the most
            probable value in both.

        Raises
        ------
        ValueError
            If ``coverage`` is not between 0 and 0.9999, or X does not fit the training
            table.
        """
        check_is_fitted(self)
        n_draws = interval_draws(coverage)
        values, observed = self._context_encoder.encode(X, estimator=self)
        c = self._contexts(values, observed)
        generator = torch.Generator(self.device_).manual_seed(self._evidence_seed)
        levels = [(1 - coverage) / 2, (1 + coverage) / 2]
        columns = self._encoder.columns_
        parts = [
            sorted_quantiles(x.cpu().numpy(), levels)
            for x in self._draws(c, n_draws, generator)
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
            return tuple(self._table(part, X) for part in encoded)
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

    def _table(self, encoded: np.ndarray, X: Any) -> Any:
        """Return encoded outputs as a table like y; one-dimensional ones as arrays.

        Rows of pandas have the index of their features.
        """
        table = self._encoder.decode(encoded)
        if not self._form.is_1d:
            if all(map(nw.dependencies.is_pandas_dataframe, (table, X))):
                table.index = X.index
            return table
        if isinstance(table, np.ndarray):
            return table[:, 0]
        return nw.from_native(table, eager_only=True)[:, 0].to_numpy()

    def score_samples(self, X, y=None):
        """Return the log-likelihood of each row's outputs given its features.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table. Cells may be missing.
        y : array-like or data frame of shape (n_samples,) or (n_samples, n_outputs)
            Outputs. Missing ones are integrated out; None misses them all, which has
            the log-likelihood 0 and a warning.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,), float32
            Importance-weighted estimate of log p(y | x) in nats and in the units of y,
            from 256 draws of q(z | y, x) and as many of p(z | x): a lower bound on the
            average.

        Raises
        ------
        ValueError
            If X or y does not fit the training table.
        """
        check_is_fitted(self)
        values, observed = self._context_encoder.encode(X, estimator=self)
        if y is None:
            warnings.warn(
                "y is None: nothing is observed, which has the log-likelihood 0.",
                UserWarning,
                stacklevel=2,
            )
            return np.zeros(len(values), dtype=np.float32)
        outputs = self._outputs_like_training(y)
        check_consistent_length(values, outputs)
        with naming_outputs():
            encoded, seen = self._encoder.encode(outputs)
        data = self._batch(encoded, seen, None)
        data = Batch(data.x, data.observed, None, self._contexts(values, observed))
        scores = self._log_jacobian(data)
        spread = self._encoded_spread(data.c)
        if spread is not None:  # the density of mean + spread * (draw - mean)
            mean = self._encoded_means(self._module, data.c)
            drawn = torch.where(spread > 1, mean + (data.x - mean) / spread, data.x)
            data = Batch(drawn, data.observed, None, data.c)
            shrink = -spread.log().expand_as(drawn)
            if data.observed is not None:
                shrink = shrink * data.observed
            scores += shrink.sum(1).cpu().numpy()
        scores += self._evidence(data, EVIDENCE_DRAWS, defensive=True)
        if seen is not None:
            scores[~seen.any(1)] = 0  # nothing has probability 1
        return scores.astype(np.float32)

    def _outputs_like_training(self, y: Any) -> Any:
        """Return outputs as a table; what a series is called does not matter."""
        layout = self._encoder.schema_
        outputs, _ = as_table(y, layout.labels[0])
        if layout.library == "numpy" and not isinstance(outputs, np.ndarray):
            return nw.from_native(outputs, eager_only=True).to_numpy()
        return outputs

    def score(self, X, y, sample_weight=None):
        """Return the coefficient of determination R² of the predicted means.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table. Cells may be missing.
        y : array-like or data frame of shape (n_samples,) or (n_samples, n_outputs)
            Numeric outputs; missing ones do not count.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            R², averaged over outputs, those without any value left out.

        Raises
        ------
        ValueError
            If an output holds categories, if y holds NaN only, or if the tables do
            not fit the training table.
        """
        check_is_fitted(self)
        named = [c.name for c in self._encoder.columns_ if c.has_categories]
        if named:
            raise ValueError(
                "R² needs numeric outputs, but these hold categories: "
                f"{', '.join(map(repr, named))}. Use score_samples."
            )
        outputs = self._outputs_like_training(y)
        with naming_outputs():
            self._encoder.encode(outputs)  # are these the outputs of the training?
        predicted = self._moments(X)[0]
        check_consistent_length(outputs, predicted)
        seen = ~missing_mask(outputs)
        if not isinstance(outputs, np.ndarray):
            outputs = nw.from_native(outputs, eager_only=True).to_numpy()
        truth = np.zeros(predicted.shape)
        truth[seen] = outputs[seen].astype(np.float64)
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, truth)
        if not seen.any():
            raise ValueError("y has no observed value: there is nothing to score.")
        scores = []
        for index, rows in enumerate(seen.T):
            if not rows.any():
                continue
            weights = None if sample_weight is None else sample_weight[rows]
            cells = truth[rows, index], predicted[rows, index]
            scores.append(r2_score(*cells, sample_weight=weights))
        return float(np.mean(scores))

    def _build(self, part: str, seed: int = 0) -> torch.nn.Module:
        if part == "_context":
            return build_context(**self._context_architecture)
        return build_pair(self._architecture, seed)


def check_temperature(temperature: Any) -> float:
    """Return a finite number of at least 0."""
    if (
        not isinstance(temperature, int | float | np.number)
        or isinstance(temperature, bool)
        or not 0 <= temperature < np.inf
    ):
        raise ValueError(
            f"temperature must be a number of at least 0, but got {temperature!r}."
        )
    return float(temperature)
