"""Any sampler as the inner one of reverse diffusion Monte Carlo: which there are, closed forms, the oracle, costs, refusals, planted bugs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from counting import counting

from mixrate.errors import Diverged, InvalidInput, Unsupported
from mixrate.laws.normal import affine_map
from mixrate.laws.particles import Particles, simulate
from mixrate.samplers.baoab import BAOAB
from mixrate.samplers.base import Sampler
from mixrate.samplers.diffusion import estimators, inner_samplers
from mixrate.samplers.diffusion.estimators import Draws, Plan, score_of
from mixrate.samplers.diffusion.inner_samplers import built, known, others
from mixrate.samplers.diffusion.posterior import Paired, Posterior
from mixrate.samplers.hmc import HMC
from mixrate.samplers.mala import MALA
from mixrate.samplers.noise import Noise, Stream
from mixrate.samplers.random_walk import RandomWalk
from mixrate.samplers.rdmc import RDMC, Warm
from mixrate.samplers.ula import ULA
from mixrate.targets.base import Batch, Target
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture

ILL = Gaussian.ill_conditioned(3, 5.0, rotation=2, mean=0.7)
#: Two modes close together: the density has one maximum, m > 0.
PAIR = GaussianMixture.log_concave_pair()
MODES = GaussianMixture.two_modes(3.0, dim=2, weight=0.3)
#: Those that leave the posterior invariant, or nearly so, and their inner steps.
AGREE = {"hmc": 12, "malt": 6, "ghmc": 40, "baoab": 40, "obabo": 40, "ubu": 40, "random_walk": 120, "randomized_midpoint": 40}
#: Where they are not 0.3. Ten leapfrog steps of sqrt(0.025/M) turn by a quarter of a period, after which nothing of the start is left.
STEPS = {"hmc": 0.025, "random_walk": 1.0}
KINETIC = ("baoab", "obabo", "ubu", "klmc", "kinetic_euler", "randomized_midpoint")


def at(target: Target, t: float, n: int, *key: object) -> Batch:
    """Exact draws of x_t."""
    return target.noised(t).sample(n, Stream("x", *key))


def posterior(target: Target, t: float, x: Batch, chains: int) -> Posterior:
    return Posterior(target, x, float(np.exp(-t)), float(-np.expm1(-2 * t)), chains)


# Which there are.


def test_every_sampler_that_a_step_size_suffices_for_is_found() -> None:
    assert set(others()) >= {*AGREE, *KINETIC, "randomized_midpoint_overdamped"}
    # of another's costs on each target, replicas, schedules, weights between particles, further arguments, no step; or not a sampler
    for name in ("proximal", "parallel_tempering", "rdmc", "sequential_monte_carlo", "autoregressive", "independence", "complete_recipe"):
        assert known(name) is None
    for name in ("langevin_diffusion", "importance", "exact", "rejection", "oracle", "base", "kinetic", "diffusion", "diffusion.ddpm", "os", ""):
        assert known(name) is None


@dataclass(frozen=True)
class Rubbed(BAOAB):
    """A friction that is a number."""

    friction: float | str = 3.0


def test_steps_are_in_the_posteriors_units() -> None:
    """ula's step is h; a dynamics with a momentum and a length have its root: by a change of units they are the same on every posterior."""
    sampler = RDMC(4, 1.2, inner="hmc", inner_step=0.3)
    for k in range(4):
        q = sampler.posterior(ILL, k, torch.zeros((2, 3), dtype=torch.float64))
        big = float(torch.linalg.eigvalsh(ILL.precision)[-1]) + q.precision
        plan = sampler.plan(q, k)
        assert plan.step_size == pytest.approx(0.3 / big, rel=1e-12) and plan.unit == pytest.approx(1 / big, rel=1e-12)
        for kind in (HMC, BAOAB):
            assert built(kind, plan).step_size == pytest.approx((0.3 / big) ** 0.5, rel=1e-12)  # type: ignore[attr-defined]
        for kind in (ULA, MALA):
            assert built(kind, plan).step_size == plan.step_size  # type: ignore[attr-defined]
        assert built(RandomWalk, plan) == RandomWalk(plan.step_size**0.5)
        assert built(BAOAB, plan).friction == "critical"  # type: ignore[attr-defined]
        assert built(Rubbed, plan).friction == pytest.approx(3 * big**0.5, rel=1e-12)  # type: ignore[attr-defined]


# The whole step on a Gaussian target, in closed form.


