"""Metrics of samples: exact pieces against other routes, bias and floors on Gaussians and mixtures, coverage, mutants, bad input.

Statistical tests run on fixed keys. Where they state a rate, it is the chance of a false alarm, 1e-6, over the keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats
from scipy.spatial.distance import cdist

from mixrate.errors import Diverged, InvalidInput, MixrateError, Unsupported
from mixrate.laws.grid import Grid
from mixrate.laws.normal import Normal
from mixrate.laws.particles import Particles
from mixrate.metrics import classifier_tv, ksd, mmd, mode_weight_error, moment_error, neighbours, sampling, tv
from mixrate.metrics.base import Estimate, Metric
from mixrate.metrics.chi2 import Chi2
from mixrate.metrics.classifier_tv import ClassifierTV
from mixrate.metrics.ess import ESS
from mixrate.metrics.kl import KL
from mixrate.metrics.ksd import KSD
from mixrate.metrics.mmd import MMD
from mixrate.metrics.mode_weight_error import ModeWeightError
from mixrate.metrics.moment_error import MomentError
from mixrate.metrics.r_hat import RHat
from mixrate.metrics.renyi import Renyi
from mixrate.metrics.reverse_kl import ReverseKL
from mixrate.metrics.tv import TV
from mixrate.samplers.noise import Stream
from mixrate.targets.base import Target
from mixrate.targets.double_well import DoubleWell
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.mesh import Mesh

#: A false alarm once in a million.
RATE = 1e-6


def label(x: object) -> str:
    return getattr(x, "__name__", None) or f"{type(x).__name__}{getattr(x, 'order', '')}{getattr(x, 'moment', '')}"


def gauss(d: int, shift: float = 0.0, variance: float = 1.0) -> Normal:
    """Mean of length `shift` along the diagonal."""
    return Normal(np.full(d, shift / np.sqrt(d)), variance * np.eye(d))


def standard(d: int) -> Gaussian:
    return Gaussian.isotropic(d)


def cloud(law: Normal, n: int, seed: int = 0) -> Particles:
    return Particles.of_normal(law, n, seed)


@dataclass(frozen=True, eq=False)
class Unnormalised(Target):
    """N(0, I) whose normaliser nobody knows; `draws`: whether exact draws are known."""

    size: int = 2

    @property
    def dim(self) -> int:
        return self.size

    def potential(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * (x * x).sum(1) + 3.0


class WithDraws(Unnormalised):
    def sample(self, n: int, noise: Any) -> torch.Tensor:
        return torch.as_tensor(noise.normal((n, self.dim)))


class Normalised(Unnormalised):
    """No exact draws, but a normaliser."""

    @property
    def log_normalizer(self) -> float:
        return 0.5 * self.dim * float(np.log(2 * np.pi)) - 3.0


# Exact pieces, each against another route.


def checks_ball_masses() -> None:
    """Mean of log u and of its powers for u ~ Beta(k, n - k), by quadrature; the volumes of balls in d = 1, 2, 3."""
    for k, n in ((1, 8), (4, 9), (5, 60)):
        u = stats.beta(k, n - k)
        assert neighbours.log_mean(k, n) == pytest.approx(integrate.quad(lambda t, u=u: np.log(t) * u.pdf(t), 0, 1)[0], abs=1e-7)
        for s in (-0.9, -0.5, 0.5, 1.3):
            moment = integrate.quad(lambda t, u=u, s=s: t**s * u.pdf(t), 0, 1, limit=200)[0]
            assert neighbours.log_power(k, n, s) == pytest.approx(np.log(moment), abs=1e-6)
    assert np.exp([neighbours.log_ball(d) for d in (1, 2, 3)]) == pytest.approx([2.0, np.pi, 4 * np.pi / 3], rel=1e-14)


def checks_neighbours() -> None:
    """The k-th distances by sorting all of them, on both sides of the dimension where a tree is left."""
    for d in (1, 2, 8, 9, 12):
        x, y = Stream("neighbours", d).normal((2, 60, d)).numpy() + 100.0
        for k in (1, 4, 8):
            assert neighbours.nearest(x, x, k, itself=True)[0] == pytest.approx(np.sort(cdist(x, x), 1)[:, 1 : k + 1], rel=1e-9)
            distance, lists = neighbours.nearest(x, y, k)
            assert distance == pytest.approx(np.sort(cdist(x, y), 1)[:, :k], rel=1e-9)
            assert (np.sort(lists, 1) == np.sort(np.argsort(cdist(x, y), 1)[:, :k], 1)).all()


def test_ball_masses() -> None:
    checks_ball_masses()


def test_neighbours() -> None:
    checks_neighbours()


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_binomial_spread_is_the_mean_absolute_error(n: int) -> None:
    p = np.array([0.0, 1e-3, 0.25, 0.5, 6 / 7, 1.0])
    k = np.arange(n + 1)
    direct = [float(stats.binom.pmf(k, n, q) @ np.abs(k / n - q)) for q in p]
    assert sampling.binomial_spread(n, p) == pytest.approx(direct, rel=1e-9, abs=1e-15)


def checks_quadratic() -> None:
    """A U-statistic and its two deviations from their definitions, and the memory it takes at a time."""
    z = Stream("quadratic").normal((300,)).numpy()
    h = np.outer(z, z) + 0.3 * (z[:, None] + z[None, :])
    seen = []

    def rows(lo: int, hi: int) -> np.ndarray:
        seen.append(hi - lo)
        return h[lo:hi].copy()

    u = sampling.quadratic(300, rows)
    off = ~np.eye(300, dtype=bool)
    assert u.value == pytest.approx(h[off].mean(), rel=1e-12)
    assert max(seen) <= sampling.ROWS < 300
    # h = (z + 0.3)(z' + 0.3) - 0.09: projection 0.3 (z + ...), centred kernel z z'
    assert u.linear == pytest.approx(2 * 0.3 / np.sqrt(300), rel=0.3)
    assert u.degenerate == pytest.approx(np.sqrt(2) / 300, rel=0.2)


def test_quadratic() -> None:
    checks_quadratic()


def stein_by_differentiation(x: np.ndarray, target: Target, c: float) -> np.ndarray:
    """The Stein kernel ``div_x div_y k + s(x).grad_y k + s(y).grad_x k + k s(x).s(y)`` by automatic differentiation."""
    points, n, d = torch.as_tensor(x), len(x), x.shape[1]
    s = target.score(points)

    def base(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return 1 / torch.sqrt(c * c + ((a - b) ** 2).sum())

    out = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            a, b = points[i], points[j]
            first, second = (torch.func.grad(base, argnums=k)(a, b) for k in (0, 1))
            mixed = torch.func.jacrev(torch.func.grad(base, argnums=0), argnums=1)(a, b)
            out[i, j] = float(torch.trace(mixed.reshape(d, d)) + s[i] @ second + s[j] @ first + base(a, b) * (s[i] @ s[j]))
    return out


def checks_stein() -> None:
    target = Gaussian([0.3, -0.2], [[1.0, 0.4], [0.4, 0.6]])
    x = Stream("stein").normal((5, 2)).numpy() * 2
    h = stein_by_differentiation(x, target, 0.7)
    u = ksd.stein(x, target.score(torch.as_tensor(x)).numpy(), 0.7)
    assert u.value == pytest.approx(h[~np.eye(5, dtype=bool)].mean(), rel=1e-12)


def test_stein_kernel() -> None:
    checks_stein()


def checks_mmd() -> None:
    """The unbiased estimate from its double sums, and its mean between Gaussians in closed form."""
    x, y = Stream("mmd").normal((2, 9, 3)).numpy()
    y = y + 0.5

    def k(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(-cdist(a, b, "sqeuclidean") / (2 * 1.3**2)))

    off = ~np.eye(9, dtype=bool)
    direct = k(x, x)[off].mean() + k(y, y)[off].mean() - 2 * k(x, y)[off].mean()
    assert mmd.paired(x, y, 1.3).value == pytest.approx(direct, rel=1e-12)
    values = [mmd.paired(cloud(gauss(2, 1.0, 0.5), 60, 2 * i).x.numpy(), cloud(gauss(2), 60, 2 * i + 1).x.numpy(), 1.5).value for i in range(200)]
    error = 5 * np.std(values) / np.sqrt(200)  # 5 sigma: 6e-7
    assert abs(np.mean(values) - mmd_of(2, 1.0, 0.5, 1.5) ** 2) < error < 0.15 * mmd_of(2, 1.0, 0.5, 1.5) ** 2


def mmd_of(d: int, shift: float, variance: float, width: float) -> float:
    """Between N(shift, variance I) and N(0, I): ``E k(X, Y) = (l^2/(l^2+v))^(d/2) exp(-|m|^2/(2 (l^2+v)))``."""

    def mean(v: float, m: float) -> float:
        return float((width**2 / (width**2 + v)) ** (d / 2) * np.exp(-m * m / (2 * (width**2 + v))))

    return float(np.sqrt(max(0.0, mean(2 * variance, 0) + mean(2, 0) - 2 * mean(1 + variance, shift))))


def test_mmd() -> None:
    checks_mmd()


def test_quantiles_of_a_density_on_the_line() -> None:
    levels = np.array([1e-3, 0.1, 0.5, 0.9])
    quantiles, error = sampling.line_quantiles(Gaussian(1.0, 4.0), levels)
    assert quantiles == pytest.approx(1 + 2 * special.ndtri(levels), abs=1e-4)
    assert 0 < error < 1e-5
    mixture = GaussianMixture([0.3, 0.7], [-4.0, 3.0], [0.25, 1.0])
    quantiles, error = sampling.line_quantiles(mixture, levels)
    assert 0.3 * special.ndtr((quantiles + 4) / 0.5) + 0.7 * special.ndtr(quantiles - 3) == pytest.approx(levels, abs=2 * error + 1e-7)
    with pytest.raises(Unsupported, match="do not resolve"):
        sampling.line_quantiles(GaussianMixture([0.5, 0.5], [-1e4, 1e4], 1e-2), levels)


def checks_moments() -> None:
    """Closed forms: d = 1 by hand, sqrt(2 KL) for near Gaussians, invariance, and the sample covariance's n - 1."""
    p, q = Normal(np.array([2.0]), np.array([[8.0]])), Normal(np.array([1.0]), np.array([[4.0]]))
    assert MomentError("mean").normal(p, q).value == pytest.approx(0.5, rel=1e-14)
    assert MomentError("covariance").normal(p, q).value == pytest.approx(1 / np.sqrt(2), rel=1e-14)
    assert MomentError().normal(p, q).value == pytest.approx(np.sqrt(0.25 + 0.5), rel=1e-14)
    base = Normal(np.array([1.0, -1.0]), np.array([[2.0, 0.7], [0.7, 1.0]]))
    near = Normal(base.mean + 1e-5, base.cov + 1e-5 * np.array([[1.0, -0.5], [-0.5, 2.0]]))
    assert MomentError().normal(near, base).value == pytest.approx(np.sqrt(2 * KL().normal(near, base).value), rel=1e-4)
    # three points on the line: variance 1 over n - 1, and 2/3 over n
    three = Particles(torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64))
    assert MomentError().sampled(three, standard(1)).value == 0.0
    assert MomentError("covariance").sampled(three, Gaussian(0.0, 2.0)).value == pytest.approx(0.5 / np.sqrt(2), rel=1e-14)


