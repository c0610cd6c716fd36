"""Reverse diffusion Monte Carlo: maps against closed forms, exact inner draws, chains that go on, costs, theorems, planted bugs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from counting import counting
from scipy import stats

from mixrate.errors import Diverged, InvalidInput, Unsupported
from mixrate.experiments.components import names
from mixrate.laws.grid import Grid
from mixrate.laws.normal import Normal, affine_map
from mixrate.laws.origin import grid_origin, normal_origin
from mixrate.laws.particles import Particles, simulate
from mixrate.laws.propagate import propagate
from mixrate.samplers import rdmc
from mixrate.samplers.diffusion import estimators, inner_chains
from mixrate.samplers.diffusion.diagnosis import diagnose, least_curvature, log_concave_until
from mixrate.samplers.diffusion.estimators import Draws, Plan, lowest_potential, score_of
from mixrate.samplers.diffusion.posterior import Paired, Posterior, flat, stacked
from mixrate.samplers.diffusion.recursion import Estimated, level_of
from mixrate.samplers.diffusion.reverse_exponential import ReverseExponential
from mixrate.samplers.noise import Noise, Probe, Stream
from mixrate.samplers.rdmc import RDMC, Warm
from mixrate.samplers.ula import ULA
from mixrate.targets.base import Batch, Constant, Target
from mixrate.targets.double_well import DoubleWell
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.skew_logistic import SkewLogistic
from mixrate.theory.base import Case
from mixrate.theory.rdmc_exact import RDMCExact
from mixrate.theory.rdmc_inner import RDMCInner
from mixrate.theory.rdmc_score import RDMCScore

ILL = Gaussian.ill_conditioned(3, 5.0, rotation=2, mean=0.7)
MODES = GaussianMixture.two_modes(3.0, dim=2, weight=0.3)
LINE = GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [0.3, 0.6])
#: The false-alarm rate of every statistical test here.
ALARM = 1e-6


def at(target: Target, t: float, n: int, *key: object) -> Batch:
    """Exact draws of x_t."""
    return target.noised(t).sample(n, Stream("x", *key))


def posterior(target: Target, t: float, x: Batch, chains: int) -> Posterior:
    return Posterior(target, x, float(np.exp(-t)), float(-np.expm1(-2 * t)), chains)


# The outer step.


def check_oracle_is_the_exponential_integrator() -> None:
    """The same affine map, number by number, at every step."""
    one, other = RDMC(4, 2.0, inner="oracle"), ReverseExponential(4, 2.0)
    for k in range(4):
        mine, theirs = affine_map(one.at(k), ILL), affine_map(other.at(k), ILL)
        assert np.array_equal(mine.linear, theirs.linear) and np.array_equal(mine.offset, theirs.offset)
        assert np.array_equal(mine.noise_cov, theirs.noise_cov)


def test_oracle_is_the_exponential_integrator() -> None:
    check_oracle_is_the_exponential_integrator()


def test_oracle_is_the_exponential_integrator_on_a_grid() -> None:
    one, other = RDMC(20, 2.0, inner="oracle"), ReverseExponential(20, 2.0)
    start = grid_origin(one, LINE, 201)
    mine, theirs = (propagate(start, sampler, LINE, [20])[0] for sampler in (one, other))
    assert isinstance(mine, Grid) and isinstance(theirs, Grid) and np.array_equal(mine.log_density, theirs.log_density)


def final(sampler: RDMC, target: Gaussian) -> Normal:
    law = propagate(normal_origin(sampler, target), sampler, target, [sampler.length])[0]
    assert isinstance(law, Normal)
    return law


class Printed(RDMC):
    """Algorithm 1 as it is often printed: ``(e^h - 1) S`` in the place of ``2 (e^h - 1) S``."""

    def carry(self, k: int, x: Batch, score: Batch, noise: Noise) -> Batch:
        return super().carry(k, x, score / 2, noise)


def test_the_printed_factor_gives_another_variance() -> None:
    """With it N(0, 1) comes out with the variance ``1 + N (e^(2h) - 1)``, which tends to 1 + 2 T; with the factor 2 it comes out."""
    unit, n, horizon = Gaussian([0.0], [[1.0]]), 500, 2.0
    assert float(final(Printed(n, horizon, inner="oracle"), unit).cov[0, 0]) == pytest.approx(1 + n * np.expm1(2 * horizon / n), rel=1e-10)
    target = Gaussian([1.5], [[0.25]])
    assert float(final(Printed(n, horizon, inner="oracle"), target).cov[0, 0]) > 1.5
    for sampler in (RDMC(500, horizon, inner="oracle"), RDMC(1000, horizon, inner="oracle")):
        right, h = final(sampler, target), horizon / sampler.steps
        assert abs(float(right.cov[0, 0]) - 0.25) < 1.5 * h and abs(float(right.mean[0]) - 1.5) < 1.5 * h  # of order h


def test_initial_langevin_steps_are_taken_on_the_law_at_the_horizon() -> None:
    sampler, p = RDMC(3, 1.5, inner="oracle", initial_steps=2, initial_step=0.2), ILL.noised(1.5)
    assert sampler.length == 5 and sampler.times[:3] == (1.5, 1.5, 1.5)
    for k in (0, 1):
        mine, theirs = affine_map(sampler.at(k), ILL), affine_map(ULA(0.2), p)
        assert np.allclose(mine.linear, theirs.linear, atol=1e-14) and np.allclose(mine.offset, theirs.offset, atol=1e-14)
        assert np.allclose(mine.noise_cov, theirs.noise_cov, atol=1e-14)
    assert np.array_equal(affine_map(sampler.at(2), ILL).linear, affine_map(RDMC(3, 1.5, inner="oracle").at(0), ILL).linear)


# Inner draws on Gaussian targets: the whole step in closed form.


def test_exact_inner_draws_in_closed_form() -> None:
    """The oracle's map, and noise of covariance ``c^2 (a/v)^2 Sigma_post/n`` more."""
    sampler, n = RDMC(5, 1.5, inner="exact", inner_chains=7), 7
    for k in range(5):
        t, s = sampler.times[k], sampler.times[k + 1]
        a, v, c = np.exp(-t), -np.expm1(-2 * t), 2 * np.expm1(t - s)
        mine, oracle = affine_map(sampler.at(k), ILL), affine_map(dataclasses.replace(sampler, inner="oracle").at(k), ILL)
        spread = np.linalg.inv(ILL.precision.numpy() + a * a / v * np.eye(3))
        more = c * c * (a / v) ** 2 * spread / n
        assert np.allclose(mine.linear, oracle.linear, atol=1e-10) and np.allclose(mine.offset, oracle.offset, atol=1e-10)
        assert np.allclose(mine.noise_cov, oracle.noise_cov + more, atol=1e-10)


