"""Distances between samples: certificates, closed forms, floors, coverage, bad input, and mutants that must be caught.

Statistical tests use fixed keys. The stated chance of a false alarm, had the keys been drawn anew, is 1e-6.
"""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import mixrate
from mixrate.errors import Diverged, InvalidInput, MixrateError, Unsupported
from mixrate.laws.normal import Normal
from mixrate.laws.particles import Particles
from mixrate.metrics import column_generation as generation
from mixrate.metrics import debiased_w2, gelbrich, pricing, sinkhorn, sliced_w2, transport
from mixrate.metrics.base import Metric
from mixrate.metrics.column_generation import Certified, column_generation
from mixrate.metrics.debiased_w2 import DebiasedW2
from mixrate.metrics.gelbrich import Gelbrich
from mixrate.metrics.sinkhorn import Sinkhorn
from mixrate.metrics.sliced_w2 import SlicedW2, directions, sliced
from mixrate.metrics.w2 import W2

METRICS: list[Metric] = [W2(), SlicedW2(40), Sinkhorn(0.5), DebiasedW2(), Gelbrich()]
FALSE_ALARM = 1e-6


def label(metric: object) -> str:
    return type(metric).__name__


def clouds(n: int, m: int, d: int, seed: int = 0, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Two samples whose laws differ in mean and in every variance."""
    random = np.random.default_rng(seed)
    x, y = random.standard_normal((n, d)), random.standard_normal((m, d)) * np.linspace(0.7, 1.5, d)
    y[:, 0] += shift
    return x, y


def squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray(((x[:, None] - y[None]) ** 2).sum(2))


def dense(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """(W2^2, potentials) by the dense simplex."""
    import ot

    cost, log = ot.emd2([], [], squares(x, y), numItermax=10_000_000, log=True)
    return float(cost), log["u"], log["v"]


def cloud(x: np.ndarray, seed: int = 0) -> Particles:
    return Particles(torch.as_tensor(np.asarray(x, float)), seed)


# Column generation.

Solver = Callable[[np.ndarray, np.ndarray, float], Certified]

SIZES = [(300, 300, 2), (301, 217, 2), (400, 100, 3), (350, 350, 5), (150, 260, 8), (260, 260, 30), (40, 50, 80), (2, 700, 2), (600, 1, 3)]


def checks_certificate(solve: Solver = column_generation) -> None:
    """Value, bound and potentials against the dense simplex and against every pair of points."""
    for n, m, d in SIZES:
        x, y = clouds(n, m, d)
        truth, f, g = dense(x, y)
        plan = solve(x, y, 0.0)
        assert abs(plan.value - truth) <= 1e-12 * truth, (n, m, d)
        assert plan.value * (1 - 1e-11) <= plan.bound <= plan.value
        assert plan.f.mean() + plan.g.mean() == pytest.approx(plan.value, rel=1e-11)
        assert (plan.f[:, None] + plan.g - squares(x, y)).max() <= 1e-10
        if n == m and d == 2:  # potentials of such a program are nearly unique, their mean aside
            assert plan.f.std() == pytest.approx(f.std(), rel=0.02)
            assert plan.g.std() == pytest.approx(g.std(), rel=0.02)


def checks_gap(solve: Solver = column_generation) -> None:
    """With a gap the two ends bracket the truth, are as close as asked, and the bound is that of feasible potentials."""
    for n, m, d in ((500, 500, 2), (400, 700, 6)):
        x, y = clouds(n, m, d)
        truth = dense(x, y)[0]
        for gap in (1e-3, 0.05, 0.5):
            plan = solve(x, y, gap)
            assert plan.bound - 1e-12 <= truth <= plan.value + 1e-12
            assert plan.value - plan.bound <= gap * plan.value
            assert plan.f.mean() + plan.g.mean() == pytest.approx(plan.bound, abs=1e-10)
            assert (plan.f[:, None] + plan.g - squares(x, y)).max() <= 1e-10


def checks_pricing(solve: Solver = column_generation) -> None:
    """The compiled pass against a table of all pairs, at widths on both sides of its blocks."""
    random = np.random.default_rng(1)
    for n, m, d, k in ((7, 1, 1, 1), (30, 511, 2, 5), (20, 513, 3, 3), (9, 1100, 4, 2), (5, 600, 7, 4), (3, 20, 9, 20)):
        x, y, u, v = random.standard_normal((n, d)), random.standard_normal((m, d)), random.standard_normal(n), random.standard_normal(m)
        table = squares(x, y) - u[:, None]
        reduced = table - v
        for limit in (np.inf, 0.0):
            chosen, worst, column = np.empty((n, k), np.int64), np.empty((n, k)), np.empty(m)
            pricing.price(x, np.ascontiguousarray(y.T), u, v, limit, chosen, worst, column)
            np.testing.assert_allclose(column, table.min(0), atol=1e-12)
            for i in range(n):
                best = np.sort(reduced[i])[:k]
                kept = chosen[i] >= 0
                np.testing.assert_allclose(np.sort(worst[i][kept]), best[best < limit], atol=1e-12)
                np.testing.assert_allclose(reduced[i, chosen[i][kept]], worst[i][kept], atol=1e-12)
                assert len(set(chosen[i][kept])) == kept.sum()


@pytest.mark.parametrize("check", [checks_certificate, checks_gap, checks_pricing], ids=lambda c: c.__name__)
def test_column_generation(check: Callable[..., None]) -> None:
    check()


DEGENERATE: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "two points, each many times": (np.ones((300, 2)), np.zeros((350, 2))),
    "one sample twice": (clouds(300, 1, 3)[0],) * 2,
    "twenty places": (np.repeat(clouds(20, 1, 2)[0], 20, 0), clouds(1, 300, 2)[1]),
    "twenty places each": (np.repeat(clouds(20, 1, 2)[0], 16, 0), np.repeat(clouds(1, 20, 2)[1], 16, 0)),
    "a line in the plane": (np.outer(np.arange(300.0), [1, 1]) / 300, np.outer(np.arange(350.0), [1, 1]) / 350),
    "lattices with ties": (np.argwhere(np.ones((18, 18))) / 18.0, np.argwhere(np.ones((18, 18))) / 18.0 + 0.01),
    "an outlier": (np.concatenate([clouds(300, 1, 2)[0] * 1e-3, [[1.0, 1.0]]]), clouds(1, 300, 2)[1] * 1e-3),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_samples(name: str) -> None:
    x, y = DEGENERATE[name]
    plan, truth = column_generation(x, y), dense(x, y)[0]
    assert plan.value == pytest.approx(truth, rel=1e-9, abs=1e-13)
    assert plan.value - plan.bound <= 1e-9 * plan.value + 1e-11


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 5), st.integers(0, 10**6), st.sampled_from([0.0, 1e-9, 1.0]))
def test_column_generation_on_random_samples(n: int, m: int, d: int, seed: int, scale: float) -> None:
    """Any sizes, with points rounded to a few places (ties), or nearly or quite equal."""
    x, y = (np.round(z, 1) for z in clouds(n, m, d, seed))
    y = x[:1] + scale * (y - x[:1])
    plan, truth = column_generation(x, y), dense(x, y)[0]
    assert plan.value == pytest.approx(truth, rel=1e-9, abs=1e-13)
    assert plan.bound <= plan.value


def test_no_table_of_all_pairs() -> None:
    """n^2 numbers would be 72 MB at n = 3000."""
    x, y = clouds(3000, 3000, 3)
    column_generation(*clouds(300, 300, 3))  # compiles
    tracemalloc.start()
    column_generation(x, y, 0.01)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15e6


def test_a_sparse_solver_that_stops_early_gives_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from ot.lp import emd_wrap

    real = emd_wrap.emd_c_sparse
    monkeypatch.setattr(emd_wrap, "emd_c_sparse", lambda *args: real(*args[:5], 3))
    with pytest.raises(MixrateError, match="did not converge on 300 x 310 points"):
        W2().particles(cloud(clouds(300, 1, 2)[0]), cloud(clouds(1, 310, 2)[1]), cloud(clouds(300, 1, 2)[0]))


def test_rounds_that_run_out_give_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "ROUNDS", 1)
    with pytest.raises(MixrateError, match="not certified after 1 rounds"):
        column_generation(*clouds(500, 500, 2))


# Planted bugs in the transport, and the check that must fail on each.


def restricted(x: np.ndarray, y: np.ndarray, gap: float) -> Certified:
    """The value of the restricted program taken for the dual bound: no c-transform."""
    plan = column_generation(x, y, gap)
    return plan._replace(bound=plan.value, g=plan.g + (plan.value - plan.f.mean() - plan.g.mean()))


def centred(x: np.ndarray, y: np.ndarray, gap: float) -> Certified:
    """Potentials of the centred samples taken for those of the samples."""
    plan, shift = column_generation(x, y, gap), x.mean(0) - y.mean(0)
    return plan._replace(f=plan.f - 2 * (x - x.mean(0)) @ shift, g=plan.g + 2 * (y - y.mean(0)) @ shift)


Pass = Callable[..., None]
real_price: Pass = pricing.price


def skipping(x: Any, yt: Any, u: Any, v: Any, limit: float, chosen: Any, worst: Any, column: Any) -> None:
    """A pass that never sees the last 40 columns."""
    m = max(1, yt.shape[1] - 40)
    real_price(x, np.ascontiguousarray(yt[:, :m]), u, v[:m], limit, chosen, worst, column[:m])
    column[m:] = v[m:]


def of_reduced_costs(x: Any, yt: Any, u: Any, v: Any, limit: float, chosen: Any, worst: Any, column: Any) -> None:
    """Column minima of the reduced costs, v left in."""
    real_price(x, yt, u, v, limit, chosen, worst, column)
    column -= v


@pytest.mark.parametrize("solve, check", [(restricted, checks_gap), (centred, checks_certificate)], ids=lambda f: f.__name__)
def test_a_wrong_certificate_is_caught(solve: Solver, check: Callable[[Solver], None]) -> None:
    with pytest.raises(AssertionError):
        check(solve)


@pytest.mark.parametrize(
    "bug, check", [(skipping, checks_certificate), (skipping, checks_pricing), (of_reduced_costs, checks_gap)], ids=lambda f: f.__name__
)
def test_a_wrong_pass_is_caught(monkeypatch: pytest.MonkeyPatch, bug: Pass, check: Callable[[], None]) -> None:
    monkeypatch.setattr(pricing, "price", bug)
    with pytest.raises((AssertionError, MixrateError)):
        check()


# The metrics, each against an independent route.


def triple(p: Normal, q: Normal, n: int, key: int) -> tuple[Particles, Particles, Particles]:
    """Independent samples of p, q and q."""
    return Particles.of_normal(p, n, 3 * key), Particles.of_normal(q, n, 3 * key + 1), Particles.of_normal(q, n, 3 * key + 2)


def isotropic(d: int, variance: float = 1.0, shift: float = 0.0) -> Normal:
    return Normal(np.full(d, shift / np.sqrt(d)), variance * np.eye(d))


def checks_w2(metric: Metric) -> None:
    """Order statistics on the line; the dense simplex elsewhere; both ends of a certificate inside the interval."""
    x, y = clouds(600, 900, 1, 5)
    pairs = np.repeat(np.sort(x[:, 0]), 3) - np.repeat(np.sort(y[:, 0]), 2)
    assert metric.particles(cloud(x), cloud(y), cloud(x)).value == pytest.approx(np.sqrt(np.mean(pairs**2)), rel=1e-12)
    for n, m, d in ((120, 90, 2), (300, 300, 3)):
        x, y = clouds(n, m, d)
        estimate = metric.particles(cloud(x), cloud(y), cloud(x[::-1] + 0.5))
        assert estimate.value == pytest.approx(np.sqrt(dense(x, y)[0]), rel=1e-10)
        assert estimate.floor == pytest.approx(np.sqrt(dense(x + 0.5, y)[0]), rel=1e-10)


def checks_sliced(metric: Metric) -> None:
    """POT on the same directions, and the closed form between multiples of one covariance."""
    import ot

    for n, m, d in ((500, 500, 4), (300, 470, 7)):
        x, y = clouds(n, m, d)
        estimate = metric.particles(cloud(x, 3), cloud(y), cloud(x))
        theta = directions(getattr(metric, "projections", 0), d, 3)
        assert estimate.value == pytest.approx(ot.sliced_wasserstein_distance(x, y, projections=theta.T), rel=1e-5)
    estimate = metric.particles(*triple(isotropic(6, 4.0, 1.0), isotropic(6), 3000, 1))
    assert estimate.value == pytest.approx(np.sqrt(1 / 6 + 1), rel=0.05)


def checks_sinkhorn(metric: Metric) -> None:
    """Quantiles stand for the laws: the closed form to the error of 600 points, 0 between equal samples, the limits of blur."""
    assert isinstance(metric, Sinkhorn)
    grid = np.asarray(stats.norm.ppf((np.arange(600) + 0.5) / 600))[:, None]
    x, y, b = 0.5 + 1.4 * grid, 0.8 * grid, metric.blur
    truth = metric.normal(Normal(np.array([0.5]), np.array([[1.96]])), Normal(np.zeros(1), np.array([[0.64]]))).value
    assert metric.particles(cloud(x), cloud(y), cloud(y)).value == pytest.approx(truth, rel=3e-3)
    assert truth == pytest.approx(np.sqrt(0.25 + _entropic(1.4, 0.8, b) - _entropic(1.4, 1.4, b) / 2 - _entropic(0.8, 0.8, b) / 2), rel=1e-6)
    equal = metric.particles(cloud(x), cloud(x[::-1].copy()), cloud(x))
    assert equal.value < 1e-3
    assert equal.floor < 1e-3
    pair = Normal(np.array([1.0, 2.0]), np.diag([2.0, 1.0])), Normal(np.zeros(2), np.array([[1.0, 0.3], [0.3, 0.5]]))
    assert Sinkhorn(1e-4).normal(*pair).value == pytest.approx(W2().normal(*pair).value, rel=1e-5)
    assert Sinkhorn(1e3).normal(*pair).value == pytest.approx(np.sqrt(5), rel=1e-3)


def _entropic(s: float, t: float, blur: float) -> float:
    """``min E(X - Y)^2 + 2 blur^2 KL`` of N(0, s^2), N(0, t^2): the plan is Gaussian with some correlation r, KL = -log(1 - r^2)/2."""
    r = np.linspace(0, 1, 2_000_001)[:-1]
    return float(np.min(s**2 + t**2 - 2 * r * s * t - blur**2 * np.log1p(-(r**2))))


def checks_debiased(metric: Metric) -> None:
    """The definition by the dense simplex; and where the map is x -> s x, ``E D = (s - 1)^2 (d - B/2)``, plainly below the plug-in."""
    x, y = clouds(240, 240, 4)
    a, b, c, e = x[:120], x[120:], y[:120], y[120:]
    square = np.mean([dense(u, v)[0] for u in (a, b) for v in (c, e)]) - 0.5 * (dense(a, b)[0] + dense(c, e)[0])
    assert metric.particles(cloud(x), cloud(y), cloud(y)).value == pytest.approx(np.sqrt(square), rel=1e-9)
    found = [metric.particles(*triple(isotropic(8, 1.0, 1.5), isotropic(8), 300, k)).value for k in range(12)]
    assert np.mean(found) == pytest.approx(1.5, abs=0.15)  # 5 deviations of the mean


def checks_gelbrich(metric: Metric) -> None:
    """W2 between Gaussians of the sample moments, singular ones included; known moments of a target."""
    for n, m, d in ((200, 300, 3), (6, 7, 10), (5, 1, 2)):
        x, y = clouds(n, m, d)
        laws = [Normal(z.mean(0), np.cov(z.T, bias=True).reshape(d, d) if len(z) > 1 else np.zeros((d, d))) for z in (x, y)]
        estimate = metric.particles(cloud(x), cloud(y), cloud(x))
        assert estimate.value == pytest.approx(W2().normal(*laws).value, rel=1e-6)
        assert estimate.side == "lower"
    target = mixrate.target("gaussian.ill_conditioned", dim=4, condition=7.0)
    mean, cov = (t.numpy() for t in target.moments)
    x = clouds(400, 1, 4)[0]
    law = Normal(x.mean(0), np.cov(x.T, bias=True))
    assert metric(cloud(x), target).value == pytest.approx(W2().normal(law, Normal(mean, cov)).value, rel=1e-9)


CHECKS: list[tuple[Metric, Callable[[Metric], None]]] = [
    (W2(), checks_w2),
    (W2(1e-9), checks_w2),
    (SlicedW2(300), checks_sliced),
    (Sinkhorn(1.5), checks_sinkhorn),
    (DebiasedW2(), checks_debiased),
    (Gelbrich(), checks_gelbrich),
]


@pytest.mark.parametrize("metric, check", CHECKS, ids=lambda x: getattr(x, "__name__", label(x)))
def test_agrees_with_another_route(metric: Metric, check: Callable[[Metric], None]) -> None:
    check(metric)


# Planted bugs in the metrics.


def unsorted(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    i, j, width = transport.quantile_pairs(len(x), len(y))
    x, y = np.random.default_rng(0).permutation(x), np.random.default_rng(1).permutation(y)
    return float(width @ (x[i] - y[j]) ** 2), x, y


def biased(x: np.ndarray, y: np.ndarray, own_q: np.ndarray, eps: float) -> tuple[float, float]:
    f, g = sinkhorn.potentials(x, y, eps)
    return float(f.mean() + g.mean()), float(f.var() / len(x) + g.var() / len(y))


def without_epsilon(x: np.ndarray, y: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    return real_potentials(x, y, eps / 2)


def without_half(x: np.ndarray, y: np.ndarray, gap: float) -> tuple[float, float, float]:
    value, s, upper = real_centred(x, y, gap)
    half = min(len(x), len(y)) // 2
    own = sum(transport.between(z[:half], z[half : 2 * half]).value for z in (x, y))
    return value - 0.5 * own, s, upper


def without_mean(p: Any, q: Any) -> tuple[float, float]:
    value, variance = real_squared(p, q)
    return value - float((p.mean - q.mean) @ (p.mean - q.mean)), variance


def without_root(x: np.ndarray, y: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return np.asarray(sliced(x, y, theta) ** 2)


def not_normalised(count: int, dim: int, seed: int) -> np.ndarray:
    return directions(count, dim, seed) * math.sqrt(dim)


real_potentials, real_centred, real_squared = sinkhorn.potentials, debiased_w2._centred, gelbrich._squared

METRIC_MUTANTS: list[tuple[Any, str, Callable[..., Any], Metric, Callable[[Metric], None]]] = [
    (transport, "_sorted", unsorted, W2(), checks_w2),
    (sinkhorn, "_divergence", biased, Sinkhorn(1.5), checks_sinkhorn),
    (sinkhorn, "potentials", without_epsilon, Sinkhorn(1.5), checks_sinkhorn),
    (debiased_w2, "_centred", without_half, DebiasedW2(), checks_debiased),
    (gelbrich, "_squared", without_mean, Gelbrich(), checks_gelbrich),
    (sliced_w2, "sliced", without_root, SlicedW2(300), checks_sliced),
    (sliced_w2, "directions", not_normalised, SlicedW2(300), checks_sliced),
]


@pytest.mark.parametrize("module, name, bug, metric, check", METRIC_MUTANTS, ids=lambda x: getattr(x, "__name__", None) or str(label(x)))
def test_a_planted_bug_is_caught(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, bug: Callable[..., Any], metric: Metric, check: Callable[[Metric], None]
) -> None:
    monkeypatch.setattr(module, name, bug)
    with pytest.raises(AssertionError):
        check(metric)


# Inequalities that hold for every pair of samples.


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 4), st.integers(0, 10**6))
def test_lower_bounds_of_w2(n: int, m: int, d: int, seed: int) -> None:
    """Moments (Gelbrich), and projections: over an orthonormal basis the squares sum to at most W2^2."""
    x, y = clouds(n, m, d, seed)
    w2 = W2().particles(cloud(x), cloud(y), cloud(x)).value
    assert Gelbrich().particles(cloud(x), cloud(y), cloud(x)).value <= w2 * (1 + 1e-6)
    assert sliced(x, y, np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]).sum() <= w2**2 * (1 + 1e-4) + 1e-6


def test_directions_are_keyed() -> None:
    assert (directions(10, 3, 1) == directions(10, 3, 1)).all()
    assert (directions(10, 3, 1) != directions(10, 3, 2)).any()
    np.testing.assert_allclose(np.linalg.norm(directions(10, 3, 1), axis=1), 1.0)


# Floors: what exact draws score.


@pytest.mark.parametrize("d, floor", [(2, 0.19), (10, 2.06), (50, 7.61)])
def test_floor_of_w2_at_a_thousand_points(d: int, floor: float) -> None:
    """The known values for N(0, I); over samples they vary by 0.01, 0.014 and 0.027 (4 deviations are allowed)."""
    target = mixrate.target("gaussian.isotropic", dim=d)
    estimate = mixrate.metric("w2")(Particles.of_target(target, 1000, 7), target)
    allowed = {2: 0.04, 10: 0.06, 50: 0.11}[d]
    assert abs(estimate.floor - floor) < allowed
    assert abs(estimate.value - floor) < allowed
    assert estimate.lower == 0.0


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_exact_draws_are_not_told_from_the_target(metric: Metric) -> None:
    target = mixrate.target("gaussian.isotropic", dim=3)
    estimate = metric(Particles.of_target(target, 300, 4), target)
    assert estimate.lower == 0.0
    assert 0.0 < estimate.floor < 1.0
    assert estimate.value <= 3 * estimate.floor


# Coverage: every interval states at least 0.997, three deviations.


def truth_of(metric: Metric, p: Normal, q: Normal) -> float:
    if isinstance(metric, SlicedW2):  # of multiples of the identity
        gap = np.sqrt(p.cov[0, 0]) - np.sqrt(q.cov[0, 0])
        return float(np.sqrt(((p.mean - q.mean) ** 2).sum() / p.dim + gap**2))
    return metric.normal(p, q).value


def misses(metric: Metric, p: Normal, q: Normal, n: int, repeats: int, shrink: float = 1.0) -> int:
    truth, out = truth_of(metric, p, q), 0
    for k in range(repeats):
        e = metric.particles(*triple(p, q, n, k))
        assert e.lower <= e.value <= e.upper
        out += not e.value - (e.value - e.lower) / shrink <= truth <= e.value + (e.upper - e.value) / shrink
    return out


def allowed_misses(repeats: int) -> int:
    """An interval that misses with probability 0.0027 (three deviations) exceeds this with probability 1e-6; one that misses 9 % of
    the time does with probability 0.99 at 200 repeats."""
    return int(stats.binom.isf(FALSE_ALARM, repeats, 2 * stats.norm.sf(3)))


QUICK = [(isotropic(1, 1.0, 1.0), isotropic(1), 60), (isotropic(2, 4.0, 0.5), isotropic(2), 60)]


@pytest.mark.parametrize("case", [0, 1])
@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_intervals_hold_the_truth(metric: Metric, case: int) -> None:
    assert misses(metric, *QUICK[case], repeats=200) <= allowed_misses(200)


@pytest.mark.parametrize("metric", [m for m in METRICS if not isinstance(m, Sinkhorn)], ids=label)
def test_intervals_of_a_third_of_the_length_do_not(metric: Metric) -> None:
    """One deviation misses a third of the time on the line, where bias and floor are small."""
    assert misses(metric, isotropic(1, 1.0, 1.0), isotropic(1), 400, 100, shrink=4.0) > allowed_misses(100)


FULL = [
    (n, d, variance, shift)
    for n, d in ((100, 1), (200, 2), (200, 5), (200, 10), (100, 30))
    for variance, shift in ((1.0, 0.0), (1.0, 1.0), (4.0, 0.0), (0.25, 0.0), (1.1, 0.1), (0.5, 1.0))
]


@pytest.mark.full
@pytest.mark.parametrize("n, d, variance, shift", FULL)
@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_intervals_hold_the_truth_everywhere(metric: Metric, n: int, d: int, variance: float, shift: float) -> None:
    assert misses(metric, isotropic(d, variance, shift), isotropic(d), n, 200) <= allowed_misses(200)


@pytest.mark.full
@pytest.mark.parametrize("metric", [m for m in METRICS if not isinstance(m, SlicedW2)], ids=label)
@pytest.mark.parametrize("d", [2, 5, 10])
def test_intervals_hold_the_truth_of_skew_pairs(metric: Metric, d: int) -> None:
    """Some directions wider than the target, some narrower, and rotated."""
    turn = np.linalg.qr(np.random.default_rng(d).standard_normal((d, d)))[0]
    p = Normal(np.full(d, 0.5 / np.sqrt(d)), (turn * np.linspace(0.2, 3.0, d)) @ turn.T)
    q = Normal(np.zeros(d), np.diag(np.linspace(2.0, 0.5, d)))
    assert misses(metric, p, q, 200, 200) <= allowed_misses(200)


# Bad input.


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_one_unit_of_length_is_as_good_as_another(metric: Metric) -> None:
    """Squares of 1e150 overflow and of 1e-150 vanish: a power of two in the unit is one in the value, to the last digit."""
    laws = triple(isotropic(3, 2.0, 1.0), isotropic(3), 90, 1)
    still = metric.particles(*laws)
    for k in (498, -498):
        unit = 2.0**k
        scaled = Sinkhorn(0.5 * unit) if isinstance(metric, Sinkhorn) else metric
        moved = scaled.particles(*(Particles(law.x * unit, law.seed) for law in laws))
        assert [moved.value, moved.lower, moved.upper, moved.floor] == [unit * e for e in (still.value, still.lower, still.upper, still.floor)]


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_an_origin_far_away_changes_little(metric: Metric) -> None:
    laws = triple(isotropic(2, 2.0, 1.0), isotropic(2), 80, 2)
    still, moved = metric.particles(*laws), metric.particles(*(Particles(law.x + 2.0**30, law.seed) for law in laws))
    assert moved.value == pytest.approx(still.value, rel=1e-5)
    assert moved.upper == pytest.approx(still.upper, rel=1e-4)


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_points_that_coincide(metric: Metric) -> None:
    """All of a sample in one place, of both, at one point and at two."""
    place, other = cloud(np.tile([1.0, 2.0], (50, 1))), cloud(np.tile([4.0, 6.0], (50, 1)))
    factor = np.sqrt(np.mean((directions(40, 2, 0) @ [0.6, 0.8]) ** 2)) if isinstance(metric, SlicedW2) else 1.0
    assert metric.particles(place, other, other).value == pytest.approx(5.0 * factor, rel=1e-5)
    same = metric.particles(place, place, place)
    assert (same.value, same.lower, same.floor) == (0.0, 0.0, 0.0)
    spread = metric.particles(place, Particles.of_normal(isotropic(2), 50, 1), Particles.of_normal(isotropic(2), 50, 2))
    assert 0.5 < spread.value < 5.0


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_sizes_may_differ(metric: Metric) -> None:
    p, q, floor = (
        Particles.of_normal(isotropic(3, 1.0, 2.0), 90, 1),
        Particles.of_normal(isotropic(3), 131, 2),
        Particles.of_normal(isotropic(3), 90, 3),
    )
    estimate = metric.particles(p, q, floor)
    truth = truth_of(metric, isotropic(3, 1.0, 2.0), isotropic(3))
    assert estimate.lower <= truth <= estimate.upper


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_what_is_refused(metric: Metric) -> None:
    good = Particles.of_normal(isotropic(2), 20, 1)
    for value in (math.nan, math.inf, -math.inf):
        x = good.x.clone()
        x[3, 1] = value
        for laws in ((Particles(x), good, good), (good, Particles(x), good)):
            with pytest.raises(Diverged, match="must be finite, 1 of 20"):
                metric.particles(*laws)
    with pytest.raises(InvalidInput, match="one dimension"):
        metric.particles(good, Particles.of_normal(isotropic(3), 20, 1), good)
    with pytest.raises(InvalidInput, match="N >= 1"):
        Particles(torch.zeros(0, 2))


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_a_single_point(metric: Metric) -> None:
    one, two = cloud([[0.0, 0.0]]), cloud([[3.0, 4.0]])
    if isinstance(metric, DebiasedW2):
        with pytest.raises(InvalidInput, match="at least 4 particles, got 1"):
            metric.particles(one, two, two)
    elif not isinstance(metric, SlicedW2):
        assert metric.particles(one, two, two).value == pytest.approx(5.0, rel=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: W2(-0.1), "gap must be in"),
        (lambda: W2(1.0), "gap must be in"),
        (lambda: DebiasedW2(math.nan), "gap must be in"),
        (lambda: SlicedW2(1), "projections must be at least 2"),
        (lambda: Sinkhorn(0.0), "blur must be a positive number"),
        (lambda: Sinkhorn(math.nan), "blur must be a positive number"),
    ],
)
def test_parameters_out_of_range(make: Callable[[], Metric], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()


def test_sinkhorn_is_refused_where_it_does_not_fit() -> None:
    many, few = Particles(torch.zeros(5001, 2)), Particles(torch.zeros(10, 2))
    with pytest.raises(Unsupported, match="at most 5000 particles, got 5001"):
        Sinkhorn().particles(many, few, few)
    with pytest.raises(Unsupported, match="blur must be within"):
        Sinkhorn(1e9).particles(*triple(isotropic(2), isotropic(2), 20, 1))


def test_sinkhorn_that_does_not_converge_gives_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinkhorn, "ROUNDS", 3)
    with pytest.raises(MixrateError, match="needs more than 3 rounds on 50 x 50"):
        Sinkhorn(0.05).particles(*triple(isotropic(2, 4.0), isotropic(2), 50, 1))


# Certificates seen from the metric.


def test_a_gap_lies_inside_the_interval() -> None:
    laws = triple(isotropic(2, 1.0, 0.2), isotropic(2), 600, 1)
    exact, loose = W2().particles(*laws), W2(0.2).particles(*laws)
    plan = transport.plug_in(laws[0], laws[1], 0.2)
    assert plan.bound < exact.value * (1 - 1e-3)  # the gap was used
    assert plan.bound <= exact.value <= plan.value
    assert loose.lower <= max(0.0, plan.bound - loose.floor)
    assert loose.value == plan.value
    assert loose.upper >= plan.value
    assert loose.lower <= 0.2 <= loose.upper


def test_more_particles_than_a_dense_table_takes() -> None:
    """6000 points in the plane, once beyond the limit: the shift is seen above the floor."""
    p, q, floor = triple(isotropic(2, 1.0, 1.0), isotropic(2), 6000, 1)
    estimate = W2(0.1).particles(p, q, floor)
    assert estimate.lower <= 1.0 <= estimate.upper
    assert estimate.upper - estimate.lower < 0.3


@pytest.mark.parametrize("metric", METRICS, ids=label)
def test_coordinates_near_the_largest_number_are_refused(metric: Metric) -> None:
    good = Particles.of_normal(isotropic(2), 20, 1)
    with pytest.raises(Diverged, match=r"^coordinates must be at most 1e\+300 in size, got 1.7e\+308$"):
        metric.particles(cloud(np.full((20, 2), -1.7e308)), cloud(np.full((20, 2), 1.7e308)), good)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(), min_size=10, max_size=10), st.sampled_from(METRICS))
def test_any_points_give_a_number_or_a_line(xs: list[float], metric: Metric) -> None:
    x, line = np.array(xs).reshape(5, 2), ""
    try:
        e = metric.particles(cloud(x), cloud(np.arange(10.0).reshape(5, 2)), cloud(np.ones((5, 2))))
    except MixrateError as error:
        line = str(error)
    else:
        assert 0 <= e.lower <= e.value <= e.upper < math.inf
        assert 0 <= e.floor < math.inf
    assert "\n" not in line