def check_baoab_in_closed_form() -> None:
    """Chains of (y, p) from ``N(x/a, v/a^2 I) x N(0, I)``: with P the posterior's precision, b the pull, and c = exp(-gamma h), a step is
    ``z' = F z + f + G xi``, so that the mean is carried by F and the covariance by ``F C F' + G G'``; the estimate is their average."""
    n, inner, fraction = 4, 3, 0.6
    sampler = RDMC(3, 1.2, inner="baoab", inner_chains=n, inner_steps=inner, inner_step=fraction)
    precision, mean, eye, zero = ILL.precision.numpy(), ILL.mean.numpy(), np.eye(3), np.zeros((3, 3))
    ends = np.linalg.eigvalsh(precision)[[0, -1]]
    for k in range(3):
        t, s = sampler.times[k], sampler.times[k + 1]
        a, v, c = np.exp(-t), -np.expm1(-2 * t), 2 * np.expm1(t - s)
        h = (fraction / (ends[1] + a * a / v)) ** 0.5
        keep = np.exp(-2 * (ends[0] + a * a / v) ** 0.5 * h)
        kick = np.block([[eye, zero], [-h / 2 * (precision + a * a / v * eye), eye]])
        drift = np.block([[eye, h / 2 * eye], [zero, eye]])
        stir, push = np.diag([1.0] * 3 + [keep] * 3), np.block([[zero, zero], [zero, eye]])
        step = kick @ drift @ stir @ drift @ kick
        spread = (1 - keep**2) * kick @ drift @ push @ drift.T @ kick.T
        # what each of the constant terms of the score adds: h/2 in both kicks
        into = h / 2 * (kick @ drift @ stir @ drift @ np.vstack([zero, eye]) + np.vstack([zero, eye]))
        a_z, b_z, cov = np.vstack([eye / a, zero]), np.zeros(6), np.diag([v / a**2] * 3 + [1.0] * 3)
        for _ in range(inner):
            a_z, b_z, cov = step @ a_z + into * a / v, step @ b_z + into @ precision @ mean, step @ cov @ step.T + spread
        mine = affine_map(sampler.at(k), ILL)
        assert np.allclose(mine.linear, np.exp(t - s) * eye + c * (a * a_z[:3] - eye) / v, atol=1e-10)
        assert np.allclose(mine.offset, c * a / v * b_z[:3], atol=1e-10)
        assert np.allclose(mine.noise_cov, np.expm1(2 * (t - s)) * eye + (c * a / v) ** 2 * cov[:3, :3] / n, atol=1e-10)


def test_baoab_in_closed_form() -> None:
    check_baoab_in_closed_form()


# Elsewhere, against the oracle.


def check_agreement(inner: str, target: Target, t: float = 0.6) -> None:
    """Over 400 particles, against exact draws. The mean error of 32 chains, coordinate by coordinate, is 0 to within 5.2 standard errors: a
    false alarm of 2e-7 each; a bias of 7 errors, 0.35 of one estimate's deviation, is missed once in 30 times (1.8 errors). 0.03 of it are
    allowed to integrators. The mean square error falls with the chains, and is that of as many exact draws."""
    n, found, step = 400, {}, STEPS.get(inner, 0.3)
    x = at(target, t, n, inner)
    for name, chains in ((inner, 4), ("exact", 32), (inner, 32)):
        sampler = RDMC(2, t, inner=name, inner_chains=chains, inner_steps=AGREE[inner], inner_step=step, least_ess=0.0, least_acceptance=0.0)
        error = sampler.look(target, 0, x, Stream("agree", name, chains)).score - target.noised(t).score(x)
        found[name, chains] = float((error**2).mean())
    mean, deviation = error.mean(0), error.std(0)
    assert bool((mean.abs() < (5.2 / n**0.5 + 0.03) * deviation).all())
    # means of 800 squares (d = 2, 3) are off by 0.05; 5 errors of a ratio of two are 0.35
    assert 0.65 / 8 < found[inner, 32] / found[inner, 4] < 1.5 / 8
    assert 0.65 < found[inner, 32] / found["exact", 32] < 1.5


@pytest.mark.parametrize("target", [ILL, PAIR], ids=["gaussian", "pair"])
@pytest.mark.parametrize("inner", AGREE)
def test_estimates_agree_with_the_oracle(inner: str, target: Target) -> None:
    check_agreement(inner, target)
    check_agreement(inner, target, 0.03)  # a posterior of another scale


def test_without_a_critical_friction_modes_may_be_far_apart() -> None:
    """HMC and random walks know no friction, and randomised midpoints without a momentum none either."""
    x = at(MODES, 1.0, 20, "far")
    for inner in ("hmc", "random_walk", "randomized_midpoint_overdamped"):
        sampler = RDMC(3, 1.0, inner=inner, inner_chains=64, inner_steps=10, least_acceptance=0.0)
        out = simulate(Particles(x, 1), sampler, MODES, [3])[0]
        assert out.diverged == 0 and bool(torch.isfinite(out.x).all())


# One route for all.


