"""How many inner chains, and how long, at each time: the least bound on the KL of what comes out, at a given cost."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...errors import InvalidInput
from ...targets.base import Batch, Target
from ..noise import Stream
from ..rdmc import RDMC
from .estimators import INNER, score_of
from .posterior import Posterior

#: Inner steps that are tried.
CANDIDATES = (1, 2, 5, 10, 20, 50)
#: Steps of the reference chains: twice the longest that are tried, from the best start there is.
REFERENCE = 100
#: Particles of the pilot; groups of chains per particle, whose spread is the variance, and chains per group; the same of the reference.
PARTICLES, GROUPS, BEST = 64, (4, 64), (2, 128)

_LOCK = threading.Lock()


class Curve(NamedTuple):
    """The error of one step's score, per number l of inner steps tried: ``E|S - s|^2 = bias[l] + variance[l]/n`` with n chains."""

    bias: np.ndarray
    variance: np.ndarray


def weight(sampler: RDMC, k: int) -> float:
    """w in the bound ``KL <= sum_k w_k E|S_k - s_k|^2``, of the step after k steps.

    Given x the step adds N(0, b) noise to ``c S``, so exact and estimated scores part by ``c^2 |S - s|^2/(2 b)`` in KL, and an estimate
    with noise of its own by at most the mean of that (KL is convex). ``c = push``, ``b = back``: ``w = 2 tanh(h/2)``, just below the
    h of continuous time (`em_girsanov`). An initial Langevin step of size h: ``w = h/4``.
    """
    if k < sampler.initial_steps:
        return sampler.initial_step / 4
    t, s = sampler.times[k], sampler.times[k + 1]
    return sampler.forward.push(s, t) ** 2 / (2 * sampler.forward.back(s, t))


def cost(sampler: RDMC, steps: int) -> int:
    """Scores per inner chain; the potential of a start by importance counts as one, those of mala come with the scores."""
    return steps + int(sampler.inner == "mala" or sampler.identity != "tweedie") + int(sampler.cold == "importance")


def pilot(sampler: RDMC, target: Target, seed: int = 0) -> list[Curve]:
    """The error of every step's score, measured along a run of 64 particles that start at N(0, I).

    Each estimates in 4 independent groups of 64 chains (more for identity both), read off after 1, 2, 5, ... steps. Their spread is the
    variance; the squared distance of their mean to that of reference chains (2 groups of 128, 100 steps, started at resampled
    importance draws), less what the spread of both explains, is the bias. The run goes on with the reference. No oracle is needed.
    A bias that the reference shares is not seen: modes that neither finds, weights that importance draws miss, the bias of the inner
    step; nor is one that falls with the number of chains.

    Cost: 256 (50 + 100) scores and 256 potentials per particle and step: 6e7 scores on 25 steps, a few seconds for a compiled target.
    """
    fewest = 4 * (target.dim + 2) if sampler.identity == "both" else 1
    groups, best = ((many, max(size, fewest)) for many, size in (GROUPS, BEST))
    x = Stream("pilot", seed, sampler.id, target.id).normal((PARTICLES, target.dim))
    curves = []
    for k in range(sampler.length):
        noise = Stream("pilot", seed, sampler.id, target.id, step=k + 1)
        mean, rest = _grow(dataclasses.replace(sampler, cold="importance"), target, k, x, best, (REFERENCE,), noise)[0]
        bias, variance = [], []
        for found, own in _grow(sampler, target, k, x, groups, CANDIDATES, noise):
            bias.append(max(0.0, float(((found - mean) ** 2).sum(1).mean()) - own / groups[0] - rest / best[0]))
            variance.append(groups[1] * own)
        curves.append(Curve(np.array(bias), np.array(variance)))
        x = sampler.carry(k, x, mean, noise)
    return curves


def _grow(
    sampler: RDMC, target: Target, k: int, x: Batch, groups: tuple[int, int], lengths: Sequence[int], noise: Stream
) -> list[tuple[Batch, float]]:
    """The mean over groups of the score, and the mean square of one group's departure from it, of chains at each length."""
    q = Posterior(target, x.repeat(groups[0], 1), *sampler.forward.kernel(sampler.times[k]), groups[1])
    plan, out, done = sampler.plan(q, k), [], 0
    for length in lengths:
        draws = INNER[sampler.inner](q, plan._replace(steps=length - done), noise)
        done, plan = length, plan._replace(start=draws.y)
        scores = score_of(q, draws, sampler.identity).reshape(groups[0], *x.shape)
        mean = scores.mean(0)
        out.append((mean, float(((scores - mean) ** 2).sum(2).mean(1).sum()) / (groups[0] - 1)))
    return out


def fill(mass: np.ndarray, costs: np.ndarray, total: float, least: int) -> np.ndarray:
    """Real n_k >= least that minimise ``sum mass_k/n_k`` under ``sum costs_k n_k = total``: ``n = sqrt(mass/(lambda cost))``, by bisection
    on log lambda."""
    root = np.sqrt(mass / costs)
    lo, hi = -700.0, 700.0
    for _ in range(64):
        middle = (lo + hi) / 2
        if float(costs @ np.maximum(least, root * math.exp(-middle / 2))) > total:
            lo = middle
        else:
            hi = middle
    return np.asarray(np.maximum(least, root * math.exp(-hi / 2)))