def check_ula_in_closed_form() -> None:
    """With P the posterior's precision and ``R = I - h P``, chains have after k steps the mean ``mu + R^k (x/a - mu)`` and the covariance
    ``R^2k v/a^2 + 2 h sum_(j<k) R^2j``: so the map of the whole step."""
    n, inner, fraction = 5, 3, 0.4
    sampler = RDMC(4, 1.2, inner="ula", inner_chains=n, inner_steps=inner, inner_step=fraction)
    precision, mean, eye = ILL.precision.numpy(), ILL.mean.numpy(), np.eye(3)
    big = float(np.linalg.eigvalsh(precision)[-1])
    for k in range(4):
        t, s = sampler.times[k], sampler.times[k + 1]
        a, v, c = np.exp(-t), -np.expm1(-2 * t), 2 * np.expm1(t - s)
        h, p = fraction / (big + a * a / v), precision + a * a / v * eye
        r = eye - h * p
        power = np.linalg.matrix_power(r, inner)
        spread = power @ power * v / a**2 + 2 * h * sum(np.linalg.matrix_power(r, 2 * j) for j in range(inner))
        # E[y] = A_y x + b_y
        a_y = (eye - power) @ np.linalg.inv(p) * (a / v) + power / a
        b_y = (eye - power) @ np.linalg.inv(p) @ precision @ mean
        mine = affine_map(sampler.at(k), ILL)
        assert np.allclose(mine.linear, np.exp(t - s) * eye + c * (a * a_y - eye) / v, atol=1e-10)
        assert np.allclose(mine.offset, c * a / v * b_y, atol=1e-10)
        assert np.allclose(mine.noise_cov, np.expm1(2 * (t - s)) * eye + (c * a / v) ** 2 * spread / n, atol=1e-10)


def test_ula_in_closed_form() -> None:
    check_ula_in_closed_form()


@pytest.mark.parametrize("inner", ["importance", "exact", "ula", "mala"])
def test_both_identities_leave_no_variance_on_a_gaussian(inner: str) -> None:
    """The posterior's own score is linear there: whatever the points, the regression takes all of the error away."""
    sampler = RDMC(3, 1.0, inner=inner, inner_chains=16, inner_steps=2, identity="both", least_ess=0.0, least_acceptance=0.0)
    for k in range(3):
        x = at(ILL, sampler.times[k], 200, k)
        score = sampler.look(ILL, k, x, Stream("both", k)).score
        away = (score - ILL.noised(sampler.times[k]).score(x)).abs()
        # a few effective points of 16 leave a matrix that is all but singular (importance): the rest is its rounding
        assert float(away.median()) < 1e-10 and (inner == "importance" or float(away.max()) < 1e-6)


# Inner draws elsewhere.


@cache
def quantile_tables(target: Target, t: float, x: float) -> tuple[np.ndarray, np.ndarray]:
    """Distribution function of the posterior on a fine mesh."""
    y = np.linspace(-9, 9, 40001)
    a, v = np.exp(-t), -np.expm1(-2 * t)
    logs = -target.potential(torch.as_tensor(y[:, None])).numpy() - (x - a * y) ** 2 / (2 * v)
    f = np.exp(logs - logs.max())
    total = np.concatenate([[0.0], np.cumsum((f[1:] + f[:-1]) / 2)])
    return y, total / total[-1]


def check_draws(inner: str, target: Target = LINE) -> None:
    """Points of equal weight have the posterior's law: Kolmogorov-Smirnov against a quadrature."""
    for t, x in ((0.2, 0.4), (1.0, -0.7)):
        q = posterior(target, t, torch.full((4, 1), x, dtype=torch.float64), 3000)
        lowest = lowest_potential(target) if inner == "rejection" else 0.0
        start = estimators.exact(q, Plan(0, 1.0), Stream("start", t)).y if inner == "mala" else None
        draws = estimators.INNER[inner](q, Plan(30 if inner == "rejection" else 3, 0.3, lowest, start), Stream("ks", inner, t))
        y = stacked(draws.y, 4)[0][draws.weights > 0].numpy()
        assert len(y) > 10000
        mesh, f = quantile_tables(target, t, x)
        assert stats.kstest(y, lambda z, m=mesh, f=f: np.interp(z, m, f)).pvalue > ALARM


@pytest.mark.parametrize("inner", ["exact", "rejection", "mala"])
def test_draws_have_the_posteriors_law(inner: str) -> None:
    check_draws(inner)


def test_rejection_is_exact_where_the_bound_comes_from_convexity() -> None:
    check_draws("rejection", SkewLogistic())


def test_cold_chains_may_start_at_importance_draws() -> None:
    """Resampled draws have the posterior's law up to the bias of the weights: their mean is that of the weighted ones."""
    t, n, chains = 0.8, 300, 500
    q = posterior(LINE, t, torch.full((n, 1), 0.3, dtype=torch.float64), chains)
    plan = Plan(1, 0.1, cold="importance")
    points, ess = estimators.beginning(q, plan, Stream("resampled"))
    y = stacked(points, n)[0]
    draws = estimators.importance(q, plan, Stream("resampled"))
    assert torch.equal(ess, draws.ess)
    weighted = (draws.weights * stacked(draws.y, n)[0]).sum(0)
    # systematic resampling: every draw is taken w chains times, rounded up or down
    assert float((y.mean(0) - weighted).abs().max()) < 0.2
    assert abs(float((y.mean(0) - weighted).mean())) < 5.2 * float((y.mean(0) - weighted).std()) / n**0.5
    for i in (0, 7):
        taken = (y[:, i, None] == stacked(draws.y, n)[0][:, i]).sum(0)
        assert float((taken - chains * draws.weights[:, i]).abs().max()) < 1 and int(taken.sum()) == chains


