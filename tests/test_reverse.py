"""Reverse diffusions: steps against closed forms assembled apart, orders from an exact start, marginals at every time, planted bugs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, linalg, stats

from mixrate.errors import InvalidInput, Unsupported
from mixrate.laws.grid import Grid
from mixrate.laws.normal import AffineMap, Normal, affine_map, position
from mixrate.laws.particles import Particles, simulate
from mixrate.laws.phase import line, plane
from mixrate.laws.propagate import mesh_for, propagate, stationary
from mixrate.metrics.tv import TV
from mixrate.metrics.w2 import W2
from mixrate.samplers.base import Sampler, Stage
from mixrate.samplers.diffusion import annealed_langevin, forward, network, reverse, reverse_phase
from mixrate.samplers.diffusion.annealed_langevin import AnnealedLangevin
from mixrate.samplers.diffusion.ddim import DDIM
from mixrate.samplers.diffusion.ddpm import DDPM
from mixrate.samplers.diffusion.flow_adaptive import FlowAdaptive
from mixrate.samplers.diffusion.flow_heun import FlowHeun
from mixrate.samplers.diffusion.phase_euler import PhaseEuler
from mixrate.samplers.diffusion.phase_space import PhaseSpaceSDE
from mixrate.samplers.diffusion.predictor_corrector import PredictorCorrector
from mixrate.samplers.diffusion.reverse import Reverse
from mixrate.samplers.diffusion.reverse_euler import ReverseEuler
from mixrate.samplers.diffusion.reverse_exponential import ReverseExponential
from mixrate.samplers.diffusion.reverse_phase import ReversePhase
from mixrate.samplers.diffusion.sscs import SSCS
from mixrate.samplers.kinetic import Phase
from mixrate.samplers.noise import Noise, Stream
from mixrate.targets.base import Batch, Target
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.skew_logistic import SkewLogistic

DENSE = Gaussian([1.0, -0.5, 2.0], [[1.0, 0.3, 0.0], [0.3, 0.5, -0.2], [0.0, -0.2, 0.8]])
LINE = Gaussian([0.7], [[0.6]])
MODES = GaussianMixture.two_modes(3.0, weight=0.3)
START = Normal(np.zeros(1), np.eye(1))
#: Processes that are no time change of an Ornstein-Uhlenbeck process in disguise: beta not constant.
VP: dict[str, Any] = {"process": "vp", "first": 0.5, "last": 6.0}
SUB: dict[str, Any] = {"process": "sub_vp", "first": 0.5, "last": 6.0}
VE: dict[str, Any] = {"process": "ve", "first": 0.5, "last": 3.0}
OU: dict[str, Any] = {"horizon": 2.0}
POSITIONS: list[type[Reverse]] = [ReverseEuler, ReverseExponential, FlowHeun, DDPM, DDIM, PredictorCorrector]
PHASES: dict[str, dict[str, Any]] = {
    "cld": {"mass": 0.6, "momentum_variance": 0.5, "first": 2.0, "last": 5.0},
    "psld": {"process": "psld", "mass": 0.6, "friction": 0.4, "momentum_variance": 0.5, "first": 2.0, "last": 5.0},
}


# The forward processes again, from beta alone.


@cache
def moments(process: str, first: float, last: float, t: float) -> tuple[float, float, float, float]:
    """(a, v, f, g^2) at t on the horizon 1."""
    if process == "ve":
        rate = 2 * np.log(last / first)
        sigma2 = first**2 * np.exp(rate * t)
        return 1.0, sigma2 - first**2, 0.0, rate * sigma2
    beta = first + (last - first) * t
    total = integrate.quad(lambda u: first + (last - first) * u, 0, t, epsabs=0, epsrel=1e-13)[0]
    filled = 1 - np.exp(-total)
    if process == "vp":
        return np.exp(-total / 2), filled, -beta / 2, beta
    return np.exp(-total / 2), filled**2, -beta / 2, beta * (1 - np.exp(-2 * total))


def stated(sampler: Any, k: int, target: Gaussian) -> AffineMap:
    """Step k of a sampler on positions, as matrices."""
    t, s = sampler.times[k], sampler.times[k + 1]
    (a, v, f, g2), (a_s, v_s, f_s, g2_s) = (moments(sampler.process, sampler.first, sampler.last, u) for u in (t, s))
    h, r, eye = t - s, a / a_s, np.eye(target.dim)
    w = v - r * r * v_s  # of x_t given x_s

    def score(time: float) -> AffineMap:
        scale, var, _, _ = moments(sampler.process, sampler.first, sampler.last, time)
        precision = np.linalg.inv(scale**2 * target.cov.numpy() + var * eye)
        return AffineMap(-precision, precision @ (scale * target.mean.numpy()), 0 * eye)

    def plus(identity: float, factor: float, of: AffineMap, noise: float) -> AffineMap:
        return AffineMap(identity * eye + factor * of.linear, factor * of.offset, noise * eye)

    look = score(t)
    if sampler.name == "reverse_euler":
        return plus(1 - h * f, h * g2, look, h * g2)
    if sampler.name == "reverse_exponential":

        def gathered(power: int) -> float:
            def kernel(u: float) -> float:
                scale, _, _, noise = moments(sampler.process, sampler.first, sampler.last, u)
                return float((a_s / scale) ** power * noise)

            return float(integrate.quad(kernel, s, t, epsabs=0, epsrel=1e-12)[0])

        return plus(a_s / a, gathered(1), look, gathered(2))
    if sampler.name == "flow_heun":
        first = plus(f, -g2 / 2, look, 0)
        predicted = plus(1, -h, first, 0)
        second = predicted.then(plus(f_s, -g2_s / 2, score(s), 0))
        return AffineMap(eye - h / 2 * (first.linear + second.linear), -h / 2 * (first.offset + second.offset), 0 * eye)
    x0 = AffineMap((eye + v * look.linear) / a, v * look.offset / a, 0 * eye)  # E[x_0 | x_t]
    if sampler.name == "ddpm":  # Bayes: x_s | x_0 ~ N(a_s x_0, v_s) and x_t | x_s ~ N(r x_s, w)
        var = 1 / (1 / v_s + r * r / w)
        mean = plus(var * r / w, var * a_s / v_s, x0, 0)
        return replace(mean, noise_cov=(var if sampler.variance == "posterior" else w) * eye)
    if sampler.name == "ddim":  # in the paper's letters
        var = sampler.eta**2 * v_s / v * w
        along = plus(0, -np.sqrt(v) * np.sqrt(v_s - var), look, var)
        return AffineMap(a_s * x0.linear + along.linear, a_s * x0.offset + along.offset, along.noise_cov)
    assert sampler.name == "predictor_corrector"
    step, eps = plus(2 - r, w, look, w), 2 * sampler.snr**2 * v_s
    for _ in range(sampler.correctors):
        step = step.then(plus(1, eps, score(s), 2 * eps))
    return step


def van_loan(a: np.ndarray, c: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
    """(e^(A t), int_0^t e^(A s) C e^(A s)^T ds) by one matrix exponential."""
    n = len(a)
    e = linalg.expm(t * np.block([[-a, c], [np.zeros((n, n)), a.T]]))
    return e[n:, n:].T, e[n:, n:].T @ e[:n, n:]


def matrices(sampler: ReversePhase) -> tuple[np.ndarray, np.ndarray, Callable[[float], float], Callable[[float], float]]:
    """(A, C, beta, its integral), in the letters of the papers."""
    mass, first, last = sampler.mass, sampler.first, sampler.last or sampler.first
    if sampler.process == "cld":
        gamma = 2 * mass**0.5 if sampler.friction is None else sampler.friction
        a, c = np.array([[0, 1 / mass], [-1, -gamma / mass]]), np.diag([0, 2 * gamma])
    else:
        gamma, nu = sampler.friction or 0.01, (sampler.friction or 0.01) + 2 / mass**0.5
        a, c = 0.5 * np.array([[-gamma, 1 / mass], [-1, -nu]]), np.diag([gamma, mass * nu])
    return a, c, lambda t: first + (last - first) * t, lambda t: first * t + (last - first) * t * t / 2


def lifted(sampler: ReversePhase, target: Gaussian, t: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of (x_t, p_t)."""
    a, c, _, total = matrices(sampler)
    turn, added = van_loan(a, c, total(t))
    start = linalg.block_diag(target.cov.numpy(), sampler.momentum_variance * sampler.mass * np.eye(target.dim))
    eye, mean = np.eye(target.dim), np.concatenate([target.mean.numpy(), np.zeros(target.dim)])
    return np.kron(turn, eye) @ mean, np.kron(turn, eye) @ start @ np.kron(turn, eye).T + np.kron(added, eye)


