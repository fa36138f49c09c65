"""The peers of semi_supervised: classifiers that learn from unlabelled rows too."""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.semi_supervised import (
    LabelPropagation,
    LabelSpreading,
    SelfTrainingClassifier,
)
from sklearn.svm import SVC

from ..tables import scaled_numbers

PEERS = {
    "SVC, labelled rows alone": lambda seed: SVC(),
    "SelfTraining(SVC)": lambda seed: SelfTrainingClassifier(
        SVC(probability=True, random_state=seed)
    ),
    "SelfTraining(HistGradientBoosting)": lambda seed: SelfTrainingClassifier(
        HistGradientBoostingClassifier(random_state=seed)
    ),
    "LabelSpreading": lambda seed: LabelSpreading(kernel="knn", n_neighbors=7),
    "LabelPropagation": lambda seed: LabelPropagation(kernel="knn", n_neighbors=7),
    "pseudo-labels, MLP": lambda seed: SelfTrainingClassifier(
        MLPClassifier((128, 128), max_iter=500, random_state=seed)
    ),
}


def as_numbers(X, X_test):
    """Return complete, scaled numbers for methods that need them."""
    if isinstance(X, np.ndarray):  # images: grey values to [0, 1]
        top = X.max() if X.max() > 1 else 1
        return X / top, X_test / top
    return scaled_numbers(X, X_test)
