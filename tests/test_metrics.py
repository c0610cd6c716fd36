"""Metrics: closed forms and grids against independent formulas, their properties, and mutants that must be caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import integrate, linalg, special

from mixrate.errors import InvalidInput, MixrateError, Unsupported
from mixrate.laws.grid import Grid, resolved
from mixrate.laws.normal import Normal
from mixrate.laws.particles import Particles
from mixrate.metrics.base import Estimate, Metric
from mixrate.metrics.chi2 import Chi2
from mixrate.metrics.fisher import Fisher
from mixrate.metrics.kl import KL
from mixrate.metrics.numerics import integrate as quadrature
from mixrate.metrics.numerics import log1p_minus
from mixrate.metrics.renyi import Renyi
from mixrate.metrics.reverse_kl import ReverseKL
from mixrate.metrics.tv import TV
from mixrate.metrics.w2 import W2
from mixrate.targets.mesh import Mesh

METRICS: list[Metric] = [W2(), KL(), ReverseKL(), Renyi(2.0), Renyi(0.5), Renyi(1.7), Chi2(), Fisher(), TV()]
DIVERGENCES: list[Metric] = [m for m in METRICS if not isinstance(m, W2)]


def label(metric: object) -> str:
    return f"{type(metric).__name__}{getattr(metric, 'order', '')}"


def gauss(mean: ArrayLike, cov: ArrayLike) -> Normal:
    return Normal(np.asarray(mean, float), np.asarray(cov, float))


def pair(d: int) -> tuple[Normal, Normal]:
    """Two Gaussians with different means and covariances that do not commute; every divergence here is finite."""
    rng = np.random.default_rng(d)
    a, b = rng.standard_normal((2, d, 2 * d))
    p, q = 0.4 * a @ a.T / d + 0.4 * np.eye(d), 0.5 * b @ b.T / d + np.eye(d)
    p *= 0.9 * linalg.eigh(q, p, eigvals_only=True)[0] * 1.5  # largest variance of p relative to q: 1.35, below 2
    return gauss(0.4 * rng.standard_normal(d), p), gauss(0.4 * rng.standard_normal(d), q)


# References: textbook formulas and definitions, written without the metrics' code.


def crossing_tv(p: Normal, q: Normal) -> float:
    """TV in one dimension from the points where the densities cross."""
    (m, s), (n, t) = ((float(law.mean[0]), float(np.sqrt(law.cov[0, 0]))) for law in (p, q))
    roots = np.sort(np.roots([1 / s**2 - 1 / t**2, 2 * (n / t**2 - m / s**2), m**2 / s**2 - n**2 / t**2 + 2 * np.log(s / t)]).real)
    return float(abs(np.diff(special.ndtr((roots - m) / s)) - np.diff(special.ndtr((roots - n) / t)))[0])


def sliced_tv(p: Normal, q: Normal) -> float:
    """TV in the plane: in coordinates where both covariances are diagonal, the crossing points along y for each x."""
    variances, basis = linalg.eigh(p.cov, q.cov)
    (m, n), (s, t) = basis.T @ (p.mean - q.mean), np.sqrt(variances)

    def slice_at(x: float) -> float:
        a, b = np.exp(-0.5 * ((x - m) / s) ** 2) / (s * np.sqrt(2 * np.pi)), np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
        roots = np.roots([1 / t**2 - 1, -2 * n / t**2, n**2 / t**2 + 2 * np.log(t * b / a)])
        inside = (
            np.diff([special.ndtr((r - np.array([n, 0])) / np.array([t, 1])) for r in np.sort(roots.real)], axis=0)[0]
            if np.isreal(roots).all()
            else [0.0, 0.0]
        )
        between = a * inside[0] - b * inside[1]
        return float(abs(between) + abs(a - b - between))

    return 0.5 * float(integrate.quad(slice_at, -12, 12, limit=400, epsabs=1e-12, epsrel=1e-12)[0])


def imhof_tv(p: Normal, q: Normal) -> float:
    """TV = P_p(L > 0) - P_q(L > 0), L = log p/q, by Gil-Pelaez' formula along the real axis."""
    variances, basis = linalg.eigh(p.cov, q.cov)  # basis.T cov_q basis = I
    shift = basis.T @ (p.mean - q.mean)
    logs = -0.5 * np.log(variances).sum()

    def transform(t: float, a: np.ndarray, b: np.ndarray, c: float) -> complex:
        w = 1 - 1j * t * a
        return complex(np.exp(1j * t * c - 0.5 * np.log(w).sum() - 0.5 * (t * t * b * b / w).sum()))

    mu = variances - 1
    under_p = mu, shift * np.sqrt(variances), logs + 0.5 * float(shift @ shift)
    under_q = mu / variances, shift / variances, logs - 0.5 * float(shift @ (shift / variances))
    value, _ = integrate.quad(lambda t: (transform(t, *under_p) - transform(t, *under_q)).imag / t, 0, np.inf, limit=4000, epsabs=1e-12, epsrel=1e-12)
    return float(value / np.pi)


