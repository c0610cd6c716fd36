"""Kinetic samplers: affine maps against matrix formulas, densities of (x, p), weak orders, randomized midpoints, trajectories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from scipy import linalg, stats

from mixrate.errors import Diverged, InvalidInput, Unsupported
from mixrate.laws.grid import Grid
from mixrate.laws.normal import AffineMap, Normal, affine_map, phase, placed
from mixrate.laws.particles import Particles, simulate
from mixrate.laws.propagate import mesh_for, propagate, stationary
from mixrate.samplers.baoab import BAOAB
from mixrate.samplers.base import Sampler, Stage
from mixrate.samplers.complete_recipe import CompleteRecipe
from mixrate.samplers.flight import flight, over
from mixrate.samplers.ghmc import GHMC, Guided
from mixrate.samplers.hmc import HMC
from mixrate.samplers.kinetic import Kinetic, Phase
from mixrate.samplers.kinetic_euler import KineticEuler
from mixrate.samplers.klmc import KLMC
from mixrate.samplers.linear_sde import transition
from mixrate.samplers.mala import MALA
from mixrate.samplers.malt import MALT
from mixrate.samplers.metropolis import Point
from mixrate.samplers.noise import Noise, Stream
from mixrate.samplers.obabo import OBABO
from mixrate.samplers.randomized_midpoint import RandomizedMidpoint
from mixrate.samplers.randomized_midpoint_overdamped import LIMIT, RandomizedMidpointOverdamped
from mixrate.samplers.recipe_diffusion import RecipeDiffusion
from mixrate.samplers.ubu import UBU
from mixrate.targets.base import Target
from mixrate.targets.double_well import DoubleWell
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.skew_logistic import SkewLogistic

DENSE = Gaussian([1.0, -0.5, 2.0], [[1.0, 0.3, 0.0], [0.3, 0.5, -0.2], [0.0, -0.2, 0.8]])
LINE = Gaussian([0.7], [[0.6]])
SKEW, MODES = SkewLogistic(), GaussianMixture.two_modes(3.0, weight=0.3)
H, FRICTION, MASS = 0.23, 1.7, 0.6
SPLITTINGS: list[type[Kinetic]] = [KineticEuler, KLMC, OBABO, BAOAB, UBU]
AFFINE: list[Sampler] = [*(make(H, FRICTION, MASS) for make in SPLITTINGS), RecipeDiffusion.kinetic(H, FRICTION, MASS)]
MIDPOINTS: list[Sampler] = [RandomizedMidpoint(H, FRICTION, MASS), RandomizedMidpointOverdamped(H)]
ADJUSTED: list[Sampler] = [HMC(0.5, 3, MASS), GHMC(0.5, FRICTION, 2, MASS), MALT(0.5, FRICTION, 3, MASS)]


# Affine maps, assembled from block matrices.


def van_loan(a: np.ndarray, c: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
    """(e^(A t), int_0^t e^(A s) C e^(A s)^T ds) by one matrix exponential."""
    n = len(a)
    e = linalg.expm(t * np.block([[-a, c], [np.zeros((n, n)), a.T]]))
    return e[n:, n:].T, e[n:, n:].T @ e[:n, n:]


def closed_form(name: str, target: Gaussian, h: float, gamma: float, mass: float) -> AffineMap:
    """One step on a Gaussian as a product of block matrices on (x - mean, p)."""
    d, eye, precision = target.dim, np.eye(target.dim), np.linalg.inv(target.cov.numpy())
    zero = np.zeros((d, d))

    def both(a: list[list[float]]) -> np.ndarray:
        return np.kron(np.asarray(a), eye)

    def kick(t: float) -> AffineMap:
        return AffineMap(np.block([[eye, zero], [-t * precision, eye]]), np.zeros(2 * d), both([[0, 0], [0, 0]]))

    def drift(t: float) -> AffineMap:
        return AffineMap(both([[1, t / mass], [0, 1]]), np.zeros(2 * d), both([[0, 0], [0, 0]]))

    def stir(t: float) -> AffineMap:
        eta = np.exp(-gamma * t)
        return AffineMap(both([[1, 0], [0, eta]]), np.zeros(2 * d), both([[0, 0], [0, mass * (1 - eta**2)]]))

    def fly(t: float) -> AffineMap:
        e, c = van_loan(np.array([[0, 1 / mass], [0, -gamma]]), np.diag([0, 2 * gamma * mass]), t)
        return AffineMap(np.kron(e, eye), np.zeros(2 * d), np.kron(c, eye))

    def chain(*parts: AffineMap) -> AffineMap:
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.then(part)
        return whole

    if name == "kinetic_euler":
        a = np.eye(2 * d) + h * np.block([[zero, eye / mass], [-precision, -gamma * eye]])
        return AffineMap(a, np.zeros(2 * d), both([[0, 0], [0, 2 * gamma * mass * h]]))
    if name == "klmc":  # the force g as a third, constant, variable
        e, c = van_loan(np.array([[0, 1 / mass, 0], [0, -gamma, -1], [0, 0, 0]]), np.diag([0, 2 * gamma * mass, 0]), h)
        return AffineMap(np.kron(e[:2, :2], eye) + np.kron(e[:2, 2:], precision) @ np.kron([[1, 0]], eye), np.zeros(2 * d), np.kron(c[:2, :2], eye))
    if name == "recipe_diffusion":
        e, c = van_loan(np.block([[zero, eye / mass], [-precision, -gamma * eye]]), both([[0, 0], [0, 2 * gamma * mass]]), h)
        return AffineMap(e, np.zeros(2 * d), c)
    return {
        "obabo": lambda: chain(stir(h / 2), kick(h / 2), drift(h), kick(h / 2), stir(h / 2)),
        "baoab": lambda: chain(kick(h / 2), drift(h / 2), stir(h), drift(h / 2), kick(h / 2)),
        "ubu": lambda: chain(fly(h / 2), kick(h), fly(h / 2)),
    }[name]()


def check_affine(sampler: Sampler, name: str | None = None) -> None:
    """The map that the step performs is the closed form, to 1e-12: dense covariance, non-zero mean, mass and friction not 1."""
    found, stated = affine_map(sampler, DENSE), closed_form(name or sampler.name, DENSE, H, FRICTION, MASS)
    centre = np.concatenate([DENSE.mean.numpy(), np.zeros(DENSE.dim)])
    assert np.abs(found.linear - stated.linear).max() < 1e-12
    assert np.abs(found.offset - (centre - stated.linear @ centre)).max() < 1e-12
    assert np.abs(found.noise_cov - stated.noise_cov).max() < 1e-12


@pytest.mark.parametrize("sampler", AFFINE, ids=lambda s: s.name)
def test_affine_map_is_the_closed_form(sampler: Sampler) -> None:
    check_affine(sampler)


@pytest.mark.parametrize("part", [0.3, 1.0, 1.95])
def test_stationary_laws_of_the_splittings_on_gaussians(part: float) -> None:
    """BAOAB: positions exact, momenta not. OBABO: the reverse. At `part` of the largest curvature's limit ``2 sqrt(mass/M)`` / 2;
    near the limit the momenta of BAOAB have 5 % of their variance, and 1e-12 is relative to the closed form's own scale."""
    cov, big = DENSE.cov.numpy(), float(DENSE.constant("M") or 0.0)
    h, eye = part * (MASS / big) ** 0.5, np.eye(DENSE.dim)
    shrunk = eye - h**2 / (4 * MASS) * np.linalg.inv(cov)
    like = Normal(np.zeros(DENSE.dim), eye)
    for make, x, p in ((BAOAB, cov, MASS * shrunk), (OBABO, cov @ np.linalg.inv(shrunk), MASS * eye)):
        sampler = make(h, FRICTION, MASS)
        sampler.admit(DENSE)
        law = stationary(like, sampler, DENSE)
        assert isinstance(law, Normal) and law.joint is not None
        assert np.abs(law.cov - x).max() < 1e-12 * np.abs(x).max() and np.abs(law.mean - DENSE.mean.numpy()).max() < 1e-12
        assert np.abs(law.joint.cov[3:, 3:] - p).max() < 1e-12
        assert np.abs(law.joint.cov[:3, 3:]).max() < 1e-12 * np.abs(x).max()
    assert np.abs(shrunk - eye).max() > 0.01  # neither is exact in both