def test_moments() -> None:
    checks_moments()
    p, q = gauss(1, 0.4, 0.7), gauss(1, -0.2, 1.3)
    mesh = Mesh((-12.0,), (12.0,), 401)
    for moment in ("both", "mean", "covariance"):
        m = MomentError(moment)  # type: ignore[arg-type]
        estimate, truth = m.grid(Grid.of_normal(p, mesh), Grid.of_normal(q, mesh)), m.normal(p, q)
        assert estimate.lower <= truth.value <= estimate.upper
        assert abs(estimate.value - truth.value) < 1e-10
        assert estimate.upper - estimate.lower < 1e-8
        assert m.normal(q, q).value == m.normal(q, q).upper == 0.0
    with pytest.raises(InvalidInput, match="singular"):
        MomentError().normal(p, Normal(np.zeros(1), np.zeros((1, 1))))
    with pytest.raises(InvalidInput, match="moment must be"):
        MomentError("median")  # type: ignore[arg-type]


# Means, floors and power, on Gaussians.

#: Metrics, and the dimensions in which they are checked.
CASES: list[tuple[Metric, tuple[int, ...]]] = [
    (KL(), (1, 2, 5, 12)),
    (Renyi(0.5), (1, 2, 5)),
    (Renyi(2.0), (1, 2, 5)),
    (Chi2(), (1, 2)),
    (TV(), (1, 2, 5)),
    (ClassifierTV(), (2,)),
    (MomentError(), (1, 2, 5)),
    (MomentError("mean"), (2,)),
    (MomentError("covariance"), (2,)),
    (KSD(), (1, 2, 5)),
    (MMD(1.5), (1, 2, 5)),
]
PAIRS = [(m, d) for m, ds in CASES for d in ds]


