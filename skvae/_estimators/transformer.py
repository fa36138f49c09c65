"""VAETransformer: representation, density and generator of a table."""

from __future__ import annotations

from typing import Any, ClassVar

from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from .._density.model import VAEModel
from .._density.settings import SETTINGS
from .._tables.libraries import weighted_rows
from .._training.ambient import isolated
from .._training.gradients import DRAWS, check_gradient
from .._validation import check_count
from .base import (
    LATENT_CONSTRAINTS,
    POSITIVE_INT,
    TRAINING_CONSTRAINTS,
    BaseVAE,
    latents_of,
)


class VAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseVAE):
    """Variational autoencoder of a table: latent variables, density and new rows.

    A row x of numbers, counts, categories, ordered categories or booleans, some of
    them missing, is explained by a few latent variables z. Their prior is N(0, I)
    unless ``latent`` or ``prior`` changes it. A decoder network computes the
    distribution p(x | z) of every column, an encoder network the approximate posterior
    q(z | x). Both are trained to maximise the evidence lower bound on log p(x) [1]_, or
    its importance-weighted refinement [2]_. Missing cells do not contribute.

    Training starts from a factor analysis of the numeric columns, the linear special
    case of the model, and keeps the network weights with the highest score on
    validation rows. Most users set only ``random_state``.

    Parameters
    ----------
    n_components : int, default=None
        Number of latent variables. None means one less than the number of columns,
        at most 32. Those that the data do not need stay unused, see
        ``history_["active_units"]``.

    hidden_layer_sizes : tuple of int, default=(128, 128)
        Widths of the encoder's hidden layers; the decoder has them in reverse. With
        ``()`` both are linear and the model is a factor analysis.

    activation : {"relu", "silu", "gelu", "tanh"}, default="relu"
        Activation function of the hidden layers.

    likelihood : str or dict, default="auto"
        Distribution p(x | z) of the columns: one name for all, or a dict from
        column name or index to name; columns that a dict leaves out follow "auto".

        - "auto": by the type of the column. Numbers get "student_t", which learns how
          heavy the tails are, or "student_t_heteroscedastic" if the validation rows
          favour a scale per cell. Non-negative integers get "poisson" if it fits at
          least as well as a normal distribution, "negative_binomial" if that fits
          clearly better on held-out cells. Booleans get "bernoulli", ordered
          categories "ordinal", other categories "categorical". ``likelihood_`` holds
          the choice.
        - "normal": normal distribution with a learned scale per column.
        - "normal_heteroscedastic": normal distribution with a scale per cell.
        - "normal_isotropic": normal distribution with one scale for all such columns,
          as in probabilistic PCA.
        - "student_t", "student_t_heteroscedastic": Student-t with learned degrees of
          freedom (more than 2) and a scale per column or per cell.
        - "poisson": non-negative whole numbers.
        - "negative_binomial": the same with mean m and variance m + m²/r; the
          dispersion r is learned for each column.
        - "bernoulli": booleans, two categories, or numbers in [0, 1].
        - "ordinal": ordered categories (cumulative logit).
        - "categorical": categories.

        A name of a numeric distribution applies to all numeric columns; columns of
        other types stay at "auto".

    numeric_transform : {"auto", "standard", "quantile", "none"} or dict, \
            default="auto"
        Transform that numeric columns get before they enter the networks, and that is
        undone in every output: "standard" (mean 0, variance 1), "quantile" (to N(0, 1))
        or "none". "auto" means "standard", or "quantile" if that raises the normal
        log-likelihood of held-out cells of the column by more than 0.1 nats per cell.
        Tails that would hide all other values are compressed ("robust"), and values far
        beyond all others count as missing; a warning names both.

    categorical_features : "from_dtype", array-like of str, int or bool, or None, \
            default="from_dtype"
        Columns that hold categories: those with such a dtype in a data frame, or a list
        of names or indices, or a boolean mask, or none. String columns of dtype object
        must be listed; a list must name all columns of strings and categories.

    objective : {"elbo", "iwae"}, default="elbo"
        What is maximised: the evidence lower bound, or the importance-weighted
        bound of ``n_draws`` draws, which is closer to log p(x) and slower.

    gradient : {"pathwise", "stl", "dreg", "score", "rloo", "grep"}, \
            default="pathwise"
        Estimator of the encoder's gradient. You normally need not change it.

        - "pathwise": through the draws of z. Those of gamma, beta and Dirichlet
          variables are differentiated implicitly [5]_.
        - "stl" (sticking the landing [3]_): the same, with the gradient through the
          parameters of log q stopped. With "elbo", or "iwae" with one draw.
        - "dreg" (doubly reparameterised [4]_): with "iwae" and several draws.
        - "score": the score function of black-box variational inference [6]_, for
          comparison: its variance is high. With "elbo", as the next two.
        - "rloo": the score function with the mean over the other draws of the row as
          its baseline. Needs several draws.
        - "grep" (generalised reparameterisation [7]_): through a standardised z, and
          the score function for what remains. Below concentrations of about 1 its
          variance exceeds that of the score function.

    n_draws : int, default=1
        Number of draws of z per row and training step.

    latent : {"normal", "lognormal", "gamma", "beta", "dirichlet"}, default="normal"
        Family of the latent variables, in the prior and in q(z | x): real numbers
        ("normal"), positive ones ("lognormal", "gamma"), ones between 0 and 1
        ("beta"), or shares that sum to 1 ("dirichlet"). Concentrations of q are at
        least 0.1, below which single precision does not hold the draws.

    prior : {"mixture", "vamp"}, dict or tuple, default=None
        The prior p(z). None is N(0, 1), the log-normal of it, Gamma(1, 1),
        Beta(1, 1) or Dirichlet(1). A tuple or a dict gives the parameters, numbers or
        one for each latent variable: "loc" and "scale" (of log z with "lognormal"),
        "concentration" and "rate" with "gamma", "a" and "b" with "beta",
        "concentration" with "dirichlet". Normal variables may have a learned prior:
        "mixture" is a mixture of 10 normal distributions, "vamp" the mixture of
        q(z | u) over 10 learned rows u [8]_; ``{"mixture": 5}`` has another number.

    kl_weight : float, default=1.0
        Weight of the Kullback-Leibler term; values other than 1 give a
        beta-VAE, whose ``loss_`` is no bound on log p(x). If no column has a
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

    likelihood_ : dict of str to str
        Likelihood of every column: its distribution given the latent variables.

    numeric_transform_ : dict of str to str
        Transform of every numeric column: "standard", "robust", "quantile" or "none".

    n_features_in_ : int
        Number of columns.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if they are strings.

    n_iter_ : int
        Number of epochs.

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
        Score of the network weights that were kept: the highest of
        ``validation_scores_``, or that of the initial linear model if no epoch was
        clearly better.

    history_ : dict of str to ndarray of shape (n_iter_,)
        By epoch: "objective", "reconstruction" and "kl" in nats per row,
        "active_units" (number of latent variables whose posterior mean varies between
        rows) and "learning_rate".

    device_ : str
        Device on which the model was trained, or to which it was loaded.

    See Also
    --------
    sklearn.decomposition.FactorAnalysis : The linear special case of this model.
    sklearn.mixture.GaussianMixture : A mixture density of numeric columns.

    Notes
    -----
    Log-likelihoods are in nats and in the original units: numbers contribute
    densities, other columns probabilities. Columns with a single value contribute
    nothing and are returned as they were.

    References
    ----------
    .. [1] D. P. Kingma, M. Welling (2014). Auto-Encoding Variational Bayes.
    .. [2] Y. Burda, R. Grosse, R. Salakhutdinov (2016). Importance Weighted
       Autoencoders.
    .. [3] G. Roeder, Y. Wu, D. Duvenaud (2017). Sticking the Landing: Simple,
       Lower-Variance Gradient Estimators for Variational Inference.
    .. [4] G. Tucker, D. Lawson, S. Gu, C. J. Maddison (2019). Doubly
       Reparameterized Gradient Estimators for Monte Carlo Objectives.
    .. [5] M. Figurnov, S. Mohamed, A. Mnih (2018). Implicit Reparameterization
       Gradients.
    .. [6] R. Ranganath, S. Gerrish, D. Blei (2014). Black Box Variational Inference.
    .. [7] F. J. R. Ruiz, M. K. Titsias, D. M. Blei (2016). The Generalized
       Reparameterization Gradient.
    .. [8] J. M. Tomczak, M. Welling (2018). VAE with a VampPrior.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X)
    >>> vae.transform(X).shape
    (150, 2)
    >>> vae.sample(3, random_state=0).shape
    (3, 4)
    """

    __module__ = "skvae"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseVAE._parameter_constraints,
        **TRAINING_CONSTRAINTS,
        **LATENT_CONSTRAINTS,
        "objective": [StrOptions({"elbo", "iwae"})],
        "gradient": [StrOptions(set(DRAWS))],
        "n_draws": [POSITIVE_INT],
    }

    _load = staticmethod(VAEModel.from_state)

    def __init__(
        self,
        n_components=None,
        *,
        hidden_layer_sizes=(128, 128),
        activation="relu",
        likelihood="auto",
        numeric_transform="auto",
        categorical_features="from_dtype",
        objective="elbo",
        gradient="pathwise",
        n_draws=1,
        latent="normal",
        prior=None,
        kl_weight=1.0,
        max_iter=None,
        batch_size="auto",
        learning_rate_init=5e-3,
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
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.numeric_transform = numeric_transform
        self.categorical_features = categorical_features
        self.objective = objective
        self.gradient = gradient
        self.n_draws = n_draws
        self.latent = latent
        self.prior = prior
        self.kl_weight = kl_weight
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
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
    def fit(self, X, y=None, sample_weight=None):
        """Train on a table.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            At least two rows; NumPy, pandas, polars or pyarrow. Missing cells are
            NaN or null.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows; a row of weight zero is left out.

        Returns
        -------
        self : VAETransformer
            The fitted estimator.

        Raises
        ------
        ValueError
            If the table or a parameter cannot be used, or if the loss becomes
            non-finite; an already fitted estimator stays as it was.
        """
        return self._fit(X, sample_weight=sample_weight)

    @_fit_context(prefer_skip_nested_validation=True)
    @isolated()
    def partial_fit(self, X, y=None, sample_weight=None):
        """Make one pass over a chunk of rows.

        The first call learns the types, categories and scales of the columns from
        its chunk. There are no validation rows and the learning rate is
        ``learning_rate_init``, which may be changed between calls.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            A chunk of rows.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows.

        Returns
        -------
        self : VAETransformer
            The fitted estimator.
        """
        return self._fit(X, sample_weight=sample_weight, incremental=True)

    def _read(self, X, y, sample_weight, resume):
        check_gradient(self.gradient, self.objective, self.n_draws)
        weights, X = weighted_rows(sample_weight, X)
        return self._encode_training(X, weights, resume)

    def _build(self, data, params, random):
        return VAEModel.build(data, params, random, scored=params["early_stopping"])

    @isolated()
    def transform(self, X):
        """Return the posterior means of the latent variables.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_), float32
            E[z | x] under q.
        """
        data = self._encode(X)
        return self._model.means(data)

    @isolated()
    def inverse_transform(self, Z):
        """Decode latent variables.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components_)
            Latent variables, in the support of the family ``latent``.

        Returns
        -------
        X : ndarray or data frame of shape (n_samples, n_features_in_)
            A table like the training table: the decoder's mean of numbers (its
            median, where the column has a quantile map), the probability of
            booleans given as numbers, the most probable category.
        """
        check_is_fitted(self)
        Z = latents_of(Z, self.n_components_)
        return self._encoder.decode(self._model.decode(Z))

    @isolated()
    def sample(self, n_samples=1, random_state=None):
        """Draw new rows from the model.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Determines the draw; None gives a fresh one at every call.

        Returns
        -------
        X : ndarray or data frame of shape (n_samples, n_features_in_)
            A table like the training table, without missing cells. Columns of numbers
            that repeat their values hold values of the training table, after ``fit``
            about as often as there, and those of whole numbers hold such numbers.
        """
        check_is_fitted(self)
        n_samples = check_count(n_samples, "n_samples")
        rows = self._model.sample(n_samples, self._generator(random_state))
        return self._encoder.decode(rows, drawn=True, indexed=self._model.indexed)

    @isolated()
    def sample_posterior(self, X, n_draws=1, random_state=None):
        """Draw latent variables from q(z | x).

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table.
        n_draws : int, default=1
            Draws per row.
        random_state : int, RandomState instance or None, default=None
            Determines the draws; None gives fresh ones at every call.

        Returns
        -------
        Z : ndarray of shape (n_draws, n_samples, n_components_), float32
            The draws.
        """
        data = self._encode(X)
        n_draws = check_count(n_draws, "n_draws")
        return self._model.draws(data, n_draws, self._generator(random_state))

    @isolated()
    def score_samples(self, X, n_draws=SETTINGS.evidence_draws):
        """Return the log-likelihood of each row.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table. Missing cells are
            integrated out.
        n_draws : int, default=256
            Draws of q(z | x) per row; published figures use 5,000.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,), float32
            The importance-weighted estimate log (1/K) sum_k p(x, z_k) / q(z_k | x)
            over K draws, in nats and in the units of X.

        Raises
        ------
        ValueError
            If ``n_draws`` is no positive int, or the columns are not those of the
            training table.

        Notes
        -----
        On average over repeated draws the estimate is below log p(x), and rises with
        their number (Burda et al. 2016). All rows use the same random numbers, so that
        a row's score does not depend on the other rows. For rows with missing cells,
        which the encoder may not know from training, as many draws of the prior are
        added. A row without any cell scores 0.
        """
        data = self._encode(X, outliers=True)
        n_draws = check_count(n_draws, "n_draws")
        return self._model.log_likelihood(data, n_draws)

    @property
    def _n_features_out(self):
        return self.n_components_

    def __sklearn_tags__(self):
        """Return the tags: latents are float32 whatever the input."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