def closed_form(metric: Metric, p: Normal, q: Normal) -> float:
    """The textbook formula."""
    if isinstance(metric, ReverseKL):
        return closed_form(KL(), q, p)
    d, shift, inverse = p.dim, p.mean - q.mean, np.linalg.inv(q.cov)
    log_p, log_q = np.linalg.slogdet(p.cov)[1], np.linalg.slogdet(q.cov)[1]
    match metric:
        case W2():
            root = linalg.sqrtm(q.cov)
            return float(np.sqrt(shift @ shift + np.trace(p.cov + q.cov - 2 * linalg.sqrtm(root @ p.cov @ root).real)))
        case KL():
            return float(0.5 * (np.trace(inverse @ p.cov) - d + shift @ inverse @ shift + log_q - log_p))
        case Renyi():
            a = metric.order
            mixed = a * q.cov + (1 - a) * p.cov
            return float(
                0.5 * a * shift @ np.linalg.solve(mixed, shift) - (np.linalg.slogdet(mixed)[1] - (1 - a) * log_p - a * log_q) / (2 * (a - 1))
            )
        case Chi2():
            mixed = 2 * q.cov - p.cov
            return float(np.exp(log_q - 0.5 * log_p - 0.5 * np.linalg.slogdet(mixed)[1] + shift @ np.linalg.solve(mixed, shift)) - 1)
        case Fisher():
            gap = inverse - np.linalg.inv(p.cov)
            return float(shift @ inverse @ inverse @ shift + np.trace(gap @ p.cov @ gap))
        case TV():
            return {1: crossing_tv, 2: sliced_tv}.get(d, imhof_tv)(p, q)
    raise AssertionError(f"no reference for {metric}")


def definition(metric: Metric, p: Normal, q: Normal) -> float:
    """The defining integral by the trapezoid rule (quadrature of a smooth integrand), the minimum of transports aside."""
    n, reach = (200_001, 14.0) if p.dim == 1 else (801, 12.0)
    axis, h = np.linspace(-reach, reach, n, retstep=True)
    x = np.stack([g.ravel() for g in np.meshgrid(*[axis] * p.dim)], 1)
    cell = h**p.dim

    def log_density(law: Normal) -> tuple[np.ndarray, np.ndarray]:
        centred = x - law.mean
        gradient = -centred @ np.linalg.inv(law.cov)
        return 0.5 * (centred * gradient).sum(1) - 0.5 * np.linalg.slogdet(2 * np.pi * law.cov)[1], gradient

    (u, du), (v, dv) = log_density(p), log_density(q)
    if isinstance(metric, ReverseKL):
        return float((np.exp(v) * (v - u)).sum() * cell)
    match metric:
        case KL():
            return float((np.exp(u) * (u - v)).sum() * cell)
        case Renyi():
            return float(np.log(np.exp(metric.order * u + (1 - metric.order) * v).sum() * cell) / (metric.order - 1))
        case Chi2():
            return float(((np.exp(u) - np.exp(v)) ** 2 * np.exp(-v)).sum() * cell)
        case Fisher():
            return float((np.exp(u) * ((du - dv) ** 2).sum(1)).sum() * cell)
        case TV():
            return float(0.5 * np.abs(np.exp(u) - np.exp(v)).sum() * cell)
    return closed_form(metric, p, q)


def on_grid(metric: Metric, p: Normal, q: Normal, n: int, reach: float = 12.0) -> Estimate:
    mesh = Mesh((-reach,) * p.dim, (reach,) * p.dim, n)
    return metric.grid(Grid.of_normal(p, mesh), Grid.of_normal(q, mesh))


def assert_close(estimate: Estimate, truth: float, tolerance: float, width: float) -> None:
    """The value is right, the interval holds the truth (up to the truth's own rounding) and is no wider than it says."""
    assert abs(estimate.value - truth) <= tolerance * max(1.0, abs(truth)), f"{estimate} for {truth}"
    assert estimate.lower - tolerance <= truth <= estimate.upper + tolerance, f"{estimate} does not hold {truth}"
    assert estimate.lower <= estimate.value <= estimate.upper
    assert estimate.upper - estimate.lower <= width, f"{estimate} is too wide"


