"""The peers of super_resolution: interpolation, and regressions of the pixels."""

import numpy as np


def enlarge(low, shape, factor, order):
    """Return enlarged images: the nearest pixel (order 0) or splines."""
    from skimage.transform import resize

    small = low.reshape(-1, shape[0] // factor, shape[1] // factor)
    large = [resize(image, shape, order=order) for image in small]
    return np.stack(large).reshape(len(low), -1)


def regressions(width, epochs, patience):
    """Return the regressions, a dict of name to estimator."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.neural_network import MLPRegressor

    return {
        "ridge": RidgeCV(np.logspace(-3, 3, 7)),
        "nearest neighbours": KNeighborsRegressor(),
        # as in scikit-learn's example of face completion
        "extra trees": ExtraTreesRegressor(
            n_estimators=10, max_features=32, random_state=0
        ),
        "MLP regression": MLPRegressor(
            hidden_layer_sizes=(width, width),
            early_stopping=True,
            max_iter=epochs,
            n_iter_no_change=patience,
            random_state=0,
        ),
    }