@cache
def truth(metric: Metric, d: int, shift: float, variance: float) -> float:
    """What the metric is between the two Gaussians: closed forms, for KSD a large sample (deviation about 1 %)."""
    p, q = gauss(d, shift, variance), gauss(d)
    match metric:
        case ClassifierTV():
            return TV().normal(p, q).value
        case MMD():
            return mmd_of(d, shift, variance, metric.bandwidth or 0.0)
        case KSD():
            x = cloud(p, 4000, 77).x.numpy()
            return 0.0 if (shift, variance) == (0.0, 1.0) else float(np.sqrt(ksd.stein(x, -x, metric.scale).value))
    return metric.normal(p, q).value


def checks_null(metric: Metric, d: int) -> None:
    """Exact draws: the interval holds 0 (misses inside their binomial band), and the mean score is about the floor."""
    estimates = [metric(cloud(gauss(d), 300, i), standard(d)) for i in range(60)]
    floor = float(np.mean([e.floor for e in estimates]))
    assert sum(e.lower > 0 for e in estimates) <= stats.binom.isf(RATE, 60, 0.01)
    assert np.mean([e.value for e in estimates]) < 1.5 * floor
    if not isinstance(metric, (KL, Renyi, Chi2)):  # theirs may be negative, and clipped: see `checks_raw`
        assert np.mean([e.value for e in estimates]) > 0.2 * floor
    assert all(0 <= e.lower <= e.value <= e.upper for e in estimates)


def checks_apart(metric: Metric, d: int) -> None:
    """N(1, 0.6 I) against N(0, I): values near the truth, or not above it where the side is lower; far above the floor."""
    value = truth(metric, d, 1.0, 0.6)
    estimates = [metric(cloud(gauss(d, 1.0, 0.6), 1000, i), standard(d)) for i in range(20)]
    mean, floor = float(np.mean([e.value for e in estimates])), estimates[0].floor
    spread = float(np.std([e.value for e in estimates]))
    assert mean < value + floor + 5 * spread / np.sqrt(20)
    # along the potential alone a shift and a contraction cancel in part
    share = 0.2 if isinstance(metric, TV) and d > 1 else 0.6 if estimates[0].side == "lower" else 1.0
    assert mean > share * value - 1.2 * floor - 5 * spread / np.sqrt(20)
    assert mean > (1.2 if share == 0.2 else 2) * floor
    assert all(e.lower <= value for e in estimates)
    if estimates[0].side == "exact":
        assert all(e.upper >= value for e in estimates)
        assert estimates[0].upper - estimates[0].lower < value + 4 * floor


CHECKS: list[Callable[[Metric, int], None]] = [checks_null, checks_apart]


def checks_raw(d: int) -> None:
    """The divergences themselves, before clipping and before exact draws are put beside them: 0 within 5 deviations of a mean
    over 40 samples (1e-6) and a bias of 0.03; the deviation that goes with them is no less than what is seen."""
    target = standard(d)
    known = [
        neighbours.against_density(cloud(gauss(d), 500, i), target, 4, neighbours.log_normalizer(cloud(gauss(d), 9), target, "kl").value)
        for i in range(40)
    ]
    for measured in ([k.kl() for k in known], *([k.renyi(a, np.inf, 1.0, 1) for k in known] for a in (0.5, 1.5, 2.0))):
        values = np.array([m.value for m in measured])
        assert abs(values.mean()) < 0.03 + 5 * values.std() / np.sqrt(40)
        assert np.mean([m.deviation for m in measured]) > 0.75 * values.std()