def check_importance() -> None:
    """Weighted means against quadrature, to within 5 standard errors of their own over particles."""
    t, x = 0.4, 0.3
    y, f = quantile_tables(LINE, t, x)
    density = np.diff(f)
    middle = (y[1:] + y[:-1]) / 2
    draws = estimators.importance(q := posterior(LINE, t, torch.full((400, 1), x, dtype=torch.float64), 2000), Plan(0, 1.0), Stream("is"))
    assert torch.allclose(draws.weights.sum(0), torch.ones(400, dtype=torch.float64))
    for power in (1, 2):
        mean = (draws.weights * stacked(draws.y, 400)[0] ** power).sum(0).numpy()
        # 5 standard errors: 6e-7; the bias of normalised weights is of the order of the variance of one mean
        assert abs(mean.mean() - density @ middle**power) < 5 * mean.std() / 20 + 2 * mean.var()
    a, v = q.scale, q.variance
    stated = LINE.noised(t).score(torch.tensor([[x]], dtype=torch.float64)).item()
    for identity in rdmc.IDENTITIES:
        score = score_of(q, draws, identity)[:, 0].numpy()
        assert abs(score.mean() - stated) < 5 * score.std() / 20 + 2 * score.var() * max(1.0, v / a)


def test_importance_weights_give_the_posteriors_moments() -> None:
    check_importance()


@pytest.mark.parametrize(("inner", "identity"), list(product(["exact", "rejection"], ["tweedie", "target", "both"])))
def test_estimates_agree_with_the_oracle(inner: str, identity: str) -> None:
    """The mean error over particles, coordinate by coordinate; a slope fitted to the points it serves biases `both` by order 1/n."""
    sampler = RDMC(4, 0.8, inner=inner, inner_chains=200, inner_steps=60, identity=identity, least_ess=0.0)
    for k in (0, 3):
        x = at(MODES, sampler.times[k], 1000, k)
        error = sampler.look(MODES, k, x, Stream("oracle", k)).score - MODES.noised(sampler.times[k]).score(x)
        finite = torch.isfinite(error).all(1)
        assert float(finite.double().mean()) > 0.98  # a particle far out may have had no point accepted
        error = error[finite]
        mean, deviation = error.mean(0), error.std(0)
        allowed = 5.2 * deviation / len(error) ** 0.5 + (0.5 * deviation if identity == "both" else 0.02 * deviation)
        assert bool((mean.abs() < allowed).all())


def test_each_identity_serves_one_end_of_time() -> None:
    """Tweedie's at large t, the target's at small t, and both together are better than either."""

    def error(identity: str, k: int) -> float:
        sampler = RDMC(10, 2.0, inner="exact", inner_chains=64, identity=identity)
        x = at(MODES, sampler.times[k], 500, k)
        return float(((sampler.look(MODES, k, x, Stream("ends", k)).score - MODES.noised(sampler.times[k]).score(x)) ** 2).mean())

    late, early = ({i: error(i, k) for i in rdmc.IDENTITIES} for k in (0, 9))
    assert late["tweedie"] < 0.1 * late["target"] and early["target"] < 0.25 * early["tweedie"]
    assert late["both"] < late["tweedie"] and early["both"] < early["target"]


def test_the_posterior_is_what_it_says() -> None:
    x = at(MODES, 0.5, 6, "posterior")
    q = posterior(MODES, 0.5, x, 4)
    y = q.by_kernel(Stream("points")) * 0.8
    a, v = q.scale, q.variance
    for c, i in product(range(4), range(6)):
        z = y[c * 6 + i]
        assert abs(float(q.potential(y)[c * 6 + i]) - float(MODES.potential(z[None]) + ((x[i] - a * z) ** 2).sum() / (2 * v))) < 1e-12
    with torch.enable_grad():
        z = y.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(MODES.reference(z)[0].sum() + ((q.centres - a * z) ** 2).sum() / (2 * v), z)
    assert torch.allclose(q.score(y), -gradient, atol=1e-12)
    assert torch.equal(q.potential_and_score(y)[0], q.potential(y)) and torch.equal(q.potential_and_score(y)[1], q.score(y))
    for name in ("m", "M"):
        stated = MODES.constant(name)
        assert stated is not None and q.constant(name) == stated + a * a / v
    curvature = torch.linalg.eigvalsh(MODES.hessian(y)) + a * a / v
    assert float(curvature.min()) >= q.constants["m"].value - 1e-12 and float(curvature.max()) <= q.constants["M"].value + 1e-12
    assert torch.equal(flat(stacked(y, 6)), y)


# Chains that go on.


def check_warm() -> None:
    """With steps too short to move, chains end where they were; cold ones would have been drawn anew."""
    sampler = RDMC(10, 1.0, inner="ula", inner_chains=16, inner_steps=1, inner_step=1e-12, warm=True)
    x = at(MODES, 1.0, 50, "warm")
    state = sampler.init(MODES, x, Stream("warm"))
    one = sampler.advance(0, MODES, state, Stream("warm", step=1))
    two = sampler.advance(1, MODES, one, Stream("warm", step=2))
    assert isinstance(two, Warm) and float(one.chains.std()) > 1
    assert float((two.chains - one.chains).abs().max()) < 1e-4


def test_warm_chains_go_on() -> None:
    check_warm()


def test_warm_chains_need_fewer_steps() -> None:
    """On a Gaussian, with two inner steps each, the law of what comes out is closer to the target's."""
    target, errors = Gaussian([0.5], [[0.3]]), []
    for warm in (False, True):
        sampler = RDMC(40, 2.0, inner="ula", inner_chains=64, inner_steps=2, warm=warm)
        out = simulate(Particles(at(target, 2.0, 4000, "fewer"), 3), sampler, target, [40])[0]
        errors.append(abs(float(out.x.var()) - 0.3) + abs(float(out.x.mean()) - 0.5))
    assert errors[1] < 0.5 * errors[0]