def stated_phase(sampler: Any, k: int, target: Gaussian) -> AffineMap:
    """Step k of a sampler on (x, p), as block matrices."""
    t, s = sampler.times[k], sampler.times[k + 1]
    a, c, beta, total = matrices(sampler)
    eye, zero = np.eye(target.dim), np.zeros(2 * target.dim)
    invariant = np.diag([1.0, sampler.mass])

    def score(time: float) -> tuple[np.ndarray, np.ndarray]:
        mean, cov = lifted(sampler, target, time)
        return -np.linalg.inv(cov), np.linalg.solve(cov, mean)

    def both(m: np.ndarray) -> np.ndarray:
        return np.kron(m, eye)

    if sampler.name == "phase_euler":
        b, (of, at) = (t - s) * beta(t), score(t)
        return AffineMap(np.eye(len(zero)) + b * (both(c) @ of - both(a)), b * both(c) @ at, b * both(c))
    m, b = (t + s) / 2, total(t) - total(s)

    def relax(start: float, end: float) -> AffineMap:
        e, noise = van_loan(-a - c @ np.linalg.inv(invariant), c, total(start) - total(end))
        return AffineMap(both(e), zero, both(noise))

    of, at = score(t if sampler.inner == "euler" else m)
    pull, push = both(c) @ (of + both(np.linalg.inv(invariant))), both(c) @ at
    if sampler.inner == "midpoint":  # b (pull u + push) at u + b/2 (pull u + push)
        pull, push = pull @ (np.eye(len(zero)) + b / 2 * pull), push + b / 2 * pull @ push
    kick = AffineMap(np.eye(len(zero)) + b * pull, b * push, 0 * both(c))
    return relax(t, m).then(kick).then(relax(m, s))


