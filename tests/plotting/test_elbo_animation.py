"""The animation of the ELBO: closed forms against quadrature, and what is written."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy.integrate import quad
from scipy.optimize import approx_fprime, minimize
from scipy.stats import gamma, norm

from skvae.plotting import ElboAnimation
from skvae.plotting._elbo import (
    elbo_gradient,
    expected_log_normal,
    gamma_entropy,
    natural_step,
)

PARAMETERS = st.tuples(
    st.floats(0.2, 50), st.floats(0.2, 20), st.floats(-5, 10), st.floats(0.2, 5)
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def elbo(concentration, rate, loc, scale):
    return expected_log_normal(concentration, rate, loc, scale) + gamma_entropy(
        concentration, rate
    )


# ---------------------------------------------------------------------------
# Closed forms
# ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("concentration", "rate", "loc", "scale"),
    [(25.7, 5.14, 5.0, 1.0), (2.0, 1.0, 0.0, 1.0), (0.7, 0.3, -1.0, 2.0)],
)
def test_terms_by_quadrature(concentration, rate, loc, scale):
    q, p = gamma(concentration, scale=1 / rate), norm(loc, scale)
    expected = quad(lambda z: q.pdf(z) * p.logpdf(z), 0, np.inf, limit=200)[0]
    assert expected_log_normal(concentration, rate, loc, scale) == pytest.approx(
        expected, rel=1e-6
    )
    assert gamma_entropy(concentration, rate) == pytest.approx(float(q.entropy()))
    kl = quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), 0, np.inf, limit=200)[0]
    animation = ElboAnimation.from_path(concentration, rate, loc=loc, scale=scale)
    assert animation.elbo[0] == pytest.approx(-kl, rel=1e-6)


@given(PARAMETERS)
@settings(max_examples=50, deadline=None)
def test_the_elbo_is_below_the_evidence(parameters):
    assert elbo(*parameters) < 0


@given(PARAMETERS)
@settings(max_examples=50, deadline=None)
def test_gradient(parameters):
    point, normal = np.array(parameters[:2]), parameters[2:]
    numeric = approx_fprime(point, lambda v: elbo(*v, *normal), 1e-6 * point)
    size = np.abs(numeric).max() + 1
    assert_allclose(elbo_gradient(*point, *normal), numeric, atol=2e-3 * size)


@given(PARAMETERS)
@settings(max_examples=50, deadline=None)
def test_natural_steps_go_up(parameters):
    point = np.array(parameters[:2])
    gradient = point * elbo_gradient(*parameters)
    assert gradient @ natural_step(*parameters) >= 0


@pytest.mark.parametrize(
    ("loc", "least", "parameters"),
    [(5.0, 0.0133, (25.7, 5.14)), (1.0, 0.2250, None), (0.0, 0.7188, None)],
)
def test_the_least_divergence_is_found(loc, least, parameters):
    found = minimize(
        lambda logs: -elbo(*np.exp(logs), loc, 1.0),
        [0.0, 0.0],
        method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-12},
    )
    assert found.fun == pytest.approx(least, abs=5e-5)
    animation = ElboAnimation.from_optimization(loc, 1.0, n_iterations=200)
    assert -animation.elbo[-1] == pytest.approx(found.fun, abs=1e-8)
    end = animation.concentration[-1], animation.rate[-1]
    assert_allclose(end, np.exp(found.x), rtol=1e-3)
    if parameters is not None:
        assert_allclose(end, parameters, rtol=2e-3)


@pytest.mark.parametrize(("loc", "scale"), [(5, 1), (1, 1), (0, 1), (-3, 1), (50, 2)])
def test_the_default_path_rises_and_arrives(loc, scale):
    animation = ElboAnimation.from_optimization(loc, scale)
    assert len(animation.elbo) == 81
    assert (np.diff(animation.elbo) > 0).all()
    best = ElboAnimation.from_optimization(loc, scale, n_iterations=300).elbo[-1]
    assert best - animation.elbo[-1] < 0.002


# ---------------------------------------------------------------------------
# Arrays and pictures
# ---------------------------------------------------------------------------
def test_arrays():
    animation = ElboAnimation.from_path([2.0, 3.0], 0.5, loc=4, scale=2)
    assert_array_equal(animation.rate, [0.5, 0.5])
    assert_allclose(animation.p, norm.pdf(animation.z, 4, 2))
    assert_allclose(animation.q[1], gamma.pdf(animation.z, 3, scale=2))
    total = animation.expected_log_density + animation.entropy
    assert_allclose(animation.elbo, total)
    assert animation.z[0] <= -4 and animation.z[-1] >= 12


def test_plot_shows_one_frame():
    animation = ElboAnimation.from_optimization(n_iterations=6)
    assert animation.plot(frame=2) is animation
    above, below = animation.axes_
    curve = above.lines[1]
    assert_array_equal(curve.get_xdata(), [0, 1, 2])
    assert_allclose(curve.get_ydata(), animation.elbo[:3])
    p, q = below.lines
    assert_allclose(p.get_ydata(), animation.p)
    assert_allclose(q.get_ydata(), animation.q[2])
    assert above.get_title().startswith("iteration 2:")
    last = animation.plot().axes_[1].lines[1].get_ydata()
    assert_allclose(last, animation.q[-1])
    figure, axes = plt.subplots(2)
    assert (animation.plot(axes, frame=0).axes_ == axes).all()
    assert animation.figure_ is figure
    for frame in (7, -8):
        with pytest.raises(ValueError, match=f"no frame {frame}: .* 7 frames"):
            animation.plot(frame=frame)


def test_an_infinite_density_is_drawn():
    animation = ElboAnimation.from_path([0.5, 0.5], [1.0, 2.0], loc=0)
    drawn = animation.plot().axes_[1].lines[1].get_ydata()
    assert np.isfinite(drawn).all()
    positive = animation.z > 0
    assert np.isinf(animation.q[-1]).any()  # else this test shows nothing
    assert_allclose(drawn[positive], gamma.pdf(animation.z[positive], 0.5, scale=0.5))


def test_gif(tmp_path):
    animation = ElboAnimation.from_optimization(n_iterations=3)
    path = tmp_path / "elbo.gif"
    animation.save(path, frames_per_second=4, dpi=30)
    with Image.open(path) as image:
        # four frames; equal ones at the end are one that stays
        assert image.n_frames >= 4
        durations = []
        for frame in range(image.n_frames):
            image.seek(frame)
            durations.append(image.info["duration"])
    assert sum(durations) == pytest.approx(1000 * (4 + 6) / 4, rel=0.05)
    assert plt.get_fignums() == []


def test_page_with_a_slider(tmp_path):
    animation = ElboAnimation.from_optimization(n_iterations=3)
    path = tmp_path / "elbo.html"
    animation.save(str(path), frames_per_second=20, dpi=30)
    page = path.read_text(encoding="utf-8")
    assert 'type="range" min="0" max="3"' in page
    assert "setInterval(step, 50.0)" in page
    frames = page.split("frames = [")[1].split("]")[0].split(", ")
    assert len(set(frames)) == 4
    assert "http" not in page and "src=" not in page  # it holds all it needs
    assert plt.get_fignums() == []


def test_animation_of_matplotlib(tmp_path):
    animation = ElboAnimation.from_optimization(n_iterations=2)
    drawn = animation.animate(frames_per_second=10)
    assert list(drawn.new_frame_seq()) == [0, 1, 2]
    drawn.save(tmp_path / "drawn.gif", writer="pillow", dpi=30)
    curve = plt.gcf().axes[0].lines[1]
    assert_allclose(curve.get_ydata(), animation.elbo)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ElboAnimation.from_path([1.0, -1.0], 1.0), "concentration must hold"),
        (lambda: ElboAnimation.from_path(1.0, np.nan), "rate must hold positive"),
        (lambda: ElboAnimation.from_path(1.0, 1.0, scale=0), "scale must be positive"),
        (lambda: ElboAnimation.from_optimization(np.inf), "loc must be finite"),
        (lambda: ElboAnimation.from_optimization(start=(1.0,)), "start must hold"),
        (lambda: ElboAnimation.from_optimization(step_size=2), "step_size must lie"),
        (lambda: ElboAnimation.from_optimization(n_iterations=0), "n_iterations must"),
        (
            lambda: ElboAnimation(concentration=[1.0, 2.0], rate=[1.0]),
            "concentration has 2 values, but rate has 1",
        ),
        (lambda: ElboAnimation.from_path(1.0, 1.0).save("a.mp4"), "as .gif or .html"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
