"""
Maximise the evidence lower bound
=================================

Variational inference approximates a distribution p by the member q of a simple family
that is closest to it. Closest means the largest *evidence lower bound* (ELBO)

.. math:: \\mathrm{ELBO}(q) = \\mathrm{E}_q[\\log p(z) - \\log q(z)].

Here p is a normal distribution and q a gamma distribution, so that all terms have a
closed form. :doc:`/mathematics` has the formulas.
"""

# %%
# Optimisation
# ------------
# As p is normalised, its evidence is 1, the log evidence 0, and the ELBO is minus the
# Kullback-Leibler divergence of q from p. It rises, but cannot reach 0, because no
# gamma distribution is normal.

from skvae.plotting import ElboAnimation

animation = ElboAnimation.from_optimization(loc=5.0, scale=1.0, n_iterations=60)
_ = animation.plot()

# %%
# This is the last picture. ``animation.save("elbo.gif")`` writes the whole animation,
# and ``animation.save("elbo.html")`` a self-contained page with a slider, which
# :doc:`/mathematics` shows. The drawn values are kept as arrays:

print(f"ELBO at the start {animation.elbo[0]:.3f}, at the end {animation.elbo[-1]:.4f}")
print(f"q: gamma({animation.concentration[-1]:.1f}, {animation.rate[-1]:.2f})")

# %%
# The remaining divergence
# ------------------------
# A gamma distribution has no mass below 0. The more mass p has there, the larger is the
# divergence after the optimisation.

import matplotlib.pyplot as plt

figure, axes = plt.subplots(2, 3, figsize=(12, 5.5), layout="constrained")
for column, loc in zip(axes.T, [5.0, 1.0, 0.0], strict=True):
    ElboAnimation.from_optimization(loc, n_iterations=150).plot(column)

# %%
# A given path
# ------------
# ``from_path`` computes the ELBO along a given path of gamma distributions. Here the
# mean of q stays at 5 and its standard deviation falls. The ELBO rises until q is about
# as wide as p, and then falls, because the entropy of q falls.

import numpy as np

concentration = np.geomspace(2, 300, 61)
path = ElboAnimation.from_path(concentration, concentration / 5, loc=5.0)
best = int(path.elbo.argmax())
print(f"widest standard deviation {5 / np.sqrt(concentration[0]):.2f}")
print(f"best standard deviation {5 / np.sqrt(concentration[best]):.2f}")
figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
deviation = 5 / np.sqrt(concentration)
ax.plot(deviation, path.elbo, label="ELBO")
ax.plot(deviation, path.expected_log_density, "--", label="E log p(z)")
ax.plot(deviation, path.entropy, "--", label="entropy of q")
ax.set(xlabel="standard deviation of q", ylabel="nats")
_ = ax.legend(frameon=False)
