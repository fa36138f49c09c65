"""VAERegressor: the conditional distribution of outputs given features."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import r2_score
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from .._conditional.model import ConditionalModel
from .._conditional.outputs import (
    complete_pairs,
    fit_output_encoder,
    image_shapes,
    open_outputs,
    share_map,
    wants_float64,
)
from .._density.rows import Encoded
from .._distributions.predictive import check_temperature
from .._distributions.registry import LIKELIHOODS
from .._tables.encoder import TableEncoder
from .._tables.libraries import (
    as_table,
    check_same_length,
    column_of,
    open_table,
    to_array,
    weighted_rows,
    with_index_of,
)
from .._tables.missing import missing_mask
from .._tables.transforms import fit_affine
from .._training.ambient import isolated
from .._validation import check_count, check_weights, warn
from .base import LATENT_CONSTRAINTS, TRAINING_CONSTRAINTS, BaseVAE

#: Standardised outputs beyond this count as this: their squares are finite.
SCORED_RANGE = -1e150, 1e150


class VAERegressor(MultiOutputMixin, RegressorMixin, BaseVAE):
    """Conditional variational autoencoder: the distribution of y given X.

    Most regressions predict the mean of the outputs; this one learns their
    distribution, p(y | x) = ∫ p(y | z, x) p(z | x) dz. A prior network computes the
    distribution of the latent variables z from the features x, a decoder network the
    distribution p(y | z, x) of every output [1]_. Both are trained, together with an
    encoder q(z | y, x), to maximise the evidence lower bound on log p(y | x). Outputs
    may depend on each other, as the pixels of an image do, and are drawn jointly.

    Training starts from a ridge regression of the numeric outputs with a factor
    analysis of its residuals, the linear special case of the model, and keeps the
    network weights with the highest score on validation rows. Most users set only
    ``random_state``.

    Parameters
    ----------
    n_components : int, default=None
        Number of latent variables. None means one less than the number of outputs, at
        least 1 (2 with ``latent="dirichlet"``) and at most 32.

    image_shape : tuple of int, default=None
        (height, width) or (channels, height, width) if the outputs are the pixels of an
        image, row by row. Convolutional layers are then added to the dense networks,
        and all pixels share one mean and scale, and one noise scale. The features are
        treated as an image as well if they are as many as the pixels of an image of the
        same size, or of one that is smaller by an integer factor: with (28, 28) for
        example 49 features, which are 7 x 7 pixels.

    hidden_layer_sizes : tuple of int, default=(128, 128)
        Widths of the hidden layers of encoder and prior; the decoder has them in
        reverse order. With ``()`` all are linear, and the model is a linear regression
        with a factor analysis of its residuals.

    activation : {"relu", "silu", "gelu", "tanh"}, default="relu"
        Activation function of the hidden layers.

    likelihood : str or dict, default="auto"
        Distribution p(y | z, x) of the outputs: a name as in :class:`VAETransformer`,
        or a dict from name or index of an output to such a name; outputs that are not
        in the dict get "auto". "auto" means "normal" for numbers, so that the
        predicted mean has a small squared error ("normal_isotropic" with
        ``image_shape``), "bernoulli" for booleans, "ordinal" for ordered categories
        and "categorical" for other categories. With "normal_heteroscedastic" and
        "student_t_heteroscedastic" the noise depends on the features.

    numeric_transform : {"standard", "quantile", "auto", "none"} or dict, \
            default="standard"
        Transform of the numeric outputs, as in :class:`VAETransformer`. Predicted means
        are means of y in its original units, whatever the transform.

    categorical_features : "from_dtype", array-like of str, int or bool, or None, \
            default="from_dtype"
        Columns of X that hold categories: those with such a dtype in a data frame, or a
        list of names or indices, or a boolean mask, or none. String columns of dtype
        object must be listed. Categories of y are found by dtype, or set by
        ``likelihood``.

    latent : {"normal", "lognormal", "gamma", "beta", "dirichlet"}, default="normal"
        Family of the latent variables, as in :class:`VAETransformer`. Only with
        "normal" are the networks initialised from a linear model.

    prior : {"mixture", "vamp"}, dict or tuple, default=None
        The prior. None means p(z | x), computed from the features by a network, in the
        family ``latent``. With any other value, as in :class:`VAETransformer`, the
        prior p(z) does not depend on X.

    kl_weight : float, default=1.0
        Weight of the Kullback-Leibler term; values other than 1 give a
        beta-VAE, whose ``loss_`` is no bound on log p(y | x). If no output has a
        normal or Student-t likelihood, or ``latent`` is not "normal", the weight is
        raised from 0 during the first 1,000 steps.

    max_iter : int, default=None
        Number of epochs (passes over the training rows). None means 50, or as many
        as give 5,000 steps if that is more.

    batch_size : int or "auto", default="auto"
        Rows per training step. "auto" means the number of rows divided by 8, but at
        least 16 and at most 256; 1024 if there are 100,000 rows or more.

    learning_rate_init : float, default=5e-3
        Learning rate of Adam: the highest value of the schedule ``learning_rate``.

    learning_rate : {"cosine", "adaptive", "constant"}, default="cosine"
        Schedule of the learning rate. "cosine" lowers it to 1% over ``max_iter``
        epochs. If the score has not improved for ``n_iter_no_change`` epochs, "cosine"
        and "adaptive" restore the best network weights and divide the rate by 4, at
        most three times; after that, and with "constant", training stops.

    weight_decay : float, default=0.5
        Weight decay of the hidden layers, the nonlinear part of the model, relative to
        the learning rate (decoupled from Adam [2]_).

    early_stopping : bool, default=True
        Whether to set rows aside for validation, compute their score after each epoch,
        keep the network weights with the highest score, and stop if it no longer
        improves. The initial linear model is kept unless the gain over it exceeds two
        standard errors. With False the last weights are kept, and training stops if the
        training objective no longer improves.

    validation_fraction : float, default=None
        Share of the rows that is set aside for validation, at most 10,000 rows. None
        means a tenth; of fewer than 500 rows, 50 rows but at most a quarter.

    n_iter_no_change : int or numpy.inf, default=None
        Number of epochs without improvement after which the learning rate is lowered
        (see ``learning_rate``) or training stops. None means 10, or as many as give
        1,000 steps if that is more.

    tol : float, default=1e-4
        Smallest increase of the score, in nats per row, that is an improvement.

    warm_start : bool, default=False
        Whether ``fit`` continues from the previous network weights; column types and
        encodings stay as they were.

    callbacks : list of skorch callbacks, default=None
        Callbacks of the training loop, and :class:`skvae.Checkpoint`. Callbacks of
        scikit-learn are set with ``set_callbacks``.

    device : str, default=None
        "cpu", "cuda", "cuda:1", "mps", or "auto" for the best available device. None
        means the CPU.

    verbose : bool, default=False
        Whether to print the progress.

    random_state : int, RandomState instance or None, default=None
        Determines the initial network weights, the validation rows, batches and noise.
        None means a new seed in every fit. The global random states of NumPy and torch
        are never used.

    Attributes
    ----------
    n_components_ : int
        Number of latent variables.

    n_outputs_ : int
        Number of outputs.

    likelihood_ : dict of str to str
        Likelihood of every output: its distribution given z and x.

    numeric_transform_ : dict of str to str
        Transform of every numeric output: "standard", "robust", "quantile" or "none".

    n_features_in_ : int
        Number of features.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if they are strings.

    n_iter_ : int
        Number of epochs.

    loss_ : float
        Negative objective of the last epoch, in nats per row. Outputs are encoded
        (numbers rescaled), so it is not comparable with :meth:`score_samples`.

    best_loss_ : float
        The lowest ``loss_`` over epochs.

    loss_curve_ : ndarray of shape (n_iter_,)
        ``loss_`` by epoch.

    validation_scores_ : ndarray of shape (n_epochs,) or None
        Objective on the validation rows, by epoch of the last call of ``fit``, in nats
        per row, with encoded outputs. None with ``early_stopping=False``.

    best_validation_score_ : float or None
        Score of the network weights that were kept: the highest of
        ``validation_scores_``, or that of the initial linear model if no epoch was
        clearly better.

    history_ : dict of str to ndarray of shape (n_iter_,)
        By epoch: "objective", "reconstruction" and "kl" in nats per row,
        "active_units" (number of latent variables whose posterior mean varies between
        rows) and "learning_rate".

    interval_scale_ : ndarray of shape (n_outputs_,)
        Factor, at least 1, by which the predicted distribution of an output is
        stretched around its mean, so that 90% intervals contain at least 90% of the
        validation outputs (conformal prediction [3]_). It is 1 for categories and
        counts, for outputs with a quantile transform, with ``image_shape``, with
        ``early_stopping=False``, and if the output is observed in fewer than 20
        validation rows.

    device_ : str
        Device on which the model was trained, or to which it was loaded.

    See Also
    --------
    sklearn.neural_network.MLPRegressor : A network that predicts the mean only.
    skvae.VAEImputer : Predicts any cells of a row from its other cells.

    Notes
    -----
    ``y`` may be one- or two-dimensional, an array or a data frame, and contain NaN:
    missing outputs do not contribute to the likelihood, and a row without any output is
    not used in training. Predictions are float64 arrays, one-dimensional if y was. If
    an output has categories, they are tables like y.

    References
    ----------
    .. [1] K. Sohn, H. Lee, X. Yan (2015). Learning Structured Output Representation
       using Deep Conditional Generative Models. Equation 4.
    .. [2] I. Loshchilov, F. Hutter (2019). Decoupled Weight Decay Regularization.
    .. [3] Y. Romano, E. Patterson, E. Candès (2019). Conformalized Quantile Regression.
       Algorithm 1, but intervals are multiplied by a factor, and not widened by a
       constant.

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
    >>> model.sample([[1.0]], n_draws=3, random_state=0).shape    # draws x rows
    (3, 1)
    """

    __module__ = "skvae"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseVAE._parameter_constraints,
        **TRAINING_CONSTRAINTS,
        **LATENT_CONSTRAINTS,
        "image_shape": ["array-like", None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
    }

    _load = staticmethod(ConditionalModel.from_state)

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
        latent="normal",
        prior=None,
        kl_weight=1.0,
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
        self.n_components = n_components
        self.image_shape = image_shape
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.numeric_transform = numeric_transform
        self.categorical_features = categorical_features
        self.latent = latent
        self.prior = prior
        self.kl_weight = kl_weight
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    @isolated()
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
        return self._fit(X, y, sample_weight)

    def _read(self, X, y, sample_weight, resume):
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is "
                "None."
            )
        outputs, container = as_table(y)
        check_same_length(X, outputs)
        pairs = complete_pairs(*weighted_rows(sample_weight, X, outputs))
        sample_weight, X, outputs = pairs
        table, attributes = self._open_training(X, resume)
        if not resume:
            attributes["_form"] = container._asdict()  # plain, as all that is saved
        outputs = open_outputs(self, outputs, self._encoder.schema_ if resume else None)
        if resume:
            encoder, features = self._encoder, self._feature_encoder
        else:
            encoder, features = self._new_encoders(table, outputs, sample_weight)
        seen = Encoded(features, *features.encode(table))
        return Encoded(
            encoder,
            *encoder.encode(outputs),
            sample_weight,
            features=seen,
            attributes=attributes,
        )

    def _new_encoders(self, table, outputs, sample_weight):
        """Fit the encoders of outputs and features; pixels share their maps."""
        is_table = self.image_shape is None
        transform = self.numeric_transform
        if transform == "auto" and not is_table:
            transform = "standard"
        features = TableEncoder(
            LIKELIHOODS,
            categorical_features=self.categorical_features,
            numeric_transform="auto" if is_table else "standard",
            likelihood="normal",
        ).fit(table, sample_weight)
        encoder = fit_output_encoder(
            outputs,
            sample_weight,
            likelihood=self.likelihood,
            numeric_transform=transform,
            numeric_likelihood="normal" if is_table else "normal_isotropic",
        )
        shapes = image_shapes(self.image_shape, encoder.columns_, features.columns_)
        if shapes:
            share_map(encoder.columns_)
        if shapes.get("context_shape"):
            share_map(features.columns_)
        return encoder, features

    def _build(self, data, params, random):
        return ConditionalModel.build(data, params, random)

    # -- inference ---------------------------------------------------------------

    @isolated()
    def predict(self, X, return_std=False):
        """Return the predictive mean and, optionally, the standard deviation.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table. Cells may be missing. Arrays
            of float32 are computed in single precision, in a third of the time, other
            tables in double precision.
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
        """Return means and deviations of all outputs, in the precision of X."""
        features = self._encode_features(X)
        return self._model.moments(features, double=wants_float64(X))

    def _encode_features(self, X) -> Encoded:
        """Check and encode features like those of the training."""
        check_is_fitted(self)
        encoder = self._feature_encoder
        return Encoded(encoder, *encoder.encode(open_table(self, X, reset=False)))

    @isolated()
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
            Factor of the standard deviations of z and of the noise; the logits of
            categories are divided by it. 1 draws from the model, 0 gives the centre of
            its distribution. Values above 1 need ``latent="normal"``.
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
            Outputs that were whole numbers are so, if noise is added.

        Raises
        ------
        ValueError
            If ``n_draws`` is no positive int, ``temperature`` is negative, or X does
            not fit the training table.
        """
        check_is_fitted(self)
        n_draws = check_count(n_draws, "n_draws")
        temperature = check_temperature(temperature)
        encoded = self._model.draws(
            self._encode_features(X),
            n_draws,
            self._generator(random_state),
            temperature,
            add_noise,
        )
        # without noise, draws are means
        drawn = bool(add_noise) and temperature > 0
        draws = [self._table(x, X, drawn=drawn) for x in encoded]
        if self._form["is_frame"] and not self._form["is_1d"]:
            return draws
        return np.stack(draws)

    @isolated()
    def predict_interval(self, X, coverage=0.9):
        """Return prediction intervals of the outputs.

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
            every call with the same table. The ends are whole where all values of an
            output were whole numbers. Categories without order have the most probable
            value in both.

        Raises
        ------
        ValueError
            If ``coverage`` is not between 0 and 0.9999, or X does not fit the training
            table.
        """
        features = self._encode_features(X)
        bounds = self._model.intervals(features, coverage, double=wants_float64(X))
        if any(column.has_categories for column in self._encoder.columns_):
            return tuple(self._table(bound, X, drawn=True) for bound in bounds)
        ends = [self._model.to_original_units(bound) for bound in bounds]
        for index, column in enumerate(self._encoder.columns_):
            if column.is_whole or column.kind == "boolean":
                for values in ends:
                    values[:, index] = np.rint(values[:, index])
        return tuple(map(self._shaped, ends))

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        return values[:, 0] if self._form["is_1d"] else values

    def _table(self, encoded: np.ndarray, X: Any, drawn: bool = False) -> Any:
        """Return encoded outputs as a table like y; one-dimensional ones as arrays.

        Rows of pandas have the index of their features.
        """
        table = self._encoder.decode(encoded, drawn=drawn, repeated=False)
        return column_of(table, 0) if self._form["is_1d"] else with_index_of(table, X)

    @isolated()
    def score_samples(self, X, y):
        """Return the log-likelihood of each row's outputs given its features.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table. Cells may be missing.
        y : array-like or data frame of shape (n_samples,) or (n_samples, n_outputs)
            Outputs. Missing ones are integrated out; a row without any scores 0.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,), float32
            Importance-weighted estimate of log p(y | x) in nats and in the units of y,
            from 256 draws of q(z | y, x) and as many of p(z | x). On average over
            repeated draws it is below the true value.

        Raises
        ------
        ValueError
            If X or y does not fit the training table.
        """
        features = self._encode_features(X)
        outputs = self._outputs_like_training(y)
        check_consistent_length(features.values, outputs)
        table = open_outputs(self, outputs, self._encoder.schema_)
        encoded = self._encoder.encode(table, outliers=True)
        data = Encoded(self._encoder, *encoded, features=features)
        return self._model.log_likelihood(data)

    def _outputs_like_training(self, y: Any) -> Any:
        """Return outputs as a table; what a series is called does not matter."""
        schema = self._encoder.schema_
        outputs, _ = as_table(y, schema.labels[0])
        return to_array(outputs) if schema.library == "numpy" else outputs

    @isolated()
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
            R², averaged over the outputs with two values at least. NaN, with a warning,
            if there is none: R² needs two.

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
        table = open_outputs(self, outputs, self._encoder.schema_)
        self._encoder.encode(table)  # raises unless these are outputs of the training
        predicted = self._moments(X)[0]
        check_consistent_length(outputs, predicted)
        seen = ~missing_mask(outputs)
        truth = np.zeros(predicted.shape)
        truth[seen] = to_array(outputs)[seen].astype(np.float64)
        if not seen.any():
            raise ValueError("y has no observed value: there is nothing to score.")
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, truth)
            seen &= sample_weight[:, None] > 0
        scores = []
        for index, rows in enumerate(seen.T):
            if rows.sum() < 2:
                continue
            weights = None if sample_weight is None else sample_weight[rows]
            cells = truth[rows, index], predicted[rows, index]
            # the same for standardised values, whose squares are finite
            scale = fit_affine(cells[0])
            bounded = (np.clip(scale.forward(c), *SCORED_RANGE) for c in cells)
            cells = tuple(bounded)
            scores.append(r2_score(*cells, sample_weight=weights))
        if not scores:
            warn(
                "R² is not defined for fewer than two observed values of an output: it "
                "is NaN.",
                UndefinedMetricWarning,
            )
        return float(np.mean(scores)) if scores else math.nan
