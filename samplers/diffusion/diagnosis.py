"""How the inner samplers of reverse diffusion Monte Carlo fare at each time."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

from ...errors import InvalidInput
from ...targets.base import Batch, Target
from ..noise import Noise
from ..rdmc import RDMC


class Diagnosis(NamedTuple):
    """One time of the schedule.

    time: t.
    bias, variance: of the estimated score against the oracle's, ``sqrt E|E[S | x] - s|^2`` and ``E|S - E[S | x]|^2``, x ~ p_t; NaN
        where the target has no closed form after noising.
    ess, least_ess: effective number of inner points, mean and least over the particles.
    acceptance: share of accepted inner proposals, NaN without proposals.
    curvature: m + a^2/v, a lower bound of the posterior's: the inner problem is log-concave where it is at least 0. NaN without m.
    condition: (M + a^2/v)/(m + a^2/v), infinite where the latter is not positive; NaN without m and M.
    """

    time: float
    bias: float
    variance: float
    ess: float
    least_ess: float
    acceptance: float
    curvature: float
    condition: float


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
        out.append(Diagnosis(t, bias, variance, ess, least, sum(rates) / len(rates) if rates else math.nan, m, condition))
    return out