@pytest.mark.parametrize("d", [1, 2])
def test_raw_divergences(d: int) -> None:
    checks_raw(d)


@pytest.mark.parametrize("metric, d", PAIRS, ids=label)
@pytest.mark.parametrize("check", CHECKS, ids=label)
def test_on_gaussians(metric: Metric, d: int, check: Callable[[Metric, int], None]) -> None:
    check(metric, d)


def coverage(metric: Metric, d: int, shift: float, variance: float, n: int, repetitions: int) -> None:
    """Misses of the 99 % interval stay inside their binomial band at 1e-6; an interval for a lower value may miss above."""
    value = truth(metric, d, shift, variance)
    slack = 0.01 * value if isinstance(metric, KSD) else 0.0
    estimates = [metric(cloud(gauss(d, shift, variance), n, i), standard(d)) for i in range(repetitions)]
    below = sum(e.lower > value + slack for e in estimates)
    above = sum(e.upper < value - slack for e in estimates if e.side == "exact")
    assert below + above <= stats.binom.isf(RATE, repetitions, 1 - sampling.LEVEL), f"{below} above, {above} below the truth {value}"


@pytest.mark.parametrize("metric, d", [(m, d) for m, d in PAIRS if d == 2 and not isinstance(m, ClassifierTV)], ids=label)
def test_coverage(metric: Metric, d: int) -> None:
    coverage(metric, d, 0.5, 1.3, 200, 200)


@pytest.mark.full
@pytest.mark.parametrize("metric, d", PAIRS, ids=label)
@pytest.mark.parametrize("shift, variance, n", [(0.0, 1.0, 400), (0.5, 1.3, 400), (0.0, 0.5, 400), (1.0, 1.0, 800)])
def test_coverage_everywhere(metric: Metric, d: int, shift: float, variance: float, n: int) -> None:
    coverage(metric, d, shift, variance, n, 200)


@pytest.mark.parametrize("d", [1, 2])
def test_kl_and_renyi_of_a_mixture_by_quadrature(d: int) -> None:
    """A two-mode law against a Gaussian and the reverse: KL inside its interval, Renyi not above its value."""
    mixture = GaussianMixture.two_modes(3.0, dim=d, variance=0.5, weight=0.3)
    wide = Gaussian(np.zeros(d), 3.0)
    axis, h = np.linspace(-14, 14, 20_001 if d == 1 else 351, retstep=True)
    x = torch.as_tensor(np.stack([g.ravel() for g in np.meshgrid(*[axis] * d, indexing="ij")], 1))
    logs = {t: -t.potential(x).numpy() - (t.log_normalizer or 0.0) for t in (mixture, wide)}
    for p, q in ((mixture, wide), (wide, mixture)):
        u, v = logs[p], logs[q]
        exact = {
            KL(): float((np.exp(u) * (u - v)).sum() * h**d),
            **{Renyi(a): float(np.log(np.exp(a * u + (1 - a) * v).sum() * h**d) / (a - 1)) for a in (0.5, 0.9)},
        }
        for metric, value in exact.items():
            estimates = [metric(Particles.of_target(p, 1000, i, "law"), q) for i in range(20)]
            assert all(e.lower <= value for e in estimates)
            mean = float(np.mean([e.value for e in estimates]))
            if isinstance(metric, KL):
                assert all(value <= e.upper for e in estimates)
                assert abs(mean - value) < 0.05 * value + 0.02
            assert 2 * estimates[0].floor < mean


@pytest.mark.parametrize("d, n, worst", [(1, 1000, 0.01), (2, 1000, 0.03), (5, 1000, 0.1), (10, 1000, 0.2), (20, 1000, 1.5)])
def test_the_bias_of_kl_that_the_docs_state(d: int, n: int, worst: float) -> None:
    """Raw values on exact draws; with the bias of exact draws taken off, N(1/2, 1.3 I) is right to 0.05 in any d."""
    target, law = standard(d), gauss(d, 0.5, 1.3)

    def raw(p: Particles) -> float:
        return neighbours.against_density(p, target, neighbours.K, target.log_normalizer).kl().value

    zero, apart = (np.mean([raw(cloud(p, n, 20 * j + i)) for i in range(10)]) for j, p in enumerate((gauss(d), law)))
    assert abs(zero) < worst
    assert apart - zero == pytest.approx(KL().normal(law, gauss(d)).value, abs=0.05)


def test_an_affine_change_of_coordinates_changes_nothing() -> None:
    a = np.array([[3.0, 0.0], [50.0, 1e-3]])
    p = cloud(gauss(2, 1.0, 0.6), 500, 3)
    straight = KL()(p, standard(2))
    bent = KL()(Particles(p.x @ torch.as_tensor(a).T + 7.0, p.seed), Gaussian(np.full(2, 7.0), a @ a.T))
    assert bent.value == pytest.approx(straight.value, abs=1e-6)
    assert bent.upper == pytest.approx(straight.upper, abs=1e-6)


def parabola(d: int, width: float, n: int, seed: int) -> Particles:
    """``(x_1, x_1^2 - 1 + width z, ...)``: its log density is known, and its entropy is the Gaussian's plus log(width)."""
    x = Stream("parabola", seed).normal((n, d))
    x[:, 1] = width * x[:, 1] + x[:, 0] ** 2 - 1
    return Particles(x, seed)