def check_step(sampler: Sampler, k: int = 2, formula: Sampler | None = None) -> None:
    """The map that step k performs is the closed form, to 1e-10 (the closed forms' own quadrature and matrix exponentials)."""
    found = affine_map(sampler.at(k), DENSE)
    closed = (stated_phase if isinstance(sampler, ReversePhase) else stated)(formula or sampler, k, DENSE)
    for here, there in zip((found.linear, found.offset, found.noise_cov), (closed.linear, closed.offset, closed.noise_cov), strict=True):
        assert np.abs(here - there).max() < 1e-10 * (1 + np.abs(there).max())


AFFINE: list[Sampler] = [
    *(make(steps=7, horizon=1.0, stop=0.05, spacing="quadratic", **process) for process in (VP, SUB, VE) for make in POSITIONS),
    DDPM(steps=7, horizon=1.0, variance="beta", **VP),
    *(DDIM(steps=7, horizon=1.0, eta=eta, **process) for eta in (0.4, 1.0) for process in (VP, SUB)),
    PredictorCorrector(steps=7, horizon=1.0, correctors=3, snr=0.4, **VP),
    *(make(steps=7, horizon=1.0, **process) for process in PHASES.values() for make in (PhaseEuler, SSCS)),
    SSCS(steps=7, horizon=1.0, inner="euler", **PHASES["cld"]),
]


@pytest.mark.parametrize("sampler", AFFINE, ids=lambda s: f"{s.name}-{s.process}")
def test_steps_are_the_closed_forms(sampler: Sampler) -> None:
    """Dense covariance, non-zero mean, beta not constant, times not equally far apart."""
    check_step(sampler)


