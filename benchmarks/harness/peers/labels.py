"""The peers of semi_supervised: classifiers that learn from unlabelled rows too."""

import numpy as np
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.semi_supervised import (
    LabelPropagation,
    LabelSpreading,
    SelfTrainingClassifier,
)
from sklearn.svm import SVC

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
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    categories = make_pipeline(
        SimpleImputer(strategy="most_frequent"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    encoder = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_exclude="number")),
    )
    return encoder.fit_transform(X), encoder.transform(X_test)
