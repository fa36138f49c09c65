"""VAEClassifier: few labels, many rows; and new rows of a class."""

from __future__ import annotations

import dataclasses
import math
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import (
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.callback._callback_support import callback_management_context
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
)
from torch import Tensor

from .._density.evidence import INFERENCE_FLOATS, pieces, score_with_gaps
from .._density.model import build_module
from .._distributions.joint import Joint
from .._distributions.registry import make_head
from .._networks.batch import Batch
from .._networks.vae import VAE
from .._semi_supervised.labelled_vae import LabelledVAE
from .._semi_supervised.labels import declared_classes, encode_labels, labels_of
from .._semi_supervised.model import (
    CANDIDATES_PER_ROW,
    CLASS_EVIDENCE_DRAWS,
    DEFAULT_VALIDATION_FRACTION,
    FEATURE_DEVIATION,
    MAX_CANDIDATES,
    MIN_CANDIDATES,
    NEIGHBOUR_ROWS,
    SETTINGS,
)
from .._semi_supervised.objectives import (
    LABELLED_ROWS,
    OBJECTIVES,
    LabelOptions,
    label_score,
    log_evidence,
    n_noise,
)
from .._semi_supervised.selection import (
    MAX_LABELLED,
    MAX_ROWS,
    Regularisation,
    choose_setting,
)
from .._tables.repeated_values import (
    cut_into_values,
    limits_of_values,
    relative_spreads,
)
from .._training.loop import train
from .._training.plan import Plan
from .._validation import (
    check_count,
    check_weights,
    make_random_state,
    restored_on_error,
)
from .base import MAX_VALIDATION_ROWS, MIN_VALIDATION_ROWS, BaseVAE