def allot(weights: Sequence[float], curves: Sequence[Curve], costs: Sequence[int], total: float, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(n_k, index of l_k) that minimise ``sum_k w_k (bias_k[l] + variance_k[l]/n)`` under ``sum_k n_k cost[l_k] <= total``.

    The lengths are those that one price of a score makes the best at every time, for the best of many prices, then changed one at a time
    as long as that helps; the numbers for them in closed form, rounded down, and what is left is given chain by chain where it
    helps most per cost.

    Errors: `InvalidInput` where the least chains of the least cost are above the total.
    """
    w, c, steps = np.asarray(weights)[:, None], np.asarray(costs, float), len(curves)
    bias, mass = w * np.array([curve.bias for curve in curves]), w * np.array([curve.variance for curve in curves])
    gone = ~(bias + mass < 1e100)  # lengths at which the chains of the pilot left all bounds: to be avoided, where any are left
    bias, mass = np.where(gone, 1e200, bias), np.where(gone, 0.0, mass)
    mass = np.maximum(mass, max(1e-12 * float(mass.max()), 1e-300))
    if steps * least * c.min() > total:
        raise InvalidInput(f"budget must be at least {least * c.min():g}, {least} chains of the shortest length, got {total / steps:g}")
    rows = np.arange(steps)

    def value(chosen: np.ndarray) -> float:
        if least * c[chosen].sum() > total:
            return math.inf
        return float(bias[rows, chosen].sum() + (mass[rows, chosen] / fill(mass[rows, chosen], c[chosen], total, least)).sum())

    def priced(logarithm: float) -> np.ndarray:
        price = math.exp(logarithm)
        n = np.maximum(least, np.sqrt(mass / c) * math.exp(-logarithm / 2))
        return np.asarray((bias + mass / n + price * c * n).argmin(1))

    tried = {tuple(priced(logarithm)) for logarithm in np.linspace(-700, 300, 1001)} | {(int(c.argmin()),) * steps}
    best = _changed_one_by_one(min((np.array(choice) for choice in sorted(tried)), key=value), len(c), value)
    return _whole(mass[rows, best], c[best], total, least), best


def _changed_one_by_one(chosen: np.ndarray, choices: int, value: Callable[[np.ndarray], float]) -> np.ndarray:
    found, better = value(chosen), True
    while better:
        better = False
        for k in range(len(chosen)):
            for other in range(choices):
                trial = chosen.copy()
                trial[k] = other
                if (new := value(trial)) < found * (1 - 1e-12):
                    chosen, found, better = trial, new, True
    return chosen


def _whole(mass: np.ndarray, costs: np.ndarray, total: float, least: int) -> np.ndarray:
    n = np.maximum(least, np.floor(fill(mass, costs, total, least)))
    while True:
        left = total - float(costs @ n)
        gain = np.where(costs <= left, mass / (n * (n + 1)) / costs, -1.0)
        k = int(gain.argmax())
        if gain[k] < 0:
            return n.astype(int)
        n[k] += 1


def spread(sampler: RDMC, target: Target, budget: float, seed: int = 0) -> RDMC:
    """The sampler with numbers of inner chains and steps of their own at every time, that cost `budget` evaluations per particle and step.

    They minimise ``sum_k w_k E|S_k - s_k|^2``, which bounds the KL of what comes out (beside start and time steps), as measured by a `pilot`.

    Arguments:
        sampler: of inner ula or mala, cold, in one segment; its own inner_chains and inner_steps have no part in it.
        budget: evaluations per particle and step, on average over the steps; met from below, within 1 % where it is a few hundred
            or more. With identity both every step has at least 64 chains.
        seed: of the pilot.

    Cost: that of the pilot, once, whatever the number of particles of the run; the evaluations that the sampler declares are without it.
    """
    dataclasses.replace(sampler, budget=budget)  # refuses what a budget does not go with
    base = dataclasses.replace(sampler, budget=None, inner_chains=max(GROUPS[1], math.ceil(sampler.least_ess)), inner_steps=1)
    curves = pilot(base, target, seed)
    # a regression on few points errs more than the pilot's on a full group, divided by their number, would say
    regressed = max(GROUPS[1], 4 * (target.dim + 2)) if sampler.identity == "both" else 1
    least = max(regressed, math.ceil(sampler.least_ess) if sampler.cold == "importance" else 1)
    weights = [weight(base, k) for k in range(base.length)]
    chains, chosen = allot(weights, curves, [cost(base, steps) for steps in CANDIDATES], budget * base.length, least)
    return dataclasses.replace(base, inner_chains=tuple(int(n) for n in chains), inner_steps=tuple(CANDIDATES[i] for i in chosen))


def planned(sampler: RDMC, target: Target) -> RDMC:
    """What `spread` makes of a sampler with a budget, found once for all blocks and threads."""
    with _LOCK:
        return _planned(sampler, target)


@lru_cache(maxsize=32)
def _planned(sampler: RDMC, target: Target) -> RDMC:
    assert sampler.budget is not None
    return spread(sampler, target, sampler.budget)