def checks_normal(metric: Metric) -> None:
    """Between Gaussians: the closed form at d = 1, 2, 5 and the definition at d = 1, 2."""
    for d in (1, 2, 5):
        assert_close(metric.normal(*pair(d)), closed_form(metric, *pair(d)), 1e-10, 1e-11)
    for d in (1, 2):
        blunt = 1e-5 if isinstance(metric, TV) and d == 2 else 1e-9  # a kink under the trapezoid rule
        assert_close(metric.normal(*pair(d)), definition(metric, *pair(d)), blunt, 1e-11)


def checks_grid(metric: Metric) -> None:
    """On grids: the closed form between Gaussians, in one and two dimensions."""
    assert_close(on_grid(metric, *pair(1), 601, reach=20.0), closed_form(metric, *pair(1)), 1e-9, 1e-7)
    estimate, truth = on_grid(metric, *pair(2), 121), closed_form(metric, *pair(2))
    if isinstance(metric, W2):
        assert_close(estimate, truth, 0.02, 0.12)
        assert estimate.lower <= truth <= estimate.upper
    else:
        assert_close(estimate, truth, 1e-5 if isinstance(metric, TV) else 1e-10, 1e-4 if isinstance(metric, TV) else 1e-9)


def checks_particles(metric: Metric) -> None:
    """Two samples of 1000 points of N(0, I_2) score about 0.2, and that is the floor; a shift shows above it."""
    plane = gauss(np.zeros(2), np.eye(2))
    one, two, three = (Particles.of_normal(plane, 1000, seed) for seed in (1, 2, 3))
    null = metric.particles(one, two, three)
    assert 0.17 < null.value < 0.24
    assert 0.17 < null.floor < 0.24
    assert null.lower == 0.0
    apart = metric.particles(Particles.of_normal(gauss([2.0, 0.0], np.eye(2)), 1000, 4), two, three)
    assert apart.lower <= 2.0 <= apart.upper
    assert abs(apart.value - 2.0) < 0.2
    line = [Particles.of_normal(gauss(0.0, 1.0), n, seed) for n, seed in ((900, 1), (600, 2), (900, 3))]
    x, y = (np.sort(s.x.numpy()[:, 0]) for s in line[:2])
    assert metric.particles(*line).value == pytest.approx(np.sqrt(np.mean((np.repeat(x, 2) - np.repeat(y, 3)) ** 2)), rel=1e-12)


CHECKS: list[Callable[[Metric], None]] = [checks_normal, checks_grid]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_agrees_with_closed_form_and_definition(metric: Metric, check: Callable[[Metric], None]) -> None:
    check(metric)


def test_particles_and_their_floor() -> None:
    checks_particles(W2())


# Planted bugs: each must fail a check that the metric passes.


def scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(factor * estimate.value, factor * estimate.lower, factor * estimate.upper)


@dataclass(frozen=True)
class WithoutMean(W2):
    def normal(self, p: Normal, q: Normal) -> Estimate:
        return super().normal(gauss(q.mean, p.cov), q)


@dataclass(frozen=True)
class TraceWithoutTwo(W2):
    def normal(self, p: Normal, q: Normal) -> Estimate:
        root = linalg.sqrtm(q.cov)
        square = (p.mean - q.mean) @ (p.mean - q.mean) + np.trace(p.cov + q.cov - linalg.sqrtm(root @ p.cov @ root).real)
        return Estimate.within(float(np.sqrt(square)), 1e-12)


@dataclass(frozen=True)
class WithoutRotation(W2):
    def normal(self, p: Normal, q: Normal) -> Estimate:
        return Estimate.within(float(np.hypot(np.linalg.norm(p.mean - q.mean), np.linalg.norm(p.factor - q.factor))), 1e-12)


@dataclass(frozen=True)
class Squared(W2):
    def grid(self, p: Grid, q: Grid) -> Estimate:
        e = super().grid(p, q)
        return Estimate(e.value**2, e.lower**2, e.upper**2)

    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        e = super().particles(p, q, floor)
        return Estimate(e.value**2, e.lower**2, e.upper**2, e.floor**2)


@dataclass(frozen=True)
class FloorOfThePair(W2):
    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        e = super().particles(p, q, floor)
        return Estimate(e.value, 0.0, e.upper, floor=0.0)


@dataclass(frozen=True)
class Swapped(KL):
    def normal(self, p: Normal, q: Normal) -> Estimate:
        return super().normal(q, p)

    def grid(self, p: Grid, q: Grid) -> Estimate:
        return super().grid(q, p)


@dataclass(frozen=True)
class NotSwapped(ReverseKL):
    def normal(self, p: Normal, q: Normal) -> Estimate:
        return super().normal(q, p)

    def grid(self, p: Grid, q: Grid) -> Estimate:
        return super().grid(q, p)


