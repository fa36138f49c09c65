"""VAEClassifier: semi-supervised classification, and new rows of a class."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import (
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._semi_supervised.labels import (
    check_declared,
    codes_of,
    declared_classes,
    encode_labels,
    is_labelled,
    known_codes,
    read_labels,
    warn_of_lost_class,
)
from .._semi_supervised.model import LabelledModel
from .._semi_supervised.stacked import M1M2Model, labels_from_state
from .._tables.libraries import as_array, check_same_length, weighted_rows
from .._training.ambient import isolated
from .._validation import check_count, check_weights, make_random_state
from .base import STRUCTURE, TRAINING_CONSTRAINTS, BaseVAE, latents_of


class VAEClassifier(
    ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, BaseVAE
):
    """Semi-supervised VAE classifier and class-conditional generator of table rows.

    A class-conditional variational autoencoder: a row x comes from its label y, with
    prior p(y), and latents z with prior N(0, I), through a decoder p(x | z, y). The
    classifier q(y | x) is a network that is trained together with it. On rows with a
    label it maximises log q(y | x) and the evidence lower bound on log p(x, y); on rows
    without, the label is summed out under q(y | x), which makes a bound on log p(x)
    [1]_. Regularisers for few labels: virtual adversarial training (VAT) and entropy
    minimisation with class balance (``consistency_weight``), and input masking
    (``masking_rate``).

    Parameters
    ----------
    n_components : int, default=None
        Number of latent variables. None means one less than the number of columns,
        at most 32. Those that the data do not need stay unused, see
        ``history_["active_units"]``.

    objective : {"m2", "m1", "m1+m2", "shot"}, default="m2"
        What is maximised, and what depends on the label.

        - "m2": p(x | z, y) and q(z | x, y), unknown labels summed out [1]_.
        - "m1": a VAE without labels, with a classifier q(y | z) of its latents,
          trained together. Its cost does not grow with the number of classes.
        - "m1+m2": first a VAE without labels, then "m2" on its latents, drawn anew at
          every step.
        - "shot": p(x | z, y) and q(z | x). q(y | mixed inputs) should equal the mixed
          labels (mixup) [3]_; the partner of a row is the row of the batch with the
          nearest posterior.

    classification_weight : float, default=None
        Weight of the classification and consistency losses against the bound. None
        means the number of columns.

    consistency_weight : "auto" or float, default="auto"
        Weight of the consistency loss (VAT, entropy and class balance), times
        ``classification_weight``. Over all rows, labelled or not, it sums the VAT loss
        KL(q(y | x) || q(y | x + r)) for the worst step r of length ``vat_radius``
        [2]_, the entropy of q(y | x), and the divergence of the mean of q(y | x) from
        ``class_prior_`` [4]_. With "shot" it is the mixup loss instead. "auto" takes 1;
        with 50 labels or more it may take 0, except for "shot", see ``masking_rate``.
        With 0, rows without a label train the generator alone.

    vat_radius : float, default=0.5
        Length of the adversarial step of the VAT loss, in units of the median
        distance between a row and its nearest neighbour. For tables of hundreds of
        columns, such as images, use about 0.2. "shot" ignores it.

    masking_rate : "auto" or float, default="auto"
        Fraction of the cells that are masked for the classifier in training, drawn anew
        at every step. "auto" takes 0.2; with 50 labels or more it may take 0. Whether
        ``consistency_weight`` and ``masking_rate``, as far as they are "auto", are 0 is
        decided together by cross-validation of small networks on the labelled rows:
        masking and consistency help where classes are clusters of rows, and mislead
        where they are rules that need every cell.

    hidden_layer_sizes : tuple of int, default=(128, 128)
        Widths of the hidden layers of classifier and encoder; the decoder has them in
        reverse.

    activation : {"relu", "silu", "gelu", "tanh"}, default="relu"
        Activation function of the hidden layers.

    likelihood : str or dict, default="auto"
        Distribution p(x | z, y) of the columns, as in :class:`VAETransformer`; "auto"
        keeps to one scale per column.

    numeric_transform : {"auto", "standard", "quantile", "none"} or dict, \
            default="auto"
        Transform that numeric columns get before they enter the networks, as in
        :class:`VAETransformer`. With "auto", columns that share a unit, such as pixels,
        enter encoder and classifier in that unit, so that pixels that are seldom
        non-zero get no larger weight than others. Columns share a unit if at least 32
        numeric columns, and half of those that repeat their values, have the same
        lowest and highest value. The classifier of "m1" and "m1+m2" uses latent
        variables instead.

    categorical_features : "from_dtype", array-like of str, int or bool, or None, \
            default="from_dtype"
        Columns that hold categories: those with such a dtype in a data frame, or a list
        of names or indices, or a boolean mask, or none. String columns of dtype object
        must be listed; a list must name all columns of strings and categories.

    kl_weight : float, default=1.0
        Weight of the Kullback-Leibler term of z. If no column has a normal or
        Student-t likelihood, it is raised from 0 during the first 1,000 steps.

    max_iter : int, default=None
        Number of epochs (passes over the training rows), of each stage of "m1+m2".
        None means 50, or as many as give 1,200 steps ("m1") or 3,000 (the others) if
        that is more.

    batch_size : int or "auto", default="auto"
        Rows per training step; every step also uses up to 256 labelled rows. "auto"
        means the number of rows divided by 8, but at least 16 and at most 256; 1024 if
        there are 100,000 rows or more.

    learning_rate_init : float, default=3e-3
        Learning rate of Adam, the highest value of the schedule ``learning_rate``.

    learning_rate : {"cosine", "adaptive", "constant"}, default="cosine"
        Schedule of the learning rate. "cosine" lowers it to 1% over ``max_iter``
        epochs. If the score has not improved for ``n_iter_no_change`` epochs, "cosine"
        and "adaptive" restore the best network weights and divide the rate by 4, at
        most three times; after that, and with "constant", training stops.

    early_stopping : bool, default=True
        Whether to set labelled rows aside, score log q(y | x) on them after each epoch
        and keep the weights of q(y | x) that score best. "m1" stops when the score no
        longer improves; the others train to the end, as their generator goes on
        learning, unless ``n_iter_no_change`` is given.
        Rows are set aside only if enough are labelled, see ``validation_fraction``;
        otherwise the last weights are kept, and ``early_stopping_`` is False.

    validation_fraction : float, default=None
        Share of the labelled rows of every class that is set aside for validation. None
        means a tenth if that is at least 50 rows; otherwise no row is set aside.

    n_iter_no_change : int or numpy.inf, default=None
        Number of epochs without improvement after which the learning rate is lowered
        (see ``learning_rate``) or training stops. None means for "m1" with validation
        rows 10, or as many as give 1,000 steps if that is more; otherwise no limit.

    tol : float, default=1e-4
        Smallest increase of the score, in nats per row, that is an improvement.

    warm_start : bool, default=False
        Whether ``fit`` continues from the previous network weights; column types,
        encodings and classes stay as they were.

    callbacks : list of skorch callbacks, default=None
        Callbacks of the training loop (with "m1+m2" of its second stage), and
        :class:`skvae.Checkpoint`. Callbacks of scikit-learn are set with
        ``set_callbacks``.

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
    classes_ : ndarray of shape (n_classes,)
        Sorted labels, without the mark of unlabelled rows.

    class_prior_ : ndarray of shape (n_classes,)
        p(y), the class shares of the labelled rows.

    n_labelled_ : int
        Number of labelled rows.

    consistency_weight_ : float
        Weight of the consistency loss in the fit.

    masking_rate_ : float
        Masking rate in the fit.

    early_stopping_ : bool
        Whether labelled rows were set aside, and chose the weights.

    n_components_ : int
        Number of latent variables.

    likelihood_ : dict of str to str
        Likelihood of every column: its distribution given the latent variables.

    numeric_transform_ : dict of str to str
        Transform of every numeric column: "standard", "robust", "quantile" or "none".

    input_scale_ : ndarray of shape (n_features_in_,)
        Standard deviation of each column at the input of encoder and classifier: 1, or
        where columns share a unit relative to them, see ``numeric_transform``.

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
        Mean of log q(y | x) on the validation rows, by epoch of the last call of
        ``fit``. None without validation rows.

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
    sklearn.semi_supervised.SelfTrainingClassifier : Self-training with
        confident pseudo-labels.
    sklearn.semi_supervised.LabelSpreading : Labels spread over neighbours.
    VAETransformer : A variational autoencoder without labels.

    Notes
    -----
    A row without a label has None, NaN or null in ``y``, or -1 where labels are
    numbers, as in scikit-learn; with labels that are -1 and 1 alone, there is a
    warning. In an array of text, where NumPy writes NaN as "nan", that counts as no
    label, with a warning. ``classes_`` have the type of the labels, whether some are
    missing or not. A class must have at least one label; a category that a pandas
    column of labels declares and no row has is an error. If all labels are alike, every
    row gets that class.

    :meth:`score_samples` sums the label out, :meth:`sample` conditions on it.

    References
    ----------
    .. [1] D. P. Kingma, D. J. Rezende, S. Mohamed, M. Welling (2014). Semi-supervised
       Learning with Deep Generative Models.
    .. [2] T. Miyato, S. Maeda, M. Koyama, S. Ishii (2019). Virtual Adversarial
       Training: A Regularization Method for Supervised and Semi-Supervised Learning.
    .. [3] H. Feng et al. (2021). SHOT-VAE: Semi-supervised Deep Generative Models With
       Label-aware ELBO Approximations.
    .. [4] A. Krause, P. Perona, R. Gomes (2010). Discriminative Clustering by
       Regularized Information Maximization.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAEClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> few = np.where(np.arange(150) % 10 == 0, y, -1)
    >>> vae = VAEClassifier(max_iter=15, random_state=0).fit(X, few)
    >>> vae.n_labelled_, vae.predict(X[:3])
    (15, array([0, 0, 0]))
    >>> flowers, species = vae.sample(4, y=2, random_state=0)
    >>> flowers.shape, species
    ((4, 4), array([2, 2, 2, 2]))
    """

    __module__ = "skvae"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseVAE._parameter_constraints,
        **TRAINING_CONSTRAINTS,
        "objective": [StrOptions({"m1", "m2", "m1+m2", "shot"})],
        "classification_weight": [Interval(Real, 0, None, closed="neither"), None],
        "consistency_weight": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="left"),
        ],
        "vat_radius": [Interval(Real, 0, None, closed="left")],
        "masking_rate": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
    }

    _structure = (*STRUCTURE, "objective")
    _load = staticmethod(labels_from_state)

    def __init__(
        self,
        n_components=None,
        *,
        objective="m2",
        classification_weight=None,
        consistency_weight="auto",
        vat_radius=0.5,
        masking_rate="auto",
        hidden_layer_sizes=(128, 128),
        activation="relu",
        likelihood="auto",
        numeric_transform="auto",
        categorical_features="from_dtype",
        kl_weight=1.0,
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
        self.n_components = n_components
        self.objective = objective
        self.classification_weight = classification_weight
        self.consistency_weight = consistency_weight
        self.vat_radius = vat_radius
        self.masking_rate = masking_rate
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.numeric_transform = numeric_transform
        self.categorical_features = categorical_features
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

    # -- fit ---------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    @isolated()
    def fit(self, X, y, sample_weight=None):
        """Fit to a table with labels for some of its rows.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            At least two rows; NumPy, pandas, polars or pyarrow. Missing cells are
            NaN or null.
        y : array-like of shape (n_samples,)
            Labels. A row without a label has None, NaN or null, or -1 where labels are
            numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows; a row of weight zero is left out.

        Returns
        -------
        self : VAEClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If the table, the labels or a parameter cannot be used, or if the loss
            becomes non-finite; an already fitted estimator stays as it was.
        """
        return self._fit(X, y, sample_weight)

    def _read(self, X, y, sample_weight, resume):
        declared = declared_classes(y)
        labels, missing = read_labels(y, self)
        check_same_length(X, labels)
        tables = weighted_rows(sample_weight, labels, missing, X)
        weights, labels, missing, X = tables
        classes, codes = encode_labels(labels, missing)
        warn_of_lost_class(labels, missing)
        check_declared(declared, classes)
        if resume:
            codes = known_codes(classes, codes, self.classes_)
            classes = self.classes_
        data = self._encode_training(X, weights, resume)
        return dataclasses.replace(data, codes=codes, classes=classes)

    def _build(self, data, params, random):
        kind = M1M2Model if self.objective == "m1+m2" else LabelledModel
        return kind.build(data, params, random)

    # -- use ---------------------------------------------------------------------

    @isolated()
    def predict_proba(self, X):
        """Return the probability of every class.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes), float32
            Probabilities q(y | x), columns in the order of ``classes_``.
        """
        data = self._encode(X)
        return self._model.probabilities(data)

    @isolated()
    def predict(self, X):
        """Return the most probable class.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels from ``classes_``.
        """
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    @isolated()
    def score(self, X, y, sample_weight=None):
        """Return the accuracy on labelled rows.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table.
        y : array-like of shape (n_samples,)
            True labels. Rows without a label, marked as in :meth:`fit`, do not count.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            Accuracy, between 0 and 1.

        Raises
        ------
        ValueError
            If no row has a label (of positive weight), or if ``y`` holds strings where
            the classes are none, or the reverse.
        """
        check_is_fitted(self)
        labels, missing = read_labels(y, self)
        check_same_length(X, labels)
        known = is_labelled(labels, missing)
        weights = np.ones(len(labels))
        if sample_weight is not None:
            weights = check_weights(sample_weight, labels)
        if not weights[known].any():
            raise ValueError("y has no label of positive weight: nothing to score.")
        is_text = [values.dtype.kind in "OU" for values in (labels, self.classes_)]
        if is_text[0] != is_text[1]:
            raise ValueError(
                f"y holds labels such as {labels[known][0]!r}, but the classes are "
                f"{self.classes_.tolist()!r}: give labels of their kind."
            )
        predicted = self.predict_proba(X).argmax(axis=1)
        hits = codes_of(labels, self.classes_) == predicted
        return float(np.average(hits[known], weights=weights[known]))

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
            E[z | x] under q, averaged over q(y | x) where it depends on the label.
            With "m2" and "shot" it is the variation within a class. With "m1+m2" it
            is the latents of the first VAE, which was trained without labels.
        """
        data = self._encode(X)
        return self._model.means(data)

    @isolated()
    def score_samples(self, X):
        """Return log p(x) of each row, summed over labels.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table. Missing cells are
            integrated out.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,), float32
            Importance-weighted estimate of log p(x) in nats and in the units of X,
            from 64 draws for every class. On average over repeated draws it is below
            the true value. For rows with missing cells as many draws of the prior are
            added, except with "m1+m2": there the estimate is far too low for such rows
            if no cell was missing in training. A row without any cell scores 0.
        """
        data = self._encode(X, outliers=True)
        return self._model.log_likelihood(data)

    @isolated()
    def sample(self, n_samples=None, y=None, random_state=None):
        """Draw new rows of given classes, or of all.

        Parameters
        ----------
        n_samples : int, default=None
            Number of rows. None takes as many as ``y`` has, or one.
        y : label or array-like of shape (n_samples,), default=None
            The classes of the rows: one for all, or one each. None draws them
            from ``class_prior_``.
        random_state : int, RandomState instance or None, default=None
            Determines the draw; None gives a fresh one at every call.

        Returns
        -------
        X : ndarray or data frame of shape (n_samples, n_features_in_)
            A table like the training table, without missing cells. Columns of numbers
            that repeat their values hold values of the training table, those of whole
            numbers such numbers.
        y : ndarray of shape (n_samples,)
            The class of every row, whether it was given or drawn.

        Notes
        -----
        "m1" has no decoder for each class: it takes latents from the prior N(0, I),
        resampled by the classifier's probability of the class.
        """
        check_is_fitted(self)
        random_state = make_random_state(random_state)
        codes = self._codes_to_sample(n_samples, y, random_state)
        rows = self._model.sample(codes, self._generator(random_state))
        drawn = self._encoder.decode(rows, drawn=True, indexed=self._model.indexed)
        return drawn, self.classes_[codes]

    @isolated()
    def decode(self, Z, y):
        """Decode latent variables under given classes.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_latent)
            Latent variables: as many as ``n_components_``; with "m1+m2" those of M2,
            which are as many.
        y : label or array-like of shape (n_samples,)
            The classes of the rows: one for all, or one each.

        Returns
        -------
        X : ndarray or data frame of shape (n_samples, n_features_in_)
            A table like the training table: the decoder's mean of numbers, the
            probability of booleans given as numbers, the most probable category.

        Raises
        ------
        ValueError
            If ``Z`` has the wrong width, or ``y`` is no class.

        Notes
        -----
        The decoder of "m1" does not see the class.
        """
        check_is_fitted(self)
        Z = latents_of(Z, self._model.module.n_latent)
        labels = [None] * len(Z) if y is None else y  # None draws labels there
        codes = self._codes_to_sample(len(Z), labels, None)
        return self._encoder.decode(self._model.decode(Z, codes))

    def _codes_to_sample(self, n_samples, y, random_state):
        """Return the class indices of the rows to draw."""
        if n_samples is not None:
            n_samples = check_count(n_samples, "n_samples")
        if y is None:
            return random_state.choice(
                len(self.classes_), n_samples or 1, p=self.class_prior_
            )
        shape = np.shape(as_array(y, "y") if isinstance(y, list | tuple) else y)
        if not (shape or isinstance(y, Hashable)):
            raise ValueError(f"y must be a label or an array of labels, but is {y!r}.")
        if not shape:  # as an object: in an array of text "nan" marks a gap
            y, shape = np.full(n_samples or 1, y, dtype=object), (n_samples or 1,)
        if len(shape) != 1 or n_samples not in (None, *shape) or not shape[0]:
            raise ValueError(
                "y must be one label, or one for each of the n_samples="
                f"{n_samples} rows, but got an array of shape {shape}."
            )
        labels, missing = read_labels(y, self)
        codes = np.where(missing, -1, codes_of(labels, self.classes_))
        if (codes < 0).any():
            row = int(np.argmin(codes))
            unknown = None if missing[row] else labels[row : row + 1].tolist()[0]
            raise ValueError(
                f"y holds {unknown!r}, which is none of the classes "
                f"{self.classes_.tolist()!r}."
            )
        return codes

    @property
    def _n_features_out(self):
        return self.n_components_

    def __sklearn_tags__(self):
        """Return the tags: latents are float32 whatever the input."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