def test_warm_chains_have_no_exact_law() -> None:
    sampler = RDMC(4, 1.0, inner="ula", inner_chains=4, warm=True)
    with pytest.raises(Unsupported, match="more than a position"):
        affine_map(sampler.at(0), ILL)
    with pytest.raises(Unsupported, match="more than a position"):
        propagate(grid_origin(sampler, LINE, 101), sampler, LINE, [1])


# Levels.


def test_levels_cut_the_time_in_equal_pieces() -> None:
    for segments in (1, 2, 3, 7):
        for t in (*np.linspace(0.01, 2.0, 200), *(2.0 * k / segments for k in range(1, segments + 1))):
            k, r = level_of(float(t), 2.0, segments)
            assert 0 <= k < segments and 0 < r <= 2.0 / segments * (1 + 1e-9) and k * 2.0 / segments + r == pytest.approx(t, rel=1e-12)
    assert level_of(1.0, 2.0, 2) == (0, 1.0) and level_of(1.01, 2.0, 2) == (1, pytest.approx(0.01))


def two_levels(t: float, horizon: float, n: int, inner: int, fraction: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(L, o, C) of the estimate ``L x + o + N(0, C)`` of the score of ILL at t in (S, 2 S], S = horizon/2, from the chains' recursions.

    A chain whose score is ``L_0 y + o_0 + N(0, C_0)`` steps by ``y' = R y + h (o_0 + a/v x) + h eps + sqrt(2h) xi``, ``R = I + h (L_0 - a^2/v)``.
    """
    precision, mean, eye = ILL.precision.numpy(), ILL.mean.numpy(), np.eye(3)
    linear, offset, noise, big = -precision, precision @ mean, 0 * eye, float(np.linalg.eigvalsh(precision)[-1])
    for time in (horizon / 2, t - horizon / 2):
        a, v = np.exp(-time), -np.expm1(-2 * time)
        h = fraction / (big + a * a / v)
        r = eye + h * (linear - a * a / v * eye)
        powers = [np.linalg.matrix_power(r, j) for j in range(inner + 1)]
        a_y = powers[-1] / a + h * a / v * sum(powers[:-1])
        b_y = h * sum(powers[:-1]) @ offset
        spread = powers[-1] @ powers[-1] * v / a**2 + sum(p @ (2 * h * eye + h * h * noise) @ p for p in powers[:-1])
        linear, offset, noise = (a * a_y - eye) / v, a / v * b_y, (a / v) ** 2 * spread / n
        big = 1 / (np.exp(-horizon) / big + -np.expm1(-horizon))  # of p_S, S = horizon/2
    return linear, offset, noise


def check_recursion() -> None:
    """Two levels on a Gaussian: the affine map of the step, its noise too, in closed form."""
    n, inner, fraction = 2, 2, 0.4
    sampler = RDMC(4, 1.2, inner="ula", inner_chains=n, inner_steps=inner, inner_step=fraction, segments=2)
    for k in (0, 1):  # the steps from 1.2 and 0.9 have two levels, those from 0.6 and 0.3 one
        t, s = sampler.times[k], sampler.times[k + 1]
        c = 2 * np.expm1(t - s)
        linear, offset, noise = two_levels(t, 1.2, n, inner, fraction)
        mine = affine_map(sampler.at(k), ILL)
        assert np.allclose(mine.linear, np.exp(t - s) * np.eye(3) + c * linear, atol=1e-10)
        assert np.allclose(mine.offset, c * offset, atol=1e-10)
        assert np.allclose(mine.noise_cov, np.expm1(2 * (t - s)) * np.eye(3) + c * c * noise, atol=1e-10)
    for k in (2, 3):
        mine, plain = (affine_map(one.at(k), ILL) for one in (sampler, dataclasses.replace(sampler, segments=1)))
        assert np.array_equal(mine.linear, plain.linear) and np.array_equal(mine.noise_cov, plain.noise_cov)


def test_recursion_in_closed_form() -> None:
    check_recursion()


def test_recursive_estimates_tend_to_the_score() -> None:
    """Without noise chains end at their mean, which is exact on a Gaussian once they are long: at every level."""
    target, x = Gaussian([0.7], [[0.5]]), torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    for segments, k in ((2, 0), (3, 0), (3, 1)):
        sampler = RDMC(3, 1.5, inner="ula", inner_chains=1, inner_steps=24, segments=segments)
        score = sampler.look(target, k, x, Probe(False)).score
        assert float((score - target.noised(sampler.times[k]).score(x)).abs().max()) < 1e-5


def test_the_law_half_way_is_a_prior() -> None:
    """``E[(e^-r y - x)/(1 - e^-2r)]`` over ``p_S(y) exp(-|x - e^-r y|^2/(2 (1 - e^-2r)))`` is the score at S + r: exact draws, to 5.2 errors."""
    middle, r = MODES.noised(0.4), 0.3
    x = at(MODES, 0.7, 500, "half way")
    q = Posterior(middle, x, float(np.exp(-r)), float(-np.expm1(-2 * r)), 200)
    error = score_of(q, estimators.exact(q, Plan(0, 1.0), Stream("half way")), "tweedie") - MODES.noised(0.7).score(x)
    assert bool((error.mean(0).abs() < 5.2 * error.std(0) / 500**0.5).all())


def test_recursive_errors_fall_with_the_chains() -> None:
    def error(n: int) -> float:
        sampler = RDMC(2, 0.8, inner="ula", inner_chains=n, inner_steps=8, inner_step=0.3, segments=2)
        x = at(MODES, 0.8, 100, "chains")
        return float(((sampler.look(MODES, 0, x, Stream("chains", n)).score - MODES.noised(0.8).score(x)) ** 2).mean())

    few, many = error(4), error(32)
    assert many < 0.35 * few  # 1/8 but for the bias of 8 steps


def test_recursion_draws_each_particles_own_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the blocks; and the chains at the lowest level are compiled."""
    sampler = RDMC(4, 0.8, inner="ula", inner_chains=5, inner_steps=2, segments=2)
    x = at(MODES, 0.8, 70, "blocks")
    calls = []

    def counted(*args: Any) -> Batch:
        calls.append(len(args[1]))
        return RUN(*args)

    monkeypatch.setattr(inner_chains, "run", counted)
    whole = simulate(Particles(x, 1), sampler, MODES, [4])[0].x
    assert calls == [70] * (2 * 2 * 5 + 2)  # two steps of two levels, for each inner step and chain; two of one
    monkeypatch.setattr(estimators, "BLOCK_NUMBERS", 5 * 2 * 7)
    assert torch.equal(simulate(Particles(x, 1), sampler, MODES, [4])[0].x, whole)
    assert torch.equal(simulate(Particles(x[:30], 1), sampler, MODES, [4])[0].x, whole[:30])


def test_constants_of_a_law_known_by_estimates() -> None:
    """Those that follow for p_s hold on a grid; the Gaussian's are exact."""
    for target in (MODES, GaussianMixture.two_modes(3.0), GaussianMixture.log_concave_pair()):
        for s in (0.05, 0.2, 1.0):
            prior = Estimated(target, float(np.exp(-s)), float(-np.expm1(-2 * s)), torch.zeros_like, 1)
            law, found = target.noised(s), prior.constants
            y = law.sample(4000, Stream("constants", s)) * 1.5
            curvature = torch.linalg.eigvalsh(law.hessian(y))
            assert float(curvature.max()) <= found["M"].value + 1e-12
            assert "m" not in found or float(curvature.min()) >= found["m"].value - 1e-12
    prior = Estimated(ILL, float(np.exp(-0.3)), float(-np.expm1(-0.6)), torch.zeros_like, 1)
    for name in ("m", "M"):
        assert prior.constants[name].value == pytest.approx(ILL.noised(0.3).constants[name].value, rel=1e-12)
    with pytest.raises(Unsupported, match="no potential"):
        prior.potential(torch.zeros((1, 3), dtype=torch.float64))


# Runs.


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    "target", [MODES, GaussianMixture.zod_mc(), Gaussian.ill_conditioned(3, 5.0, rotation=2)], ids=["modes", "zod_mc", "gaussian"]
)
def test_compiled_chains_are_the_steps(target: Target, dtype: torch.dtype) -> None:
    """On the same noise, to rounding; also where blocks of particles end in the middle, and the noise after them is the same."""
    n, chains = 37, 100
    q = posterior(target, 0.7, at(target, 0.7, n, "compiled").to(dtype), chains)
    ends, after = [], []
    for compiled in (True, False):
        noise = Stream("compiled", step=3, first=11, dtype=dtype)
        ends.append(estimators.ula(q, Plan(7, 0.05, compiled=compiled), noise).y.double())
        after.append(noise.normal((n, 1)))
    # ten steps of rounding, stretched by the scores of modes between which chains choose
    assert float((ends[0] - ends[1]).abs().max()) < (1e-10 if dtype == torch.float64 else 2e-2)
    assert float((ends[0] - ends[1]).abs().median()) < (1e-14 if dtype == torch.float64 else 1e-5)
    assert torch.equal(*after)


