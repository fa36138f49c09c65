"""VAEImputer: complete the missing cells of a table."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, ClassVar

import narwhals.stable.v2 as nw
import numpy as np
import torch
from sklearn.base import TransformerMixin, _fit_context
from sklearn.callback._callback_support import callback_management_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from .._density.evidence import EVIDENCE_DRAWS, INFERENCE_FLOATS, pieces
from .._density.model import make_joint
from .._distributions.intervals import INTERVAL_DRAWS
from .._distributions.location_scale import SCALE_FLOOR
from .._imputation.cells import CellDistribution, seen
from .._imputation.conditional_mean import Rows
from .._imputation.fit_mean import choose_recipe, train_conditional_mean
from .._imputation.masking import has_patterns, hide, judged, some_like_others
from .._imputation.model import (
    CALIBRATION_PATTERNS,
    CALIBRATION_ROWS,
    FLOOR_PER_GAP,
    GAUSSIAN_WORK,
    HIDE_RANGE,
    MAX_GAUSSIAN_ROWS,
    MIN_GAUSSIAN_ROWS,
    MISSINGNESS_ROWS,
    VAE_LAYERS,
    build_mean,
    build_vae,
)
from .._imputation.residual_vae import find_centres
from .._imputation.scales import Scales
from .._imputation.self_masking import declared_signs, fit_slope
from .._networks.batch import Batch
from .._tables.missing import Filling, missing_mask, with_nan
from .._training.plan import History
from .._validation import check_count, check_weights, restored_on_error
from .base import BaseVAE


class VAEImputer(TransformerMixin, BaseVAE):
    """Complete missing cells with a conditional variational autoencoder.

    One model answers for every pattern of missing cells, in rows that it was trained
    on and in new ones; columns may hold numbers, counts, categories, ordered
    categories and booleans. It is learned in two stages, both by hiding observed
    cells:

    1. The conditional mean: what a cell is expected to be, given the cells that are
       there. A multivariate normal is fitted to the incomplete rows by
       expectation-maximisation, and a few small networks correct it; they see numbers
       through periodic features of their ranks [1]_ as well. Every network leaves out
       its part of the rows. On those its best weights are chosen, and for every
       column how much of the estimate comes from the normal and how much from the
       networks (``blend_``), by cells that are missing in other rows.
    2. The conditional VAE [2]_: how cells vary around that, jointly. The context c is
       what the first stage says together with the visible cells; prior p(z | c),
       posterior q(z | x, c) and decoder p(x | z, c) are trained to maximise the
       evidence lower bound of the hidden cells. Locations of numbers are centred on
       the first stage's estimates, and training rows come with estimates that were
       learned without them.

    :meth:`transform` takes its estimates from the first stage, :meth:`sample`,
    :meth:`predict_interval` and :meth:`score_samples` take theirs from the second.

    Parameters
    ----------
    n_components : int, default=None
        Number of latent variables. None takes one less than the number of columns,
        at most 32.

    missing_values : int, float, str, None or NaN, default=np.nan
        What marks a missing cell. NaN, None and null are missing in any case.

    add_indicator : bool, default=False
        Whether to append a column for every column with missing cells in training,
        which tells where a cell is missing.

    keep_empty_features : bool, default=False
        Whether to keep columns without an observed cell in training: filled with 0,
        False, the first category that the dtype declares, or "missing_value".
        Otherwise they are dropped.

    point : {"mean", "median"}, default="mean"
        The estimate of missing numbers: the mean has the least squared error, the
        median the least absolute one. Categories, ordered categories and booleans get
        the most probable value.

    missingness : {"mar", "self-masking", "agnostic"}, default="mar"
        Why cells are missing.

        - "mar": at random, given the observed cells.
        - "self-masking": by their own values, in the direction that ``direction``
          declares; the strength is learned (``missingness_slopes_``). The log-odds of
          a missing cell are linear in the value, as in not-MIWAE [4]_, so hidden
          values are distributed as observed ones tilted by an exponential [5]_.
        - "agnostic": as "self-masking" for all numeric columns, and the direction is
          learned too. It rests on the model's shape alone: check against what is
          known of the table.

    direction : {"high", "low"} or dict, default="high"
        Which values hide themselves if ``missingness="self-masking"``: of all numeric
        columns, or by column name or index. Columns that a dict leaves out are
        missing at random.

    hidden_layer_sizes : tuple of int, default=None
        Widths of the hidden layers of all networks; None takes (128, 128), and
        (256, 256, 256) for the expected values of tables from 5,000 rows up. With
        ``()`` the multivariate normal stands alone, for tables of numbers: conditional
        means, draws and densities are then exact.

    activation : {"relu", "silu", "gelu", "tanh"}, default="silu"
        Activation function of the hidden layers.

    likelihood : str or dict, default="auto"
        Distribution p(x | z, c) of the columns, as in :class:`VAETransformer`.

    numeric_transform : {"auto", "standard", "quantile", "none"} or dict, \
            default="auto"
        Map of the numeric columns ahead of the networks, as in
        :class:`VAETransformer`. Means are means of the values as given.

    categorical_features : "from_dtype", array-like of str, int or bool, or None, \
            default="from_dtype"
        Columns that hold categories: by their dtype in a data frame, by names,
        indices or a mask, or none.

    objective : {"elbo", "iwae"}, default="elbo"
        What the conditional VAE maximises: the evidence lower bound or the
        importance-weighted bound of ``n_draws`` draws.

    gradient : {"pathwise", "stl", "dreg", "score", "rloo", "grep"}, \
            default="pathwise"
        Gradient estimator, as in :class:`VAETransformer`.

    n_draws : int, default=1
        Draws of z per row and step.

    latent : {"normal", "lognormal", "gamma", "beta", "dirichlet"}, default="normal"
        Family of the latent variables, as in :class:`VAETransformer`.

    prior : tuple, dict or {"mixture", "vamp"}, default=None
        The prior. None makes it a network of the context, p(z | c), in the family
        ``latent``; anything else, as in :class:`VAETransformer`, makes it a p(z) that
        does not see the context.

    n_prior_components : int, default=10
        Number of components of the priors "mixture" and "vamp".

    kl_weight : float, default=1.0
        Weight of the Kullback-Leibler term.

    kl_warmup_steps : int, default=None
        Optimizer steps over which the weight of the Kullback-Leibler term rises
        from 0 to ``kl_weight``. None takes 0: training starts at the first stage's
        estimates.

    max_iter : int, default=None
        Number of epochs of the conditional VAE (passes over the training rows), and
        an upper limit of those of the conditional mean. None takes what the size of
        the table asks for.

    batch_size : int or "auto", default="auto"
        Rows per step of the conditional VAE. "auto" takes an eighth of the rows,
        between 16 and 256, and 1024 from 100,000 rows up.

    learning_rate_init : float, default=3e-3
        Learning rate of Adam, the highest one of a schedule. The conditional mean takes
        twice as much in tables of fewer than 5,000 rows.

    learning_rate : {"cosine", "adaptive", "constant"}, default="cosine"
        Schedule of the conditional VAE, as in :class:`VAETransformer`.

    early_stopping : bool, default=True
        Whether the conditional VAE sets rows aside, keeps the weights that score best
        on them and stops when the score no longer improves.

    validation_fraction : float, default=None
        Share of the rows set aside, at most 10,000 rows. None takes a tenth, and of
        small tables up to a quarter to have 50 rows.

    n_iter_no_change : int or numpy.inf, default=None
        Epochs without improvement after which the learning rate falls or training
        stops. None takes what the size of the table asks for.

    tol : float, default=1e-4
        Improvement in nats per row that counts.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the previous weights and column kinds.

    callbacks : list of skorch callbacks, default=None
        Passed on to the training loop of the conditional VAE. Callbacks of
        scikit-learn are set with ``set_callbacks``.

    device : str, default=None
        "cpu", "cuda", "cuda:1", "auto" for CUDA if it is there; None is the CPU.
        Apple's "mps" lacks the double precision that this takes.

    verbose : bool, default=False
        Whether to print the progress: ten losses of the conditional mean, on cells of
        left-out rows, then epochs of the conditional VAE.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the hidden cells, batches and noise. None
        takes a fresh seed; the global states of NumPy and torch are never touched.

    Attributes
    ----------
    n_components_ : int
        Number of latent variables.

    likelihood_ : dict of str to str
        Distribution of every column.

    numeric_transform_ : dict of str to str
        Map of every numeric column.

    blend_ : dict of str to dict of str to float
        Shares of "marginal" (the mean; 0 for categories), "normal" and "networks" in
        the point estimates of every column; they sum to 1.

    missingness_slopes_ : dict of str to float
        By how much the log-odds of a missing cell rise with one standard deviation
        of its value, for columns that may mask themselves; empty with "mar".

    indicator_features_ : ndarray of int
        Columns with missing cells in training.

    mean_losses_ : ndarray of float
        Loss of the networks on rows that they leave out, in nats per cell, as
        training goes on. Not there without hidden layers.

    n_features_in_ : int
        Number of columns.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where the table has string names.

    n_iter_ : int
        Number of epochs of the conditional VAE; without hidden layers, of iterations
        of expectation-maximisation.

    loss_ : float
        Negative objective of the last epoch, in nats per row of the encoded table.

    best_loss_ : float
        The lowest ``loss_`` over epochs.

    loss_curve_ : ndarray of shape (n_iter_,)
        ``loss_`` by epoch.

    validation_scores_ : ndarray of shape (n_epochs,) or None
        Objective on the validation rows by epoch of the last call of ``fit``, in nats
        per row of the encoded table; None without early stopping.

    best_validation_score_ : float or None
        Score of the weights that were kept.

    history_ : dict of str to ndarray of shape (n_iter_,)
        "objective", "reconstruction" and "kl" in nats per row, "active_units" and
        "learning_rate", by epoch.

    device_ : str
        The device that the model was trained on, or loaded to.

    See Also
    --------
    sklearn.impute.IterativeImputer : One regression per column, in rounds.
    sklearn.impute.KNNImputer : Means of the nearest rows.
    skvae.pool : Combine estimates from the tables of :meth:`sample`.

    Notes
    -----
    Observed cells come back bit for bit. A data frame gives a data frame of the same
    library with its dtypes, categories, column order and index; columns of integers
    get whole numbers. ``set_output`` applies to :meth:`transform`.

    Missing cells may occur in columns that were complete in training, and rows may
    have no cell at all. A category that was not seen in training stays as it is and
    counts as missing for the estimates of the other cells, with a warning.

    Which method to use depends on the question. :meth:`transform` gives every cell
    its best guess; these vary less than true values do, so variances and
    correlations of a table completed by it are off. :meth:`sample` draws the missing
    cells of a row jointly from p(x | z, c), as often as asked: analyse every table
    and combine the results with :func:`skvae.pool`. Every table has another draw of
    the parameters of the multivariate normal, so that tables differ by what the
    training rows leave open as well [6]_; there are 20 of them, and as few as 5 for
    tables with many columns. :meth:`predict_interval` takes quantiles over 99 draws,
    column by column. :meth:`score_samples` estimates
    log p of the observed cells by importance weighting [3]_, in nats and in the units
    of the columns as given.

    With hidden layers, point estimates of numbers stay in the range of the training
    values, and draws within a quarter more; columns that are never negative stay so.
    Draws of columns that repeat their values are values of the training table.

    References
    ----------
    .. [1] Y. Gorishniy, I. Rubachev, A. Babenko (2022). On Embeddings for Numerical
       Features in Tabular Deep Learning.
    .. [2] O. Ivanov, M. Figurnov, D. Vetrov (2019). Variational Autoencoder with
       Arbitrary Conditioning. arXiv:1806.02382.
    .. [3] P.-A. Mattei, J. Frellsen (2019). MIWAE: Deep Generative Modelling and
       Imputation of Incomplete Data Sets.
    .. [4] N. B. Ipsen, P.-A. Mattei, J. Frellsen (2021). not-MIWAE: Deep Generative
       Modelling with Missing not at Random Data.
    .. [5] J. K. Kim, C. L. Yu (2011). A Semiparametric Estimation of Mean Functionals
       with Nonignorable Missing Data.
    .. [6] J. L. Schafer (1997). Analysis of Incomplete Multivariate Data. Section 5.4.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae import VAEImputer
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=200)
    >>> X = np.column_stack([x, 2 * x, rng.normal(size=200)])
    >>> X[::4, 1] = np.nan
    >>> imputer = VAEImputer(max_iter=20, random_state=0).fit(X)
    >>> imputer.transform([[2.0, np.nan, 0.0]]).round()
    array([[2., 4., 0.]])
    >>> lower, upper = imputer.predict_interval([[2.0, np.nan, 0.0]])
    >>> bool(lower[0, 1] < 4 < upper[0, 1])
    True
    >>> [table.shape for table in imputer.sample(X, n_draws=2)]
    [(200, 3), (200, 3)]
    """

    __module__ = "skvae"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseVAE._parameter_constraints,
        "hidden_layer_sizes": [
            *BaseVAE._parameter_constraints["hidden_layer_sizes"],
            None,
        ],
        "missing_values": "no_validation",
        "add_indicator": ["boolean"],
        "keep_empty_features": ["boolean"],
        "point": [StrOptions({"mean", "median"})],
        "missingness": [StrOptions({"mar", "self-masking", "agnostic"})],
        "direction": [StrOptions({"high", "low"}), dict],
    }

    # most of the work is done before: the conditional mean
    _default_budget: ClassVar[tuple[int, int]] = (400, 3)
    _default_patience: ClassVar[tuple[int, int]] = (200, 2)
    _torch_parts: ClassVar[tuple[str, ...]] = ("_module", "_mean")

    def __init__(
        self,
        n_components=None,
        *,
        missing_values=np.nan,
        add_indicator=False,
        keep_empty_features=False,
        point="mean",
        missingness="mar",
        direction="high",
        hidden_layer_sizes=None,
        activation="silu",
        likelihood="auto",
        numeric_transform="auto",
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
        learning_rate_init=3e-3,
        learning_rate="cosine",
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
        self.missing_values = missing_values
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.point = point
        self.missingness = missingness
        self.direction = direction

    # -- fit ---------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Learn from a table with missing cells.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            At least two rows; NumPy, pandas, polars or pyarrow. Missing cells are
            NaN, null or ``missing_values``.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows; a row of weight zero is left out.

        Returns
        -------
        self : VAEImputer
            The fitted estimator.

        Raises
        ------
        ValueError
            If the table or a parameter cannot be used, or if the loss becomes
            non-finite; an already fitted estimator stays as it was.
        """
        with restored_on_error(self), callback_management_context(self):
            X = with_nan(X, self.missing_values)
            self._fit(X, sample_weight)
            missing = missing_mask(X)
            if sample_weight is not None:
                missing = missing[check_weights(sample_weight, X) > 0]
            self.indicator_features_ = np.flatnonzero(missing.any(axis=0))
            empty = [c.name for c in self._encoder.columns_ if c.is_empty]
            if empty and not self.keep_empty_features:
                warnings.warn(
                    "Columns without any observed value are dropped: "
                    f"{', '.join(map(repr, empty))}. keep_empty_features=True keeps "
                    "them.",
                    UserWarning,
                    stacklevel=3,
                )
            return self

    def _start(self, values, observed, sample_weight):
        """Build the conditional mean and the conditional VAE."""
        self._shape = values.shape
        self._describe(masked=True)
        heads = self._architecture["heads"]
        if not self._hidden_layer_sizes() and any(
            not name.startswith(("normal", "student_t", "poisson"))
            for name, _, _ in heads
        ):
            raise ValueError(
                "hidden_layer_sizes=() is the linear model, a multivariate normal, and "
                "takes numeric columns only: encode the others, or give "
                "hidden_layer_sizes at least one layer."
            )
        recipe = choose_recipe(*self._shape)
        sizes = self._hidden_layer_sizes()
        if self.hidden_layer_sizes is None:
            sizes = recipe.hidden_layer_sizes
        self._mean_options = {
            "hidden_layer_sizes": sizes,
            "n_members": recipe.n_members,
            "widest_normal": recipe.widest_normal,
        }
        seed = self._new_seed()
        self._evidence_seed = self._new_seed()
        self._mean = build_mean(self._architecture, self._mean_options, seed)
        self._units = Scales.fit(
            self._columns_in_order(), values, observed, self._order
        )
        self._signs()  # refuses what cannot be, before the training
        self._architecture["n_context"] = 0
        if self._mean.ensemble is not None:
            self._architecture["n_context"] = self._mean.n_context
        self._architecture["linear_path"] = True
        self._architecture["centres"] = find_centres(
            make_joint(self._architecture), self._mean, self._units.scales
        )
        self._module = build_vae(self._architecture, seed)
        self._set_floors()
        x, weight = self._starting_rows(values, observed, sample_weight)
        self._module.initialise_marginals(x, weight)

    def _hidden_layer_sizes(self) -> tuple[int, ...]:
        if self.hidden_layer_sizes is None:
            return VAE_LAYERS
        return super()._hidden_layer_sizes()

    def _set_floors(self):
        """Keep scales from shrinking below the gaps between repeated values."""
        columns, _, _ = self._module.joint.number_slots()
        floors = torch.full((len(columns),), SCALE_FLOOR)
        for slot, position in enumerate(columns.tolist()):
            column = self._units.columns[position]
            if column.support is not None:
                gaps = np.diff(column.map.forward(column.support))
                floors[slot] = max(SCALE_FLOOR, FLOOR_PER_GAP * float(np.median(gaps)))
        self._module.joint.set_floor(floors)

    def _batch(self, values, observed, sample_weight) -> Batch:
        """Put a table on the device, with its ``y``."""
        batch = super()._batch(values, observed, sample_weight)
        observed = batch.observed
        if observed is None:
            observed = torch.ones_like(batch.x, dtype=torch.bool)
        y = self._units.rows_of_y(batch.x, observed)
        return Batch(batch.x, observed, batch.weight, None, y)

    def _train(self, X, data, generator, *, going_on, one_pass, prepare=None):
        """Train the conditional mean, then the conditional VAE in its context."""
        mean = self._mean.to(self.device_).requires_grad_(True)
        weight = data.weight
        if weight is None:
            weight = data.x.new_ones(len(data))
        rows = Rows(data.x, data.y, data.observed, weight)
        some = rows
        n_some = int(GAUSSIAN_WORK / max(1, len(mean.slots)) ** 3)
        n_some = min(max(n_some, MIN_GAUSSIAN_ROWS), MAX_GAUSSIAN_ROWS)
        if len(data) > n_some:
            order = torch.randperm(len(data), generator=generator, device=self.device_)
            some = rows.take(order[:n_some])
        linear = mean.ensemble is None
        trace = []
        if linear or not going_on:
            trace = mean.initialise(some)
            # a generator of its own: draws leave the training as it is
            seeded = torch.Generator(self.device_).manual_seed(self._evidence_seed)
            mean.draw_parameters(some, seeded)
        if linear:
            self._record_linear(trace)
            self._fit_missingness(data)
            return
        recipe = choose_recipe(*self._shape)
        if self.max_iter is not None:
            n_batches = max(1, len(data) // recipe.batch_size)
            limit = self.max_iter * n_batches
            recipe = replace(recipe, n_steps=min(recipe.n_steps, limit))
        progress = self._progress(X)
        losses, folds = train_conditional_mean(
            mean, rows, recipe, self.learning_rate_init, generator, progress=progress
        )
        self.mean_losses_ = np.array(losses)
        mean.requires_grad_(False).eval()
        if not going_on:
            self._module.initialise_at_mean(mean)

        copies = has_patterns(data.observed)

        def with_context(batch: Batch) -> Batch:
            observed = seen(batch)
            v = hide(observed, *HIDE_RANGE, generator)
            if copies:
                v = some_like_others(v, observed, generator)
            with torch.no_grad():
                context = mean.context(batch.x, batch.y, v, batch.fold)
            return Batch(batch.x, observed & ~v, batch.weight, context)

        super()._train(
            X,
            Batch(data.x, data.observed, data.weight, None, data.y, folds),
            generator,
            going_on=going_on,
            one_pass=one_pass,
            prepare=with_context,
            progress=progress,
        )
        if folds is not None:
            self._calibrate(rows._replace(fold=folds), recipe, generator)
        mean.gaussian.drop_folds()
        self._fit_missingness(data)

    def _calibrate(self, rows, recipe, generator):
        """Bring the draws of training rows to the errors of what has not seen them."""
        left_out = torch.nonzero(rows.fold >= 0)[:, 0]  # in the order of the table
        order = torch.randperm(
            len(left_out), generator=generator, device=left_out.device
        )
        chosen = left_out[order[:CALIBRATION_ROWS]]
        some = rows.take(chosen.repeat(CALIBRATION_PATTERNS))
        v = judged(some.observed, recipe.most_hidden, generator)
        with torch.no_grad():
            c = self._mean.context(some.x, some.y, v, some.fold)
        self._module.calibrate(some.x, some.observed & ~v, c, generator)

    def _record_linear(self, trace):
        """Record the EM iterations of the linear model as the others' epochs."""
        n = len(trace)
        none = [0.0] * n
        history = History(trace, trace, none, [self.n_components_] * n, none)
        self._record(history, self._plan(n, False), going_on=False)
        self.validation_scores_ = self.best_validation_score_ = None
        self.likelihood_ = dict.fromkeys(self.likelihood_, "normal")

    def _record(self, history, plan, *, going_on):
        super()._record(history, plan, going_on=going_on)
        self.blend_ = dict(
            zip((c.name for c in self._units.columns), self._mean.blend(), strict=True)
        )

    def _fit_missingness(self, data):
        """Learn how the values of a column decide whether they are missing."""
        self.missingness_slopes_, self._slopes = {}, {}
        cells = self._cells()
        generator = cells.generator()
        some = data.at_random(MISSINGNESS_ROWS, generator)
        weight = None
        if some.weight is not None:
            weight = (some.weight / some.weight.mean()).cpu().numpy().astype(float)
        for position, sign in self._signs().items():
            v = some.observed.clone()
            v[:, position] = False
            draws = np.concatenate(
                [
                    self._units.y_of(x[..., position], position)
                    for _, x in cells.draw(some, INTERVAL_DRAWS, generator, v)
                ],
                axis=1,
            )
            missing = ~some.observed[:, position].cpu().numpy()
            slope = fit_slope(draws, missing, sign, weight)
            self.missingness_slopes_[self._units.columns[position].name] = slope
            if slope:
                self._slopes[position] = slope

    def _signs(self) -> dict[int, int]:
        """Return the declared sign of every number column that masks itself."""
        numbers = {self._units.columns[c].name: c for c in self._mean.columns.tolist()}
        names = [column.name for column in self._encoder.columns_]
        labels = self._encoder.schema_.labels
        return declared_signs(self.missingness, self.direction, names, numbers, labels)

    def _resolve_device(self, device):
        resolved = super()._resolve_device(device)
        if not resolved.startswith("mps"):
            return resolved
        if device == "auto":
            return "cpu"
        raise ValueError(
            "VAEImputer computes in double precision, which MPS lacks: use "
            "device='auto' or 'cpu'."
        )

    # -- inference ---------------------------------------------------------------

    def transform(self, X):
        """Complete the missing cells with their point estimates.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table.

        Returns
        -------
        X_completed : ndarray or data frame of shape (n_samples, n_features_out)
            The table with its missing cells filled: the mean (or median, see
            ``point``) of numbers and counts, the most probable category. Columns that
            were empty in training are dropped unless ``keep_empty_features``, and
            indicators follow if ``add_indicator``.

        Raises
        ------
        ValueError
            If the columns are not those of the training table.
        """
        check_is_fitted(self)
        with_nulls = with_nan(X, self.missing_values)
        encoded = self._point(self._encode(with_nulls))
        table = self._complete(X, self._filling(with_nulls), encoded)
        return as_configured(table, self)

    def sample(self, X, n_draws=5, random_state=None):
        """Draw completed tables.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table.
        n_draws : int, default=5
            Number of tables.
        random_state : int, RandomState instance or None, default=None
            Determines the draws; None gives fresh ones at every call.

        Returns
        -------
        tables : list of ndarray or data frame
            ``n_draws`` tables like that of :meth:`transform`; the missing cells of a
            row are drawn jointly, given its observed cells, and the parameters of
            the multivariate normal once for every table. Rows without any cell are
            new rows from the fitted model, drawn a few columns at a time (without
            hidden layers or with self-masking columns, as other rows are).

        Raises
        ------
        ValueError
            If ``n_draws`` is no positive int, or the columns are not those of the
            training table.
        """
        check_is_fitted(self)
        n_draws = check_count(n_draws, "n_draws")
        with_nulls = with_nan(X, self.missing_values)
        data = self._encode(with_nulls)
        generator = self._generator(random_state)
        draws = list(self._cells().tables(data, n_draws, generator))
        filling = self._filling(with_nulls)
        return [
            self._complete(X, filling, np.concatenate([x[k] for x in draws]), True)
            for k in range(n_draws)
        ]

    def predict_interval(self, X, coverage=0.9):
        """Return intervals that missing cells lie in.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table.
        coverage : float, default=0.9
            Probability that a cell lies in its interval, between 0 and 0.9999.

        Returns
        -------
        lower, upper : ndarray or data frame of shape (n_samples, n_features_out)
            Tables like that of :meth:`transform`, with the ends of the intervals in
            the missing cells of numbers, counts and ordered categories: quantiles of
            99 draws (more if ``coverage`` exceeds 0.98), the same at every call with
            the same table. Where a column repeats its values, the
            ends are values of it, with the probability beyond them as near to
            ``(1 - coverage) / 2`` as these allow. Categories without order and
            booleans have the most probable value in both.

        Raises
        ------
        ValueError
            If ``coverage`` is not between 0 and 0.9999, or the columns are not those of
            the training table.
        """
        check_is_fitted(self)
        with_nulls = with_nan(X, self.missing_values)
        data = self._encode(with_nulls)
        ordered = self._units.ordered()
        ends = self._cells().intervals(data, ordered, coverage)
        bounds = np.stack([self._point(data)] * 2)
        bounds[..., ordered] = ends
        filling = self._filling(with_nulls)
        return tuple(self._complete(X, filling, bound, True) for bound in bounds)

    def score_samples(self, X):
        """Return the log-likelihood of the observed cells of each row.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,), float32
            Importance-weighted estimate of log p(observed cells) in nats, from 256
            draws of q, the same for every row; 0 for a row without any cell. Without
            hidden layers it is exact.

        Raises
        ------
        ValueError
            If the columns are not those of the training table.
        """
        check_is_fitted(self)
        data = self._encode(with_nan(X, self.missing_values))
        if self._mean.ensemble is None:
            n_inputs = len(self._mean.slots)
            parts = []
            with torch.inference_mode():
                for piece in pieces(data, max(1, INFERENCE_FLOATS // n_inputs**2)):
                    cells = self._mean.gaussian_inputs(piece.y, piece.observed)
                    parts.append(self._mean.gaussian.log_prob(*cells).cpu().numpy())
            scores = np.concatenate(parts)
            # of y, which is not x everywhere
            scores = scores + self._units.log_jacobian(seen(data).cpu().numpy())
        else:
            nothing = torch.zeros_like(data.observed[:1])
            with torch.inference_mode():
                c = self._mean.context(data.x[:1], data.y[:1], nothing)
            data_c = Batch(data.x, data.observed, None, c.expand(len(data), -1))
            scores = self._evidence(data_c, EVIDENCE_DRAWS) + self._log_jacobian(data)
        scores[~seen(data).any(1).cpu().numpy()] = 0  # nothing has probability 1
        return scores.astype(np.float32)

    def _cells(self) -> CellDistribution:
        """Return what the model says of single cells."""
        return CellDistribution(
            self._mean,
            self._module,
            self._units,
            self._slopes,
            self._evidence_seed,
            max(self._widths()),
        )

    def _point(self, data: Batch) -> np.ndarray:
        """Return the point estimates of all cells, encoded."""
        # a tilted normal is one: its median is its mean
        if self.point == "median" and self._mean.ensemble is not None:
            return self._cells().medians(data)
        return self._cells().expected(data)

    # -- tables ------------------------------------------------------------------

    def _filling(self, X) -> Filling:
        """Return which cells of a table to fill, and which columns to return."""
        columns = self._encoder.columns_
        empty = {i: c.has_categories for i, c in enumerate(columns) if c.is_empty}
        kept = list(range(len(columns)))
        if not self.keep_empty_features:
            kept = [i for i in kept if i not in empty]
        flagged = self.indicator_features_.tolist() if self.add_indicator else []
        return Filling(missing_mask(X), kept, empty, flagged)

    def _complete(self, X, filling: Filling, encoded: np.ndarray, drawn: bool = False):
        """Fill the missing cells of a table from encoded rows."""
        table = filling.fill(X, self._decode_table(encoded, drawn=drawn))
        if self._encoder.schema_.library == "numpy" and not isinstance(
            table, np.ndarray
        ):  # a model of an array knows no names but its own
            names = self.get_feature_names_out().tolist()
            if hasattr(table, "rename_columns"):
                return table.rename_columns(names)
            table.columns = names
        if (
            filling.flagged
            and nw.dependencies.is_pandas_dataframe(table)
            and not all(isinstance(label, str) for label in table.columns)
        ):  # scikit-learn takes no mixture of strings and other labels
            table.columns = self.get_feature_names_out().tolist()
        return table

    def get_feature_names_out(self, input_features=None):
        """Return the names of the columns of the completed table.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns; None takes those of the training table.

        Returns
        -------
        names : ndarray of str
            Names of the columns that are kept, then those of the indicators.
        """
        check_is_fitted(self)
        names = np.asarray(_check_feature_names_in(self, input_features), dtype=object)
        out = names
        if not self.keep_empty_features:
            out = names[[not c.is_empty for c in self._encoder.columns_]]
        if self.add_indicator:
            flags = [f"missingindicator_{n}" for n in names[self.indicator_features_]]
            out = np.concatenate([out, np.asarray(flags, dtype=object)])
        return out

    def __sklearn_tags__(self):
        """Return the tags: the observed cells keep their dtype."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _widths(self) -> list[int]:
        return [*super()._widths(), *self._mean_options["hidden_layer_sizes"]]

    def _build(self, part: str, seed: int = 0) -> torch.nn.Module:
        if part == "_mean":
            return build_mean(self._architecture, self._mean_options, seed)
        return build_vae(self._architecture, seed)


def as_configured(table: Any, owner: Any) -> Any:
    """Return a data frame in the library that ``set_output`` asks for.

    Arrays are wrapped by scikit-learn, which cannot turn one library into another.
    """
    wanted = _get_output_config("transform", owner)["dense"]
    if isinstance(table, np.ndarray) or wanted == "default":
        return table
    frame = nw.from_native(table, eager_only=True)
    return frame.to_pandas() if wanted == "pandas" else frame.to_polars()
