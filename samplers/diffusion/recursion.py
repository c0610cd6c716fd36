"""A noised law that is known by estimates of its score alone: what the levels of a recursive estimate hand to each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ...errors import Unsupported
from ...targets.base import Batch, Constant, Target, Values


def level_of(t: float, horizon: float, segments: int) -> tuple[int, float]:
    """(k, r) with ``t = k S + r`` and 0 < r <= S, S = horizon/segments; a time within rounding of an end belongs to the earlier segment."""
    length = horizon / segments
    k = min(segments - 1, max(0, math.ceil(t / length - 1e-9) - 1))
    return k, t - k * length


@dataclass(frozen=True, eq=False)
class Estimated(Target):
    """The law p_s of ``x_s = a x_0 + sqrt(v) xi``, x_0 from `base`, of which only estimates of the score can be had.

    M and m are those that follow from the base's. With ``-Hess log p_s = I/v - (a/v)^2 Cov(x_0 | x_s)``, the inequality of Cramer and Rao
    gives ``-Hess log p_s <= 1/(v + a^2/M)`` (1/v without M), that of Brascamp and Lieb ``-Hess log p_s >= m/(a^2 + m v)``, while
    ``m + a^2/v > 0``. M bounds the curvature from above alone: it sets the step of chains.

    The points come as `n` times as many rows as the particles that the noise is drawn for; they are worked through n at a time, one
    point of each particle. So a level draws from the particles' own noise, row by row, and no level takes more memory than the first.

    Arguments:
        base: the target at time 0.
        scale, variance: a > 0 and v > 0 at the time s.
        estimate: one estimate of the score per row of (n, d), its noise included.
        n: number of particles.
    """

    base: Target
    scale: float
    variance: float
    estimate: Callable[[Batch], Batch]
    n: int

    @property
    def dim(self) -> int:
        return self.base.dim

    def potential(self, x: Batch) -> Values:
        raise Unsupported("the law of a noised point has no potential here: its score is an estimate")

    def score(self, x: Batch) -> Batch:
        return torch.cat([self.estimate(part) for part in x.split(self.n)])

    @property
    def constants(self) -> Mapping[str, Constant]:
        found, a, v = {name: self.base.constant(name) for name in ("m", "M")}, self.scale, self.variance
        m, big = found["m"], found["M"]
        out = {"M": Constant(1 / v if big is None else big / (big * v + a * a), "bound", "from above alone: Cramer-Rao for the posterior")}
        if m is not None and a * a + m * v > 0:
            out["m"] = Constant(m / (a * a + m * v), "bound", "Brascamp-Lieb for the posterior")
        return out
