"""Budgets of inner chains per time: the weight of a step's error, the pilot, the allotment against brute force, what a score's error costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from counting import counting

from mixrate.errors import InvalidInput
from mixrate.experiments.components import build
from mixrate.laws.normal import Normal, affine_map
from mixrate.laws.origin import normal_origin
from mixrate.laws.particles import Particles, simulate
from mixrate.laws.propagate import propagate
from mixrate.metrics.kl import KL
from mixrate.samplers.diffusion import budget, estimators
from mixrate.samplers.diffusion.budget import CANDIDATES, GROUPS, Curve, allot, pilot, planned, spread, weight
from mixrate.samplers.diffusion.diagnosis import score_costs
from mixrate.samplers.noise import Stream
from mixrate.samplers.rdmc import RDMC
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture

ILL = Gaussian.ill_conditioned(3, 5.0, rotation=2, mean=0.7)
MODES = GaussianMixture.two_modes(6.0, dim=2, weight=0.3)
UNIT = Gaussian([0.0], [[1.0]])


# The weight of a step's error in the KL of what comes out.


def check_weight() -> None:
    """One step from a point, with two scores that differ by 1: the KL between the two Gaussians is the weight; it is just below h."""
    sampler = RDMC(5, 2.0, inner="oracle", initial_steps=2, initial_step=0.3)
    for k in range(sampler.length):
        step = affine_map(sampler.at(k), UNIT)
        mean, cov = np.zeros(1), step.noise_cov
        x, one = torch.zeros((1, 1), dtype=torch.float64), torch.ones((1, 1), dtype=torch.float64)
        moved = float((sampler.carry(k, x, one, Still()) - sampler.carry(k, x, 0 * one, Still())).item())
        gap = KL().between(Normal(mean, cov), Normal(mean + moved, cov)).value
        assert budget.weight(sampler, k) == pytest.approx(gap, rel=1e-9)
    h = 0.4
    assert budget.weight(sampler, 0) == pytest.approx(0.075) and budget.weight(sampler, 3) == pytest.approx(2 * np.tanh(h / 2)) and gap < h


class Still(Stream):
    """No noise."""

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.float64)


def test_the_weight_of_a_step() -> None:
    check_weight()


@pytest.mark.parametrize("inner", ["exact", "ula"])
def test_weighted_errors_bound_the_kl_of_what_comes_out(inner: str) -> None:
    """Against the same run with the exact score, all laws exact: both laws are Gaussian, and the errors are read off the affine maps."""
    for n in (1, 4):
        sampler = RDMC(6, 1.2, inner=inner, inner_chains=n, inner_steps=3)
        faithful = dataclasses.replace(sampler, inner="oracle")
        start = normal_origin(sampler, ILL)
        laws = [start, *propagate(start, faithful, ILL, range(1, 7))]
        end = propagate(start, sampler, ILL, [6])[0]
        bound = 0.0
        for k in range(6):
            mine, true, law = affine_map(sampler.at(k), ILL), affine_map(faithful.at(k), ILL), laws[k]
            assert isinstance(law, Normal)
            a, b, c = mine.linear - true.linear, mine.offset - true.offset, sampler.forward.push(sampler.times[k + 1], sampler.times[k])
            square = float(((a @ law.mean + b) ** 2).sum() + np.trace(a @ law.cov @ a.T) + np.trace(mine.noise_cov - true.noise_cov)) / c**2
            bound += weight(sampler, k) * square
        last = laws[6]
        assert isinstance(last, Normal) and isinstance(end, Normal)
        assert 0 < KL().between(last, end).value < bound


# The allotment.


def brute(weights: list[float], curves: list[Curve], costs: list[int], total: int) -> float:
    """The least sum over whole numbers."""
    best = np.inf
    for chosen in product(range(len(costs)), repeat=len(curves)):
        c = [costs[i] for i in chosen]
        for head in product(*(range(1, total // each + 1) for each in c[:-1])):
            left = (total - sum(n * each for n, each in zip(head, c[:-1], strict=True))) // c[-1]
            if left >= 1:
                best = min(best, value(weights, curves, np.array([*head, left]), np.array(chosen)))
    return float(best)


def value(weights: list[float], curves: list[Curve], n: np.ndarray, chosen: np.ndarray) -> float:
    return sum(w * (c.bias[i] + c.variance[i] / m) for w, c, m, i in zip(weights, curves, n, chosen, strict=True))


def check_allotment() -> None:
    """Within 0.2 % of the best whole numbers, which rounding may miss by more than that only where the numbers are small."""
    random = np.random.Generator(np.random.Philox(7))
    costs, total = [1, 2, 5], 60
    for _ in range(6):
        weights = list(random.uniform(0.1, 1.0, 3))
        curves = [Curve(np.sort(random.uniform(0, 0.3, 3) ** 2)[::-1], random.uniform(0.05, 4.0, 3)) for _ in range(3)]
        n, chosen = allot(weights, curves, costs, total)
        assert 0.99 * total <= sum(m * costs[i] for m, i in zip(n, chosen, strict=True)) <= total
        assert value(weights, curves, n, chosen) <= 1.002 * brute(weights, curves, costs, total)


def test_the_allotment_is_the_best() -> None:
    check_allotment()


def test_allotments_keep_the_least_number_and_refuse_what_cannot_be() -> None:
    curves = [Curve(np.array([0.0, 0.0]), np.array([v, v])) for v in (1.0, 1e-9, 0.0)]
    n, chosen = allot([1.0, 1.0, 1.0], curves, [2, 4], 200, 5)
    assert list(n[1:]) == [5, 5] and n[0] == 90 and list(chosen) == [0, 0, 0]
    none, _ = allot([1.0, 1.0], [Curve(np.zeros(1), np.zeros(1))] * 2, [1], 1000)  # no variance anywhere: still all that was given
    assert none.sum() == 1000
    with pytest.raises(InvalidInput, match=r"^budget must be at least 10, 5 chains of the shortest length, got 9"):
        allot([1.0, 1.0, 1.0], curves, [2, 4], 27, 5)


def test_lengths_at_which_the_pilot_diverged_are_avoided() -> None:
    curves = [Curve(np.array([0.1, np.nan]), np.array([1.0, np.inf]))] * 3
    n, chosen = allot([1.0, 1.0, 1.0], curves, [1, 2], 30)
    assert list(n) == [10, 10, 10] and list(chosen) == [0, 0, 0]
    lost = spread(RDMC(2, 1.0, inner_step=60.0), ILL, 100.0)  # unstable at every length: a plan all the same, and a run that says so
    assert lost.score_evaluations > 90
    out = simulate(Particles(torch.zeros((5, 3), dtype=torch.float64), 1), dataclasses.replace(lost, inner_steps=500), ILL, [2])[0]
    assert out.diverged == 1.0


# The pilot.


def check_pilot() -> None:
    """The variance of cold chains on a Gaussian, in closed form; and their bias, which long ones lose."""
    sampler = RDMC(2, 1.2, inner="ula", inner_step=0.4)
    precision, eye = ILL.precision.numpy(), np.eye(3)
    big = float(np.linalg.eigvalsh(precision)[-1])
    for k, curve in enumerate(pilot(sampler, ILL)):
        a, v = np.exp(-sampler.times[k]), -np.expm1(-2 * sampler.times[k])
        h = 0.4 / (big + a * a / v)
        r = eye - h * (precision + a * a / v * eye)
        for found, steps in zip(curve.variance, CANDIDATES, strict=True):
            power = np.linalg.matrix_power(r, 2 * steps)
            chain = power * v / a**2 + 2 * h * sum(np.linalg.matrix_power(r, 2 * j) for j in range(steps))
            # 64 particles, 3 coordinates, 3 degrees of freedom; a false alarm at 1e-6 in 12 is 5.6 errors of at most 0.08 (three unequal axes)
            assert found == pytest.approx((a / v) ** 2 * np.trace(chain), rel=0.45)
        assert curve.bias[0] > 20 * curve.bias[-1] and curve.bias[0] > 0.05 * curve.variance[0] / GROUPS[1]


def test_the_pilot_measures_variance_and_bias() -> None:
    check_pilot()


def bound_of(sampler: RDMC, n: int = 400) -> float:
    """``sum_k w_k E|S - s|^2`` at exact draws of every p_t, the same for all."""
    total = 0.0
    for k in range(sampler.length):
        p = sampler.forward.noised(MODES, sampler.times[k])
        x = p.sample(n, Stream("bound", k))
        total += weight(sampler, k) * float(((sampler.look(MODES, k, x, Stream("bound", k, 1)).score - p.score(x)) ** 2).sum(1).mean())
    return total


def check_spread() -> None:
    """At an equal cost the bound falls: to less than two thirds, where chains start far out."""
    sampler = RDMC(8, 2.0, inner="ula", inner_chains=128, inner_steps=20)
    found = budget.spread(sampler, MODES, sampler.score_evaluations)
    assert 0.99 * sampler.score_evaluations <= found.score_evaluations <= sampler.score_evaluations
    assert bound_of(found) < 0.65 * bound_of(sampler)


def test_a_budget_per_time_is_better_spent() -> None:
    check_spread()


def test_plans_are_made_once_and_alike() -> None:
    sampler = RDMC(4, 1.0, inner="ula", identity="both", budget=300.0)
    plan = planned(sampler, MODES)
    assert plan is planned(sampler, MODES) and plan == spread(sampler, MODES, 300.0) and plan.budget is None
    assert isinstance(plan.inner_chains, tuple) and min(plan.inner_chains) >= 4
    assert [sampler.numbers(MODES, k) for k in range(4)] == list(zip(plan.inner_chains, plan.inner_steps, strict=True))  # type: ignore[arg-type]
    assert plan != spread(sampler, MODES, 300.0, seed=1)


@pytest.mark.parametrize("inner", ["ula", "mala"])
def test_what_a_run_with_a_budget_spends(inner: str) -> None:
    """Rows at which the target was evaluated in a run, the potentials of the starts among them; within 1 % of what is declared."""
    (target, counts), cold = counting(), "importance" if inner == "ula" else "normal"
    sampler = RDMC(3, 0.6, inner=inner, cold=cold, budget=400.0, least_acceptance=0.0, least_ess=2.0)
    assert sampler.score_evaluations == 400 and sampler.numbers(target, 0)[0] >= (2 if inner == "ula" else 1)  # the pilot
    counts.update(potential=0, score=0)
    simulate(Particles(torch.zeros((50, 1), dtype=torch.float64), 1), sampler, target, [3])
    spent = counts["score"] + (counts["potential"] if inner == "ula" else 0)
    assert 0.99 * 400 * 150 <= spent <= 400 * 150


def test_blocks_do_not_change_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = RDMC(3, 0.5, inner="ula", inner_chains=(3, 11, 20), inner_steps=(4, 1, 2))
    x = MODES.noised(0.5).sample(90, Stream("blocks"))
    whole = simulate(Particles(x, 1), sampler, MODES, [3])[0].x
    monkeypatch.setattr(estimators, "BLOCK_NUMBERS", 9 * 2 * 7)
    assert torch.equal(simulate(Particles(x, 1), sampler, MODES, [3])[0].x, whole)
    assert torch.equal(simulate(Particles(x[:30], 1), sampler, MODES, [3])[0].x, whole[:30])


def test_numbers_per_step_come_from_a_yaml() -> None:
    made = build("sampler", "rdmc", {"steps": 2, "horizon": 1, "inner_chains": [3, 4], "inner_steps": 5})
    assert made == RDMC(2, 1.0, inner_chains=(3, 4), inner_steps=5) and made.numbers(MODES, 1) == (4, 5)
    assert build("sampler", "rdmc", {"steps": 2, "horizon": 1, "budget": 300}).budget == 300
    with pytest.raises(InvalidInput, match=r"^inner_chains must be a whole number or a list of whole numbers, got the list \[3, 4.5\]"):
        build("sampler", "rdmc", {"steps": 2, "horizon": 1, "inner_chains": [3, 4.5]})
    with pytest.raises(InvalidInput, match=r"^inner_steps must be one number or 2, one per step"):
        build("sampler", "rdmc", {"steps": 2, "horizon": 1, "inner_steps": [3]})


# What an error of the score costs.


def test_the_error_of_a_run_and_its_cost() -> None:
    """Exact draws on a Gaussian: ``E|S - s|^2 = (a/v)^2 tr Sigma_post/n`` wherever the run leads. The oracle has no error."""
    sampler = RDMC(5, 1.2, inner="exact", inner_chains=16)
    exact, more, oracle = score_costs([sampler, RDMC(5, 1.2, inner="exact", inner_chains=64), RDMC(5, 1.2, inner="oracle")], ILL, 2000)
    kl = 0.0
    for k in range(5):
        a, v = np.exp(-sampler.times[k]), -np.expm1(-2 * sampler.times[k])
        kl += weight(sampler, k) * (a / v) ** 2 * np.trace(np.linalg.inv(ILL.precision.numpy() + a * a / v * np.eye(3))) / 16
    assert exact.kl == pytest.approx(kl, rel=0.08)  # the last time dominates: 6000 squares, 4.9 errors of 0.0183 are 0.09 at most
    assert more.kl == pytest.approx(kl / 4, rel=0.08) and oracle.kl == 0 and oracle.evaluations == 1
    assert exact.rms == pytest.approx((exact.kl / sum(weight(sampler, k) for k in range(5))) ** 0.5)


def test_costs_of_warm_chains_and_of_an_equal_error() -> None:
    """Twice the chains: the same error at an equal cost, so the ratio is near 1. Warm chains of few steps have less error on one mode."""
    unit = Gaussian([0.5], [[0.3]])
    plain, twice = score_costs([RDMC(10, 1.0, inner_chains=n, inner_steps=30, inner_step=0.2) for n in (20, 40)], unit, 2000)
    assert twice.against(plain) == pytest.approx(1.0, abs=0.08) and twice.scores == 2 * plain.scores == 1200 and plain.against(plain) == 1
    cold, warm = score_costs([RDMC(40, 2.0, inner_chains=64, inner_steps=2, warm=w) for w in (False, True)], unit, 500)
    assert warm.rms < 0.7 * cold.rms and warm.evaluations == cold.evaluations == 128


# Planted bugs: each is seen by the check named beside it.


def halved(sampler: RDMC, k: int) -> float:
    """Half the weight."""
    return weight(sampler, k) / 2


def linear(mass: np.ndarray, costs: np.ndarray, total: float, least: int) -> np.ndarray:
    """Numbers in proportion to the variance, not to its root."""
    return np.asarray(np.maximum(least, total * mass / (costs @ mass)))


def longest(chosen: np.ndarray, choices: int, found: Callable[[np.ndarray], float]) -> np.ndarray:
    """The longest chains at every time."""
    return np.full(len(chosen), choices - 1)


def variance_of_the_mean(*args: Any) -> Any:
    """The spread of the mean of the groups for that of a group."""
    return [(mean, own / GROUPS[0]) for mean, own in GROW(*args)]


def no_plan(sampler: RDMC, target: Any, total: float, seed: int = 0) -> RDMC:
    """The cost is met, by the same number everywhere."""
    return dataclasses.replace(sampler, inner_chains=int(total), inner_steps=1)


GROW = budget._grow
MUTANTS: list[tuple[str, Any, Callable[[], None]]] = [
    ("weight", halved, check_weight),
    ("fill", linear, check_allotment),
    ("_changed_one_by_one", longest, check_allotment),
    ("_grow", variance_of_the_mean, check_pilot),
    ("spread", no_plan, check_spread),
]


@pytest.mark.parametrize(("name", "bug", "check"), MUTANTS, ids=[m[1].__name__ for m in MUTANTS])
def test_planted_bugs_are_seen(name: str, bug: Any, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, name, bug)
    with pytest.raises(AssertionError):
        check()