@pytest.mark.parametrize("warm", [False, True])
def test_blocks_do_not_change_a_number(warm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = RDMC(3, 0.5, inner="mala", inner_chains=9, inner_steps=2, warm=warm, least_acceptance=0.0)
    x = at(MODES, 0.5, 90, "blocks")
    whole = simulate(Particles(x, 1), sampler, MODES, [3])[0].x
    monkeypatch.setattr(estimators, "BLOCK_NUMBERS", 9 * 2 * 7)
    assert torch.equal(simulate(Particles(x, 1), sampler, MODES, [3])[0].x, whole)
    assert torch.equal(simulate(Particles(x[:30], 1), sampler, MODES, [3])[0].x, whole[:30])


def test_it_runs_on_a_potential_alone() -> None:
    """The double well: from its own forward law (a long horizon) the two wells come out as heavy as they are."""
    target, sampler = DoubleWell(), RDMC(40, 2.0, inner="mala", inner_chains=32, inner_steps=10, inner_step=0.1, cold="normal", identity="both")
    out = simulate(Particles(Stream("prior").normal((2000, 1)), 4), sampler, target, [40])
    y = np.linspace(-4, 4, 4001)
    f = np.exp(-target.potential(torch.as_tensor(y[:, None])).numpy())
    square = float(f @ y**2 / f.sum())
    found = out[0].x[:, 0].numpy()
    assert out[0].diverged == 0
    # 2000 draws: 5 standard errors are 0.11 of the wells' shares; the law at the horizon differs from the prior by e^-2
    assert abs((found > 0).mean() - 0.5) < 0.11
    assert abs((found**2).mean() - square) < 0.1 * square


@pytest.mark.parametrize(
    "sampler",
    [
        *(
            RDMC(2, 0.5, inner=i, inner_chains=6, inner_steps=3, identity=j, least_ess=0.0)
            for i in ("importance", "ula", "mala")
            for j in rdmc.IDENTITIES
        ),
        RDMC(2, 0.5, inner="rejection", inner_chains=6, inner_steps=3, identity="target", least_ess=0.0),
        *(RDMC(2, 0.5, inner="ula", inner_chains=3, inner_steps=2, segments=j, identity=i) for i in ("tweedie", "target") for j in (2, 3)),
        RDMC(2, 0.5, inner="ula", inner_chains=(3, 4), inner_steps=(2, 5)),
        RDMC(1, 0.5, inner="mala", inner_chains=3, inner_steps=(2, 5), initial_steps=1, warm=True, least_acceptance=0.0),
        *(RDMC(2, 0.5, inner=i, inner_chains=6, inner_steps=3, cold="importance", least_ess=0.0) for i in ("ula", "mala")),
    ],
    ids=lambda s: f"{s.inner}-{s.identity}-{s.cold}-{s.segments}-{s.inner_steps}",
)
def test_declared_costs_are_the_calls_made(sampler: RDMC) -> None:
    """Rows at which the target was evaluated, per particle."""
    target, counts = counting()
    sampler.check(target)  # finds the bound below V once and for all
    sampler.plan(sampler.posterior(target, 0, torch.zeros((1, 1), dtype=torch.float64)), 0)
    counts.update(potential=0, score=0)
    state = sampler.init(target, torch.zeros((4, 1), dtype=torch.float64), Stream("count"))
    for k in range(2):
        state = sampler.advance(k, target, state, Stream("count"))
    assert counts == {"potential": 8 * sampler.potential_evaluations, "score": 8 * sampler.score_evaluations}


@pytest.mark.parametrize("inner", ["importance", "exact", "rejection", "ula", "mala", "oracle"])
def test_float32_runs_in_float32(inner: str) -> None:
    """And `both` too, whose matrices are all but singular on mixtures of equal variances."""
    sampler = RDMC(4, 0.5, inner=inner, inner_chains=64, inner_steps=20, identity="both", least_ess=0.0)
    for target, n in ((MODES, 30), (ILL, 30)):
        x = at(target, sampler.times[2], n, "single")
        single = sampler.look(target, 2, x.float(), Stream("single", dtype=torch.float32)).score
        assert single.dtype == torch.float32
        if inner == "rejection":
            single = single[torch.isfinite(single).all(1)]
            assert len(single) > n // 2
        if inner == "oracle":
            assert float((single.double() - target.noised(sampler.times[2]).score(x)).abs().max()) < 1e-4


def test_starved_inner_samplers_end_the_run() -> None:
    far = torch.tensor([[0.0, 0.0], [60.0, 0.0]], dtype=torch.float64)
    with pytest.raises(Diverged, match=r"^inner ESS too low: below 5 for 50.00% of the particles at t = 1, median .*; raise inner_chains") as caught:
        propagate(Particles(far, 0), RDMC(10, 1.0, inner="importance", inner_chains=64), MODES, [10])
    assert caught.value.step == 1 and caught.value.fraction == 0.5
    with pytest.raises(Diverged, match="inner ESS too low"):
        propagate(Particles(far, 0), RDMC(10, 1.0, inner="rejection", inner_chains=64), MODES, [10])
    check_starved_starts()
    with pytest.raises(Diverged, match="inner acceptance too low"):
        propagate(Particles(far, 0), RDMC(10, 1.0, inner="mala", inner_step=100.0), MODES, [10])
    out = propagate(Particles(far[:1], 0), RDMC(10, 1.0, inner="ula", inner_steps=500, inner_step=50.0), MODES, [10])[0]
    assert isinstance(out, Particles) and out.diverged == 1.0 and out.first_diverged == 1


def check_starved_starts() -> None:
    """Chains that start at resampled draws of which few have any weight are no more than these."""
    far = torch.tensor([[0.0, 0.0], [60.0, 0.0]], dtype=torch.float64)
    for inner in ("ula", "mala"):
        resampled = RDMC(10, 1.0, inner=inner, inner_chains=64, cold="importance", least_acceptance=0.0)
        ess = resampled.look(MODES, 0, far, Stream("starved")).ess
        assert float(ess[0]) > 5 > float(ess[1])
        with pytest.raises(Diverged, match=r"^inner ESS too low: below 5 for 50.00% of the particles at t = 1"):
            propagate(Particles(far, 0), resampled, MODES, [10])
        full = dataclasses.replace(resampled, warm=True)  # chains that go on are as many as there are
        state = Warm(far, Stream("ends").normal((2, 128)))
        assert bool((full.look(MODES, 1, far, Stream("starved"), state.chains).ess == 64).all())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"inner": "gibbs"}, "inner must be one of importance, exact"),
        ({"identity": "none"}, "identity must be one of tweedie"),
        ({"cold": "zero"}, "cold must be one of kernel"),
        ({"inner_chains": 0}, "inner_chains must be a whole number of at least 1"),
        ({"inner_steps": 0}, "inner_steps must be a whole number of at least 1"),
        ({"inner_step": 0.0}, "inner_step must be a positive"),
        ({"initial_steps": -1}, "initial_steps must be a whole number of at least 0"),
        ({"initial_step": -0.1}, "initial_step must be a positive"),
        ({"inner": "exact", "warm": True}, "warm must be false where inner is exact"),
        ({"inner": "importance", "least_ess": 200.0}, "least_ess must be in"),
        ({"least_acceptance": 2.0}, "least_acceptance must be in"),
        ({"stop": 3.0}, "stop must be at least 0"),
        ({"cold": "importance", "inner_chains": 4}, "least_ess must be in"),
        ({"segments": 0}, "segments must be a whole number of at least 1"),
        ({"segments": 2, "inner": "mala"}, "segments must not be set where inner is mala, only where it is ula or oracle"),
        ({"segments": 2, "warm": True}, "segments must not be set where inner chains are warm"),
        ({"segments": 2, "cold": "importance"}, "segments must be 1 where cold is importance"),
        ({"segments": 2, "budget": 100.0}, "segments must be 1 where .* a budget is set"),
        ({"budget": 100.0, "inner": "importance"}, "budget must not be set where inner is importance"),
        ({"budget": 100.0, "warm": True}, "budget must not be set where inner chains are warm"),
        ({"budget": 0.0}, "budget must be a positive"),
        ({"inner_chains": (1, 2)}, "inner_chains must be one number or 10, one per step, got a list of 2"),
        ({"inner_steps": (1,) * 9 + (0,)}, "inner_steps must be a whole number of at least 1, got 0"),
        ({"inner_chains": (4,) * 10, "warm": True}, "warm must be false where inner_chains is a list"),
    ],
)
def test_what_is_out_of_range_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{words}"):
        RDMC(10, 1.0, **given)


