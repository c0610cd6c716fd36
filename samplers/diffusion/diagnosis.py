"""How the inner samplers of reverse diffusion Monte Carlo fare at each time, and what an error of the score costs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

from ...errors import InvalidInput
from ...targets.base import Batch, Target
from ...targets.gaussian_mixture import GaussianMixture
from ..noise import Noise, Stream
from ..rdmc import RDMC
from .budget import weight
from .recursion import level_of
from .reverse import admit_score

#: Nodes of the grid on which the least curvature is looked for, per axis.
NODES = {1: 4001, 2: 401}


class Diagnosis(NamedTuple):
    """One time of the schedule.

    time: t.
    bias, variance: of the estimated score against the oracle's, ``sqrt E|E[S | x] - s|^2`` and ``E|S - E[S | x]|^2``, x ~ p_t; NaN
        where the target has no closed form after noising.
    ess, least_ess: effective number of inner points, mean and least over the particles.
    acceptance: share of accepted inner proposals, NaN without proposals.
    curvature: m + a^2/v, a lower bound of the posterior's: the inner problem is log-concave where it is at least 0. NaN without m.
    condition: (M + a^2/v)/(m + a^2/v), infinite where the latter is not positive; NaN without m and M.
    actual: the least curvature on a grid, of mixtures on the line and in the plane (`least_curvature`); NaN elsewhere.
    """

    time: float
    bias: float
    variance: float
    ess: float
    least_ess: float
    acceptance: float
    curvature: float
    condition: float
    actual: float

    @property
    def log_concave(self) -> bool:
        """Whether the inner problem is certified log-concave: at all later steps, too, with one segment (`log_concave_until`)."""
        return self.curvature >= 0


def diagnose(sampler: RDMC, target: Target, x: Batch, noise: Noise, repeats: int = 8) -> list[Diagnosis]:
    """Every time of the schedule, on noised copies of `x`.

    The bias is that of cold chains: no chain goes on from an earlier time. Squares of means of `repeats` estimates are less their own
    variance; a bias that is not resolved is 0.

    Arguments:
        x: exact draws of the target, shape (n, d).
        repeats: independent estimates at each x, at least 2.

    Cost: `repeats` score estimates of every particle per time.
    """
    if repeats < 2:
        raise InvalidInput(f"repeats must be at least 2, got {repeats}")
    sampler = dataclasses.replace(sampler, warm=False)
    sampler.admit(target)
    out = []
    for k in range(sampler.initial_steps, sampler.length):
        t = sampler.times[k]
        a, v = sampler.forward.kernel(t)
        y = a * x + v**0.5 * noise.normal(tuple(x.shape))
        looks = [sampler.look(target, k, y, noise) for _ in range(repeats)]
        mean = sum((look.score for look in looks[1:]), looks[0].score) / repeats
        bias, variance = math.nan, math.nan
        if "diffused" in target.capabilities:
            variance = sum(float(((look.score - mean) ** 2).sum(1).mean()) for look in looks) / (repeats - 1)
            away = float(((mean - sampler.forward.noised(target, t).score(y)) ** 2).sum(1).mean())
            bias = max(0.0, away - variance / repeats) ** 0.5
        rates = [float(look.acceptance.mean()) for look in looks if look.acceptance is not None]
        constants = sampler.posterior(target, k, y).constants
        m, big = (constants[name].value if name in constants else math.nan for name in ("m", "M"))
        condition = math.inf if m <= 0 else big / m
        ess = sum(float(look.ess.mean()) for look in looks) / repeats
        least = min(float(look.ess.min()) for look in looks)
        rate = sum(rates) / len(rates) if rates else math.nan
        out.append(Diagnosis(t, bias, variance, ess, least, rate, m, condition, least_curvature(sampler, target, k)))
    return out


def log_concave_until(target: Target) -> float:
    """The largest t at which the posterior of the target given x_t is certified log-concave: ``m + 1/(e^2t - 1) >= 0`` up to
    ``log(1 - 1/m)/2``, and always where m >= 0. NaN without m. A run backwards has log-concave inner problems from there on."""
    m = target.constant("m")
    return math.nan if m is None else math.inf if m >= 0 else 0.5 * math.log1p(-1 / m)


def least_curvature(sampler: RDMC, target: Target, k: int) -> float:
    """The least eigenvalue on a grid of the Hessian of the inner problem's potential, in the step after k steps: at least what is certified.

    Of Gaussian mixtures on the line and in the plane, over the box that holds their mass; NaN elsewhere. In the segment j > 0 the prior is
    the law at jS. Where the Hessian has no lower bound the box decides.
    """
    if not isinstance(target, GaussianMixture) or target.dim > 2:
        return math.nan
    level, rest = level_of(sampler.times[k], sampler.horizon, sampler.segments)
    prior = sampler.forward.noised(target, level * sampler.horizon / sampler.segments) if level else target
    a, v = sampler.forward.kernel(rest)
    return _least_eigenvalue(prior) + a * a / v


@lru_cache(maxsize=256)
def _least_eigenvalue(target: Target) -> float:
    lo, hi = target.extent()
    axes = [torch.linspace(float(a), float(b), NODES[target.dim], dtype=torch.float64) for a, b in zip(lo, hi, strict=True)]
    points = torch.stack([g.reshape(-1) for g in torch.meshgrid(*axes, indexing="ij")], 1)
    return min(float(torch.linalg.eigvalsh(target.hessian(part)).min()) for part in points.split(20_000))


class ScoreCost(NamedTuple):
    """What the scores of one run were worth.

    kl: ``sum_k w_k E|S_k - s_k|^2``, the bound of `budget.weight`, x along the run.
    rms: ``sqrt(kl/sum_k w_k)``.
    scores, potentials: per particle and step, as declared.
    """

    kl: float
    rms: float
    scores: float
    potentials: float

    @property
    def evaluations(self) -> float:
        """Scores and potentials."""
        return self.scores + self.potentials

    def against(self, other: ScoreCost) -> float:
        """``rms sqrt(evaluations)`` over that of another: the root of how many times as much it costs at an equal error of pure variance."""
        return self.rms * self.evaluations**0.5 / (other.rms * other.evaluations**0.5)


def score_costs(samplers: Sequence[RDMC], target: Target, n: int = 1000, seed: int = 0) -> list[ScoreCost]:
    """The error of each sampler's scores against the oracle's, along an actual run of n particles from exact draws at the horizon.

    Along a run, for warm chains have no meaning at single times; so each error is at the points where it has led. One start for all.

    Cost: one run of each sampler and the oracle at every step.

    Errors: `Unsupported` where the target has no closed form after noising; `Diverged` where an inner sampler is starved.
    """
    admit_score("oracle", target)
    return [_score_cost(sampler, target, n, seed) for sampler in samplers]


def _score_cost(sampler: RDMC, target: Target, n: int, seed: int) -> ScoreCost:
    sampler.admit(target)
    noise = Stream("score cost", seed, sampler.id, target.id)
    state = sampler.init(target, sampler.origin(target).sample(n, Stream("score cost", seed, target.id)), noise)
    kl = total = 0.0
    for k in range(sampler.length):
        truth = sampler.forward.noised(target, sampler.times[k]).score(state.x)
        state, look = sampler.observed(k, target, state, noise.at(k + 1))
        kl += weight(sampler, k) * float(((look.score - truth) ** 2).sum(1).mean())
        total += weight(sampler, k)
    return ScoreCost(kl, (kl / total) ** 0.5, sampler.score_evaluations, sampler.potential_evaluations)