def test_chains_are_the_steps_of_their_sampler() -> None:
    """ula and mala by hand, number by number, and the compiled ula to rounding."""
    n, count, h, steps = 11, 10, 0.05, 5
    q = posterior(MODES, 0.7, at(MODES, 0.7, n, "route"), count)
    noise = Stream("route", step=3)
    y, paired = q.by_kernel(noise), Paired(noise, n)
    for _ in range(steps):
        y = y + h * q.score(y) + (2 * h) ** 0.5 * paired.normal(tuple(y.shape))
    for draws in (
        estimators.chains(ULA(h), q, Plan(steps, h), Stream("route", step=3)),
        estimators.ula(q, Plan(steps, h, compiled=False), Stream("route", step=3)),
        estimators.ula(q, Plan(steps, h), Stream("route", step=3)),
    ):
        assert float((draws.y - y).abs().max()) < 1e-11 and draws.acceptance is None and draws.score is None
    one, other = (f(q, Plan(steps, h), Stream("route", 1)) for f in (estimators.mala, lambda *a: estimators.chains(MALA(h), *a)))
    assert torch.equal(one.y, other.y) and one.acceptance is not None and other.acceptance is not None
    assert torch.equal(one.acceptance, other.acceptance)


@pytest.mark.parametrize("inner", ["hmc", "malt", "ghmc", "baoab", "obabo", "mala"])
def test_carried_scores_are_those_of_the_target(inner: str) -> None:
    sampler = RDMC(2, 0.5, inner=inner, inner_chains=6, inner_steps=3, identity="both")
    x = at(PAIR, 0.5, 40, "carried")
    q = sampler.posterior(PAIR, 0, x)
    draws = sampler._draw(q, 0, Stream("carried"))
    assert draws.score is not None and torch.allclose(draws.score, PAIR.score(draws.y), atol=1e-9)
    assert torch.allclose(score_of(q, draws, "both"), score_of(q, draws._replace(score=None), "both"), atol=1e-7)


def check_warm(inner: str) -> None:
    """With steps too short to move, chains end where they were; the momenta are drawn anew."""
    sampler = RDMC(10, 0.6, inner=inner, inner_chains=16, inner_steps=1, inner_step=1e-16, warm=True)
    x = at(PAIR, 0.6, 50, "warm")
    state = sampler.init(PAIR, x, Stream("warm"))
    one = sampler.advance(0, PAIR, state, Stream("warm", step=1))
    two = sampler.advance(1, PAIR, one, Stream("warm", step=2))
    assert isinstance(two, Warm) and one.chains.shape == (50, 16 * PAIR.dim) and float(one.chains.std()) > 0.3
    assert float((two.chains - one.chains).abs().max()) < 1e-5


@pytest.mark.parametrize("inner", ["hmc", "baoab", "random_walk"])
def test_warm_chains_go_on(inner: str) -> None:
    check_warm(inner)


@pytest.mark.parametrize("inner", ["hmc", "baoab", "random_walk", "randomized_midpoint"])
def test_blocks_do_not_change_a_number(inner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = RDMC(3, 0.5, inner=inner, inner_chains=9, inner_steps=2, least_acceptance=0.0)
    x = at(ILL, 0.5, 90, "blocks")
    whole = simulate(Particles(x, 1), sampler, ILL, [3])[0].x
    monkeypatch.setattr(estimators, "BLOCK_NUMBERS", 9 * 3 * 7)
    assert torch.equal(simulate(Particles(x, 1), sampler, ILL, [3])[0].x, whole)
    assert torch.equal(simulate(Particles(x[:30], 1), sampler, ILL, [3])[0].x, whole[:30])


@pytest.mark.parametrize("inner", others())
def test_single_precision_stays_so(inner: str) -> None:
    x = at(ILL, 0.5, 30, "single").float()
    found = RDMC(2, 0.5, inner=inner, inner_chains=8, inner_steps=2).look(ILL, 0, x, Stream("single", dtype=torch.float32)).score
    assert found.dtype == torch.float32 and bool(torch.isfinite(found).all())


# Costs.


@pytest.mark.parametrize("identity", ["tweedie", "target", "both"])
@pytest.mark.parametrize("inner", others())
def test_declared_costs_are_the_calls_made(inner: str, identity: str) -> None:
    """Rows at which the target was evaluated, per particle."""
    target, counts = counting()
    for cold in ("kernel", "importance"):
        sampler = RDMC(
            2, 0.5, inner=inner, inner_chains=(6, 7), inner_steps=(3, 2), identity=identity, cold=cold, least_ess=0.0, least_acceptance=0.0
        )
        state = sampler.init(target, torch.zeros((4, 1), dtype=torch.float64), Stream("count"))
        counts.update(potential=0, score=0)
        for k in range(2):
            state = sampler.advance(k, target, state, Stream("count"))
        assert counts == {"potential": 8 * sampler.potential_evaluations, "score": 8 * sampler.score_evaluations}


def test_costs_by_hand() -> None:
    hmc = RDMC(2, 0.5, inner="hmc", inner_chains=6, inner_steps=3, identity="target")
    assert (hmc.score_evaluations, hmc.potential_evaluations) == (6 * 31, 6 * 4)
    walk = RDMC(2, 0.5, inner="random_walk", inner_chains=6, inner_steps=3, identity="target")
    assert (walk.score_evaluations, walk.potential_evaluations) == (6, 6 * 4)


# Refusals.


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"inner": "gibbs"}, r"inner must be one of importance, .* oracle, or a sampler that a step size suffices for \(baoab, .*\), got 'gibbs'"),
        ({"inner": "proximal"}, "inner must be one of importance"),
        ({"inner": "rdmc"}, "inner must be one of importance"),
        ({"inner": "hmc", "segments": 2}, "segments must not be set where inner is hmc, only where it is ula or oracle"),
        ({"inner": "baoab", "budget": 100.0}, "budget must not be set where inner is baoab, only where it is ula or mala"),
        ({"inner": "hmc", "inner_chains": (4,) * 10, "warm": True}, "warm must be false where inner_chains is a list"),
        ({"inner": "hmc", "cold": "importance", "inner_chains": 4}, "least_ess must be in"),
    ],
)
def test_what_is_out_of_range_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{words}"):
        RDMC(10, 1.0, **given)