# Free flight and linear equations over any time.


def precise(a: np.ndarray, c: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
    """`van_loan` in 80 digits: no cancellation that matters."""
    n = len(a)
    with mpmath.workdps(80):
        whole = mpmath.zeros(2 * n)
        for i in range(n):
            for j in range(n):
                whole[i, j], whole[i, n + j], whole[n + i, n + j] = -mpmath.mpf(a[i, j]), mpmath.mpf(c[i, j]), mpmath.mpf(a[j, i])
        e = mpmath.expm(whole * mpmath.mpf(t))
        f = e[n:, n:].T
        spread = f * e[:n, n:]
        return tuple(np.array(m.tolist(), dtype=float) for m in (f, spread))  # type: ignore[return-value]


TIMES = [1e-10, 1e-6, 1e-3, 0.1, 0.49, 0.51, 2.0, 10.0, 50.0]


@pytest.mark.parametrize("eta", TIMES)
def test_flight_keeps_its_accuracy_at_every_time(eta: float) -> None:
    """Each coefficient and covariance against 80 digits, relative 1e-12, for gamma t from 1e-10 to 50."""
    gamma, mass = 1.7, 0.6
    t = eta / gamma
    f = flight(gamma, mass, torch.tensor([t], dtype=torch.float64))
    decay, reach, push, stir, along, across = (float(c) for c in f)
    assert over(gamma, mass, t) == (decay, reach, push, stir, along, across)
    e, c = precise(np.array([[0, 1 / mass, 0], [0, -gamma, -1.0], [0, 0, 0]]), np.diag([0, 2 * gamma * mass, 0]), t)
    found = [decay, reach / mass, reach, push / mass, stir**2, stir * along, along**2 + across**2]
    stated = [e[1, 1], e[0, 1], -e[1, 2], -e[0, 2], c[1, 1], c[0, 1], c[0, 0]]
    assert np.abs(np.array(found) / np.array(stated) - 1).max() < 1e-12
    assert np.abs(across**2 / (c[0, 0] - c[0, 1] ** 2 / c[1, 1]) - 1) < 1e-10 or eta < 1e-3  # the right side cancels at small times


def test_flight_over_no_time_is_at_rest() -> None:
    """And gradients of size 1/0 do not appear: alpha may be 0 to rounding."""
    still = flight(1.7, 0.6, torch.tensor([0.0, 1e-300], dtype=torch.float64))
    assert torch.stack(still[1:]).abs().max() < 1e-149 and float(still.decay.min()) == 1.0


@pytest.mark.parametrize("eta", TIMES)
def test_transition_keeps_its_accuracy_at_every_time(eta: float) -> None:
    """Relative 1e-12 entry by entry on the kinetic equation, and against the largest entry for a random stable one."""
    gamma, mass, curvature = 1.7, 0.6, 0.9
    pairs = [(np.array([[0, 1 / mass], [-curvature, -gamma]]), np.diag([0, 2 * gamma * mass]))]
    draw = np.random.Generator(np.random.Philox(3))
    g = draw.standard_normal((4, 2))
    random = draw.standard_normal((4, 4))
    pairs.append((random - (float(np.linalg.eigvals(random).real.max()) + 0.5) * np.eye(4), g @ g.T))
    for k, (a, c) in enumerate(pairs):
        t = eta / float(np.linalg.norm(a, 2))
        for got, stated in zip(transition(a, c, t), precise(a, c, t), strict=True):
            scale = np.abs(stated) if k == 0 and eta < 10 else np.abs(stated).max()  # far out entries pass through zero
            assert (np.abs(got - stated) <= 1e-12 * scale).all()


# Densities of position and momentum.


@pytest.mark.parametrize("sampler", [make(0.4, 1.1, 1.3) for make in SPLITTINGS] + [RecipeDiffusion.kinetic(0.4, 1.1, 1.3)], ids=lambda s: s.name)
def test_the_density_on_the_phase_plane_has_the_moments_of_the_normal_law(sampler: Sampler) -> None:
    """After 1, 2 and 5 steps, mean and covariance of (x, p) to 1e-9; what left the box or is not resolved is below that."""
    start = Normal(np.array([1.4]), np.array([[0.25]]))
    mesh = mesh_for(LINE, sampler, start, nodes=121)
    grids = propagate(Grid.of_normal(start, mesh), sampler, LINE, [1, 2, 5])
    normals = propagate(start, sampler, LINE, [1, 2, 5])
    for g, n in zip(grids, normals, strict=True):
        assert isinstance(g, Grid) and isinstance(n, Normal) and g.joint is not None and n.joint is not None
        found = g.joint.moments
        assert np.abs(found.mean - n.joint.mean).max() < 1e-9 and np.abs(found.cov - n.joint.cov).max() < 1e-9
        assert np.abs(g.moments.cov - n.cov).max() < 1e-9
        assert g.lost < 1e-9 and g.unresolved < 1e-9


@pytest.mark.parametrize("make", SPLITTINGS, ids=lambda c: c.__name__)
def test_the_density_on_the_phase_plane_is_that_of_particles(make: type[Kinetic]) -> None:
    """On a skewed target, 4 steps from a Gaussian: positions and momenta of 40,000 particles, KS at a false alarm of 1e-6."""
    sampler, start = make(0.4, 1.1, 1.3), Normal(np.array([-0.8]), np.array([[0.3]]))
    mesh = mesh_for(SKEW, sampler, start, nodes=121)
    law = propagate(Grid.of_normal(start, mesh), sampler, SKEW, [4])[0]
    assert isinstance(law, Grid) and law.joint is not None and law.lost < 1e-7 and law.unresolved < 1e-7
    after = simulate(Particles.of_normal(start, 40_000, seed=3), sampler, SKEW, [4])[0]
    assert after.momentum is not None
    joint = law.joint
    for axis, drawn in enumerate((after.x, after.momentum)):
        nodes, spacing = joint.mesh.axes[axis], joint.mesh.spacing[axis]
        cdf = np.cumsum(joint.density.reshape(joint.mesh.shape).sum(1 - axis)) * joint.mesh.cell
        assert stats.kstest(drawn[:, 0].numpy(), lambda t, x=nodes + spacing / 2, c=cdf: np.interp(t, x, c)).pvalue > 1e-6


def test_a_law_of_position_and_momentum_goes_on() -> None:
    """3 steps and then 4 are 7: on each route the momentum comes along. Without it the law is another."""
    sampler, start = BAOAB(0.4, 1.1, 1.3), Normal(np.array([1.4]), np.array([[0.25]]))

    def twice(law: Any) -> tuple[Any, Any]:
        return propagate(propagate(law, sampler, LINE, [3])[0], sampler, LINE, [4])[0], propagate(law, sampler, LINE, [7])[0]

    two, one = twice(start)
    assert np.abs(two.cov - one.cov).max() < 1e-13 and np.abs(two.joint.cov - one.joint.cov).max() < 1e-13
    half = propagate(start, sampler, LINE, [3])[0]
    assert isinstance(half, Normal)
    cut = propagate(Normal(half.mean, half.cov), sampler, LINE, [4])[0]
    assert isinstance(cut, Normal) and np.abs(cut.mean - one.mean).max() > 1e-2
    two, one = twice(Grid.of_normal(start, mesh_for(LINE, sampler, start, nodes=121)))
    assert np.abs(two.density - one.density).max() < 1e-13
    two, one = twice(Particles.of_normal(start, 1000, seed=1))
    assert torch.equal(two.x, one.x) and torch.equal(two.momentum, one.momentum) and two.steps == one.steps == 7


def test_a_start_too_narrow_for_the_mesh_is_refused_in_one_line() -> None:
    sampler = CompleteRecipe.cld(0.1, 2.0, momentum=1e-6)
    start = Grid.of_target(LINE, mesh_for(LINE, sampler, None))
    with pytest.raises(Unsupported, match="the start's momentum") as caught:
        propagate(start, sampler, LINE, [1])
    assert "\n" not in str(caught.value) and "falls between the nodes" in str(caught.value)


# Orders of the bias.


@pytest.mark.parametrize("make", SPLITTINGS, ids=lambda c: c.__name__)
def test_weak_order_is_the_declared_one(make: type[Kinetic]) -> None:
    """Fitted slope of the stationary bias of E x, E x^2 and E sin x on a skewed target, by the grid law: +- 0.1. The next term
    of the expansion tilts the slope by a multiple of h: order 1 needs smaller steps for that than order 2."""
    biases = []
    steps = (0.05, 0.025) if make.bias_order == 1.0 else (0.2, 0.1)
    for h in steps:
        sampler = make(h, 2.0, 1.3)
        pi = Grid.of_target(SKEW, mesh_for(SKEW, sampler, None, nodes=81 if make.bias_order == 1.0 else 101))
        law = stationary(pi, sampler, SKEW)
        assert isinstance(law, Grid)
        x = law.mesh.axes[0]
        biases.append([((law.density - pi.density) * f).sum() * law.mesh.cell for f in (x, x * x, np.sin(x))])
    slopes = np.log2(np.abs(np.array(biases[0]) / np.array(biases[1])))
    assert np.abs(slopes - make.bias_order).max() < 0.1


# Randomized midpoints: affine given alpha.


def midpoint_form(sampler: Sampler, target: Gaussian, alpha: float) -> AffineMap:
    """The same from the equations: matrix exponentials for the flight, and the joint covariance of one path at alpha h and h."""
    d, eye, precision, h = target.dim, np.eye(target.dim), np.linalg.inv(target.cov.numpy()), sampler.time_step
    mean, s = target.mean.numpy(), alpha * h
    if isinstance(sampler, RandomizedMidpointOverdamped):
        back = -h * precision
        a = eye + back @ (eye - s * precision)
        c = 2 * s * (eye + back) @ (eye + back).T + 2 * (h - s) * eye
        return AffineMap(a, (eye - a) @ mean, c)
    assert isinstance(sampler, RandomizedMidpoint)
    gamma, mass = sampler.rate(target), sampler.mass
    free, stirred = np.array([[0, 1 / mass, 0], [0, -gamma, -1], [0, 0, 0]]), np.diag([0, 2 * gamma * mass, 0])
    (first, noise_first), (rest, noise_rest), (whole, _) = (van_loan(free, stirred, t) for t in (s, h - s, h))
    middle = np.kron(first[:1, :2], eye) + np.kron(first[:1, 2:], precision) @ np.kron([[1, 0]], eye)
    # a force that acts for an instant, h times as strong, then flies for h - s
    strike = np.kron(h * rest[:2, 1:2], -precision)
    a = np.kron(whole[:2, :2], eye) + strike @ middle
    reach = np.kron(rest[:2, :2], eye) + strike @ np.kron([[1, 0]], eye)  # of the noise at alpha h
    c = reach @ np.kron(noise_first[:2, :2], eye) @ reach.T + np.kron(noise_rest[:2, :2], eye)
    return AffineMap(a, (np.eye(2 * d) - a) @ np.concatenate([mean, np.zeros(d)]), c)


def check_midpoint(sampler: Sampler) -> None:
    """Given alpha, map and noise are those of the equations, to 1e-12."""
    for alpha in (1e-9, 0.2, 0.7, 1 - 1e-9):
        found, stated = affine_map(sampler, DENSE, alpha), midpoint_form(sampler, DENSE, alpha)
        for field in ("linear", "offset", "noise_cov"):
            assert np.abs(getattr(found, field) - getattr(stated, field)).max() < 1e-12


def averaged(sampler: Sampler, target: Gaussian, form: Callable[[Sampler, Gaussian, float], AffineMap]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(E A, E A kron A, E C) over alpha by 24 Gauss-Legendre nodes; about the mean, which is fixed given any alpha."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    maps = [form(sampler, target, (1 + t) / 2) for t in nodes]
    parts = [[w / 2 * m for w, m in zip(weights, ms, strict=True)] for ms in
             ([f.linear for f in maps], [np.kron(f.linear, f.linear) for f in maps], [f.noise_cov for f in maps])]  # fmt: skip
    return sum(parts[0]), sum(parts[1]), sum(parts[2])


def fixed_covariance(sampler: Sampler, target: Gaussian) -> np.ndarray:
    """S with ``S = E[A S A^T + C]``, from the equations."""
    _, pairs, c = averaged(sampler, target, midpoint_form)
    return np.asarray(linalg.solve(np.eye(len(pairs)) - pairs, c.ravel()).reshape(c.shape))


@pytest.mark.parametrize("sampler", MIDPOINTS, ids=lambda s: s.name)
def test_a_midpoint_step_is_the_stated_affine_map_given_alpha(sampler: Sampler) -> None:
    check_midpoint(sampler)
    with pytest.raises(Unsupported, match="draws uniform numbers"):
        affine_map(sampler, DENSE)


@pytest.mark.parametrize("sampler", MIDPOINTS, ids=lambda s: s.name)
def test_midpoint_steps_of_particles_have_the_averaged_moments(sampler: Sampler) -> None:
    """One step of 200,000 particles from one point: mean and covariance within 5.7 standard errors (false alarm 1e-8 each, 27
    at most), so that alpha is uniform, and each particle's own: from there alpha moves the end by more than the noise."""
    z = torch.linspace(2.0, 3.0, 3 if sampler.momentum is None else 6, dtype=torch.float64).expand(200_000, -1)
    big = replace(sampler, step_size=0.6)  # type: ignore[type-var]
    after = phase(big.step(DENSE, placed(big, DENSE, z), Stream("one step", big.id))).numpy()
    nodes, weights = np.polynomial.legendre.leggauss(24)
    maps = [midpoint_form(big, DENSE, (1 + t) / 2) for t in nodes]
    ends = np.array([m.linear @ z[0].numpy() + m.offset for m in maps])
    mean = weights / 2 @ ends
    cov = sum(w / 2 * (m.noise_cov + np.outer(e - mean, e - mean)) for w, m, e in zip(weights, maps, ends, strict=True))
    assert np.ptp(ends, axis=0).max() > 0.5
    assert (np.abs(after.mean(0) - mean) < 5.7 * np.sqrt(np.diag(cov) / len(after))).all()
    centred = after - mean
    products = centred[:, :, None] * centred[:, None, :]
    assert (np.abs(products.mean(0) - cov) < 5.7 * products.std(0) / len(after) ** 0.5).all()


def test_midpoint_steps_approach_the_diffusion() -> None:
    """E A, E A kron A and E C of one step against the exact flow's: off by h^4, h^4, h^5 for the kinetic one, by h^3 for the other."""
    precision, eye = np.linalg.inv(DENSE.cov.numpy()), np.eye(3)
    kinetic = np.block([[0 * eye, eye / MASS], [-precision, -FRICTION * eye]]), np.kron(np.diag([0, 2 * FRICTION * MASS]), eye)
    for sampler, (drift, c), orders in ((MIDPOINTS[0], kinetic, (4, 4, 5)), (MIDPOINTS[1], (-precision, 2 * eye), (3, 3, 3))):
        errors = []
        for h in (0.01, 0.005):
            mean, pairs, noise = averaged(replace(sampler, step_size=h), DENSE, affine_map)  # type: ignore[type-var]
            e, spread = van_loan(drift, c, h)
            errors.append([np.abs(mean - e).max(), np.abs(pairs - np.kron(e, e)).max(), np.abs(noise - spread).max()])
        assert np.abs(np.log2(np.array(errors[0]) / np.array(errors[1])) - orders).max() < 0.1


@pytest.mark.parametrize(("gamma", "mass", "curvature"), [(2.3, 1.0, 1.7), (0.6, 1.9, 0.8)])
def test_midpoint_variances_are_biased_to_third_order(gamma: float, mass: float, curvature: float) -> None:
    """The leading terms in the docstrings, to 5 % (the next are smaller by a factor k h or gamma h); and the exponent, +- 0.1."""
    line = Gaussian([0.3], [[1 / curvature]])
    for make, leading in (
        (lambda h: RandomizedMidpoint(h, gamma, mass), curvature / (24 * gamma * mass**2)),
        (RandomizedMidpointOverdamped, curvature**2 / 6),
    ):
        bias = [fixed_covariance(make(h), line)[0, 0] - 1 / curvature for h in (0.04, 0.02)]  # type: ignore[operator]
        assert abs(np.log2(bias[0] / bias[1]) - 3) < 0.1
        assert abs(bias[1] / (leading * 0.02**3) - 1) < 0.05


# Their order where the target is not Gaussian, by polynomials of (x, p).


@dataclass(frozen=True)
class Polynomials:
    """Orthonormal polynomials of a law on the line: ``x f_j = b_j f_(j+1) + a_j f_j + b_(j-1) f_(j-1)``."""

    a: np.ndarray
    b: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, weights: np.ndarray, n: int) -> Polynomials:
        a, b, last, here = np.zeros(n), np.zeros(n), 0 * x, np.ones_like(x)
        for j in range(n):
            a[j] = (weights * x * here**2).sum()
            there = (x - a[j]) * here - (b[j - 1] * last if j else 0.0)
            b[j] = (weights * there**2).sum() ** 0.5
            last, here = here, there / b[j]
        return cls(a, b)

    def at(self, x: np.ndarray, n: int) -> np.ndarray:
        """The first n at each x, shape (len(x), n)."""
        rows = [np.ones_like(x)]
        for j in range(n - 1):
            rows.append(((x - self.a[j]) * rows[j] - (self.b[j - 1] * rows[j - 1] if j else 0.0)) / self.b[j])
        return np.stack(rows, axis=1)

    def gauss(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights that integrate polynomials below degree 2 n."""
        nodes, basis = linalg.eigh_tridiagonal(self.a[:n], self.b[: n - 1])
        return nodes, basis[0] ** 2


class Tabled(Noise):
    """Given numbers: `uniforms` for every uniform, the columns of `normals` in turn."""

    def __init__(self, uniforms: torch.Tensor, normals: torch.Tensor) -> None:
        self.uniforms, self.normals, self.taken = uniforms, normals, 0

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        self.taken += 1
        return self.normals[:, self.taken - 1 : self.taken]

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        return self.uniforms


def product(axes: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (n, axes) and weights of a product rule."""
    nodes = np.stack([g.ravel() for g in np.meshgrid(*(a[0] for a in axes), indexing="ij")], axis=1)
    weights = np.ones(1)
    for _, w in axes:
        weights = np.multiply.outer(weights, w)
    return nodes, weights.ravel()


def hermite(n: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return nodes, weights / weights.sum()


def galerkin_bias(sampler: Sampler, degrees: tuple[int, int], normals: tuple[int, ...]) -> np.ndarray:
    """Stationary bias of E x^2 and, where there is a momentum, of E p^2 and E x p on SKEW.

    The step's operator in orthonormal polynomials of the invariant law, by Gauss rules in (x, p), alpha and each normal; its
    stationary law is a left fixed vector. No sampling, and no error of the first order of anything.
    """
    lo, hi = (float(e[0]) for e in SKEW.extent())
    x, w = np.polynomial.legendre.leggauss(600)
    x = (lo + hi) / 2 + (hi - lo) / 2 * x
    w = w * np.exp(-SKEW.potential(torch.as_tensor(x[:, None])).numpy())
    of_x = Polynomials.of(x, w / w.sum(), 26)
    of_p = Polynomials(np.zeros(26), np.sqrt(np.arange(1.0, 27.0)))
    kinetic = sampler.momentum is not None
    mass = sampler.momentum.mass if sampler.momentum is not None else 1.0
    rules = [of_x.gauss(2 * degrees[0])] + ([of_p.gauss(2 * degrees[1])] if kinetic else [])
    z, weights = product(rules)
    alpha, at_alpha = np.polynomial.legendre.leggauss(6)
    numbers, chances = product([((1 + alpha) / 2, at_alpha / 2), *(hermite(n) for n in normals)])
    noise = [torch.as_tensor(numbers[:, 0]), torch.as_tensor(numbers[:, 1:])]

    def values(z: np.ndarray) -> np.ndarray:
        first = of_x.at(z[:, 0], degrees[0])
        second = of_p.at(z[:, 1], degrees[1]) if kinetic else np.ones((len(z), 1))
        return first[:, :, None] * second[:, None, :]

    scale = np.array([1.0, mass**0.5])[: z.shape[1]]
    after = []
    for row in z:
        start = placed(sampler, SKEW, torch.as_tensor(np.tile(row * scale, (len(numbers), 1))))
        moved = phase(sampler.step(SKEW, start, Tabled(*noise))).numpy() / scale
        first = of_x.at(moved[:, 0], degrees[0]) * chances[:, None]
        after.append(first.T @ (of_p.at(moved[:, 1], degrees[1]) if kinetic else np.ones((len(numbers), 1))))
    f = values(z).reshape(len(z), -1)
    operator = (f * weights[:, None]).T @ np.array(after).reshape(len(z), -1)
    law = np.concatenate([[1.0], np.linalg.solve((np.eye(len(operator)) - operator.T)[1:, 1:], operator[0, 1:])])
    functions = [z[:, 0] ** 2, *([z[:, 1] ** 2, z[:, 0] * z[:, 1]] if kinetic else [])]
    return np.array([(weights * (f @ law - 1.0) * g).sum() for g in functions])


@pytest.mark.parametrize(
    ("make", "degrees", "normals", "steps"),
    [
        (RandomizedMidpointOverdamped, (12, 1), (10, 10), (0.025, 0.0125)),
        (lambda h: RandomizedMidpoint(h, 1.5, 1.3), (9, 7), (5, 2, 5, 2), (0.2, 0.1)),
    ],
    ids=["overdamped", "kinetic"],
)  # fmt: skip
def test_midpoint_weak_order_is_the_declared_one(make: Callable[[float], Sampler], degrees: Any, normals: Any, steps: tuple[float, float]) -> None:
    """On a skewed target: 2 for the overdamped one, 3 for the kinetic one, +- 0.12 (the next term of the expansion at these steps).
    Path by path the errors are of order 1 and 3/2."""
    biases = [galerkin_bias(make(h), degrees, normals) for h in steps]
    assert np.abs(np.log2(np.abs(biases[0] / biases[1])) - float(make(0.1).bias_order or 0.0)).max() < 0.12


# Trajectories that are accepted or rejected.


def check_exact_start(sampler: Sampler, target: Target) -> None:
    """Three steps from 20,000 exact draws, momenta from N(0, M I), stay exact: KS at a false alarm of 1e-6 each."""
    after = simulate(Particles.of_target(target, 20_000, seed=5), sampler, target, [3])[0]
    fresh = target.sample(20_000, Stream("fresh"))
    assert after.diverged == 0.0 and after.acceptance is not None and 0.3 < after.acceptance < 0.995
    direction = np.linspace(1.0, 2.0, target.dim)
    pairs = [(target.potential(after.x).numpy(), target.potential(fresh).numpy()), (after.x.numpy() @ direction, fresh.numpy() @ direction)]
    if sampler.momentum is not None:
        assert after.momentum is not None
        p, q = after.momentum.numpy(), sampler.momentum.mass**0.5 * Stream("fresh p").normal(tuple(after.x.shape)).numpy()
        pairs += [(p[:, 0], q[:, 0]), ((after.x.numpy() * p) @ direction, (fresh.numpy() * q) @ direction)]
    for one, other in pairs:
        assert stats.ks_2samp(one, other).pvalue > 1e-6


def check_joint(sampler: Sampler, normals: int) -> None:
    """Averages over (x, p) of x, x^2, p, p^2, x p, x^2 p are what they were after a step on a skewed target: by product rules
    over the start, the step's normals and eight uniforms, shifted from row to row. To 2e-3: min(1, .) has a kink."""
    lo, hi = (float(e[0]) for e in SKEW.extent())
    kinetic = sampler.momentum is not None
    along, across = (601, 101) if kinetic + normals == 1 else (241, 49)
    x = np.linspace(lo, hi, along)
    v = np.exp(-SKEW.potential(torch.as_tensor(x[:, None])).numpy())
    bell = np.linspace(-5.0, 5.0, across)
    normal = bell, np.exp(-0.5 * bell**2) / np.exp(-0.5 * bell**2).sum()
    z, weights = product([(x, v / v.sum()), *[normal] * (kinetic + normals)])
    keep = weights > 1e-10
    z, w = torch.as_tensor(z[keep]), torch.as_tensor(weights[keep] / weights[keep].sum())
    mass = sampler.momentum.mass if sampler.momentum is not None else 1.0
    start = placed(sampler, SKEW, torch.cat([z[:, :1], mass**0.5 * z[:, 1:2]], dim=1) if kinetic else z[:, :1])
    xi = z[:, 1 + kinetic :]

    def averages(state: Any) -> torch.Tensor:
        at, p = state.x[:, 0], state.p[:, 0] / mass**0.5 if kinetic else torch.zeros_like(w)
        return torch.stack([(w * f).sum() for f in (at, at**2, p, p**2, at * p, at**2 * p)])

    after = torch.zeros(6, dtype=torch.float64)
    shift = torch.arange(len(w), dtype=torch.float64) * (5**0.5 - 1) / 2  # one grid for all would round acceptances near 1 up
    for k in range(8):
        after += averages(sampler.step(SKEW, start, Tabled((shift + k / 8) % 1.0, xi))) / 8
    assert float((after - averages(start)).abs().max()) < 2e-3


@pytest.mark.parametrize("sampler", ADJUSTED, ids=lambda s: s.name)
@pytest.mark.parametrize("target", [MODES, DENSE], ids=lambda t: t.name)
def test_exact_start_stays_exact(sampler: Sampler, target: Target) -> None:
    assert sampler.bias_order is None and sampler.accepts
    check_exact_start(sampler, target)


@pytest.mark.parametrize(
    ("sampler", "normals"),
    [(HMC(0.8, 2, MASS), 1), (GHMC(0.8, 0.4, 1, MASS), 1), (GHMC(0.6, 0.4, 3, MASS), 1), (MALT(0.8, 0.9, 1, MASS), 1), (MALT(0.8, 0.9, 2, MASS), 2)],
    ids=["hmc", "ghmc one leap", "ghmc", "malt one leap", "malt"],
)  # fmt: skip
def test_trajectories_fix_the_density_of_position_and_momentum(sampler: Sampler, normals: int) -> None:
    check_joint(sampler, normals)


def check_energy_error(sampler: MALT) -> None:
    """-Delta against the formula in terms of positions and scores alone: the trapezoid rule of the work, and the two ends,
    ``V(x_L) - V(x_0) + sum_i (x_i - x_(i-1)) (s_i + s_(i-1))/2 + h^2/(8 M) (|s_L|^2 - |s_0|^2)``."""
    seen: list[torch.Tensor] = []

    class Recorded(SkewLogistic):
        def score(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return super().score(x)

    target, x = Recorded(), Stream("delta").normal((64, 1))
    here = sampler.init(target, x, Stream("unused"))
    seen.clear()
    there, minus = sampler.propose(target, here, Stream("trajectory"))
    path = [x, *seen]
    assert len(path) == sampler.leapfrog_steps + 1 and torch.equal(path[-1], there.x)
    scores = [SKEW.score(y) for y in path]
    work = sum(((b - a) * (s + r) / 2 for (a, b), (s, r) in zip(pairwise(path), pairwise(scores), strict=True)), torch.zeros_like(x))
    ends = sampler.step_size**2 / (8 * sampler.mass) * (scores[-1] ** 2 - scores[0] ** 2)
    stated = SKEW.potential(there.x) - SKEW.potential(x) + (work + ends)[:, 0]
    assert float((minus + stated).abs().max()) < 1e-12 and float(stated.abs().max()) > 0.05


def test_malt_counts_the_energy_of_the_leapfrog_steps() -> None:
    check_energy_error(MALT(0.5, FRICTION, 4, MASS))


def test_limits_of_the_trajectories_are_hmc_and_mala() -> None:
    """MALT without friction and GHMC with much, number by number; a mass is a step of eps/sqrt(M); MALT with one leap is MALA."""
    x, normals, u = Stream("limit x").normal((256, 1)), Stream("limit p").normal((256, 4)), Stream("limit u").uniform((256,))

    def after(sampler: Sampler) -> torch.Tensor:
        start = sampler.init(SKEW, x, Tabled(u, normals)) if sampler.momentum is None else sampler.place(SKEW, x, x)
        return sampler.step(SKEW, start, Tabled(u, normals)).x

    hmc = after(HMC(0.7, 4, MASS))
    assert 0.05 < float((hmc == x).double().mean()) < 0.95
    assert float((after(GHMC(0.7, 1e3, 4, MASS)) - hmc).abs().max()) < 1e-12
    assert float((after(MALT(0.7, 1e-20, 4, MASS)) - hmc).abs().max()) < 1e-8  # the stir is of size sqrt(gamma h)
    assert float((after(HMC(0.7 / MASS**0.5, 4)) - hmc).abs().max()) < 1e-12
    assert float((after(MALT(0.7, FRICTION, 1, MASS)) - after(MALA(0.49 / (2 * MASS)))).abs().max()) < 1e-12


def test_a_rejected_ghmc_step_turns_back() -> None:
    sampler = GHMC(0.9, 1e-20, 2, MASS)
    state = sampler.place(SKEW, Stream("turn x").normal((256, 1)), Stream("turn p").normal((256, 1)))
    after = sampler.step(SKEW, state, Stream("turn"))
    stayed = after.x[:, 0] == state.x[:, 0]
    assert 0.05 < float(stayed.double().mean()) < 0.95
    assert float((after.p + state.p)[stayed].abs().max()) < 1e-8 < float((after.p + state.p)[~stayed].abs().min())
    assert torch.equal(after.potential, SKEW.potential(after.x)) and torch.equal(after.score, SKEW.score(after.x))


@pytest.mark.parametrize("sampler", [*ADJUSTED, *MIDPOINTS], ids=lambda s: s.name)
def test_what_draws_uniforms_has_no_exact_law_here(sampler: Sampler) -> None:
    for start in (Normal(np.zeros(1), np.eye(1)), Grid.of_target(LINE, mesh_for(LINE, BAOAB(0.1), None))):
        with pytest.raises(Unsupported, match=r"draws uniform numbers|keeps more than a position") as caught:
            propagate(start, sampler, LINE, [1])
        assert "\n" not in str(caught.value)


# What all of them declare.

ALL: list[Sampler] = [*AFFINE[:-1], *MIDPOINTS, *ADJUSTED]


@pytest.mark.parametrize("sampler", ALL, ids=lambda s: s.name)
def test_declared_costs_are_the_calls_made(sampler: Sampler) -> None:
    counts = {"potential": 0, "score": 0}

    class Counting(SkewLogistic):
        def potential(self, x: torch.Tensor) -> torch.Tensor:
            counts["potential"] += 1
            return super().potential(x)

        def score(self, x: torch.Tensor) -> torch.Tensor:
            counts["score"] += 1
            return super().score(x)

    target = Counting()
    state = sampler.init(target, torch.zeros((4, 1), dtype=torch.float64), Stream("count"))
    counts.update(potential=0, score=0)
    for k in range(3):
        state = sampler.step(target, state, Stream("count").at(k + 1))
    assert counts == {"potential": 3 * sampler.potential_evaluations, "score": 3 * sampler.score_evaluations}


@pytest.mark.parametrize("sampler", ALL, ids=lambda s: s.name)
def test_float32_runs_in_float32(sampler: Sampler) -> None:
    start = Particles(torch.zeros((64, 1), dtype=torch.float32))
    after = simulate(start, sampler, SKEW, [5])[0]
    assert after.x.dtype == torch.float32 and after.diverged == 0.0
    if sampler.momentum is not None:
        assert after.momentum is not None and after.momentum.dtype == torch.float32


def test_critical_friction_is_that_of_the_least_curvature() -> None:
    """2 sqrt(m/M) as a number gives the same step; and on that curvature the diffusion's two exponents coincide."""
    m = float(DENSE.constant("m") or 0.0)
    gamma = 2 * (m / MASS) ** 0.5
    for make in (BAOAB, GHMC, MALT):
        one, other = make(0.2, "critical", mass=MASS), make(0.2, gamma, mass=MASS)
        state = one.init(DENSE, DENSE.sample(16, Stream("x")), Stream("p"))
        assert torch.equal(one.step(DENSE, state, Stream("s")).x, other.step(DENSE, state, Stream("s")).x)
    exponents = np.linalg.eigvals(np.array([[0, 1 / MASS], [-m, -gamma]]))
    assert np.abs(exponents + gamma / 2).max() < 1e-7  # a double root moves like the square root of rounding


def limit(sampler: Sampler) -> float:
    """The step size that the error names."""
    with pytest.raises(InvalidInput) as caught:
        replace(sampler, step_size=50.0).admit(DENSE)  # type: ignore[type-var]
    words = str(caught.value)
    assert "\n" not in words and words.startswith("step_size must be below") and words.endswith("got 50.0")
    return float(words.split(" on ")[0].split()[-1])


@pytest.mark.parametrize("friction", [0.3, FRICTION, 9.0])
@pytest.mark.parametrize("make", [*SPLITTINGS, CompleteRecipe.kinetic], ids=lambda c: c.__name__)
def test_steps_are_admitted_up_to_where_the_law_explodes(make: Callable[..., Sampler], friction: float) -> None:
    """0.1 % below the limit that the error names the chain has a stationary law, 0.1 % above it has none."""
    sampler = make(H, friction, MASS)
    most = limit(sampler)
    below, above = (replace(sampler, step_size=f * most) for f in (0.999, 1.001))  # type: ignore[type-var]
    below.admit(DENSE)
    law = affine_map(below, DENSE).stationary()
    assert np.isfinite(law.cov).all() and np.linalg.eigvalsh(law.cov)[0] > 0
    with pytest.raises(InvalidInput, match="step_size must be below"):
        above.admit(DENSE)
    with pytest.raises(Diverged):
        affine_map(above, DENSE).stationary()


@pytest.mark.parametrize("sampler", [RandomizedMidpoint(H, 0.3, MASS), RandomizedMidpoint(H, 9.0, MASS), *MIDPOINTS], ids=lambda s: s.id)
def test_midpoint_steps_are_admitted_up_to_where_second_moments_explode(sampler: Sampler) -> None:
    most = limit(sampler)
    below, above = (replace(sampler, step_size=f * most) for f in (0.999, 1.001))  # type: ignore[type-var]
    below.admit(DENSE)
    with pytest.raises(InvalidInput, match="step_size must be below"):
        above.admit(DENSE)
    radii = [np.abs(np.linalg.eigvals(averaged(s, DENSE, midpoint_form)[1])).max() for s in (below, above)]
    assert radii[0] < 1.0 < radii[1]
    z = LIMIT  # of the overdamped one: E (1 - z + alpha z^2)^2 = 1
    assert abs((1 - z) ** 2 + (1 - z) * z**2 + z**4 / 3 - 1) < 1e-14


@pytest.mark.parametrize("sampler", ADJUSTED, ids=lambda s: s.name)
def test_trajectories_are_admitted_up_to_where_leapfrog_explodes(sampler: Any) -> None:
    most = limit(sampler)
    replace(sampler, step_size=0.999 * most).admit(DENSE)
    with pytest.raises(InvalidInput, match=r"below 2 sqrt\(mass/M\)"):
        replace(sampler, step_size=1.001 * most).admit(DENSE)
    eye = torch.eye(6, dtype=torch.float64)
    centre = DENSE.mean
    for factor, stable in ((0.999, True), (1.001, False)):
        flow = HMC(factor * most, 4000, MASS)
        there, p = flow.leapfrog(DENSE, flow.init(DENSE, centre + eye[:, :3], Stream("unused")), eye[:, 3:])
        assert (float(torch.cat([there.x - centre, p], dim=1).abs().max()) < 1e3) == stable


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *[(lambda make=make, name=name: make(0.1, **{name: 0.0}), f"{name} must be a positive finite number, got 0.0")
          for make in (*SPLITTINGS, RandomizedMidpoint, GHMC, MALT) for name in ("friction", "mass")],
        (lambda: BAOAB(0.1, -1.0), "friction must be a positive finite number, got -1.0"),
        (lambda: BAOAB(0.1, "none"), "friction must be a positive number or 'critical', got 'none'"),  # type: ignore[arg-type]
        (lambda: MALT(0.1, "none"), "friction must be a positive number or 'critical', got 'none'"),  # type: ignore[arg-type]
        (lambda: HMC(0.1, mass=-1.0), "mass must be a positive finite number, got -1.0"),
        (lambda: RandomizedMidpointOverdamped(0.0), "step_size must be a positive"),
        (lambda: GHMC(-0.1), "step_size must be a positive"),
        (lambda: GHMC(0.1, leapfrog_steps=0), "leapfrog_steps must be a whole number of at least 1, got 0"),
        (lambda: MALT(0.1, leapfrog_steps=0), "leapfrog_steps must be a whole number of at least 1, got 0"),
        *[(lambda make=make: make(0.1).admit(DoubleWell()), "friction must be a number on double_well: critical is 2 sqrt(m/mass), which needs m > 0")
          for make in (*SPLITTINGS, RandomizedMidpoint, GHMC, MALT)],
    ],
)  # fmt: skip
def test_bad_settings_get_one_line(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make()
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


# Planted bugs. Each must make a check above fail.


class SwappedFriction(BAOAB):
    """Friction for mass and mass for friction in O."""

    def fluctuate(self, part: float) -> Stage:
        return BAOAB(self.step_size, friction=self.mass, mass=self.rate(DENSE)).fluctuate(part)


class FullKick(BAOAB):
    """The second kick over the whole step."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        return *super().stages[:-1], self.kick(1)


class WithO(BAOAB):
    """An O of its own: `decay` and the deviation of its noise, as functions of eta = e^(-gamma t), of gamma t and of M."""

    def o(self, eta: float, time: float) -> tuple[float, float]:
        raise NotImplementedError

    def fluctuate(self, part: float) -> Stage:
        def stage(target: Target, state: Phase, noise: Noise) -> Phase:
            time = self.rate(target) * part * self.step_size
            decay, stir = self.o(float(np.exp(-time)), time)
            return state._replace(p=decay * state.p + stir * noise.normal(tuple(state.p.shape)))

        return stage


class HalfNoise(WithO):
    """sqrt(1 - e) for sqrt(1 - e^2)."""

    def o(self, eta: float, time: float) -> tuple[float, float]:
        return eta, (self.mass * (1 - eta)) ** 0.5


class NoMass(WithO):
    """Noise of unit mass."""

    def o(self, eta: float, time: float) -> tuple[float, float]:
        return eta, (1 - eta**2) ** 0.5


class LinearDecay(WithO):
    """1 - gamma h for exp(-gamma h)."""

    def o(self, eta: float, time: float) -> tuple[float, float]:
        return 1 - time, (self.mass * (1 - eta**2)) ** 0.5


class RightO(WithO):
    """The control: no bug."""

    def o(self, eta: float, time: float) -> tuple[float, float]:
        return eta, (self.mass * (1 - eta**2)) ** 0.5


class HalfFriction(OBABO):
    """O over half its half step."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.fluctuate(1 / 4), *super().stages[1:-1], self.fluctuate(1 / 4)


class Uncorrelated(KLMC):
    """Independent noises of position and momentum, each of the right variance."""

    def whole(self, target: Target, state: Phase, noise: Noise) -> Phase:
        psi0, psi1, psi2, stir, along, across = over(self.rate(target), self.mass, self.step_size)
        s, y, z = target.score(state.x), noise.normal(tuple(state.x.shape)), noise.normal(tuple(state.x.shape))
        x = state.x + (psi1 * state.p + psi2 * s) / self.mass + (along**2 + across**2) ** 0.5 * z
        return Phase(x, psi0 * state.p + psi1 * s + stir * y, state.score)


@pytest.mark.parametrize(
    ("make", "name"),
    [(SwappedFriction, "baoab"), (FullKick, "baoab"), (HalfNoise, "baoab"), (NoMass, "baoab"), (LinearDecay, "baoab"), (HalfFriction, "obabo"),
     (Uncorrelated, "klmc")],
    ids=lambda m: getattr(m, "__name__", ""),
)  # fmt: skip
def test_affine_mutants_are_caught(make: type[Kinetic], name: str) -> None:
    with pytest.raises(AssertionError):
        check_affine(make(H, FRICTION, MASS), name)


def test_an_o_without_a_bug_passes() -> None:
    check_affine(RightO(H, FRICTION, MASS), "baoab")


class TwoPaths(RandomizedMidpoint):
    """The midpoint on a path of its own, which the end has not seen."""

    def whole(self, target: Target, state: Phase, noise: Noise) -> Phase:
        x, p, h, gamma, mass = state.x, state.p, self.step_size, self.rate(target), self.mass
        s = h * noise.uniform((len(x),)).unsqueeze(1)
        first, rest, over_h = flight(gamma, mass, s), flight(gamma, mass, h - s), over(gamma, mass, h)
        y1, z1, y2, z2 = (noise.normal(tuple(x.shape)) for _ in range(4))
        middle = x + (first.reach * p + first.push * target.score(x)) / mass + first.along * y1 + first.across * z1
        g = h * target.score(middle)
        end = over_h[4] * y2 + over_h[5] * z2
        return Phase(x + (over_h[1] * p + rest.reach * g) / mass + end, over_h[0] * p + rest.decay * g + over_h[3] * y2, state.score)


class FreshPath(RandomizedMidpointOverdamped):
    """x' with sqrt(2 h) of noise that the midpoint has not seen."""

    def step(self, target: Target, state: Any, noise: Noise) -> Any:
        x, h = state.x, self.step_size
        alpha = noise.uniform((len(x),)).unsqueeze(1)
        xi1, xi2 = noise.normal(tuple(x.shape)), noise.normal(tuple(x.shape))
        y = x + alpha * h * target.score(x) + torch.sqrt(2.0 * h * alpha) * xi1
        return type(state)(x + h * target.score(y) + (2.0 * h) ** 0.5 * xi2)


@pytest.mark.parametrize("mutant", [TwoPaths(H, FRICTION, MASS), FreshPath(H)], ids=lambda m: type(m).__name__)
def test_midpoint_mutants_are_caught(mutant: Sampler) -> None:
    with pytest.raises(AssertionError):
        check_midpoint(mutant)


class AllEnergy(MALT):
    """What O does to the energy counts as well."""

    def propose(self, target: Target, here: Point, noise: Noise) -> tuple[Point, torch.Tensor]:
        h, mass, p = self.step_size, self.mass, self.mass**0.5 * noise.normal(tuple(here.x.shape))
        start, x = p, here.x
        for i in range(self.leapfrog_steps):
            if i:
                decay, _, _, stir, _, _ = over(self.friction, mass, h)  # type: ignore[arg-type]
                p = decay * p + stir * noise.normal(tuple(x.shape))
            p = p + h / 2 * target.score(x)
            x = x + h / mass * p
            p = p + h / 2 * target.score(x)
        there = Point(x, *target.potential_and_score(x))
        return there, here.potential - there.potential + ((start * start).sum(1) - (p * p).sum(1)) / (2 * mass)


class NoFlip(GHMC):
    """A rejected momentum goes on as it was."""

    def step(self, target: Target, state: Guided, noise: Noise) -> Guided:
        after = super().step(target, state, noise)
        return after._replace(p=torch.where(after.x == state.x, -after.p, after.p))


class AlwaysFlip(GHMC):
    """Accepted momenta turn back and rejected ones go on: that keeps the law too, and goes nowhere. The control of `NoFlip`."""

    def step(self, target: Target, state: Guided, noise: Noise) -> Guided:
        after = super().step(target, state, noise)
        return after._replace(p=-after.p)


class UnitMomenta(HMC):
    """Fresh momenta of unit variance whatever the mass."""

    def propose(self, target: Target, here: Point, p: torch.Tensor) -> tuple[Point, torch.Tensor]:
        return super().propose(target, here, p / self.mass**0.5)


@pytest.mark.parametrize(
    ("mutant", "normals"), [(AllEnergy(0.8, 0.9, 2, MASS), 2), (NoFlip(0.8, 0.4, 1, MASS), 1), (UnitMomenta(0.8, 2, MASS), 1)],
    ids=["AllEnergy", "NoFlip", "UnitMomenta"],
)  # fmt: skip
def test_trajectory_mutants_are_caught(mutant: Sampler, normals: int) -> None:
    with pytest.raises(AssertionError):
        check_joint(mutant, normals)


def test_the_energy_of_o_is_seen_in_the_formula_too() -> None:
    with pytest.raises(AssertionError):
        check_energy_error(AllEnergy(0.5, FRICTION, 4, MASS))


def test_turning_back_always_keeps_the_law() -> None:
    check_joint(AlwaysFlip(0.8, 0.4, 1, MASS), 1)