def test_annealed_langevin_is_the_papers_update() -> None:
    """``x + alpha_i/2 s + sqrt(alpha_i) z``, ``alpha_i = eps sigma_i^2/sigma_L^2``, eps = 2 h, T steps a level."""
    sampler, eps = AnnealedLangevin(levels=4, inner=3, least=0.2, largest=1.6, step_size=0.01), 0.02
    assert sampler.length == 12 and np.allclose(sampler.sigmas, (1.6, 0.8, 0.4, 0.2), rtol=1e-14)
    for k in (0, 2, 3, 11):
        sigma = 1.6 / 2 ** (k // 3)
        alpha = eps * sigma**2 / 0.2**2
        precision = np.linalg.inv(DENSE.cov.numpy() + sigma**2 * np.eye(3))
        found = affine_map(sampler.at(k), DENSE)
        assert np.abs(found.linear - (np.eye(3) - alpha / 2 * precision)).max() < 1e-13
        assert np.abs(found.offset - alpha / 2 * precision @ DENSE.mean.numpy()).max() < 1e-13
        assert np.abs(found.noise_cov - alpha * np.eye(3)).max() < 1e-13
    assert AnnealedLangevin(1, 1, 0.2, 1.6, 0.01).sigmas == (0.2,)


def test_ddim_runs_from_the_flow_to_ancestral_sampling() -> None:
    """eta = 1 is DDPM; eta = 0 is Euler's method for ``d(x/a)/dr = -r a S`` in ``r = sqrt(v)/a``."""
    steps: dict[str, Any] = {"steps": 7, "horizon": 1.0, **VP}
    one, other = (affine_map(s.at(3), DENSE) for s in (DDIM(**steps, eta=1.0), DDPM(**steps)))
    assert all(np.allclose(getattr(one, f), getattr(other, f), rtol=0, atol=1e-13) for f in ("linear", "offset", "noise_cov"))
    flow = DDIM(**steps)
    (a, v), (a_s, v_s) = (flow.forward.kernel(t) for t in flow.times[3:5])
    x = torch.tensor([[0.3, -1.0, 2.0], [4.0, 0.0, 1.0]], dtype=torch.float64)
    score, r, r_s = flow.look(DENSE, flow.times[3], x), (v**0.5) / a, (v_s**0.5) / a_s
    euler = a_s * (x / a + (r_s - r) * -(r * a * score))
    assert (flow.move(DENSE, x, flow.times[3], flow.times[4], Stream(0)) - euler).abs().max() < 1e-13


@pytest.mark.parametrize("process", PHASES)
def test_sscs_is_exact_at_equilibrium(process: str) -> None:
    """Target N(0, I) and gamma = 1: the residual vanishes, and a step is the stationary process backwards, for either inner rule."""
    still = Gaussian([0.0, 0.0], 1.0)
    for inner in ("euler", "midpoint"):
        sampler = SSCS(steps=3, horizon=1.0, inner=inner, **{**PHASES[process], "momentum_variance": 1.0})
        a, c, _, total = matrices(sampler)
        invariant = np.diag([1.0, sampler.mass])
        turn, added = van_loan(invariant @ a.T @ np.linalg.inv(invariant), c, total(sampler.times[1]) - total(sampler.times[2]))
        found = affine_map(sampler.at(1), still)
        assert np.abs(found.linear - np.kron(turn, np.eye(2))).max() < 1e-12 and np.abs(found.offset).max() < 1e-12
        assert np.abs(found.noise_cov - np.kron(added, np.eye(2))).max() < 1e-12
    assert np.abs(affine_map(replace(sampler, momentum_variance=0.5).at(1), still).linear - np.kron(turn, np.eye(2))).max() > 1e-3


@pytest.mark.parametrize("process", PHASES)
def test_noised_laws_of_position_and_momentum(process: str) -> None:
    sampler = SSCS(steps=3, horizon=1.0, **PHASES[process])
    for t in (0.0, 0.02, 0.7):
        joint = sampler.forward.noised(DENSE, t)
        mean, cov = lifted(sampler, DENSE, t)
        assert joint.moments is not None
        assert np.abs(joint.moments[0].numpy() - mean).max() < 1e-12 and np.abs(joint.moments[1].numpy() - cov).max() < 1e-12
    (r, _), (drift, _) = sampler.forward.kernel(0.7).transition.tolist()
    (xx, xp), (_, pp) = sampler.forward.kernel(0.7).cov.tolist()
    mixed = sampler.forward.noised(MODES, 0.7)
    assert isinstance(mixed, GaussianMixture) and torch.equal(mixed.weights, MODES.weights)
    for mean, cov, of, var in zip(mixed.means, mixed.covs, MODES.means[:, 0], MODES.covs[:, 0, 0], strict=True):
        assert torch.allclose(mean, torch.stack([r * of, drift * of]), rtol=1e-13)
        cross = r * drift * var + xp
        assert torch.allclose(cov, torch.tensor([[r * r * var + xx, cross], [cross, drift**2 * var + pp]], dtype=torch.float64), rtol=1e-12)


# Orders: the oracle score, the exact start, laws without sampling error.


def from_exact(sampler: Any, target: Gaussian, ks: list[int]) -> list[float]:
    """W2 between the law after k steps from the exact one at the horizon, and the forward law at that time."""
    origin = sampler.origin(target)
    laws = propagate(position(Normal(*(m.numpy() for m in origin.moments)), target.dim), sampler, target, ks)
    return [W2()(getattr(law, "joint", None) or law, sampler.forward.noised(target, sampler.times[k])).value for law, k in zip(laws, ks, strict=True)]


def slope(make: Callable[[int], Any], target: Gaussian, counts: tuple[int, ...]) -> float:
    """Exponent of the last error in the step, between the two largest numbers of steps."""
    errors = [from_exact(make(n), target, [n])[0] for n in counts]
    assert all(a > b for a, b in pairwise(errors))
    return float(np.log(errors[-2] / errors[-1]) / np.log(counts[-1] / counts[-2]))


CASES: list[tuple[str, dict[str, Any]]] = [("ou", OU), *((p["process"], {"horizon": 1.0, **p}) for p in (VP, SUB, VE))]
ORDERS: list[tuple[str, type[Reverse], dict[str, Any], float]] = [
    (f"{make.__module__.rsplit('.', 1)[-1]}-{name}", make, kw, order)
    for name, kw in CASES
    for make, order in ((ReverseEuler, 1.0), (ReverseExponential, 1.0), (FlowHeun, 2.0))
] + [
    ("ddpm-beta", DDPM, {**OU, "variance": "beta"}, 1.0),
    ("ddpm-stopped", DDPM, {**OU, "stop": 0.1}, 1.0),
    ("ddim-quadratic", DDIM, {**OU, "spacing": "quadratic"}, 1.0),
    ("ddim-sub_vp", DDIM, {"horizon": 1.0, **SUB}, 1.0),
    ("ddim-stopped", DDIM, {"horizon": 1.0, **VP, "stop": 0.1}, 1.0),
    ("predictor", PredictorCorrector, {**OU, "correctors": 0}, 1.0),
]


@pytest.mark.parametrize(("make", "kw", "order"), [case[1:] for case in ORDERS], ids=[case[0] for case in ORDERS])
def test_orders_on_positions(make: type[Reverse], kw: dict[str, Any], order: float) -> None:
    """Within 0.05 at 160 to 320 steps: what is left of the next term, which falls by half as often as the steps double."""
    assert abs(slope(lambda n: make(steps=n, **kw), LINE, (160, 320)) - order) < 0.05


@pytest.mark.parametrize("process", PHASES)
def test_orders_on_positions_and_momenta(process: str) -> None:
    """The published SSCS has order 1, whatever is symmetric about it: its score part is a step of Euler's. With the midpoint rule, 2.
    Within 0.1: the second term of order 1 is 5 % of the first at 160 steps."""
    for make, order in (
        (lambda n: PhaseEuler(steps=n, horizon=1.0, **PHASES[process]), 1.0),
        (lambda n: SSCS(steps=n, horizon=1.0, inner="euler", **PHASES[process]), 1.0),
        (lambda n: SSCS(steps=n, horizon=1.0, **PHASES[process]), 2.0),
    ):
        assert abs(slope(make, LINE, (60, 120)) - order) < 0.1


def test_no_order_is_lost_but_where_it_is_said() -> None:
    """DDPM's posterior variance and DDIM, in uniform steps down to time 0: h log(1/h), so that the exponent creeps up to 1 from
    below (measured 0.60, 0.68, 0.73 and 0.76, 0.82, 0.85); correctors at a fixed snr: h^(1/2) (measured 0.476)."""
    for make in (DDPM, DDIM):
        found = [slope(lambda n, make=make: make(steps=n, **OU), LINE, (n, 2 * n)) for n in (20, 60, 180)]  # type: ignore[misc]
        assert 0.55 < found[0] < found[1] < found[2] < 0.9
    corrected = slope(lambda n: PredictorCorrector(steps=n, snr=1.0, **OU), LINE, (200, 400))
    assert 0.45 < corrected < 0.52
    plateau = [from_exact(PredictorCorrector(steps=n, snr=1.0, stop=0.2, **OU), LINE, [n])[0] for n in (200, 400)]
    assert plateau[1] > 0.9 * plateau[0] > 0.01  # stopped early, the bias of the corrector stays


def grid_start(sampler: Any, target: Target, nodes: int) -> Grid:
    mesh = mesh_for(target, sampler, None, nodes=nodes)
    if sampler.momentum is None:
        return Grid.of_target(sampler.origin(target), mesh)
    return line(Grid.of_target(sampler.origin(target), plane(mesh, sampler.momentum)), 1)


GRIDS: list[tuple[Callable[[int], Any], float]] = [
    (lambda n: ReverseEuler(steps=n, **OU), 1.0),
    (lambda n: ReverseExponential(steps=n, horizon=1.0, **VP), 1.0),
    (lambda n: FlowHeun(steps=n, horizon=1.0, **VP), 2.0),
    (lambda n: DDPM(steps=n, variance="beta", **OU), 1.0),
    (lambda n: DDIM(steps=n, spacing="quadratic", **OU), 1.0),
    (lambda n: PredictorCorrector(steps=n, correctors=0, **OU), 1.0),
]


@pytest.mark.parametrize("make", [g[0] for g in GRIDS], ids=[g[0](1).name for g in GRIDS])
def test_marginals_on_two_modes_at_every_time(make: Callable[[int], Any]) -> None:
    """TV to the forward law at four times on the way, which falls by 2^order (within 15 %: the next term) as the steps double."""
    order = next(o for m, o in GRIDS if m is make)
    errors = []
    for n in (32, 64):
        sampler, ks = make(n), [n // 4, n // 2, 3 * n // 4, n]
        laws = propagate(grid_start(sampler, MODES, 251), sampler, MODES, ks)
        errors.append([TV()(law, sampler.forward.noised(MODES, sampler.times[k])).value for law, k in zip(laws, ks, strict=True)])
    ratio = np.array(errors[0]) / np.array(errors[1])
    assert (np.abs(ratio / 2**order - 1) < 0.15).all() and max(errors[1]) < 0.05


@pytest.mark.parametrize("inner", ["euler", "midpoint"])
def test_sscs_on_two_modes(inner: str) -> None:
    """On the plane of (x, p), by its three parts. Within 15 %: the next term."""
    errors = []
    for n in (12, 24):
        sampler = SSCS(steps=n, horizon=1.0, inner=inner, **PHASES["cld"])
        law = propagate(grid_start(sampler, MODES, 101), sampler, MODES, [n])[0]
        errors.append(TV()(law, MODES).value)
    assert abs(errors[0] / errors[1] / 2 ** (1 if inner == "euler" else 2) - 1) < 0.15


def test_marginals_on_gaussians_at_every_time() -> None:
    """The reverse diffusion and the probability flow, in (x, p) too: W2 to the forward law on the way falls by 2^order."""
    for make, order in (
        (lambda n: ReverseEuler(steps=n, horizon=1.0, **SUB), 1),
        (lambda n: FlowHeun(steps=n, horizon=1.0, **VE), 2),
        (lambda n: SSCS(steps=n, horizon=1.0, **PHASES["psld"]), 2),
    ):
        coarse, fine = (np.array(from_exact(make(n), DENSE, [n // 4, n // 2, n])) for n in (40, 80))
        assert (np.abs(coarse / fine / 2**order - 1) < 0.15).all()


def test_adaptive_flow_is_the_reference() -> None:
    """What is left is the tolerance; as a map of points in one dimension it is the one that keeps the quantiles."""
    for process in (VP, SUB, VE):
        assert from_exact(FlowAdaptive(steps=4, horizon=1.0, **process), DENSE, [2, 4])[-1] < 1e-6
    sampler = FlowAdaptive(steps=3, **OU)
    q = np.linspace(0.01, 0.99, 13)

    def quantiles(target: GaussianMixture) -> np.ndarray:
        x = np.linspace(-12, 12, 200001)
        deviations = np.sqrt(target.covs[:, 0, 0].numpy())
        cdf = (target.weights.numpy() * stats.norm.cdf(x[:, None], target.means[:, 0].numpy(), deviations)).sum(1)
        return np.interp(q, cdf, x)

    x = torch.as_tensor(quantiles(sampler.origin(MODES))[:, None])  # type: ignore[arg-type]
    for k in range(3):
        x = sampler.at(k).step(MODES, sampler.init(MODES, x, Stream(0)), Stream(0)).x
    assert np.abs(x[:, 0].numpy() - quantiles(MODES)).max() < 1e-6  # interpolation between nodes 1.2e-4 apart


# Particles against densities.


@pytest.mark.parametrize(
    "sampler",
    [
        DDPM(steps=12, **OU),
        DDIM(steps=12, eta=0.5, **OU),
        FlowHeun(steps=12, **OU),
        PredictorCorrector(steps=12, correctors=2, snr=0.4, **OU),
        AnnealedLangevin(levels=4, inner=3, least=0.3, largest=1.5, step_size=0.05),
        PhaseEuler(steps=12, horizon=1.0, **PHASES["psld"]),
        SSCS(steps=8, horizon=1.0, **PHASES["cld"]),
    ],
    ids=lambda s: s.name,
)
def test_particles_follow_the_density(sampler: Any) -> None:
    """Kolmogorov-Smirnov of 4000 particles at a false alarm of 1e-6, and not from a law one step off."""
    n = sampler.length
    laws = propagate(grid_start(sampler, MODES, 101 if sampler.momentum else 401), sampler, MODES, [n // 2, n])
    z = sampler.origin(MODES).sample(4000, Stream(3, "start"))
    drawn = simulate(Particles(z[:, :1], 3, momentum=z[:, 1:] if sampler.momentum else None), sampler, MODES, [n // 2, n])

    def p_value(particles: Particles, law: Any) -> float:
        x, density = law.mesh.axes[0], law.density
        cdf = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2) * law.mesh.spacing[0]])
        return float(stats.kstest(particles.x[:, 0].numpy(), lambda y: np.interp(y, x, cdf / cdf[-1])).pvalue)

    for particles, law in zip(drawn, laws, strict=True):
        assert p_value(particles, law) > 1e-6
    assert p_value(drawn[0], laws[1]) < 1e-6


# What is declared, and what is refused.


def test_costs_and_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    scored = reverse.scored

    def counted(score: str, error: float, target: Target, noised: Any, t: float, x: Batch) -> Batch:
        calls.append(t)
        return scored(score, error, target, noised, t, x)

    for module in (reverse, reverse_phase, annealed_langevin):
        monkeypatch.setattr(module, "scored", counted)
    x = torch.linspace(-2, 2, 33)[:, None].double()
    on_positions: list[type[Any]] = [*POSITIONS, FlowAdaptive]
    on_phases: list[type[Any]] = [PhaseEuler, SSCS]
    samplers: list[Any] = [make(steps=9, **OU) for make in on_positions]
    samplers += [make(steps=9, horizon=1.0, **p) for p in PHASES.values() for make in on_phases]
    samplers += [AnnealedLangevin(3, 3, 0.3, 1.5, 0.05), PredictorCorrector(steps=9, correctors=4, **OU), SSCS(9, 1.0, inner="euler")]
    for sampler in samplers:
        calls.clear()
        ends = [sampler.at(1).step(MODES, sampler.init(MODES, y, Stream(1, dtype=y.dtype)), Stream(2, dtype=y.dtype)) for y in (x, x.float())]
        assert ends[1].x.dtype == torch.float32
        if sampler.name == "flow_adaptive":
            assert len(calls) > 2 * sampler.score_evaluations
        else:
            assert len(calls) == 2 * sampler.score_evaluations
        # the numbers of the two streams are equal only without noise; else the same step of zeros is compared
        still = [sampler.at(1).step(MODES, _placed(sampler, y), _Zeros()) for y in (x, x.float())]
        assert (still[0].x - still[1].x.double()).abs().max() < 1e-4


def _placed(sampler: Any, x: Batch) -> Any:
    return sampler.place(MODES, x, 0.5 * x) if sampler.momentum else sampler.init(MODES, x, _Zeros())


class _Zeros(Noise):
    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.zeros(shape)

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        raise AssertionError("no reverse sampler draws uniforms")


def test_an_error_of_the_score_has_its_norm() -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact, off = (ReverseEuler(steps=2, error=e, **OU) for e in (0.0, 0.3))
    assert torch.allclose((off.look(DENSE, 0.4, x) - exact.look(DENSE, 0.4, x)).norm(dim=1), torch.tensor(0.3, dtype=torch.float64))
    right, wrong = (SSCS(2, 1.0, error=e) for e in (0.0, 0.3))
    u = Phase(x, x, x[:, :0])
    for one, other in zip(right.look(DENSE, 0.4, u), wrong.look(DENSE, 0.4, u), strict=True):
        assert torch.allclose((one - other).norm(dim=1), torch.tensor(0.3, dtype=torch.float64))


class _Trained:
    """What a checkpoint gives: the oracle's score, from a process of its own."""

    def __init__(self, sde: Any) -> None:
        self.process = SimpleNamespace(sde=sde, phase=isinstance(sde, PhaseSpaceSDE))

    def score(self, x: Batch, t: float) -> Batch:
        found: Batch = self.process.sde.noised(MODES, t).score(x)
        return found


def test_checkpoints_stand_in_for_the_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the right times: a network that has learned the score exactly makes the same step. One of another process is refused."""
    ve = forward.VE(1.0, 0.01, 2.0)
    phase = SSCS(4, 1.0, **PHASES["psld"])
    cases: list[tuple[Any, Any, float]] = [  # and the rounding of the time, which the variance amplifies
        (AnnealedLangevin(3, 2, 0.3, 1.5, 0.05), ve, 1e-10),
        (phase, phase.forward, 1e-14),
        (DDPM(steps=4, **OU), DDPM(steps=4, **OU).forward, 1e-14),
    ]
    x = torch.linspace(-2, 2, 9)[:, None].double()
    for sampler, sde, tolerance in cases:
        monkeypatch.setattr(network, "load", lambda path, dim, process=None, sde=sde: _Trained(sde))
        learned = replace(sampler, score="some.safetensors")
        learned.admit(MODES)
        ends = [s.at(3).step(MODES, _placed(s, x), _Zeros()).x for s in (sampler, learned)]
        assert (ends[0] - ends[1]).abs().max() < tolerance
    monkeypatch.setattr(network, "load", lambda path, dim, process=None: _Trained(SSCS(4, 1.0).forward))
    for sampler in (AnnealedLangevin(3, 2, 0.3, 1.5, 0.05, score="some.safetensors"), replace(phase, score="some.safetensors")):
        with pytest.raises(InvalidInput, match="score must be a checkpoint of the"):
            sampler.admit(MODES)
    monkeypatch.setattr(network, "load", lambda path, dim, process=None: _Trained(ve))
    with pytest.raises(InvalidInput, match="time must lie in"):
        AnnealedLangevin(3, 2, 0.3, 2.5, 0.05, score="some.safetensors").admit(MODES)


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: DDPM(steps=0, horizon=1.0), "steps must be a whole number of at least 1, got 0"),
    (lambda: DDPM(steps=3, horizon=-1.0), "horizon must be"),
    (lambda: DDPM(steps=3, horizon=1.0, stop=1.0), "stop must be at least 0 and below the horizon 1, got 1"),
    (lambda: DDPM(steps=3, horizon=1.0, spacing="geometric"), "spacing must not be geometric where stop is 0"),
    (lambda: SSCS(steps=3, horizon=1.0, spacing="cubic"), "spacing must be one of uniform, quadratic, geometric"),
    (lambda: SSCS(steps=3, horizon=1.0, error=-1.0), "error must be a finite number of at least 0"),
    (lambda: DDPM(steps=3, horizon=1.0, variance="learned"), "variance must be posterior or beta, got 'learned'"),
    (lambda: DDPM(steps=3, horizon=1.0, process="cld"), "process must be one of vp, sub_vp, ve, got 'cld'"),
    (lambda: DDPM(steps=3, horizon=1.0, process="ve", first=2.0), "last must be above first = 2"),
    (lambda: DDPM(steps=3, horizon=1.0, first=0.0), "first must be"),
    (lambda: DDIM(steps=3, horizon=1.0, eta=1.5), "eta must be in [0, 1], got 1.5"),
    (lambda: PredictorCorrector(steps=3, horizon=1.0, correctors=-1), "correctors must be a whole number of at least 0, got -1"),
    (lambda: PredictorCorrector(steps=3, horizon=1.0, snr=0.0), "snr must be"),
    (lambda: AnnealedLangevin(3, 3, 1.0, 0.5, 0.1), "largest must be above least = 1 and finite, got 0.5"),
    (lambda: AnnealedLangevin(0, 3, 1.0, 2.0, 0.1), "levels must be a whole number"),
    (lambda: PhaseEuler(steps=3, horizon=1.0, process="vp"), "process must be cld or psld, got 'vp'"),
    (lambda: PhaseEuler(steps=3, horizon=1.0, nu=1.0), "nu must be left out where the process is cld, got 1"),
    (lambda: PhaseEuler(steps=3, horizon=1.0, momentum_variance=-1.0), "momentum_variance must be"),
    (lambda: PhaseEuler(steps=3, horizon=1.0, friction=-1.0), "friction must be"),
    (lambda: SSCS(steps=3, horizon=1.0, inner="heun"), "inner must be euler or midpoint, got 'heun'"),
    (lambda: DDPM(steps=3, **OU).forward.kernel(2.5), "time must lie in [0, 2], the span of the schedule, got 2.5"),
    (lambda: SSCS(steps=3, horizon=1.0, **PHASES["cld"]).look(DENSE, 1.5, Phase(*[torch.zeros(1, 3).double()] * 3)), "at most the horizon"),
    (lambda: DDPM(steps=3, **OU).admit(SkewLogistic()), "score must be a checkpoint on skew_logistic"),
    (lambda: SSCS(steps=3, horizon=1.0).admit(SkewLogistic()), "score must be a checkpoint on skew_logistic"),
    (lambda: propagate(START, DDPM(steps=3, **OU), LINE, [4]), "steps must be at most 3, the length of the schedule, got 4"),
    (lambda: stationary(START, DDPM(steps=3, **OU), LINE), "follows a schedule"),
]


@pytest.mark.parametrize(("act", "message"), REFUSED, ids=[m[:40] for _, m in REFUSED])
def test_what_is_refused_in_one_line(act: Callable[[], Any], message: str) -> None:
    with pytest.raises((InvalidInput, Unsupported)) as found:
        act()
    assert message in str(found.value) and "\n" not in str(found.value)


# Planted bugs.


@dataclass(frozen=True)
class Planted(ReverseEuler):
    """Euler with a reverse drift ``factor g^2 S`` and the score of a time between t (`late` 0) and s (1)."""

    factor: float = 1.0
    late: float = 0.0

    def move(self, target: Target, x: Batch, t: float, s: float, noise: Noise) -> Batch:
        h, f, g2 = t - s, self.forward.drift(t), self.forward.noise(t)
        drift = -f * x + self.factor * g2 * self.look(target, t - self.late * h, x)
        return x + h * drift + (g2 * h) ** 0.5 * noise.normal(tuple(x.shape))


@dataclass(frozen=True)
class Unhalved(ReverseExponential):
    """The integral of beta without its half."""

    def move(self, target: Target, x: Batch, t: float, s: float, noise: Noise) -> Batch:
        b = self.forward.schedule.integral(t) - self.forward.schedule.integral(s)  # type: ignore[attr-defined]
        grown = np.expm1(b)
        return (1 + grown) * x + 2 * grown * self.look(target, t, x) + self.forward.back(s, t) ** 0.5 * noise.normal(tuple(x.shape))


@dataclass(frozen=True)
class Printed(DDPM):
    """Another posterior variance: ``printed`` with sqrt(abar_s) for abar_s, ``now`` with abar_t."""

    which: str = "printed"

    def move(self, target: Target, x: Batch, t: float, s: float, noise: Noise) -> Batch:
        root, beta = self.forward.between(s, t)
        over = 1 - self.forward.scale(s) if self.which == "printed" else self.forward.variance(t)
        variance = beta * over / self.forward.variance(t)
        return (x + beta * self.look(target, t, x)) / root + variance**0.5 * noise.normal(tuple(x.shape))


@dataclass(frozen=True)
class Overshot(DDIM):
    """The noise of eta, and the whole direction beside it."""

    def move(self, target: Target, x: Batch, t: float, s: float, noise: Noise) -> Batch:
        right = replace(self, eta=0.0)
        sigma2 = self.eta**2 * self.forward.variance(s) * self.forward.between(s, t)[1] / self.forward.variance(t)
        return DDIM.move(right, target, x, t, s, noise) + sigma2**0.5 * noise.normal(tuple(x.shape))


@dataclass(frozen=True)
class Untimely(SSCS):
    """The second half over the first half's times, both halves over the whole step, or the score of t in the midpoint rule."""

    bug: str = "again"

    def parts(self, t: float, s: float) -> tuple[Stage, ...]:
        m = 0.5 * (t + s)
        return {
            "again": (self.relax(t, m), self.push(t, m, s), self.relax(t, m)),
            "whole": (self.relax(t, s), self.push(t, m, s), self.relax(t, s)),
            "early": (self.relax(t, m), self.push(t, t, s), self.relax(m, s)),
        }[self.bug]


def twin(mutant: Any, cls: type[Any]) -> Any:
    """The sampler that the mutant should be."""
    return cls(**{f.name: getattr(mutant, f.name) for f in fields(cls)})


MUTANTS: list[tuple[Any, type]] = [
    *((Planted(steps=7, horizon=1.0, factor=f, **VP), ReverseEuler) for f in (0.5, 2.0, -1.0)),
    (Planted(steps=7, horizon=1.0, late=1.0, **VP), ReverseEuler),
    (Unhalved(steps=7, horizon=1.0, **VP), ReverseExponential),
    *((Printed(steps=7, horizon=1.0, which=w, **VP), DDPM) for w in ("printed", "now")),
    (Overshot(steps=7, horizon=1.0, eta=0.7, **VP), DDIM),
    *((Untimely(steps=7, horizon=1.0, bug=b, **PHASES["cld"]), SSCS) for b in ("again", "whole", "early")),
]


@pytest.mark.parametrize(("mutant", "cls"), MUTANTS, ids=[f"{type(m).__name__}-{i}" for i, (m, _) in enumerate(MUTANTS)])
def test_the_closed_forms_kill_planted_bugs(mutant: Any, cls: type) -> None:
    right = twin(mutant, cls)
    check_step(right)
    with pytest.raises(AssertionError):
        check_step(mutant, formula=right)


def test_the_laws_kill_planted_bugs_that_do_not_vanish_with_the_step() -> None:
    """No closed form of a step is needed: from the exact start the law must come back to the target as the steps double."""
    for mutant, cls in MUTANTS:
        vanishes = getattr(mutant, "late", 0) or getattr(mutant, "which", "") == "now" or getattr(mutant, "bug", "") in ("again", "early")
        errors = [from_exact(replace(mutant, steps=n), LINE, [n])[0] for n in (16, 32)]
        right = [from_exact(replace(twin(mutant, cls), steps=n), LINE, [n])[0] for n in (16, 32)]
        assert right[1] < 0.7 * right[0]
        if vanishes:  # an error of the order of the method's own, or an order lost
            assert errors[1] < 0.7 * errors[0]
        else:
            assert errors[1] > 0.8 * errors[0]
    lost = slope(lambda n: Untimely(steps=n, horizon=1.0, bug="early", **PHASES["cld"]), LINE, (80, 160))
    assert abs(lost - 1.0) < 0.2  # the midpoint rule with the score of t