@dataclass(frozen=True)
class DividedByOrder(Renyi):
    def normal(self, p: Normal, q: Normal) -> Estimate:
        return scaled(super().normal(p, q), (self.order - 1) / self.order)

    def grid(self, p: Grid, q: Grid) -> Estimate:
        return scaled(super().grid(p, q), (self.order - 1) / self.order)


@dataclass(frozen=True)
class WithoutMinusOne(Chi2):
    def normal(self, p: Normal, q: Normal) -> Estimate:
        e = super().normal(p, q)
        return Estimate(e.value + 1, e.lower + 1, e.upper + 1)

    def grid(self, p: Grid, q: Grid) -> Estimate:
        e = super().grid(p, q)
        return Estimate(e.value + 1, e.lower + 1, e.upper + 1)


@dataclass(frozen=True)
class WeightedByTarget(Fisher):
    def normal(self, p: Normal, q: Normal) -> Estimate:
        return super().normal(q, p)

    def grid(self, p: Grid, q: Grid) -> Estimate:
        return super().grid(q, p)


@dataclass(frozen=True)
class WithoutHalf(TV):
    def normal(self, p: Normal, q: Normal) -> Estimate:
        return scaled(super().normal(p, q), 2.0)

    def grid(self, p: Grid, q: Grid) -> Estimate:
        return scaled(super().grid(p, q), 2.0)


MUTANTS: list[tuple[Metric, Callable[[Metric], None]]] = [
    (WithoutMean(), checks_normal),
    (TraceWithoutTwo(), checks_normal),
    (WithoutRotation(), checks_normal),
    (Squared(), checks_grid),
    (Squared(), checks_particles),
    (FloorOfThePair(), checks_particles),
    *[
        (mutant, check)
        for mutant in (Swapped(), NotSwapped(), DividedByOrder(), WithoutMinusOne(), WeightedByTarget(), WithoutHalf())
        for check in CHECKS
    ],
]