def test_routes_that_a_target_does_not_have_are_refused() -> None:
    for given, words in (
        ({"inner": "oracle"}, "no closed form after noising"),
        ({"inner": "exact"}, "inner must not be exact"),
        ({"inner": "rejection"}, "lowest must be given"),
    ):
        with pytest.raises(Unsupported, match=words):
            RDMC(10, 1.0, **given).admit(DoubleWell())
    with pytest.raises(InvalidInput, match="inner_chains must be above d"):
        RDMC(10, 1.0, inner_chains=3, identity="both").admit(MODES)
    with pytest.raises(InvalidInput, match="segments must be fewer than 5"):
        RDMC(10, 1.0, segments=5).admit(MODES)
    RDMC(10, 1.0, inner="rejection", lowest=0.0).admit(DoubleWell())
    sampler = RDMC(10, 1.0, inner="rejection", lowest=3.0)
    with pytest.raises(InvalidInput, match="lowest must be at most the potential everywhere, got 3 where"):
        sampler.look(MODES, 0, torch.zeros((5, 2), dtype=torch.float64), Stream("bound"))


def test_the_lowest_potential_is_a_bound_and_nearly_reached() -> None:
    y = torch.linspace(-6, 6, 20001, dtype=torch.float64)[:, None]
    for target, slack in ((SkewLogistic(), 1e-6), (Gaussian([1.5], [[0.25]]), 1e-6), (LINE, 0.7)):
        least = float(target.potential(y).min())
        assert least - slack < lowest_potential(target) <= least + 1e-12


