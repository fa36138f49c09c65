"""Scores of predictions, draws, intervals and images, for arrays of numbers."""

import numpy as np


def rmse(truth, guess):
    """Return the root of the mean squared error."""
    return float(np.sqrt(np.square(truth - guess).mean()))


def covered(truth, lower, upper):
    """Return the share of values between two bounds."""
    return float(np.mean((lower <= truth) & (truth <= upper)))


def crps_of_draws(truth, drawn):
    """Return the continuous ranked probability score of every value, from draws.

    ``drawn`` has the shape (n_draws, n_values).
    """
    n_draws = len(drawn)
    to_truth = np.abs(drawn - truth).mean(axis=0)
    # The mean over pairs of different draws, from the sorted ones.
    weights = 2 * np.arange(n_draws) - n_draws + 1
    pairs = weights @ np.sort(drawn, axis=0) * 2 / (n_draws * (n_draws - 1))
    return to_truth - 0.5 * pairs


def normal_scores(mean, deviation, truth, coverage=0.9):
    """Return RMSE, CRPS, negative log-likelihood and coverage of normals."""
    from scipy.stats import norm

    z = (truth - mean) / deviation
    crps = deviation * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - np.pi**-0.5)
    return {
        "rmse": rmse(truth, mean),
        "crps": float(crps.mean()),
        "nll": float(-norm.logpdf(truth, mean, deviation).mean()),
        "coverage": float((np.abs(z) <= norm.ppf((1 + coverage) / 2)).mean()),
    }


def quantile_scores(mean, quantiles, levels, truth):
    """Return the scores of a mean and of sorted quantiles, which have no density."""
    above = truth - quantiles
    pinball = np.maximum(levels[:, None] * above, (levels[:, None] - 1) * above)
    return {
        "rmse": rmse(truth, mean),
        "crps": float(2 * pinball.mean()),
        "nll": None,
        "coverage": covered(truth, quantiles[0], quantiles[-1]),
    }


def energy_distance(clouds, true):
    """Return the energy distance of pooled clouds of points from the true points."""
    from scipy.spatial.distance import cdist

    across = np.mean([cdist(cloud, true).mean() for cloud in clouds])
    within = np.mean([cdist(a, b).mean() for a in clouds for b in clouds])
    return float(2 * across - within - cdist(true, true).mean())


def block_means(images, shape, factor):
    """Return the means over blocks of factor x factor pixels."""
    height, width = shape
    blocks = images.reshape(-1, height // factor, factor, width // factor, factor)
    return blocks.mean((2, 4)).reshape(len(images), -1)


def image_scores(truth, guess, low, shape, factor, n_similarity):
    """Return PSNR and SSIM, averaged over images, and the consistency RMSE.

    The SSIM is that of the first ``n_similarity`` images.
    """
    from skimage.metrics import structural_similarity

    guess = np.clip(guess, 0, 1)
    error = np.square(truth - guess).mean(1)
    pairs = zip(truth[:n_similarity], guess[:n_similarity], strict=True)
    similarity = [
        structural_similarity(a.reshape(shape), b.reshape(shape), data_range=1.0)
        for a, b in pairs
    ]
    return {
        "psnr": float(-10 * np.log10(np.maximum(error, 1e-10)).mean()),
        "ssim": float(np.mean(similarity)),
        "consistency": rmse(block_means(guess, shape, factor), low),
    }