@pytest.mark.parametrize("mutant, check", MUTANTS, ids=lambda x: getattr(x, "__name__", label(x)))
def test_a_planted_bug_is_caught(mutant: Metric, check: Callable[[Metric], None]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


# Accuracy.


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_grid_error_falls_at_high_order_and_stays_inside_its_interval(metric: Metric) -> None:
    p, q = gauss(0.4, 0.7), gauss(-0.2, 1.3)
    truth = metric.normal(p, q).value
    estimates = [on_grid(metric, p, q, n) for n in (25, 51, 101, 201)]
    errors = [abs(e.value - truth) for e in estimates]
    assert errors[-1] < 1e-9
    assert all(fine < max(coarse / 24, 1e-12) for coarse, fine in pairwise(errors[1:])), errors
    assert all(e.lower <= truth <= e.upper for e in estimates[1:])


@pytest.mark.parametrize("metric", METRICS, ids=label)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_nearly_equal_laws_keep_their_digits(metric: Metric, d: int) -> None:
    """A relative difference e of all variances, e^2 below rounding: leading terms of the divergences, to first order in e."""
    q, e = pair(d)[1], 1e-9
    leading = {
        "W2": np.sqrt(np.trace(q.cov)) * e / 2,
        "Fisher": np.trace(np.linalg.inv(q.cov)) * e * e,
        "TV": {1: 2 * np.exp(-0.5) / np.sqrt(2 * np.pi), 2: 2 * np.exp(-1.0), 5: 0.0}[d] * e / 2,
        "KL": d * e * e / 4,
        "ReverseKL": d * e * e / 4,
        "Chi2": d * e * e / 2,
        "Renyi": getattr(metric, "order", 0.0) * d * e * e / 4,
    }
    if d == 5:  # E|chi2_d - d| = 4 (d/2)^(d/2) exp(-d/2) / Gamma(d/2), and TV = e/4 of it
        leading["TV"] = e * 2.5**2.5 * np.exp(-2.5) / special.gamma(2.5)
    value = metric.normal(gauss(q.mean, q.cov * (1 + e)), q).value
    true_e = float((q.cov * (1 + e) - q.cov)[0, 0] / q.cov[0, 0])  # as rounded
    power = 1 if isinstance(metric, (W2, TV)) else 2
    assert value == pytest.approx(leading[type(metric).__name__] * (true_e / e) ** power, rel=1e-6)


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_equal_laws_score_nothing(metric: Metric) -> None:
    for d in (1, 2, 5, 40):
        law = pair(d)[0]
        estimate = metric.normal(law, gauss(law.mean.copy(), law.cov.copy()))
        assert estimate.value < 1e-13
        assert estimate.upper < 1e-11
    for d, n in ((1, 301), (2, 121)):
        estimate = on_grid(metric, pair(d)[0], pair(d)[0], n, reach=16.0)
        assert estimate.value < (1e-6 if isinstance(metric, W2) and d == 2 else 1e-12)
        assert estimate.lower == 0.0
        assert estimate.upper < 1e-6


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_badly_conditioned_covariances_stay_inside_the_interval(metric: Metric) -> None:
    """Diagonal pairs over eight decades, seen through a dense change of basis, against one-dimensional sums."""
    rng = np.random.default_rng(0)
    u, v = np.array([1e-4, 1.0, 1e4]), np.array([1.2e-4, 0.9, 1.1e4])
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    estimate = metric.normal(*(gauss(np.zeros(3), (rotation * s) @ rotation.T) for s in (u, v)))
    straight = metric.normal(*(gauss(np.zeros(3), np.diag(s)) for s in (u, v)))
    # the rotated matrices are themselves rounded to 1e-16 of 1e4
    assert estimate.value == pytest.approx(straight.value, rel=1e-7)
    assert estimate.lower <= straight.upper
    assert straight.lower <= estimate.upper
    if not isinstance(metric, (TV, W2, Chi2)):
        apart = [metric.normal(gauss(0.0, a), gauss(0.0, b)).value for a, b in zip(u, v, strict=True)]
        assert straight.value == pytest.approx(sum(apart), rel=1e-12)


def test_w2_of_a_rotated_gaussian_at_d_200() -> None:
    """Orthogonal conjugation with known optimal coupling: commuting covariances, W2 = |sqrt(lambda) - sqrt(mu)|."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((200, 200)))
    a, b = rng.uniform(0.5, 2.0, (2, 200))
    estimate = W2().normal(*(gauss(np.zeros(200), (basis * s) @ basis.T) for s in (a, b)))
    assert_close(estimate, float(np.linalg.norm(np.sqrt(a) - np.sqrt(b))), 1e-13, 1e-11)


def test_log1p_minus() -> None:
    x = np.array([-0.9, -0.1, -1e-3, -1e-9, 0.0, 1e-12, 1e-5, 0.15, 0.19, 0.21, 3.0])
    series = [-(t**2) / 2 + t**3 / 3 - t**4 / 4 if abs(t) < 1e-3 else np.log1p(t) - t for t in x]
    assert log1p_minus(x) == pytest.approx(series, rel=1e-12)
    assert log1p_minus(np.array([0.1j, 0.5 + 2j])) == pytest.approx(np.log(1 + np.array([0.1j, 0.5 + 2j])) - np.array([0.1j, 0.5 + 2j]), rel=1e-12)


def test_tv_stays_accurate_far_apart_and_close_up() -> None:
    for shift in (1e-8, 1e-3, 0.5, 3.0, 12.0, 60.0):
        assert_close(TV().normal(gauss(shift, 1.0), gauss(0.0, 1.0)), float(special.erf(shift / np.sqrt(8))), 1e-15 if shift > 1e-2 else 1e-18, 1e-13)
    for shift, variance in ((0.0, 1e-6), (3.0, 1e-4), (1.0, 1e8), (-2.0, 3.0), (1.0, 1.001)):
        p, q = gauss(shift, variance), gauss(0.0, 1.0)
        assert_close(TV().normal(p, q), crossing_tv(p, q), 1e-12, 1e-12)


# Infinities and what cannot be done.


def test_renyi_is_infinite_exactly_where_the_integral_diverges() -> None:
    q = gauss([0.0, 0.0], [[1.0, 0.3], [0.3, 1.0]])
    for order in (1.5, 2.0, 3.0):
        edge = order / (order - 1)  # p^a q^(1-a) is integrable as long as cov_p < a/(a-1) cov_q
        assert np.isfinite(Renyi(order).normal(gauss(q.mean, 0.999 * edge * q.cov), q).value)
        assert np.isinf(Renyi(order).normal(gauss(q.mean, 1.001 * edge * q.cov), q).value)
    assert np.isinf(Chi2().normal(gauss(q.mean, 2.1 * q.cov), q).value)
    assert np.isfinite(Renyi(0.5).normal(gauss(q.mean, 100 * q.cov), q).value)
    # a hair below the edge, rounding could be on either side of it
    assert np.isinf(Renyi(2.0).normal(gauss(0.0, 2 * (1 - 1e-16)), gauss(0.0, 1.0)).upper)


def test_renyi_on_a_grid_admits_what_lies_beyond_the_box() -> None:
    for order in (2.0, 3.0):
        estimate = on_grid(Renyi(order), gauss(0.0, 2.5), gauss(0.0, 1.0), 601)
        assert estimate.upper == np.inf
        assert estimate.side == "lower"
    within = on_grid(Renyi(2.0), gauss(0.0, 1.9), gauss(0.0, 1.0), 601)  # finite, with a tail far beyond the box
    truth = Renyi(2.0).normal(gauss(0.0, 1.9), gauss(0.0, 1.0)).value
    assert within.value < truth <= within.upper < np.inf


def test_renyi_tends_to_kl_and_grows_with_the_order() -> None:
    for d in (1, 2, 5):
        p, q = pair(d)
        for order in (1 - 1e-7, 1 + 1e-7):
            assert Renyi(order).normal(p, q).value == pytest.approx(KL().normal(p, q).value, rel=1e-6)
        values = [Renyi(order).normal(p, q).value for order in (0.1, 0.5, 0.9, 1.1, 1.5, 2.0, 3.0)]
        assert all(a < b for a, b in pairwise(values))
        assert on_grid(Renyi(1.001), *pair(1), 301).value == pytest.approx(Renyi(1.001).normal(*pair(1)).value, rel=1e-10)


@pytest.mark.parametrize("order", [1.0, 0.0, -2.0, np.inf, np.nan])
def test_renyi_refuses_other_orders(order: float) -> None:
    with pytest.raises(InvalidInput, match="order must be"):
        Renyi(order)


@pytest.mark.parametrize("metric", DIVERGENCES, ids=label)
def test_a_singular_covariance(metric: Metric) -> None:
    flat, full = gauss([0.0, 0.0], [[1.0, 1.0], [1.0, 1.0]]), gauss([0.0, 0.0], np.eye(2))
    for p, q in ((flat, full), (full, flat), (gauss([1.0, 0.0], np.zeros((2, 2))), full)):
        estimate = metric.normal(p, q)
        assert estimate.value == estimate.lower == estimate.upper == (1.0 if isinstance(metric, TV) else np.inf)
    with pytest.raises(Unsupported, match="singular"):
        metric.normal(flat, flat)


def test_w2_takes_singular_covariances() -> None:
    point, law = gauss([1.0, 2.0], np.zeros((2, 2))), gauss([0.0, 0.0], [[2.0, 0.5], [0.5, 1.0]])
    assert_close(W2().normal(point, law), float(np.sqrt(5 + 3)), 1e-14, 1e-6)
    flat = gauss([0.0, 0.0], [[1.0, 1.0], [1.0, 1.0]])
    assert_close(W2().normal(flat, gauss([0.0, 0.0], np.eye(2))), float(np.sqrt(2 + 2 - 2 * np.sqrt(2))), 1e-7, 1e-6)
    assert W2().normal(point, gauss([1.0, 0.0], np.zeros((2, 2)))).value == 2.0


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_dimensions_must_agree(metric: Metric) -> None:
    with pytest.raises(InvalidInput, match="one dimension"):
        metric.normal(pair(1)[0], pair(2)[1])


@pytest.mark.parametrize("metric", [ReverseKL(), Renyi(2.0), Chi2(), Fisher()], ids=label)
def test_two_samples_are_refused_where_no_estimate_has_an_interval(metric: Metric) -> None:
    cloud = Particles.of_normal(pair(1)[0], 5)
    with pytest.raises(Unsupported):
        metric.particles(cloud, cloud, cloud)


def test_a_hole_in_the_target_is_infinite() -> None:
    mesh = Mesh((-6.0,), (6.0,), 301)
    p = Grid.of_normal(gauss(0.0, 0.5), mesh)
    with np.errstate(divide="ignore"):
        q = Grid.normalised(mesh, np.where(mesh.axes[0] > 0.5, -np.inf, p.log_density))
    for metric in (KL(), Renyi(2.0), Chi2(), Fisher()):
        assert np.isinf(metric.grid(p, q).value)
    assert np.isfinite(KL().grid(q, p).value)
    assert Renyi(0.5).grid(p, q).value == pytest.approx(-np.log(p.density[mesh.axes[0] <= 0.5].sum() * mesh.cell), abs=1e-9)


def test_two_laws_that_vanish_together() -> None:
    """On half a line both, where every divergence is finite; kinks at the end cost accuracy, not honesty."""
    mesh = Mesh((-6.0,), (6.0,), 601)
    x = mesh.axes[0]
    with np.errstate(divide="ignore"):
        p, q = (Grid.normalised(mesh, np.where(x > -0.999, 2 * np.log(np.abs(x + 1)) - b * (x + 1) ** 2, -np.inf)) for b in (1.0, 1.3))
    for metric in METRICS:
        estimate = metric.grid(p, q)
        assert np.isfinite(estimate.upper), label(metric)
        assert estimate.upper - estimate.lower < 0.01, label(metric)
    # two Maxwell laws: KL = 3/2 (1/r - 1 + log r) with r = b_p / b_q, and W2 = sqrt(3/2) |b_p^-1/2 - b_q^-1/2|
    r = 1 / 1.3
    assert KL().grid(p, q).value == pytest.approx(1.5 * (1 / r - 1 + np.log(r)), abs=1e-6)
    assert W2().grid(p, q).value == pytest.approx(np.sqrt(1.5) * (1 - 1.3**-0.5), abs=1e-4)


# The interval is honest where the grid is not at its best.


@pytest.mark.parametrize("metric", METRICS, ids=label)
@pytest.mark.parametrize("d", [1, 2])
def test_rounding_noise_in_the_tails_stays_inside_the_interval(metric: Metric, d: int) -> None:
    """A law carried by Fourier transforms has absolute noise 1e-16 where it should have 1e-30."""
    mesh = Mesh((-12.0,) * d, (12.0,) * d, 601 if d == 1 else 121)
    p, q = pair(d)
    clean, target = Grid.of_normal(p, mesh), Grid.of_normal(q, mesh)
    noise = 1e-16 * np.random.default_rng(0).standard_normal(clean.density.shape)
    with np.errstate(divide="ignore"):
        noisy = resolved(Grid(mesh, np.log(np.maximum(clean.density + noise, 0.0)), absolute=5e-16))
    estimate, truth = metric.grid(noisy, target), closed_form(metric, p, q)
    assert estimate.lower - 1e-11 <= truth <= estimate.upper + 1e-11
    assert estimate.value == pytest.approx(truth, rel=0.03 if isinstance(metric, W2) else 1e-3)


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_a_kink_stays_inside_the_interval(metric: Metric) -> None:
    """A Gaussian against a Laplace density, whose kink falls between nodes: errors are algebraic, and stated."""

    def laws(n: int) -> Estimate:
        mesh = Mesh((-24.0,), (24.0,), n)
        return metric.grid(Grid.of_normal(gauss(0.2, 0.8), mesh), Grid.normalised(mesh, -np.abs(mesh.axes[0] - 0.05) * 1.2))

    truth = laws(12_001)
    for n in (201, 401, 801):
        estimate = laws(n)
        assert estimate.lower <= truth.upper
        assert truth.lower <= estimate.upper
        assert estimate.value == pytest.approx(truth.value, rel=0.3 if isinstance(metric, Fisher) else 0.02)


def test_w2_between_wells_of_unequal_weight() -> None:
    """Mass crosses a gap where the density is 1e-30: the optimal map jumps in the middle of a well."""

    def wells(weight: float, n: int) -> Grid:
        mesh = Mesh((-20.0,), (20.0,), n)
        x = mesh.axes[0]
        return Grid.normalised(mesh, np.logaddexp(np.log(weight) - (x + 8) ** 2 / 2, np.log(1 - weight) - (x - 8) ** 2 / 2))

    fine = W2().grid(wells(0.5, 1601), wells(0.4, 1601))
    for n, tolerance in ((161, 1e-4), (321, 1e-7), (641, 1e-9)):
        estimate = W2().grid(wells(0.5, n), wells(0.4, n))
        assert abs(estimate.value - fine.value) < tolerance
        assert estimate.lower <= fine.value <= estimate.upper


def test_w2_in_the_plane_brackets_the_truth() -> None:
    for p, q, width in (
        (gauss([0.4, -0.3], [[0.7, 0.2], [0.2, 0.5]]), gauss([-0.2, 0.1], [[1.3, -0.3], [-0.3, 0.9]]), 0.06),
        (gauss([0.401, -0.3], [[0.7, 0.21], [0.21, 0.5]]), gauss([0.4, -0.3], [[0.7, 0.2], [0.2, 0.5]]), 0.004),
        (gauss([4.0, 3.0], np.diag([0.7, 0.5])), gauss([-0.2, 0.1], np.diag([1.3, 0.9])), 0.02),
    ):
        estimate, truth = on_grid(W2(), p, q, 121, reach=11.0), W2().normal(p, q).value
        assert estimate.lower <= truth <= estimate.upper
        assert estimate.upper - estimate.lower < width


def test_quadrature_states_its_error_and_its_tails() -> None:
    mesh = Mesh((-8.0,), (8.0,), 401)
    x = mesh.axes[0]
    value, error, tail = quadrature(np.exp(-(x**2) / 2), mesh)
    assert abs(value - np.sqrt(2 * np.pi)) <= error + tail < 1e-12
    value, error, tail = quadrature(np.exp(-np.abs(x - 0.011)), mesh)
    assert abs(value - 2) <= error + tail < 0.01
    assert quadrature(np.exp(x**2 / 90), mesh)[2] == np.inf


# Particles: what is refused.


def test_a_solver_that_stops_early_gives_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import ot

    real = ot.emd2
    monkeypatch.setattr(ot, "emd2", lambda *args, **options: real(*args, **{**options, "numItermax": 3}))
    plane = gauss(np.zeros(2), np.eye(2))
    a, b = Particles.of_normal(plane, 100, 1), Particles.of_normal(plane, 90, 2)
    with pytest.raises(MixrateError, match="did not converge"):
        W2().particles(a, b, a)


def test_the_jackknife_matches_the_spread_of_repeats() -> None:
    p, q = gauss([1.0, 0.0], 1.5 * np.eye(2)), gauss([0.0, 0.0], np.eye(2))
    estimates = [W2().particles(Particles.of_normal(p, 200, 3 * i), *(Particles.of_normal(q, 200, 3 * i + j) for j in (1, 2))) for i in range(40)]
    deviations = [(e.upper - e.value) / 3 for e in estimates]
    assert 0.6 < np.mean(deviations) / np.std([e.value for e in estimates]) < 1.6


# Properties, on random Gaussians.


def random_law(seed: int, d: int) -> Normal:
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((d, d)) * rng.choice([0.1, 1.0])
    return gauss(2 * rng.standard_normal(d), factor @ factor.T + rng.choice([0.05, 1.0]) * np.eye(d))


seeds = st.integers(0, 2**32 - 1)
dims = st.integers(1, 4)
sampled = settings(max_examples=40, deadline=None, derandomize=True)


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_non_negative_and_zero_only_if_equal(metric: Metric) -> None:
    @sampled
    @given(seeds, seeds, dims)
    def holds(i: int, j: int, d: int) -> None:
        p, q = random_law(i, d), random_law(j, d)
        estimate = metric.normal(p, q)
        assert 0.0 <= estimate.lower <= estimate.value <= estimate.upper
        assert (estimate.value > 1e-9) == (i != j)
        if isinstance(metric, TV):
            assert estimate.upper <= 1.0

    holds()


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_invariant_under_joint_translation_and_rotation(metric: Metric) -> None:
    @sampled
    @given(seeds, seeds, seeds, dims)
    def holds(i: int, j: int, k: int, d: int) -> None:
        p, q = random_law(i, d), random_law(j, d)
        rng = np.random.default_rng(k)
        turn, shift = np.linalg.qr(rng.standard_normal((d, d)))[0], rng.standard_normal(d)
        moved = metric.normal(*(gauss(turn @ law.mean + shift, turn @ law.cov @ turn.T) for law in (p, q)))
        still = metric.normal(p, q)
        if np.isfinite(still.upper) and np.isfinite(moved.upper):
            assert moved.value == pytest.approx(still.value, rel=1e-6, abs=1e-8)

    holds()


@pytest.mark.parametrize("metric", [W2(), TV()], ids=label)
def test_a_distance_is_symmetric_and_satisfies_the_triangle_inequality(metric: Metric) -> None:
    @sampled
    @given(seeds, seeds, seeds, dims)
    def holds(i: int, j: int, k: int, d: int) -> None:
        a, b, c = (random_law(s, d) for s in (i, j, k))
        assert metric.normal(a, b).value == pytest.approx(metric.normal(b, a).value, abs=1e-12)
        assert metric.normal(a, c).value <= metric.normal(a, b).value + metric.normal(b, c).value + 1e-12

    holds()


@sampled
@given(seeds, seeds, dims)
def test_inequalities_between_divergences(i: int, j: int, d: int) -> None:
    """Pinsker; TV^2 <= H^2 (2 - H^2) with R_1/2 = -2 log(1 - H^2); KL <= log(1 + chi2); Talagrand and LSI with alpha of q."""
    p, q = random_law(i, d), random_law(j, d)
    tv, kl, half, chi2, w2, j2 = (m.normal(p, q).value for m in (TV(), KL(), Renyi(0.5), Chi2(), W2(), Fisher()))
    alpha = 1 / np.linalg.eigvalsh(q.cov)[-1]
    slack = 1 + 1e-9
    assert tv**2 <= slack * kl / 2
    assert tv**2 <= slack * -np.expm1(-half) + 1e-12
    assert kl <= slack * np.log1p(chi2) + 1e-12
    assert 0.5 * alpha * w2**2 <= slack * kl + 1e-25
    assert kl <= slack * j2 / (2 * alpha)