def test_a_critical_friction_needs_a_convex_posterior() -> None:
    for inner in ("malt", "ghmc", *KINETIC):
        with pytest.raises(InvalidInput, match=rf"^inner must not be {inner} on gaussian_mixture: at the horizon, friction must be a number"):
            RDMC(10, 1.0, inner=inner).admit(MODES)
        RDMC(10, 0.25, inner=inner).admit(MODES)  # log-concave until log(1.8)/2
    RDMC(10, 1.0, inner="hmc").admit(MODES)


def test_starved_chains_end_the_run_and_their_law_is_sampled() -> None:
    far = torch.tensor([[60.0, 0.0, 0.0]], dtype=torch.float64)
    for inner in ("hmc", "random_walk"):
        with pytest.raises(Diverged, match="inner acceptance too low"):
            simulate(Particles(far, 0), RDMC(10, 1.0, inner=inner, inner_step=2500.0), ILL, [10])
        with pytest.raises(Unsupported, match="uniform"):
            affine_map(RDMC(4, 1.0, inner=inner, inner_chains=4).at(0), ILL)


# Planted bugs: each is seen by the check named beside it.


def unscaled(kind: type[Sampler], plan: Plan) -> Sampler:
    """A step that knows nothing of the posterior."""
    return BUILT(kind, plan._replace(step_size=plan.step_size / plan.unit))


def overdamped(kind: type[Sampler], plan: Plan) -> Sampler:
    """h where sqrt h is meant."""
    sampler = BUILT(kind, plan)
    return dataclasses.replace(sampler, step_size=plan.step_size)  # type: ignore[type-var]


def at_x(q: Posterior, plan: Plan, noise: Noise) -> tuple[Batch, torch.Tensor]:
    """Cold chains around x for x/a."""
    points, ess = BEGINNING(q, plan, noise)
    return points + q.centres * (1 - 1 / q.scale), ess


def afresh(q: Posterior, plan: Plan, noise: Noise) -> tuple[Batch, torch.Tensor]:
    """Cold chains that count as warm."""
    return BEGINNING(q, plan._replace(start=None), noise)


def one_step(sampler: Sampler, q: Posterior, plan: Plan, noise: Noise) -> Draws:
    """One step for all of them."""
    return CHAINS(sampler, q, plan._replace(steps=1), noise)


BUILT, BEGINNING, CHAINS = built, estimators.beginning, estimators.chains
MUTANTS: list[tuple[Any, str, Any, Callable[[], None]]] = [
    (inner_samplers, "built", unscaled, lambda: check_agreement("malt", ILL, 0.03)),
    (inner_samplers, "built", unscaled, lambda: check_agreement("baoab", PAIR, 0.03)),
    (inner_samplers, "built", unscaled, check_baoab_in_closed_form),
    (inner_samplers, "built", overdamped, check_baoab_in_closed_form),
    (estimators, "beginning", at_x, check_baoab_in_closed_form),
    (estimators, "beginning", afresh, lambda: check_warm("baoab")),
    (inner_samplers, "chains", one_step, lambda: check_agreement("random_walk", ILL)),
]


@pytest.mark.parametrize(("owner", "name", "bug", "check"), MUTANTS, ids=[f"{i}-{m[1]}" for i, m in enumerate(MUTANTS)])
def test_planted_bugs_are_seen(owner: Any, name: str, bug: Any, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    check()
    monkeypatch.setattr(owner, name, bug)
    with pytest.raises(AssertionError):
        check()