def test_the_diagnosis_tells_bias_from_variance() -> None:
    """On a Gaussian both are known: variance ``(a/v)^2 tr Sigma_post/n`` without bias for exact draws, bias for short chains."""
    sampler = RDMC(4, 1.2, inner="exact", inner_chains=32)
    x = ILL.sample(2000, Stream("diagnosis"))
    for found in diagnose(sampler, ILL, x, Stream("diagnosis", 1)):
        a, v = np.exp(-found.time), -np.expm1(-2 * found.time)
        spread = np.trace(np.linalg.inv(ILL.precision.numpy() + a * a / v * np.eye(3)))
        stated = (a / v) ** 2 * spread / 32
        assert abs(found.variance / stated - 1) < 0.05  # 2000 particles, 3 coordinates, 7 degrees of freedom: 5 errors are 0.035
        assert found.bias < 0.1 * stated**0.5 and found.ess == 32 and np.isnan(found.acceptance)
        assert found.curvature == pytest.approx(ILL.constants["m"].value + a * a / v) and found.condition >= 1
    short = diagnose(RDMC(4, 1.2, inner="mala", inner_chains=32, inner_steps=1, warm=True), ILL, x[:500], Stream("diagnosis", 2), repeats=4)
    assert short[0].bias > short[0].variance ** 0.5 and 0 < short[0].acceptance < 1
    blind = diagnose(RDMC(3, 1.0, inner="importance", inner_chains=32), DoubleWell(), x[:100, :1], Stream("diagnosis", 3), repeats=2)
    assert all(np.isnan(f.bias) and f.least_ess < f.ess for f in blind)
    with pytest.raises(InvalidInput, match="repeats must be at least 2"):
        diagnose(sampler, ILL, x, Stream("diagnosis"), repeats=1)


def check_curvature(sampler: RDMC, target: GaussianMixture) -> None:
    """What is certified is a lower bound of what a grid finds, at every time; and attained with one segment and two modes."""
    for k in range(sampler.length):
        certified, found = sampler.posterior(target, k, torch.zeros((1, target.dim))).constants, least_curvature(sampler, target, k)
        if "m" in certified:
            assert certified["m"].value <= found + 1e-9
        if sampler.segments == 1 and len(target.weights) == 2:
            assert found == pytest.approx(certified["m"].value, abs=1e-2)


@pytest.mark.parametrize("segments", [1, 2, 4])
@pytest.mark.parametrize(
    "target", [GaussianMixture.two_modes(4.0), MODES, GaussianMixture.log_concave_pair(), GaussianMixture.circle(6, 3.0, 1.0)], ids=str
)
def test_certified_curvatures_are_lower_bounds(target: GaussianMixture, segments: int) -> None:
    check_curvature(RDMC(8, 1.6, segments=segments), target)


def test_the_time_from_which_on_the_inner_problem_is_log_concave() -> None:
    assert log_concave_until(GaussianMixture.log_concave_pair()) == np.inf and np.isnan(log_concave_until(GaussianMixture.zod_mc()))
    until = log_concave_until(MODES)  # m = 1 - 9/4
    assert until == pytest.approx(0.5 * np.log(1.8)) and MODES.constants["m"].value + 1 / np.expm1(2 * until) == pytest.approx(0, abs=1e-12)
    x = MODES.sample(20, Stream("until"))
    found = diagnose(RDMC(20, 1.0, inner="ula", inner_chains=4, inner_steps=1), MODES, x, Stream("until", 1), repeats=2)
    assert [f.log_concave for f in found] == [f.time <= until for f in found] and {f.log_concave for f in found} == {False, True}
    assert all(f.actual >= f.curvature - 1e-9 for f in found)


# Theorems.


def word(theorem: Any, *cases: Case, factor: float = 1.0) -> str:
    rows = []
    for case in cases:
        if theorem.unmet(case):
            return "not applicable"
        rows += theorem.rows(case, factor)
    return str(theorem.judge(rows).word)


def alone(sampler: Any, target: Target) -> Case:
    return Case(target, sampler, (0,), [Particles(torch.zeros((2, target.dim), dtype=torch.float64))])


def test_section_g_has_its_first_theorems() -> None:
    assert {"rdmc-score", "rdmc-exact", "rdmc-inner"} <= set(names("theorem"))


@pytest.mark.parametrize("target", [LINE, SkewLogistic()], ids=lambda t: t.name)
@pytest.mark.parametrize("horizon", [0.05, 2.0])
def test_rdmc_score(target: Target, horizon: float) -> None:
    theorem, case = RDMCScore(points=3, instants=2), alone(RDMC(4, horizon), target)
    assert word(theorem, case) == "holds" and word(theorem, case, factor=0.9999) == "violated"


def test_rdmc_score_is_not_applicable() -> None:
    for case in (alone(ULA(0.1), LINE), alone(RDMC(4, 1.0), GaussianMixture.two_modes(3.0, dim=3))):
        assert word(RDMCScore(), case) == "not applicable"


