"""VAEImputer: complete the missing cells of a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from sklearn.base import TransformerMixin, _fit_context
from sklearn.impute import MissingIndicator
from sklearn.utils._param_validation import StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from .._imputation.model import ImputationModel
from .._tables.libraries import (
    has_text_labels,
    rename_columns,
    to_library,
    weighted_rows,
)
from .._tables.missing import fill_missing, missing_mask, replace_marker
from .._tables.values import indicator_name, is_missing
from .._training.ambient import isolated
from .._validation import check_count, restored_on_error, warn
from .base import BaseVAE


class VAEImputer(TransformerMixin, BaseVAE):
    """Complete missing cells with a conditional variational autoencoder.

    One model handles all combinations of missing cells, in training rows and in new
    ones. Columns may hold numbers, counts, categories, ordered categories and booleans.
    Training has two stages. In both, some observed cells are masked, and the model
    learns to predict them from the other cells:

    1. The conditional mean: the expected value of a cell given the observed cells. A
       multivariate normal model is fitted to the incomplete rows by
       expectation-maximisation. A few small networks correct its estimates; their
       inputs include periodic features of the ranks of numbers [1]_. As in K-fold
       cross-validation, each network is trained without one part of the rows. These
       held-out rows select the training step whose network weights are kept, and the
       stacking weights of the normal model and the networks in the estimates of every
       column (``stacking_weights_``).
    2. The conditional VAE [2]_: the joint distribution of the missing cells around that
       mean. Its context c consists of the estimates of stage 1, the observed cells and
       their mask, and the normal model's conditional standard deviations. Prior
       p(z | c), posterior q(z | x, c) and decoder p(x | z, c) maximise the evidence
       lower bound of the masked cells. Draws of a number are centred on its conditional
       mean (unless its column has a quantile transform). In training that mean comes
       from the network that held the row out, so that draws vary as much as the errors
       on new rows.

    :meth:`transform` uses stage 1; :meth:`sample`, :meth:`predict_interval` and
    :meth:`score_samples` use stage 2. Most users set only ``random_state``, and if
    needed ``missingness`` and ``strategy``.

    Parameters
    ----------
    n_components : int, default=None
        Number of latent variables. None means one less than the number of columns,
        at most 32. Those that the data do not need stay unused, see
        ``history_["active_units"]``.

    missing_values : int, float, str, bool, None, pandas.NA or NaN, default=np.nan
        The one value that marks a missing cell, besides NaN, None and null. It is
        compared in the type of every column: a number with numbers (-999.9 is found in
        float32 too), a string with text, a boolean with booleans alone.

    add_indicator : bool, default=False
        Whether to append an indicator of missing cells for every column that had some
        in training.

    keep_empty_features : bool, default=False
        Whether to keep columns without an observed cell in training. They are filled
        with 0, False, the first category that the dtype declares, or "missing_value".
        With False they are dropped.

    strategy : {"mean", "median"}, default="mean"
        Point estimate of missing numbers and counts: the conditional mean minimises the
        squared error, the median the absolute error. Categories, ordered categories and
        booleans get the most probable value.

    missingness : {"mar", "high", "low", "agnostic"} or dict, default="mar"
        Why cells are missing: one string for all numeric columns, or a dict from column
        name or index to a string; columns that are not in the dict are "mar".

        - "mar": at random, given the observed cells.
        - "high", "low": a cell is missing more often if its own value is high (low).
          How strongly is estimated (``missingness_slopes_``). The log-odds of a
          missing cell are linear in its value, as in not-MIWAE [4]_, so missing values
          follow the distribution of observed values tilted by an exponential [5]_.
        - "agnostic": the same, but the direction is estimated too. The data give little
          evidence on it; the estimate depends on the assumed linear form. Check the
          sign of ``missingness_slopes_`` against what you know about the table.

    hidden_layer_sizes : tuple of int, default=None
        Widths of the hidden layers of all networks. None means (128, 128), but
        (256, 256, 256) in stage 1 for tables of 5,000 rows or more. With ``()`` there
        are no networks: conditional means, draws and likelihoods are exactly those of
        the multivariate normal model. All columns must then be numeric; categories and
        booleans are refused.

    activation : {"relu", "silu", "gelu", "tanh"}, default="silu"
        Activation function of the hidden layers.

    likelihood : str or dict, default="auto"
        Distribution p(x | z, c) of the columns, as in :class:`VAETransformer`. Not used
        with ``hidden_layer_sizes=()``.

    numeric_transform : {"auto", "standard", "quantile", "none"} or dict, \
            default="auto"
        Transform that numeric columns get before they enter the networks, as in
        :class:`VAETransformer`. Imputed means are means in the original units, whatever
        the transform.

    categorical_features : "from_dtype", array-like of str, int or bool, or None, \
            default="from_dtype"
        Columns that hold categories: those with such a dtype in a data frame, or a list
        of names or indices, or a boolean mask, or none. String columns of dtype object
        must be listed; a list must name all columns of strings and categories.

    max_iter : int, default=None
        Number of epochs (passes over the training rows) of stage 2; stage 1 has at most
        as many. None means that the numbers depend on the size of the table.

    batch_size : int or "auto", default="auto"
        Rows per training step of stage 2. "auto" means the number of rows divided by 8,
        but at least 16 and at most 256; 1024 if there are 100,000 rows or more.

    learning_rate_init : float, default=3e-3
        Learning rate of Adam: the highest value of a schedule. Stage 1 uses twice this
        value in tables of fewer than 5,000 rows.

    warm_start : bool, default=False
        Whether ``fit`` continues from the previous network weights; column types and
        encodings stay as they were.

    callbacks : list of skorch callbacks, default=None
        Callbacks of the training of stage 2, and :class:`skvae.Checkpoint`. Callbacks
        of scikit-learn are set with ``set_callbacks``.

    device : str, default=None
        "cpu", "cuda", "cuda:1", or "auto" for CUDA if it is available. None means the
        CPU. Apple's "mps" lacks double precision, which the imputer needs.

    verbose : bool, default=False
        Whether to print the progress: ten losses of stage 1 on held-out rows, then the
        epochs of stage 2.

    random_state : int, RandomState instance or None, default=None
        Determines the initial network weights, the validation rows, batches and noise.
        None means a new seed in every fit. The global random states of NumPy and torch
        are never used.

    Attributes
    ----------
    n_components_ : int
        Number of latent variables.

    likelihood_ : dict of str to str
        Likelihood of every column: its distribution given the latent variables.

    numeric_transform_ : dict of str to str
        Transform of every numeric column: "standard", "robust", "quantile" or "none".

    stacking_weights_ : dict of str to dict of str to float
        Weights in the estimates of every column: of "marginal" (the column mean; always
        0 for categories and booleans), "normal" (the multivariate normal model) and
        "networks". They sum to 1.

    missingness_slopes_ : dict of str to float
        For every column with "high", "low" or "agnostic": change of the log-odds of a
        missing cell per standard deviation of its value. Empty with "mar".

    indicator_features_ : ndarray of int
        Columns with missing cells in training.

    indicator_ : :class:`~sklearn.impute.MissingIndicator` or None
        Indicator of the missing cells of arrays, as in scikit-learn's imputers; None
        unless ``add_indicator``.

    mean_losses_ : ndarray of float
        Loss of the networks on held-out rows during training, in nats per cell. Not set
        with ``hidden_layer_sizes=()``.

    n_features_in_ : int
        Number of columns.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if they are strings.

    n_iter_ : int
        Number of epochs of stage 2; with ``hidden_layer_sizes=()``, of iterations of
        expectation-maximisation.

    loss_ : float
        Negative objective of the last epoch, in nats per row. Columns are encoded
        (numbers rescaled), so it is not comparable with :meth:`score_samples`.

    best_loss_ : float
        The lowest ``loss_`` over epochs.

    loss_curve_ : ndarray of shape (n_iter_,)
        ``loss_`` by epoch.

    validation_scores_ : ndarray of shape (n_epochs,) or None
        Objective on the validation rows, by epoch of the last call of ``fit``, in nats
        per row, with encoded columns. None if no rows are set aside for validation
        (``early_stopping=False``; VAEImputer: ``hidden_layer_sizes=()``).

    best_validation_score_ : float or None
        Score of the network weights that were kept.

    history_ : dict of str to ndarray of shape (n_iter_,)
        By epoch: "objective", "reconstruction" and "kl" in nats per row,
        "active_units" (number of latent variables whose posterior mean varies between
        rows) and "learning_rate".

    device_ : str
        Device on which the model was trained, or to which it was loaded.

    See Also
    --------
    sklearn.impute.IterativeImputer : Predicts each column from the others, repeatedly.
    sklearn.impute.KNNImputer : Fills cells with means over the nearest rows.
    skvae.pool : Combines statistics of the tables of :meth:`sample`.

    Notes
    -----
    Observed cells are returned bit for bit. A data frame gives a data frame of the same
    library with its dtypes, categories, column order and index. Columns of integers get
    whole numbers; where whole numbers are stored as floats, draws and ends of intervals
    are whole, and means are not rounded, which would raise their error. ``set_output``
    applies to :meth:`transform`.

    New rows may have missing cells in columns that were complete in training, and may
    have no observed cell at all. A category that was not in the training table is
    returned unchanged, but treated as missing in the estimates of the other cells, with
    a warning.

    Which method to use depends on the question. :meth:`transform` fills cells with
    point estimates. These vary less than true values, so variances and correlations of
    the completed table are biased. :meth:`sample` draws the missing cells of a row
    jointly from p(x | z, c): analyse every table and combine the results with
    :func:`skvae.pool`. Every table uses one of 20 posterior draws of the mean and
    covariance of the multivariate normal model (as few as 5 for tables with many
    columns), so that tables also differ by the uncertainty of these parameters [6]_. If
    you draw more tables, several share a draw. :meth:`predict_interval` computes
    quantiles of 99 draws for each cell. :meth:`score_samples` estimates log p of the
    observed cells by importance weighting [3]_, in nats and in the original units.

    With ``hidden_layer_sizes=()`` the multivariate normal model is fitted to all rows.
    With networks, which correct it, at most 5,000 randomly chosen rows are used: fewer
    if the table has more than 58 columns after one-hot encoding, 500 from 126 columns.

    On processors with matrix units for bfloat16 (Intel's AMX) the networks of stage 1
    are trained in this lower precision if tables are large. Fits are up to 1.4 times
    as fast, and estimates differ from those of other processors by some hundredths of a
    percent.

    With networks, point estimates of numbers stay within the range of the training
    values (except with "high", "low" and "agnostic"). Draws may lie outside it by up to
    25% of its width, as cutting them at the range would bias relations between columns
    towards zero; in columns without negative values they are not negative. In columns
    with few distinct values, draws are values of the training table.

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
        "strategy": [StrOptions({"mean", "median"})],
        "missingness": [StrOptions({"mar", "agnostic", "high", "low"}), dict],
    }

    _needs_double: ClassVar[bool] = True
    _load = staticmethod(ImputationModel.from_state)

    def __init__(
        self,
        n_components=None,
        *,
        missing_values=np.nan,
        add_indicator=False,
        keep_empty_features=False,
        strategy="mean",
        missingness="mar",
        hidden_layer_sizes=None,
        activation="silu",
        likelihood="auto",
        numeric_transform="auto",
        categorical_features="from_dtype",
        max_iter=None,
        batch_size="auto",
        learning_rate_init=3e-3,
        warm_start=False,
        callbacks=None,
        device=None,
        verbose=False,
        random_state=None,
    ):
        self.n_components = n_components
        self.missing_values = missing_values
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.strategy = strategy
        self.missingness = missingness
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.numeric_transform = numeric_transform
        self.categorical_features = categorical_features
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    # -- fit ---------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    @isolated()
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
            If the table or a parameter cannot be used, among them a table with a column
            that has the name of an indicator, or if the loss becomes non-finite; an
            already fitted estimator stays as it was.
        TypeError
            If ``missing_values`` is not one marker.
        """
        with restored_on_error(self):
            self._fit(X, sample_weight=sample_weight)
            names = [column.name for column in self._encoder.columns_]
            dropped = set(range(len(names))) - set(self._kept)
            if dropped:
                warn(
                    "Columns without any observed value are dropped: "
                    f"{', '.join(repr(names[index]) for index in sorted(dropped))}. "
                    "keep_empty_features=True keeps them.",
                )
        return self

    def _read(self, X, y, sample_weight, resume):
        marked = replace_marker(X, self.missing_values)
        weights, marked = weighted_rows(sample_weight, marked)
        data = self._encode_training(marked, weights, resume)
        columns, missing = data.encoder.columns_, data.observed
        if resume or missing is None or any(column.is_partial for column in columns):
            missing = missing_mask(marked)  # the model lacks some observed cells
        else:
            missing = ~missing
        flagged = np.flatnonzero(missing.any(axis=0))
        if self.add_indicator:
            check_indicators([column.name for column in columns], flagged)
        attributes = {**data.attributes, "indicator_features_": flagged}
        return replace(data, attributes=attributes)

    def _build(self, data, params, random):
        return ImputationModel.build(data, params, random)

    # -- inference ---------------------------------------------------------------

    @isolated()
    def transform(self, X):
        """Complete the missing cells with their point estimates.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table.

        Returns
        -------
        X_completed : ndarray or data frame of shape (n_samples, n_features_out)
            The table with its missing cells filled: the mean of numbers and counts
            (or the median, see ``strategy``), the most probable category. Columns
            that were empty in training are dropped unless ``keep_empty_features``,
            and indicators follow if ``add_indicator``.

        Raises
        ------
        ValueError
            If the columns are not those of the training table.
        """
        marked = self._marked(X)
        estimates = self._model.estimates(self._encode(marked))
        table = self._complete(X, missing_mask(marked), estimates)
        return as_configured(table, self)

    @isolated()
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
            ``n_draws`` tables like that of :meth:`transform`. The missing cells of a
            row are drawn jointly, given its observed cells; every table uses its own
            parameters of the multivariate normal model. A row without observed cells
            becomes a new row from the fitted model, drawn a few columns at a time (in
            one step with ``hidden_layer_sizes=()``, "high", "low" or "agnostic").

        Raises
        ------
        ValueError
            If ``n_draws`` is no positive int, or the columns are not those of the
            training table.
        """
        check_is_fitted(self)
        n_draws = check_count(n_draws, "n_draws")
        marked = self._marked(X)
        data = self._encode(marked)
        draws = self._model.draws(data, n_draws, self._generator(random_state))
        mask = missing_mask(marked)
        return [self._complete(X, mask, draw, drawn=True) for draw in draws]

    @isolated()
    def predict_interval(self, X, coverage=0.9):
        """Return prediction intervals of the missing cells.

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
            the same table. In a column with few distinct values the ends are such
            values, and the probability beyond each end is as close to
            ``(1 - coverage) / 2`` as they allow. Categories without order and booleans
            have the most probable value in both tables.

        Raises
        ------
        ValueError
            If ``coverage`` is not between 0 and 0.9999, or the columns are not those of
            the training table.
        """
        marked = self._marked(X)
        bounds = self._model.intervals(self._encode(marked), coverage)
        mask, indexed = missing_mask(marked), self._model.indexed
        return tuple(
            self._complete(X, mask, end, drawn=True, indexed=indexed) for end in bounds
        )

    @isolated()
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
        data = self._encode(self._marked(X), outliers=True)
        return self._model.log_likelihood(data)

    # -- tables ------------------------------------------------------------------

    @property
    def indicator_(self) -> MissingIndicator | None:
        """Indicator of the missing cells of arrays; None unless ``add_indicator``."""
        check_is_fitted(self)
        if not self._params["add_indicator"]:
            return None
        marker = self._params["missing_values"]
        marker = np.nan if is_missing(marker) else marker
        indicator = MissingIndicator(missing_values=marker, error_on_new=False)
        # fitted to one row of gaps in the flagged columns: the model keeps no table
        value = 0 if isinstance(marker, str) else ""
        row = np.full((1, self.n_features_in_), value, dtype=object)
        row[:, self.indicator_features_] = marker
        indicator.fit(row)
        if hasattr(self, "feature_names_in_"):
            indicator.feature_names_in_ = self.feature_names_in_
        return indicator

    @property
    def _empty(self) -> dict[int, bool]:
        """Map from all-missing training columns to whether they are categorical."""
        columns = enumerate(self._encoder.columns_)
        return {i: column.has_categories for i, column in columns if column.is_empty}

    @property
    def _kept(self) -> list[int]:
        """Columns that a completed table has."""
        dropped = {} if self._params["keep_empty_features"] else self._empty
        return [i for i in range(len(self._encoder.columns_)) if i not in dropped]

    @property
    def _flagged(self) -> list[int]:
        """Columns whose missing cells are flagged in further columns."""
        flagged = self._params["add_indicator"]
        return self.indicator_features_.tolist() if flagged else []

    def _marked(self, X):
        """Return a table with missing cells where the marker of the training is."""
        check_is_fitted(self)
        return replace_marker(X, self._params["missing_values"])

    def _complete(self, X, mask: np.ndarray, encoded: np.ndarray, **options: Any):
        """Fill the masked cells of a table from encoded rows, see ``decode``."""
        columns = self._encoder.decode_columns(encoded, **options)
        schema, flagged = self._encoder.schema_, self._flagged
        table = fill_missing(X, schema, columns, mask, self._kept, self._empty, flagged)
        # a model of an array has its own names, and scikit-learn refuses a mixture of
        # strings and other labels
        is_of_array = self._encoder.schema_.library == "numpy"
        if is_of_array or (flagged and not has_text_labels(table)):
            return rename_columns(table, self.get_feature_names_out().tolist())
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
        flags = [indicator_name(name) for name in names[self._flagged]]
        return np.concatenate([names[self._kept], np.asarray(flags, dtype=object)])

    def __sklearn_tags__(self):
        """Return the tags: the observed cells keep their dtype."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def check_indicators(names: list[str], flagged: np.ndarray) -> None:
    """Raise ValueError if a column has the name of an indicator already."""
    taken = {indicator_name(names[place]): names[place] for place in flagged}
    for name in names:
        if name in taken:
            raise ValueError(
                f"X has a column {name!r}, which is the name of the indicator of "
                f"{taken[name]!r}. Rename it, or set add_indicator=False."
            )


def as_configured(table: Any, owner: Any) -> Any:
    """Return a data frame in the library that ``set_output`` asks for.

    Arrays are wrapped by scikit-learn, which cannot turn one library into another.
    """
    wanted = _get_output_config("transform", owner)["dense"]
    if isinstance(table, np.ndarray) or wanted == "default":
        return table
    return to_library(table, wanted)
