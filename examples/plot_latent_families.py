"""
Dirichlet latent variables, and variational inference for any log-density
=========================================================================

Latent variables need not be normal. In the first part they are shares of topics in a
table of counts. In the second part the same gradient estimators fit the posterior of
another Bayesian model.
"""

# %%
# Topics in a table of counts
# ---------------------------
# Every row counts some 60 words of a text, from a vocabulary of 20. There are three
# topics. The shares of the topics differ between rows; most rows have one or two
# topics.

import numpy as np

rng = np.random.default_rng(0)
topics = rng.dirichlet(np.full(20, 0.2), size=3)
shares = rng.dirichlet(np.full(3, 0.3), size=800)
X = rng.poisson(60 * shares @ topics).astype(float)

# %%
# ``latent="dirichlet"`` makes the latent variables of a row non-negative with sum one.
# The prior Dirichlet(0.3) states that a row has few topics.

from skvae import VAETransformer

model = VAETransformer(
    n_components=3,
    latent="dirichlet",
    prior=(0.3,),
    likelihood="poisson",
    max_iter=100,
    random_state=0,
).fit(X)
Z = model.transform(X)
print(f"shares of the first rows:\n{Z[:3].round(2)}")

# %%
# The order of the latent variables is arbitrary. So each true topic is matched with the
# latent variable of the highest correlation. The decoder's output for a row with one
# topic alone gives the words of this topic.

import matplotlib.pyplot as plt

correlation = np.corrcoef(shares.T, Z.T)[:3, 3:]
match = correlation.argmax(1)
words = model.inverse_transform(np.eye(3)[match])
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained", sharey=True)
for k, ax in enumerate(axes):
    ax.bar(np.arange(20) - 0.2, 60 * topics[k], 0.4, label="true topic")
    ax.bar(np.arange(20) + 0.2, words[k], 0.4, label="decoded")
    ax.set(title=f"correlation of shares {correlation[k].max():.2f}", xlabel="word")
axes[0].set_ylabel("expected count")
axes[0].legend(frameon=False)

# %%
# Any log-density
# ---------------
# :func:`skvae.inference.fit_variational` fits a member of a family to a density that
# need not be normalised. With a Gamma(1, 1) prior the rate of Poisson counts has a
# gamma posterior, Gamma(1 + sum, 1 + number of counts), here Gamma(16, 6).

import torch

from skvae.inference import fit_variational

counts = torch.tensor([2.0, 4.0, 3.0, 1.0, 5.0], dtype=torch.float64)


def log_joint(rate):
    log_likelihood = torch.distributions.Poisson(rate).log_prob(counts).sum(-1)
    return log_likelihood - rate.sum(-1)


# %%
# All estimators of the gradient have the same mean. They differ in their variance.
# "score" and "rloo" use the values of ``log_joint`` alone, "rloo" with a baseline.
# "grep" and "pathwise" use its derivative.

figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
for gradient in ("score", "rloo", "grep", "pathwise"):
    fit = fit_variational(
        log_joint,
        "gamma",
        gradient=gradient,
        learning_rate_init=0.1,
        max_iter=400,
        random_state=0,
    )
    ax.plot(np.convolve(fit.elbo_curve, np.full(20, 1 / 20), "valid"), label=gradient)
    found = {name: value.round(2).item() for name, value in fit.parameters.items()}
    variance = fit.gradient_variance["concentration"].item()
    print(f"{gradient:9s} {found}, variance of the gradient {variance:.2g}")
ax.set(xlabel="step", ylabel="evidence lower bound (20 steps)", ylim=(-14, -11))
ax.legend(frameon=False)
plt.show()