def test_rdmc_exact() -> None:
    def case(n: int, inner: str = "oracle", kind: type[RDMC] = RDMC, forward: bool = True) -> Case:
        sampler = kind(n, 3.0, inner=inner, inner_chains=4)
        start = normal_origin(sampler, ILL) if forward else Normal(np.zeros(3), np.eye(3))
        return Case(ILL, sampler, (n // 2, n), propagate(start, sampler, ILL, [n // 2, n]))

    sweep = [case(n) for n in (50, 100, 200, 400)]
    # the first recorded law must be the start's
    sweep = [dataclasses.replace(c, steps=(0, *c.steps), laws=[normal_origin(c.sampler, ILL), *c.laws]) for c in sweep]
    assert word(RDMCExact(), *sweep) == "holds" and word(RDMCExact(claimed=2.0), *sweep) == "violated"
    printed = [Case(ILL, s, (0, n), [normal_origin(s, ILL), final(s, ILL)]) for n in (50, 100, 200, 400) for s in (Printed(n, 3.0, inner="oracle"),)]
    assert RDMCExact().judge([r for c in printed for r in RDMCExact().rows(c)]).word == "violated"
    other = case(50, "exact")
    assert word(RDMCExact(), dataclasses.replace(other, laws=[normal_origin(other.sampler, ILL)] * 2)) == "not applicable"


def test_rdmc_inner() -> None:
    def exact(n: int) -> Case:
        return Case(ILL, RDMC(6, 1.0, inner="exact", inner_chains=n), (0,), [Normal(np.zeros(3), np.eye(3))])

    sweep = [exact(n) for n in (2, 4, 8)]
    assert word(RDMCInner(), *sweep) == "holds" and word(RDMCInner(claimed=-0.45), *sweep) == "violated"
    modes = [alone(RDMC(6, 1.0, inner="exact", inner_chains=n), MODES) for n in (16, 32, 64, 128)]
    assert word(RDMCInner(instants=2), *modes) == "holds" and word(RDMCInner(instants=2, claimed=-1.0), *modes) == "violated"
    assert word(RDMCInner(), alone(RDMC(6, 1.0, inner="ula"), MODES)) == "not applicable"
    assert word(RDMCInner(), alone(RDMC(6, 1.0, inner="importance"), DoubleWell())) == "not applicable"


# Planted bugs: each is seen by the check named beside it.


def halved(self: RDMC, k: int, x: Batch, score: Batch, noise: Noise) -> Batch:
    """Factor 1 before the score."""
    return MOVE(self, k, x, score / 2, noise)


def grown(self: RDMC, target: Target, k: int, level: int, rest: float, x: Batch, noise: Noise | None) -> Posterior:
    """e^t for e^-t."""
    q = PROBLEM(self, target, k, level, rest, x, noise)
    return dataclasses.replace(q, scale=1 / q.scale)


def variance_for_deviation(self: Posterior, noise: Noise) -> Batch:
    """v for sqrt v in the draws of the kernel."""
    z = Paired(noise, len(self.x)).normal((self.chains * len(self.x), self.dim))
    return (self.centres + self.variance * z) / self.scale


def unnormalised(q: Posterior, plan: Plan, noise: Noise) -> Draws:
    """Weights that do not add up to one."""
    y = q.by_kernel(noise)
    weights = torch.exp(-q.prior.potential(y)).reshape(q.chains, -1) / q.chains
    return Draws(y, weights, 1.0 / (weights * weights).sum(0))


def pushed(self: Posterior, x: Batch) -> Batch:
    """The gradient of the kernel with the other sign."""
    return -PULL(self, x)


def forgetful(self: RDMC, q: Posterior, k: int, start: Batch | None = None) -> Plan:
    """Cold chains that count as warm."""
    return PLAN(self, q, k, None)


def all_start(q: Posterior, plan: Plan, noise: Noise) -> tuple[Batch, torch.Tensor]:
    """Resampled draws that count as independent ones."""
    return BEGINNING(q, plan, noise)[0], q.x.new_full((len(q.x),), float(q.chains))


def whole_time(t: float, horizon: float, segments: int) -> tuple[int, float]:
    """The time since 0 for that since the start of the segment."""
    return level_of(t, horizon, segments)[0], t


def one_estimate(self: Estimated, x: Batch) -> Batch:
    """The first point's score for all of a particle's points."""
    return self.estimate(x[: self.n]).repeat(len(x) // self.n, 1)


def smoother(self: Estimated) -> dict[str, Constant]:
    """a and v swapped in the constants of the law half way."""
    return dict(CONSTANTS(dataclasses.replace(self, scale=self.variance**0.5, variance=self.scale**2)))


def optimistic(self: Posterior) -> dict[str, Constant]:
    """a/v for a^2/v."""
    c = self.prior.constants
    return {name: dataclasses.replace(c[name], value=c[name].value + self.scale / self.variance) for name in ("m", "M")}


CONSTANTS = Estimated.constants.fget  # type: ignore[attr-defined]
RUN, BEGINNING = inner_chains.run, estimators.beginning
MOVE, PULL, PLAN, PROBLEM = RDMC.carry, Posterior._pull, RDMC.plan, RDMC._problem
MUTANTS: list[tuple[Any, str, Any, Callable[[], None]]] = [
    (RDMC, "carry", halved, check_oracle_is_the_exponential_integrator),
    (RDMC, "_problem", grown, check_ula_in_closed_form),
    (Posterior, "by_kernel", variance_for_deviation, check_ula_in_closed_form),
    (Posterior, "by_kernel", variance_for_deviation, lambda: check_draws("rejection")),
    (Posterior, "by_kernel", variance_for_deviation, check_importance),
    (estimators, "importance", unnormalised, check_importance),
    (Posterior, "_pull", pushed, check_ula_in_closed_form),
    (RDMC, "plan", forgetful, check_warm),
    (estimators, "beginning", all_start, check_starved_starts),
    (rdmc, "level_of", whole_time, check_recursion),
    (Estimated, "score", one_estimate, check_recursion),
    (Estimated, "constants", property(smoother), check_recursion),
    (Posterior, "constants", property(optimistic), lambda: check_curvature(RDMC(8, 1.6), MODES)),
]


@pytest.mark.parametrize(("owner", "name", "bug", "check"), MUTANTS, ids=[f"{i}-{m[1]}" for i, m in enumerate(MUTANTS)])
def test_planted_bugs_are_seen(owner: Any, name: str, bug: Any, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    check()
    monkeypatch.setattr(owner, name, bug)
    with pytest.raises(AssertionError):
        check()