def checks_fine_structure() -> None:
    """KL is a lower value where the law is narrower than the distances between its points, an exact one on Gaussians."""
    # E V = (1 + w^2 + E (x^2 - 1)^2 + d - 2) / 2 and the entropy's d/2 + log w, with a closed form for KL
    cases: list[tuple[int, Callable[[int], Particles], float]] = [
        (d, lambda i, d=d, w=w: parabola(d, w, 1000, i), (w * w + 2 - 1) / 2 - np.log(w))  # type: ignore[misc]
        for d, w in ((2, 0.01), (5, 0.1))
    ]
    modes = [[3.0 * (i == j) for j in range(10)] for i in range(5)]
    clusters = GaussianMixture([0.2] * 5, modes, 0.01)
    # the modes are 42 widths apart: entropy log 5 + 5 log(2 pi e / 100)
    exact = (10 * 0.01 + 9 + 10 * np.log(2 * np.pi)) / 2 - np.log(5) - 5 * np.log(2 * np.pi * np.e / 100)
    cases.append((10, lambda i: Particles.of_target(clusters, 1000, i, "law"), exact))
    for d, law, value in cases:
        for i in range(5):
            estimate = KL()(law(i), standard(d))
            assert estimate.side == "lower"
            assert estimate.lower < value
            assert d == 2 or estimate.upper < value  # the reason
    sides = [KL()(cloud(gauss(d, 1.0, 0.5), 500, i), standard(d)).side for d in (1, 2, 5, 10) for i in range(25)]
    # 99 % each: at most the binomial's 1e-6 quantile of 100
    assert sides.count("lower") <= stats.binom.isf(RATE, 100, 0.01)


def test_kl_does_not_confirm_what_it_does_not_resolve() -> None:
    checks_fine_structure()
    far = KL().between(cloud(gauss(1, 10.0), 400, 1), cloud(gauss(1), 800, 2))
    assert far.side == "lower"
    assert far.lower < 50.0


def test_two_samples() -> None:
    """Without any density: KL and TV on the line, KL in the plane, MMD anywhere; the rest is refused."""
    for d in (1, 2):
        p = gauss(d, 1.0, 0.6)
        value = KL().normal(p, gauss(d)).value
        estimates = [KL().between(cloud(p, 400, 2 * i), cloud(gauss(d), 800, 2 * i + 1)) for i in range(60)]
        assert sum(not e.lower <= value <= e.upper for e in estimates) <= stats.binom.isf(RATE, 60, 0.01)
        assert np.mean([e.value for e in estimates]) > 2 * np.mean([e.floor for e in estimates])
        assert np.mean([e.value for e in estimates]) == pytest.approx(value, rel=0.25)
    estimates = [TV().between(cloud(gauss(1, 1.0), 400, 2 * i), cloud(gauss(1), 800, 2 * i + 1)) for i in range(60)]
    value = TV().normal(gauss(1, 1.0), gauss(1)).value
    assert all(e.lower <= value for e in estimates)
    assert np.mean([e.value for e in estimates]) == pytest.approx(value, abs=0.05)
    null = [TV().between(cloud(gauss(1), 400, 2 * i), cloud(gauss(1), 800, 2 * i + 1)) for i in range(100)]
    assert np.mean([e.value for e in null]) == pytest.approx(np.mean([e.floor for e in null]), rel=0.1)
    three = cloud(gauss(3), 40, 1), cloud(gauss(3), 80, 2)
    for metric in (KL(), TV(), Renyi(2.0), Chi2(), ReverseKL()):
        with pytest.raises(Unsupported):
            metric.between(*three)


def test_without_a_normaliser() -> None:
    """Exact draws stand in for it, and neither is a refusal in one line; a normaliser alone is enough for KL."""
    p = cloud(gauss(2, 1.0, 0.6), 1000, 5)
    value = KL().normal(gauss(2, 1.0, 0.6), gauss(2)).value
    for target in (WithDraws(), Normalised()):
        estimate = KL()(p, target)
        assert estimate.lower <= value <= estimate.upper
        assert estimate.value == pytest.approx(value, abs=0.15)
        assert estimate.floor > 0
    assert Renyi(0.5)(p, WithDraws()).value == pytest.approx(Renyi(0.5).normal(gauss(2, 1.0, 0.6), gauss(2)).value, abs=0.15)
    for metric in (KL(), Renyi(2.0), Chi2(), TV(), ClassifierTV(), MMD(), MomentError(), ModeWeightError()):
        with pytest.raises(Unsupported) as caught:
            metric(p, Unnormalised())
        assert "\n" not in str(caught.value)
    # the score is all that KSD needs: the floor is then the wild bootstrap's, on the law itself
    assert KSD()(p, Unnormalised()).value == KSD()(p, WithDraws()).value
    assert KSD()(p, Unnormalised()).floor > KSD()(p, WithDraws()).floor


def test_tv_floor_is_exact_and_the_interval_valid_at_any_size() -> None:
    """d = 1: the predicted floor against 1000 exact samples; n = 1 is allowed and says nothing."""
    target = DoubleWell()
    values = [TV()(Particles.of_target(target, 50, i), target) for i in range(1000)]
    scores = [e.value for e in values]
    assert abs(np.mean(scores) - values[0].floor) < 5 * np.std(scores) / np.sqrt(1000) < 0.05 * values[0].floor
    assert sum(e.lower > 0 for e in values) <= stats.binom.isf(RATE, 1000, 0.01)
    one = TV()(cloud(gauss(1), 1), standard(1))
    assert (one.lower, one.upper) == (0.0, 1.0)


