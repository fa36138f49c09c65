"""Draws of the gradient that the encoder receives."""

from linear_gaussian import normal_noise, repeat_rows


def encoder_gradients(vae, objective, x, n_copies, n_draws, gradient, seed=0):
    """Gradient with respect to the encoder's output, one per copy of a row.

    Every copy has its own noise, so the copies are independent draws of the
    estimator. Shape (n_rows, n_copies, 2 n_latent).
    """
    seen = []

    def keep(module, inputs, out):
        out.retain_grad()
        seen.append(out)

    hook = vae.encoder.register_forward_hook(keep)
    batch = repeat_rows(x, n_copies)
    noise = normal_noise(n_draws, len(batch), vae.n_latent, seed=seed)
    objective(vae, batch, noise, gradient=gradient).objective.sum().backward()
    hook.remove()
    return seen[0].grad.unflatten(0, (len(x), n_copies))