class VAEClassifier(
    ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, BaseVAE
):
    """Classify rows, few of which have a label; draw new rows of a class.

    A variational autoencoder that knows classes: a row x comes from its label y, with
    prior p(y), and latents z with prior N(0, I), through a decoder p(x | z, y). The
    classifier q(y | x) is a network that is trained together with it. On rows with a
    label it maximises log q(y | x) and the evidence lower bound on log p(x, y); on rows
    without, the label is summed out under q(y | x), which makes a bound on log p(x)
    [1]_. Two things let few labels go far: the classifier should decide, and not change
    within the distance of neighbouring rows (``smoothness``), and it should manage
    without some of the cells (``hidden_share``).

    Parameters
    ----------
    n_components : int, default=None
        Number of latent variables. None takes one less than the number of columns,
        at most 32.

    objective : {"m2", "m1", "m1+m2", "shot"}, default="m2"
        What is maximised, and what depends on the label.

        - "m2": p(x | z, y) and q(z | x, y), unknown labels summed out [1]_.
        - "m1": a VAE that knows no labels, with a classifier q(y | z) of its latents,
          trained together. Its cost does not grow with the number of classes.
        - "m1+m2": first a VAE that knows no labels, then "m2" on its latents, drawn
          anew at every step.
        - "shot": p(x | z, y) and q(z | x). Between the mixture of two rows and the
          mixture of their labels q(y | x) should be linear [3]_.

    pairing : {"nearest", "random"}, default="nearest"
        With whom "shot" mixes a row: the row of the batch whose posterior is nearest,
        or any. The other objectives mix no rows.

    classification_weight : float, default=None
        Weight of the classifier's terms against the bound, in nats per row. None takes
        the number of columns.

    smoothness : "auto" or float, default="auto"
        Weight, within the classifier's terms, of what q(y | x) should be between rows.
        With "shot" it is the interpolation. Otherwise it has three parts:
        KL(q(y | x) || q(y | x + r)) for the worst r as long as ``radius`` says [2]_,
        the entropy of q(y | x), and the divergence of the classes' shares among all
        rows from ``class_prior_`` [4]_. "auto" takes 1, or 0 where classes are rules
        and no clusters (see ``hidden_share``); "shot" always 1. With 0, rows without a
        label train the generator alone.

    radius : float, default=0.5
        Distance within which q(y | x) should not change, in units of the median one
        between a row and its nearest neighbour. In tables of hundreds of columns, such
        as images, where neighbours differ in many columns at once, 0.2 leaves more room
        between the classes. "shot" has no use for it.

    hidden_share : "auto" or float, default="auto"
        Share of the cells that are hidden from the classifier in training, drawn anew
        at every step. Cells of categories are hidden as a whole. "auto" takes 0.2, or
        0 where classes are rules and no clusters. What is "auto" of ``smoothness`` and
        this is chosen together: small networks are cross-validated on the labelled
        rows, if these are 24 or more.

    label_smoothing : float, default=0.0
        Share of a known label that is spread over all classes.

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
        Map of the numeric columns ahead of the networks, as in
        :class:`VAETransformer`. With "auto", encoder and classifier see columns that
        share a unit, such as pixels, in that unit: a rare pixel weighs no more than
        others. They do where at least 32 columns of numbers, and half of those that
        repeat their values, have the same lowest and highest value. The classifier of
        "m1" and "m1+m2" sees latent variables instead.

    categorical_features : "from_dtype", array-like of str, int or bool, or None, \
            default="from_dtype"
        Columns that hold categories: by their dtype in a data frame, by names,
        indices or a mask, or none.

    n_draws : int, default=1
        Draws of z per row and step.

    latent : {"normal", "lognormal", "gamma", "beta", "dirichlet"}, default="normal"
        Family of the latent variables, as in :class:`VAETransformer`; "m1+m2" takes
        normal ones.

    prior : tuple, dict or {"mixture", "vamp"}, default=None
        The prior p(z), the same for every class, as in :class:`VAETransformer`;
        "m1+m2" takes the default.

    n_prior_components : int, default=10
        Number of components of the priors "mixture" and "vamp".

    kl_weight : float, default=1.0
        Weight of the Kullback-Leibler term of z.

    kl_warmup_steps : int, default=None
        Optimizer steps over which the weight of the Kullback-Leibler term rises
        from 0 to ``kl_weight``, at most half of the training. None takes 1,000 if no
        column is numeric and 0 otherwise, as numeric columns start at a linear model.

    max_iter : int, default=None
        Number of epochs (passes over the training rows), of each stage of "m1+m2".
        None takes 50, or as many as make 1,200 steps ("m1") or 3,000 (the others) if
        that is more.

    batch_size : int or "auto", default="auto"
        Rows per step, beside which every step sees up to 256 labelled ones. "auto"
        takes an eighth of the rows, between 16 and 256, and 1024 from 100,000 rows up.

    learning_rate_init : float, default=3e-3
        Learning rate of Adam, the highest one of a schedule.

    learning_rate : {"cosine", "adaptive", "constant"}, default="cosine"
        Schedule, as in :class:`VAETransformer`.

    early_stopping : bool, default=True
        Whether to set labelled rows aside, score log q(y | x) on them after each epoch
        and keep the weights of q(y | x) that score best. "m1" stops when the score no
        longer improves; the others train to the end, as their generator goes on
        learning, unless ``n_iter_no_change`` is given.
        It takes enough of them, see ``validation_fraction``; with few labels all are
        for training, the last weights are kept, and ``early_stopping_`` is False.

    validation_fraction : float, default=None
        Share of the labelled rows of every class that is set aside. None takes a
        tenth, if that makes at least 50 rows, and none otherwise.

    n_iter_no_change : int or numpy.inf, default=None
        Epochs without improvement after which the learning rate falls (see
        ``learning_rate``) or training stops. None takes, for "m1" with rows set aside,
        10, or as many as make 1,000 steps if that is more, and no limit otherwise.

    tol : float, default=1e-4
        Improvement in nats per row that counts.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the previous weights, column kinds and classes.

    callbacks : list of skorch callbacks, default=None
        Passed on to the training loop (for "m1+m2" of its second stage). Callbacks of
        scikit-learn are set with ``set_callbacks``.

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
    classes_ : ndarray of shape (n_classes,)
        The labels that were seen, sorted, without the mark of unlabelled rows.

    class_prior_ : ndarray of shape (n_classes,)
        p(y), the shares of the classes among the labelled rows.

    n_labelled_ : int
        Number of labelled rows.

    smoothness_ : float
        The weight that was taken.

    hidden_share_ : float
        The share that was taken.

    early_stopping_ : bool
        Whether labelled rows were set aside, and chose the weights.

    n_components_ : int
        Number of latent variables.

    likelihood_ : dict of str to str
        Distribution of every column.

    numeric_transform_ : dict of str to str
        Map of every numeric column.

    input_scale_ : ndarray of shape (n_features_in_,)
        Standard deviation of the columns as encoder and classifier see them: 1, but
        relative to the other columns of the unit where columns share one, see
        ``numeric_transform``.

    n_features_in_ : int
        Number of columns.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where the table has string names.

    n_iter_ : int
        Number of epochs.

    loss_ : float
        Negative objective of the last epoch, in nats per row of the encoded table.

    best_loss_ : float
        The lowest ``loss_`` over epochs.

    loss_curve_ : ndarray of shape (n_iter_,)
        ``loss_`` by epoch.

    validation_scores_ : ndarray of shape (n_epochs,) or None
        Mean of log q(y | x) on the validation rows by epoch of the last call of
        ``fit``; None without validation rows.

    best_validation_score_ : float or None
        Score of the weights that were kept.

    history_ : dict of str to ndarray of shape (n_iter_,)
        "objective", "reconstruction" and "kl" in nats per row, "active_units" and
        "learning_rate", by epoch.

    device_ : str
        The device that the model was trained on, or loaded to.

    See Also
    --------
    sklearn.semi_supervised.SelfTrainingClassifier : Labels of its own confidence.
    sklearn.semi_supervised.LabelSpreading : Labels that spread to neighbours.
    VAETransformer : The same model without labels.

    Notes
    -----
    A row without a label has -1 in ``y`` where labels are numbers (NaN where they are
    floats, too) and None, NaN or null where they are strings. A class must have at
    least one label; a category that a pandas column of labels declares and no row has
    is an error. If all labels are alike, every row gets that class.

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

    gradient = "pathwise"  # of the only kind
    _features: Any = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseVAE._parameter_constraints,
        "objective": [StrOptions({"m1", "m2", "m1+m2", "shot"})],
        "pairing": [StrOptions({"nearest", "random"})],
        "classification_weight": [Interval(Real, 0, None, closed="neither"), None],
        "smoothness": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "radius": [Interval(Real, 0, None, closed="left")],
        "hidden_share": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }
    del _parameter_constraints["gradient"]

    _torch_parts: ClassVar[tuple[str, ...]] = ("_module", "_features")

    def __init__(
        self,
        n_components=None,
        *,
        objective="m2",
        pairing="nearest",
        classification_weight=None,
        smoothness="auto",
        radius=0.5,
        hidden_share="auto",
        label_smoothing=0.0,
        hidden_layer_sizes=(128, 128),
        activation="relu",
        likelihood="auto",
        numeric_transform="auto",
        categorical_features="from_dtype",
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
        del self.gradient  # always the pathwise one
        self.pairing = pairing
        self.classification_weight = classification_weight
        self.smoothness = smoothness
        self.radius = radius
        self.hidden_share = hidden_share
        self.label_smoothing = label_smoothing

    # -- fit ---------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Learn from a table with labels for some of its rows.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            At least two rows; NumPy, pandas, polars or pyarrow. Missing cells are
            NaN or null.
        y : array-like of shape (n_samples,)
            Labels. A row without a label has -1 where labels are numbers, and None,
            NaN or null otherwise.
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
        with restored_on_error(self), callback_management_context(self):
            declared = declared_classes(y)
            y = labels_of(y, self)
            check_consistent_length(X, y)
            if sample_weight is not None:
                weights = check_weights(sample_weight, y[:, None])
                if not weights.all():  # a row of weight zero is one that is not there
                    kept = np.flatnonzero(weights)
                    X, y, weights = _safe_indexing(X, kept), y[kept], weights[kept]
                sample_weight = weights
            classes, codes = encode_labels(y)
            missing = [name for name in declared if name not in set(classes.tolist())]
            if missing:
                raise ValueError(
                    f"No row is labelled {missing[0]!r}, a category that y declares: "
                    "label at least one, or drop it (in pandas by "
                    "y.cat.remove_unused_categories())."
                )
            if self.warm_start and hasattr(self, "_module"):
                self._check_same_model()
                codes = self._known_codes(classes, codes)
            else:
                self.classes_ = classes
            self._fit_labels(X, codes, sample_weight)
            random_state = np.random.RandomState(self._evidence_seed)

            def draw(n_rows: int) -> np.ndarray:
                codes = self._codes_to_sample(n_rows, None, random_state)
                return self._draw(codes, self._generator(random_state))

            self._limits = limits_of_values(self._columns_in_order(), draw)
            return self

    def _check_same_model(self):
        kind = "m1+m2" if self._features is not None else self._module.kind
        if kind != self.objective:
            raise ValueError(
                f"warm_start=True goes on with objective={kind!r} of the first fit, "
                f"but objective is {self.objective!r} now. Set warm_start=False."
            )

    def _known_codes(self, classes, codes):
        """Return the codes of labels among the classes of the first fit."""
        unseen = [name for name in classes.tolist() if name not in self.classes_]
        if unseen:
            raise ValueError(
                f"y holds the label {unseen[0]!r}, which the first fit did not see: "
                "warm_start=True goes on with the classes "
                f"{self.classes_.tolist()!r}. Set warm_start=False."
            )
        places = np.searchsorted(self.classes_, classes)
        return np.where(codes < 0, -1, places[codes])

    def _fit_labels(self, X, codes, sample_weight):
        known = codes >= 0
        weights = np.ones(len(codes)) if sample_weight is None else sample_weight
        n_classes = len(self.classes_)
        if not (self.warm_start and hasattr(self, "_module")):
            share = np.bincount(codes[known], weights[known], minlength=n_classes)
            self.class_prior_ = share / share.sum()
        self.n_labelled_ = int(known.sum())
        self._codes = codes
        try:
            self._fit(X, sample_weight)
        finally:
            del self._codes

    def _check_options(self):
        """Refuse other latents where M2 models those of M1, as normal ones."""
        if self._is_stacked and (self.latent, self.prior) != ("normal", None):
            raise ValueError(
                "objective='m1+m2' needs latent='normal' and prior=None: M2 gives the "
                "latent variables of M1 their distribution. Use another objective."
            )

    def _settle_heads(self, *, scored: bool):
        # labelled validation rows say nothing about scales
        super()._settle_heads(scored=False)

    def _free_scale(self):
        return None

    def _start(self, values, observed, sample_weight):
        super()._start(values, observed, sample_weight)
        self.input_scale_ = np.ones(len(self._encoder.columns_))
        # the classifier of "m1" and "m1+m2" sees latents, which know no such unit
        if self.numeric_transform == "auto" and self.objective in ("m2", "shot"):
            spreads = relative_spreads(self._columns_in_order())
            self.input_scale_[self._order] = spreads
            self._module.scale_inputs(torch.from_numpy(spreads))

    def _describe(self, *, masked: bool):
        super()._describe(masked=masked)
        self._features = self._active = None
        if not self._is_stacked:
            self._architecture["n_classes"] = len(self.classes_)
            self._architecture["kind"] = self.objective

    def _batch(self, values, observed, sample_weight) -> Batch:
        """Put a table on the device, in ``fit`` with its labels."""
        batch = super()._batch(values, observed, sample_weight)
        codes = getattr(self, "_codes", None)
        if codes is None:
            return batch
        n_classes = len(self.classes_)
        labels = torch.from_numpy(np.where(codes < 0, n_classes, codes))
        y = F.one_hot(labels, n_classes + 1)[:, :n_classes].float()
        return batch.replace(y=y.to(self.device_))

    def _train(self, X, data, generator, *, going_on, one_pass, prepare=None):
        """Train the classifier and the VAE; for "m1+m2" the VAE of M1 first."""
        progress = self._progress(X)
        if self._is_stacked:
            self._train_features(data, generator, progress, going_on=going_on)
        train_rows, valid_rows = self._split_labels()
        known = train_rows[self._codes[train_rows] >= 0]
        pool = data.take(torch.as_tensor(known, device=self.device_))
        if not going_on:
            prior = torch.from_numpy(self.class_prior_).to(self._module.log_prior)
            self._module.log_prior.copy_(prior.log())
        radius = self.radius * self._neighbour_distance(data)
        self._choose_setting(data, pool, radius, progress, going_on=going_on)
        self._labelling = LabelOptions(
            classification_weight=self.classification_weight
            or float(self._module.joint.n_columns),
            smoothness=self.smoothness_,
            radius=radius,
            hidden=self.hidden_share_,
            label_smoothing=self.label_smoothing,
            pairing=self.pairing,
        )
        width = n_noise(self._module)

        def with_noise(batch: Batch) -> Batch:
            batch = self._seen_by_classifier(batch, generator)
            noise = batch.x.new_empty(len(batch), width)
            return batch.replace(noise=noise.normal_(generator=generator))

        def with_labelled(batch: Batch) -> Batch:
            some = pool
            if len(pool) > LABELLED_ROWS:
                index = torch.randint(
                    len(pool),
                    (LABELLED_ROWS,),
                    generator=generator,
                    device=self.device_,
                )
                some = pool.take(index)
            return with_noise(batch).replace(labelled=with_noise(some))

        self._rows = train_rows, valid_rows
        self.early_stopping_ = valid_rows is not None
        try:
            super()._train(
                X,
                data,
                generator,
                going_on=going_on,
                one_pass=one_pass,
                prepare=with_labelled,
                progress=progress,
            )
        finally:
            del self._rows, self._labelling

    def _choose_setting(self, data, labelled, radius, progress, *, going_on):
        """Set what is left to the data: hidden share and smoothness."""
        generator = self._generator_beside()
        candidates, smoothness = SETTINGS, self.smoothness
        if going_on:  # what was chosen stays
            candidates = (Regularisation(self.hidden_share_, self.smoothness_),)
        elif self.objective == "shot" and smoothness == "auto":
            smoothness = SETTINGS[0].smoothness
        settings = [
            Regularisation(
                setting.hidden if self.hidden_share == "auto" else self.hidden_share,
                setting.smoothness if smoothness == "auto" else smoothness,
            )
            for setting in candidates
        ]
        settings = list(dict.fromkeys(settings))
        chosen = settings[0]
        if len(settings) > 1:
            chosen = choose_setting(
                self._module,
                self._seen_by_classifier(labelled.rows(0, MAX_LABELLED)),
                self._seen_by_classifier(data.at_random(MAX_ROWS, generator)),
                settings,
                radius,
                generator,
                progress=progress,
            )
        self.hidden_share_, self.smoothness_ = map(float, chosen)

    def _generator_beside(self) -> torch.Generator:
        """Return a generator of its own: what it serves leaves training as it is."""
        return torch.Generator(self.device_).manual_seed(self._evidence_seed)

    def _train_features(self, data, generator, progress, *, going_on):
        """Train M1, and build M2 on the latents that vary."""
        features = self._features if going_on else self._module
        rows, valid = BaseVAE._split(self, len(data), False)
        plan = super()._plan(len(rows), False)
        on_device = [
            None if part is None else torch.as_tensor(part, device=self.device_)
            for part in (rows, valid)
        ]
        plan = dataclasses.replace(plan, objective="elbo")
        own = {"progress": progress, "stage": "epoch of M1"}
        train(features, data.replace(y=None), *on_device, plan, generator, **own)
        if going_on:
            return
        self._features = features
        latents = torch.cat([qz.loc for _, qz in self._feature_posterior(data)])
        deviation = latents.std(0, correction=0)
        active = deviation > FEATURE_DEVIATION
        if not active.any():
            active = deviation >= deviation.max()
        self._active = active.cpu().numpy()
        self._label_architecture = {
            "heads": [("normal", int(self._active.sum()), 0)],
            "n_latent": self.n_components_,
            "hidden_layer_sizes": self._architecture["hidden_layer_sizes"],
            "activation": self.activation,
            "linear_path": True,
            "n_classes": len(self.classes_),
            "kind": "m2",
        }
        self._module = self._build("_module", self._new_seed())
        start = latents[:, active].cpu()
        self._module.initialise_marginals(start, torch.ones_like(start))
        self._module.to(self.device_)

    def _feature_posterior(self, data: Batch):
        """Yield pieces of a table with M1's q(z | x)."""
        width = max(self._widths())
        with torch.inference_mode():
            for piece in pieces(data, max(1, INFERENCE_FLOATS // (4 * width))):
                yield piece, self._features.encode(piece.x, piece.observed)

    def _seen_by_classifier(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> Batch:
        """Return the rows as the labelled VAE sees them: for "m1+m2" M1's latents.

        They are drawn from q(z | x) with ``generator``, and are its means without.
        """
        if self._features is None:
            return batch
        with torch.no_grad():
            qz = self._features.encode(batch.x, batch.observed)
            z = qz.loc
            if generator is not None:
                z = qz.rsample(torch.empty_like(z).normal_(generator=generator))
        active = torch.as_tensor(self._active, device=z.device)
        return batch.replace(x=z[:, active], observed=None)

    def _neighbour_distance(self, data: Batch) -> float:
        """Return the median distance of a row to its nearest neighbour."""
        some = data.at_random(NEIGHBOUR_ROWS, self._generator_beside())
        some = self._seen_by_classifier(some)
        with torch.inference_mode():
            inputs = self._module.inputs(some.x, some.observed).cpu().numpy()
        if len(inputs) < 2:
            return 0.0
        search = NearestNeighbors(n_neighbors=2).fit(inputs)
        distance = search.kneighbors(inputs)[0][:, 1]
        apart = distance[distance > 0]  # copies of a row say nothing
        return float(np.median(apart)) if len(apart) else 0.0

    def _split_labels(self):
        """Return row numbers for training and validation (None without).

        Validation rows are labelled ones, a share of every class that leaves at
        least one row of it.
        """
        order = self._random.permutation(len(self._codes))
        if not self.early_stopping:
            return order, None
        fraction, least = self.validation_fraction, 1
        if fraction is None:
            fraction, least = DEFAULT_VALIDATION_FRACTION, MIN_VALIDATION_ROWS
        n_labelled = max(1, int((self._codes >= 0).sum()))
        fraction = min(fraction, MAX_VALIDATION_ROWS / n_labelled)
        valid = []
        for code in range(len(self.classes_)):
            rows = order[self._codes[order] == code]
            valid.append(rows[: min(round(fraction * len(rows)), len(rows) - 1)])
        valid = np.concatenate(valid)
        if len(valid) < least:
            return order, None
        return order[~np.isin(order, valid)], valid

    def _split(self, n_rows: int, one_pass: bool):
        return self._rows

    def _plan(self, n_rows: int, one_pass: bool) -> Plan:
        plan = super()._plan(n_rows, one_pass)
        labelling = self._labelling
        n_batches = max(1, n_rows // plan.batch_size)
        labelling.total_steps = n_batches * plan.max_iter
        bound = OBJECTIVES[self._module.kind]

        def objective(vae, batch, noise, *, kl_weight=1.0, gradient="pathwise"):
            labelling.step += 1
            return bound(vae, batch, noise, labelling, kl_weight=kl_weight)

        # labels judge the classifier alone where it is a network of its own
        judged = None if self._module.kind == "m1" else "classifier"
        patience = plan.n_iter_no_change
        if self.n_iter_no_change is None and (judged or not self.early_stopping_):
            # the objective says when to stop too late, the labels too early for the
            # generator
            patience = math.inf
        return dataclasses.replace(
            plan,
            objective=objective,
            score=label_score,
            early_stopping=self.early_stopping_,
            n_iter_no_change=patience,
            judged=judged,
            prefer_start=False,  # it has no opinion on labels
        )

    # -- use ---------------------------------------------------------------------

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
        proba = np.empty((len(data), len(self.classes_)), dtype=np.float32)
        start = 0
        with torch.inference_mode():
            for piece in self._pieces(data):
                inputs = self._module.inputs(piece.x, piece.observed)
                q = F.softmax(self._module.logits(inputs), -1)
                proba[start : start + len(piece)] = q.cpu()
                start += len(piece)
        return proba

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

    def score(self, X, y, sample_weight=None):
        """Return the share of rows that are classified correctly.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            Accuracy, between 0 and 1.
        """
        return super().score(X, y, sample_weight)

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
            With "m2" and "shot" it holds what the label leaves open. With "m1+m2" it
            is the latents of M1, which know nothing of labels.
        """
        data = self._encode(X)
        latents = np.empty((len(data), self.n_components_), dtype=np.float32)
        start = 0
        if self._features is not None:
            for piece, qz in self._feature_posterior(data):
                latents[start : start + len(piece)] = qz.loc.cpu()
                start += len(piece)
            return latents
        module = self._module
        with torch.inference_mode():
            for piece in self._pieces(data):
                inputs = module.inputs(piece.x, piece.observed)
                loc = module.encode_every_label(inputs).mean
                if len(loc) > 1:
                    q = F.softmax(module.logits(inputs), -1).t().unsqueeze(-1)
                    loc = (q * loc).sum(0, keepdim=True)
                latents[start : start + len(piece)] = loc[0].cpu()
                start += len(piece)
        return latents

    def score_samples(self, X):
        """Return the log-likelihood of each row, the label summed out.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table. Missing cells are
            integrated out.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,), float32
            Importance-weighted estimate of log p(x) in nats and in the units of X,
            from 64 draws for every class: a lower bound on the average. Rows with
            missing cells have as many draws of the prior too, but for "m1+m2", whose
            bound is loose for them if no cell was missing in training; a row without
            any cell scores 0.
        """
        data = self._encode(X)
        evidence = score_with_gaps(data, self._label_free_evidence)
        return (evidence + self._log_jacobian(data)).astype(np.float32)

    def _label_free_evidence(self, data: Batch, with_gaps: bool) -> np.ndarray:
        """Return log p(encoded row), the label summed out, (n_rows,)."""
        module, n_draws = self._module, CLASS_EVIDENCE_DRAWS
        # The same noise for every row: a row's score depends on no other row.
        generator = torch.Generator(self.device_).manual_seed(self._evidence_seed)
        noise, outer, of_prior = (
            data.x.new_empty(n_draws, 1, n).normal_(generator=generator)
            for n in (module.n_noise, self.n_components_, module.n_prior_noise)
        )
        at_once = 2 * n_draws * len(self.classes_) * max(self._widths())
        scores = []
        with torch.inference_mode():
            for piece in pieces(data, max(1, INFERENCE_FLOATS // at_once)):
                if self._features is None:
                    log_p = log_evidence(
                        module,
                        piece.x,
                        piece.observed,
                        noise,
                        of_prior if with_gaps else None,
                    )
                else:
                    log_p = self._stacked_evidence(piece, outer, noise)
                scores.append(torch.logsumexp(log_p, 0) - math.log(len(log_p)))
        return torch.cat(scores).cpu().numpy()

    def _stacked_evidence(self, piece: Batch, outer: Tensor, noise: Tensor) -> Tensor:
        """Return log p̂(x) of "m1+m2" for every draw of M1's latents, (K, rows).

        One draw of M2's latents for each of M1's keeps the estimate unbiased.
        """
        features = self._features
        qz = features.encode(piece.x, piece.observed)
        z = qz.rsample(outer)
        px = features.decode(z)
        log_p = features.joint.log_prob(px, piece.x, piece.observed)
        active = torch.as_tensor(self._active, device=z.device)
        silent = z[..., ~active]  # M2 does not see these: their prior is M1's
        log_silent = features.prior().log_prob(silent)
        shape = (*z.shape[:-1], noise.shape[-1])
        log_prior = log_evidence(
            self._module,
            z[..., active].flatten(0, 1),
            None,
            noise.expand(shape).reshape(1, -1, noise.shape[-1]),
        )
        log_prior = log_prior[0].view(z.shape[:-1]) + log_silent
        return log_p + log_prior - qz.log_prob(z)

    def sample(self, n_samples=None, y=None, random_state=None):
        """Draw new rows, of given classes or of all.

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
            that repeat their values hold values of the training table.
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
        rows = self._draw(codes, self._generator(random_state))
        cut_into_values(rows, self._columns_in_order(), self._limits)
        return self._decode_table(rows, drawn=True), self.classes_[codes]

    def _draw(self, codes: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Draw encoded rows of classes."""
        labels = torch.from_numpy(codes).to(self.device_)
        rows_at_once = max(1, INFERENCE_FLOATS // (4 * max(self._widths())))
        tables = []
        with torch.inference_mode():
            for part in labels.split(rows_at_once):
                z = self._latents_of_class(part, generator)
                module = self._module
                c = None if module.kind == "m1" else module.one_hot[part]
                rows = module.joint.sample(module.decode(z, c), generator)
                if self._features is not None:
                    z = rows.new_empty(len(rows), self.n_components_)
                    z.normal_(generator=generator)
                    z[:, torch.as_tensor(self._active, device=z.device)] = rows
                    features = self._features
                    rows = features.joint.sample(features.decode(z), generator)
                tables.append(rows.cpu())
        return torch.cat(tables).numpy()

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
        Z = check_array(Z, dtype=np.float32, input_name="Z", force_writeable=True)
        module = self._module
        if Z.shape[1] != module.n_latent:
            raise ValueError(
                f"Z has {Z.shape[1]} columns, but the model has {module.n_latent} "
                "latent variables."
            )
        labels = np.asarray(y)
        labels = np.repeat(labels, len(Z)) if labels.ndim == 0 else labels
        codes = self._codes_to_sample(len(Z), labels, None)
        latents = torch.from_numpy(Z).to(self.device_)
        classes = torch.from_numpy(codes).to(self.device_)
        rows_at_once = max(1, INFERENCE_FLOATS // (4 * max(self._widths())))
        tables = []
        with torch.inference_mode():
            for start in range(0, len(latents), rows_at_once):
                part = slice(start, start + rows_at_once)
                c = None if module.kind == "m1" else module.one_hot[classes[part]]
                rows = module.joint.point(module.decode(latents[part], c))
                if self._features is not None:
                    z = rows.new_zeros(len(rows), self.n_components_)
                    z[:, torch.as_tensor(self._active, device=z.device)] = rows
                    rows = self._features.joint.point(self._features.decode(z))
                tables.append(rows.cpu())
        return self._decode_table(torch.cat(tables))

    def _codes_to_sample(self, n_samples, y, random_state):
        """Return the classes of the rows to draw, as places in ``classes_``."""
        if n_samples is not None:
            n_samples = check_count(n_samples, "n_samples")
        if y is None:
            return random_state.choice(
                len(self.classes_), n_samples or 1, p=self.class_prior_
            )
        labels = np.asarray(y)
        if labels.ndim == 0:
            labels = np.repeat(labels, n_samples or 1)
        if labels.ndim != 1 or n_samples not in (None, len(labels)) or not len(labels):
            raise ValueError(
                "y must be one label, or one for each of the n_samples="
                f"{n_samples} rows, but got an array of shape {labels.shape}."
            )
        places = {label: code for code, label in enumerate(self.classes_.tolist())}
        unknown = [label for label in labels.tolist() if label not in places]
        if unknown:
            raise ValueError(
                f"y holds {unknown[0]!r}, which is none of the classes "
                f"{self.classes_.tolist()!r}."
            )
        return np.array([places[label] for label in labels.tolist()], dtype=np.int64)

    def _latents_of_class(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Draw latents for rows of given classes, (rows, n_latent)."""
        module = self._module
        n_candidates = len(codes)
        if module.kind == "m1":
            n_candidates = max(MIN_CANDIDATES, CANDIDATES_PER_ROW * len(codes))
            n_candidates = min(n_candidates, MAX_CANDIDATES)
        noise = module.log_prior.new_empty(n_candidates, module.n_prior_noise)
        candidates = module.prior().rsample(noise.normal_(generator=generator))
        if module.kind != "m1":
            return candidates
        q = F.softmax(module.classifier(candidates), -1)
        z = candidates.new_empty(len(codes), module.n_latent)
        for code in range(module.n_classes):
            places = torch.nonzero(codes == code)[:, 0]
            if len(places):
                chance = q[:, code].clamp(min=1e-30)
                drawn = torch.multinomial(
                    chance, len(places), replacement=True, generator=generator
                )
                z[places] = candidates[drawn]
        return z

    def _pieces(self, data: Batch):
        """Yield consecutive rows of a table, as the labelled VAE sees them."""
        width = max(self._widths()) * len(self.classes_)
        for piece in pieces(data, max(1, INFERENCE_FLOATS // width)):
            yield self._seen_by_classifier(piece)

    # -- parts -------------------------------------------------------------------

    @property
    def _default_budget(self) -> tuple[int, int]:  # type: ignore[override]
        # a decoder of every class takes longer to learn
        return (1_200 if self.objective == "m1" else 3_000), 50

    @property
    def _starts_linear(self) -> bool:
        # latents that explain the classes from the start leave the label nothing to do
        return self.objective in ("m1", "m1+m2")

    @property
    def _is_stacked(self) -> bool:
        return self.objective == "m1+m2"

    @property
    def _row_module(self) -> VAE:
        return self._module if self._features is None else self._features

    def _widths(self) -> list[int]:
        module = self._row_module
        sizes = self._architecture["hidden_layer_sizes"]
        return [module.n_encoder_inputs, *sizes, module.joint.n_outputs]

    def _build(self, part: str, seed: int = 0) -> torch.nn.Module:
        if part == "_features" or (self._is_stacked and self._active is None):
            return build_module(self._architecture, seed)
        stacked = self._is_stacked
        architecture = self._label_architecture if stacked else self._architecture
        options = dict(architecture)
        joint = Joint([make_head(*head) for head in options.pop("heads")])
        generator = torch.Generator().manual_seed(seed)
        return LabelledVAE(joint, generator=generator, **options).float()

    @property
    def _n_features_out(self):
        return self.n_components_

    def __sklearn_tags__(self):
        """Return the tags: latents are float32 whatever the input."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