def test_a_law_that_binning_hides_is_only_bounded_from_below() -> None:
    """Points spread evenly over the bins, alternately left and right in them: far in TV, and the side says lower."""
    comb = Particles(torch.as_tensor(special.ndtri((np.arange(20_000) // 4 * 4 + 0.5) / 20_000))[:, None])
    estimate = TV()(comb, standard(1))
    assert estimate.value < 0.01
    assert estimate.side == "lower"


# Planted bugs.


def loose_neighbours(k: int) -> Callable[..., Any]:
    """Each neighbour is the one k further on."""
    true = neighbours.nearest

    def planted(x: np.ndarray, y: np.ndarray, j: int, itself: bool = False) -> tuple[np.ndarray, np.ndarray]:
        columns = np.maximum(np.arange(j) + k, 0)
        return tuple(a[:, columns] for a in true(x, y, j + max(k, 0), itself))  # type: ignore[return-value]

    return planted


def with_diagonal(n: int, rows: Callable[[int, int], np.ndarray]) -> sampling.Quadratic:
    true = sampling.quadratic(n, rows)
    return true._replace(value=(true.value * (n - 1) + float(np.mean(np.diagonal(rows(0, n))))) / n)


def without_trace(x: np.ndarray, s: np.ndarray, c: float) -> sampling.Quadratic:
    def rows(lo: int, hi: int) -> np.ndarray:
        r2 = sampling.squared_distances(x[lo:hi], x)
        u = c * c + r2
        pull = ((s[lo:hi, None] - s[None, :]) * (x[lo:hi, None] - x[None, :])).sum(2)
        return np.asarray((s[lo:hi] @ s.T + pull / u) / np.sqrt(u))

    return sampling.quadratic(len(x), rows)


def doubled(counts: np.ndarray, probabilities: np.ndarray, error: float = 0.0) -> Estimate:
    e = sampling.frequencies(counts, probabilities, error)
    return Estimate(min(1.0, 2 * e.value), min(1.0, 2 * e.lower), 1.0, e.floor, e.side)


def biased(cov: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda x: cov(x, bias=True)


@dataclass(frozen=True)
class Memorised(ClassifierTV):
    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        x, y = p.x.numpy()[::2], q.x.numpy()[::2]
        inside = classifier_tv.learn(x, y)
        return classifier_tv.gap(inside(x), inside(y))


STEIN = ksd.stein
MUTANTS: dict[str, tuple[tuple[Any, str, Any] | None, Callable[[], None]]] = {
    "k off by one": ((neighbours, "nearest", loose_neighbours(1)), lambda: checks_raw(1)),
    "the point is its own neighbour": ((neighbours, "nearest", loose_neighbours(-1)), lambda: checks_raw(2)),
    "k off by one, by sorting": ((neighbours, "nearest", loose_neighbours(1)), checks_neighbours),
    "no volume of the ball": ((neighbours, "log_ball", lambda d: 0.0), lambda: checks_raw(1)),
    "no normaliser": ((neighbours, "log_normalizer", lambda p, target, name: neighbours.Measured(0.0, 0.0)), lambda: checks_raw(2)),
    "n + 1 for n": ((neighbours, "log_mean", lambda k, n: special.psi(k) - special.psi(n + 1)), checks_ball_masses),
    "log n for psi(n)": ((neighbours, "log_mean", lambda k, n: special.psi(k) - np.log(n)), checks_ball_masses),
    "no bias constant in renyi": ((neighbours, "log_power", lambda k, n, s: -s * np.log(n)), lambda: checks_raw(1)),
    "constant of 1 - s": (
        (neighbours, "log_power", lambda k, n, s, true=neighbours.log_power: true(k, n, -s)),
        lambda: checks_raw(1),
    ),
    "wide balls not looked at": ((neighbours.Density, "resolves", lambda law, zero: True), checks_fine_structure),
    "diagonal in mmd": ((mmd, "quadratic", with_diagonal), checks_mmd),
    "diagonal in ksd": ((ksd, "quadratic", with_diagonal), checks_stein),
    "no trace": ((ksd, "stein", without_trace), checks_stein),
    "no trace, on exact draws": ((ksd, "stein", without_trace), lambda: checks_null(KSD(), 2)),
    "score of the wrong sign": ((ksd, "stein", lambda x, s, c: STEIN(x, -s, c)), lambda: checks_null(KSD(), 2)),
    "no half": ((tv, "frequencies", doubled), lambda: checks_null(TV(), 1)),
    "no half, apart": ((tv, "frequencies", doubled), lambda: checks_apart(TV(), 1)),
    "train is test": (None, lambda: checks_null(Memorised(), 2)),
    "covariance over n": ((moment_error.np, "cov", biased(np.cov)), checks_moments),
    "the whole kernel matrix at once": ((sampling, "ROWS", 1000), checks_quadratic),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, check = MUTANTS[name]
    if patch is not None:
        monkeypatch.setattr(*patch)
    with pytest.raises(AssertionError):
        check()


# Weights of modes.


def test_mode_weights() -> None:
    """Well apart, the masses of the cells are the weights; overlapping, they are measured, and the error is in the interval."""
    far = GaussianMixture([0.2, 0.3, 0.5], [[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]], [1.0, [1.0, 2.0], 0.5])
    masses, error = mode_weight_error.cell_masses(far, 0)
    assert masses.tolist() == far.weights.tolist()
    assert error < 1e-10
    values = [ModeWeightError()(Particles.of_target(far, 60, i), far) for i in range(1000)]
    scores = [e.value for e in values]
    assert abs(np.mean(scores) - values[0].floor) < 5 * np.std(scores) / np.sqrt(1000)
    assert sum(e.lower > 0 for e in values) <= stats.binom.isf(RATE, 1000, 0.01)
    missed = ModeWeightError()(Particles(far.means[torch.randint(0, 2, (500,), generator=torch.Generator().manual_seed(0))]), far)
    assert missed.lower <= 0.5 <= missed.upper
    assert missed.lower > 0.35
    assert missed.side == "lower"
    near = GaussianMixture.two_modes(2.0, weight=0.3)
    masses, error = mode_weight_error.cell_masses(near, 0)
    edge = np.log(0.3 / 0.7) / 2  # where 0.3 N(-1, 1) = 0.7 N(1, 1)
    assert abs(masses[0] - (0.3 * special.ndtr(edge + 1) + 0.7 * special.ndtr(edge - 1))) < error < 0.01
    with pytest.raises(Unsupported, match="gaussian_mixture"):
        ModeWeightError()(cloud(gauss(1), 10), standard(1))


def test_cells_agree_with_the_targets_own_components() -> None:
    target = GaussianMixture([0.4, 0.6], [[0.0, 1.0], [1.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]], [0.3, 2.0]])
    x = Particles.of_target(target, 500, 1).x
    assert mode_weight_error.cells(x.numpy(), target).tolist() == np.bincount(target._components(x)[0].argmax(1).numpy(), minlength=2).tolist()


# Chains.


def autoregressive(rho: float, chains: int, draws: int, d: int = 1, seed: int = 0) -> list[Particles]:
    """Stationary AR(1) chains; the second coordinate, where there is one, is independent noise."""
    z = Stream("ar", seed).normal((draws, chains, d)).numpy()
    coefficient = np.array([rho] + [0.0] * (d - 1))
    x = [z[0]]
    for step in z[1:]:
        x.append(coefficient * x[-1] + np.sqrt(1 - coefficient**2) * step)
    return [Particles(torch.as_tensor(v), seed) for v in x]


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, -0.4])
def test_ess_of_autoregressive_chains(rho: float) -> None:
    """100 chains of 400 draws: M N (1 - rho)/(1 + rho), the smaller of two coordinates, within 10 % and the interval."""
    laws = autoregressive(rho, 100, 400, d=2)
    estimate = ESS().at(laws, len(laws) - 1, standard(2))
    expected = 40_000 * min(1.0, (1 - rho) / (1 + rho))
    assert estimate.value == pytest.approx(expected, rel=0.1)
    assert estimate.lower <= expected <= estimate.upper
    assert estimate.upper - estimate.lower < 0.7 * expected
    short = ESS().at(laws, 49, standard(2))  # chains of 50 draws read high, and the interval says so
    assert short.lower <= expected / 8 <= short.upper
    assert estimate.floor == 40_000
    early = ESS().at(laws, 9, standard(2))
    assert early.floor == 1000
    assert early.lower <= expected / 40 <= early.upper


def test_r_hat_sees_chains_that_disagree_and_chains_that_drift() -> None:
    laws = autoregressive(0.3, 50, 100, d=2)
    fine = RHat().at(laws, 99, standard(2))
    assert 0.99 < fine.lower <= fine.value <= fine.upper < 1.03
    assert 0.99 < fine.floor < 1.02
    offset = torch.zeros((50, 2), dtype=torch.float64)
    offset[:25, 1] = 3.0
    apart = RHat().at([Particles(law.x + offset) for law in laws], 99, standard(2))
    assert apart.lower > 1.5
    drift = RHat().at([Particles(law.x + 0.02 * i) for i, law in enumerate(laws)], 99, standard(2))
    assert drift.lower > 1.05
    scale = torch.ones((50, 2), dtype=torch.float64)
    scale[:25] = 4.0
    assert RHat().at([Particles(law.x * scale) for law in laws], 99, standard(2)).lower > 1.05
    few = RHat().at([Particles(law.x[:10]) for law in laws], 99, standard(2))
    assert (few.lower, few.upper) == (0.0, np.inf)
    stuck = [Particles(torch.cat([law.x[:5], laws[0].x[5:]])) for law in laws]  # whole groups stand still
    estimate = RHat().at(stuck, 99, standard(2))
    assert estimate.value > 3
    assert (estimate.lower, estimate.upper) == (0.0, np.inf)


@pytest.mark.parametrize("metric", [ESS(), RHat()], ids=label)
def test_chains_that_are_refused(metric: Metric) -> None:
    laws: list[Any] = list(autoregressive(0.5, 20, 10))
    target, least = standard(1), 4 if isinstance(metric, RHat) else 10
    with pytest.raises(Unsupported, match="trajectory"):
        metric(laws[0], target)
    with pytest.raises(Unsupported, match=f"at least {least} recorded laws, got {least - 1}"):
        metric.at(laws, least - 2, target)
    assert np.isfinite(metric.at(laws, least - 1, target).value)
    with pytest.raises(Unsupported, match="none does in coordinate 0"):
        metric.at([laws[0]] * 10, 9, target)
    with pytest.raises(Unsupported, match="same particles"):
        metric.at([*laws[:9], Particles(laws[9].x[:10])], 9, target)
    with pytest.raises(Unsupported, match="needs particles"):
        metric.at([gauss(1)] * 10, 9, target)
    with pytest.raises(Diverged):
        metric.at([*laws[:9], Particles(laws[9].x * np.nan)], 9, target)
    many = autoregressive(0.5, 1500, 10)
    assert ESS().at(many, 9, target).floor == 10_000


def test_r_hat_of_draws_that_it_cannot_rank() -> None:
    """Five draws that differ in the middle one alone, which no half has; and a single chain."""
    blip = [Particles(torch.full((20, 1), float(i == 2), dtype=torch.float64)) for i in range(5)]
    with pytest.raises(Unsupported, match="halves of chains that differ somewhere, and none do in coordinate 0"):
        RHat().at(blip, 4, standard(1))
    with pytest.raises(Unsupported, match="at least two particles, got 1"):
        RHat().at([Particles(law.x[:1]) for law in blip], 4, standard(1))


# Bad input.

ALL: list[Metric] = [KL(), Renyi(0.5), Renyi(2.0), Chi2(), TV(), ClassifierTV(), KSD(), MMD(), MomentError()]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e150, -1e300])
@pytest.mark.parametrize("metric", [*ALL, ModeWeightError()], ids=label)
def test_points_that_are_no_points(metric: Metric, bad: float) -> None:
    x = cloud(gauss(2), 60, 1).x.clone()
    x[7, 1] = bad
    target = GaussianMixture.two_modes(4.0, dim=2)
    with pytest.raises(Diverged, match="1 of 60 are not"):
        metric(Particles(x), target)
    with pytest.raises(InvalidInput, match="one dimension"):
        metric(cloud(gauss(3), 60), target)


@pytest.mark.parametrize("metric", ALL, ids=label)
def test_few_particles(metric: Metric) -> None:
    """Any size gives an estimate without NaN or one line."""
    for n in range(1, 12):
        try:
            estimate = metric(cloud(gauss(2), n, n), standard(2))
        except MixrateError as error:
            line = str(error)
        else:
            line = ""
            assert 0 <= estimate.lower <= estimate.value <= estimate.upper
        assert "\n" not in line
        assert not line or n < 10
    with pytest.raises(InvalidInput, match="N >= 1"):
        metric(Particles(torch.zeros((0, 2))), standard(2))


def test_points_that_coincide() -> None:
    """Divergences have no density to work with and say how many are distinct; the others count points as they are."""
    x = cloud(gauss(2), 100, 1).x
    twice = Particles(torch.cat([x, x[:40]]))
    for metric in (KL(), Renyi(0.5), Chi2()):
        with pytest.raises(InvalidInput, match="100 distinct of 140"):
            metric(twice, standard(2))
        with pytest.raises(InvalidInput, match="hyperplane"):
            metric(Particles(x[:, :1] @ torch.ones((1, 2), dtype=torch.float64)), standard(2))
    with pytest.raises(InvalidInput, match="distinct"):
        KL().particles(Particles(x), Particles(torch.cat([x[:5], x[:5] + 1])), Particles(x + 1))
    point = Particles(torch.zeros((100, 2), dtype=torch.float64))
    for metric in (TV(), ClassifierTV(), KSD(), MMD(), MomentError()):
        for law in (twice, point):
            estimate = metric(law, standard(2))
            assert 0 <= estimate.lower <= estimate.value <= estimate.upper < np.inf
    with pytest.raises(InvalidInput, match="median distance"):
        MMD().particles(twice, twice, point)
    with pytest.raises(InvalidInput, match="singular"):
        MomentError().particles(twice, point, point)


def test_samples_of_different_sizes() -> None:
    p, q, floor = cloud(gauss(1, 1.0), 150, 1), cloud(gauss(1), 400, 2), cloud(gauss(1), 150, 3)
    for metric in (KL(), TV(), ClassifierTV(), MMD(), MomentError()):
        estimate = metric.particles(p, q, floor)
        assert estimate.lower <= estimate.value <= estimate.upper
        assert estimate.value > estimate.floor


@pytest.mark.parametrize("make", [lambda: KSD(0.0), lambda: KSD(np.nan), lambda: MMD(-1.0), lambda: MMD(np.inf)])
def test_parameters_out_of_range(make: Callable[[], Metric]) -> None:
    with pytest.raises(InvalidInput, match="must be positive"):
        make()


def test_outside_the_support_kl_is_infinite() -> None:
    class Half(Normalised):
        def potential(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x[:, 0] > 0, super().potential(x), torch.inf)

    estimate = KL()(cloud(gauss(2), 50, 1), Half())
    assert estimate.value == estimate.lower == estimate.upper == np.inf


def test_reverse_kl_is_refused() -> None:
    with pytest.raises(Unsupported, match="density where it has no particles"):
        ReverseKL()(cloud(gauss(1), 50), standard(1))


def test_estimates_repeat_and_do_not_depend_on_precision() -> None:
    p = cloud(gauss(2, 1.0), 300, 4)
    for metric in ALL:
        assert metric(p, standard(2)) == metric(p, standard(2))
    assert KL()(Particles(p.x.float(), p.seed), standard(2)).value == pytest.approx(KL()(p, standard(2)).value, abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e7, 1e7, allow_nan=False), min_size=1, max_size=40), st.sampled_from([TV(), KSD(), MomentError(), KL(), MMD()]))
def test_any_points_give_a_number_or_a_line(xs: list[float], metric: Metric) -> None:
    try:
        estimate = metric(Particles(torch.tensor(xs, dtype=torch.float64)[:, None]), standard(1))
    except MixrateError as error:
        line = str(error)
    else:
        line = ""
        assert 0 <= estimate.lower <= estimate.value <= estimate.upper
    assert "\n" not in line


@pytest.mark.full
def test_a_hundred_thousand_particles() -> None:
    """N = 1e5 in the plane: no n x n numbers, and an interval of the size that n promises."""
    estimate = KL()(cloud(gauss(2, 0.5), 100_000, 1), standard(2))
    assert estimate.lower <= 0.125 <= estimate.upper
    assert estimate.upper - estimate.lower < 0.04
