"""Wasserstein distance of order 2, centred: its bias on samples subtracted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InvalidInput
from ..laws.normal import Normal
from ..laws.particles import Particles
from .base import Estimate, Metric
from .column_generation import Certified
from .transport import between, samples
from .w2 import W2


@dataclass(frozen=True)
class DebiasedW2(Metric):
    """W2 of two samples less what samples of one law score among themselves, in units of length.

    ``D = W2(P, Q)^2 - [W2(P, P')^2 + W2(Q, Q')^2] / 2``, value ``sqrt(max(0, D))``; P, P', Q, Q' independent samples

    P, P' and Q, Q' are the halves of the two samples, W2(P, Q)^2 the mean over the four pairs of halves. Centring removes
    most of the bias, not all: with the optimal map x -> s x, ``E D = W2^2 - (s - 1)^2 B/2 <= W2^2``, ``B = E W2(Q, Q')^2`` (with
    a pure shift ``E D = W2^2``). So D is a lower estimate. Subtracting one self-distance only, of the narrower law, gives
    ``V = W2(P, Q)^2 - min(W2(P, P')^2, W2(Q, Q')^2)``, an upper estimate where one law is overdispersed: ``E V >= W2^2``.
    Interval of W2: from ``sqrt(D - 3 s)`` to ``sqrt(V) + 3 s/(2 sqrt V)`` (V at least 3 s), each s of a square from the
    infinitesimal jackknife: the influence of a particle is the same combination of its Kantorovich potentials. It holds W2
    with probability 0.997 or more. Floor: exact draws score a D about 0; ``sqrt(|D| + s)`` of such draws is given. Normal: W2
    itself.

    Cost: six transport problems of half the size, twice.
    Arguments:
        gap: relative gap of each, as for `w2`; half of it is the largest error of D relative to W2(P, Q)^2.
    Errors: `InvalidInput` below 4 particles or for a gap outside [0, 1); as `w2`.
    References: Papp, Sherlock, "Centered plug-in estimation of Wasserstein distances" (2022), whose upper estimator subtracts
        one self-distance (the lower one squares a difference of roots), https://arxiv.org/abs/2203.11627
        Feydy, Sejourne, Vialard, Amari, Trouve, Peyre, "Interpolating between optimal transport and MMD using Sinkhorn
        divergences" (2019), for centring by both halves, https://arxiv.org/abs/1810.08278
    """

    gap: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.gap < 1.0:
            raise InvalidInput(f"gap must be in [0, 1), got {self.gap}")

    def normal(self, p: Normal, q: Normal) -> Estimate:
        return W2().normal(p, q)

    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        (x, y, z), unit = samples(p, q, floor, least=4)
        square, s, upper = _centred(x, y, self.gap)
        null, spread, _ = _centred(z, y, self.gap)
        value, lower, least = (math.sqrt(max(0.0, a)) for a in (square, square - 3 * s, abs(null) + spread))
        return Estimate(unit * value, unit * lower, unit * max(value, upper), floor=unit * least, side="lower")


def _centred(x: np.ndarray, y: np.ndarray, gap: float) -> tuple[float, float, float]:
    """(D, its s, the upper end as a length), all halves of one size so that the biases cancel."""
    half = min(len(x), len(y)) // 2
    parts = {"p": (x[:half], x[half : 2 * half]), "q": (y[:half], y[half : 2 * half])}
    cross = [[between(a, b, gap) for b in parts["q"]] for a in parts["p"]]
    own = {law: between(*halves, gap) for law, halves in parts.items()}
    apart = float(np.mean([plan.value for row in cross for plan in row]))

    def spread(weight: dict[str, float]) -> float:
        """Standard deviation of W2(P, Q)^2 - sum of weight W2(own halves)^2."""
        influences = [(cross[k][0].f + cross[k][1].f) / 4 - weight["p"] * _side(own["p"], k) for k in (0, 1)]
        influences += [(cross[0][k].g + cross[1][k].g) / 4 - weight["q"] * _side(own["q"], k) for k in (0, 1)]
        return math.sqrt(sum(float(f.var()) for f in influences) / half)

    def above(law: str) -> float:
        """Upper end of the length whose square has one self-distance subtracted: to first order in the length, and bounded near 0."""
        square, s = apart - (1 - gap) * own[law].value, spread({"p": 0.0, "q": 0.0, law: 1.0})
        root = math.sqrt(max(square, 3 * s))
        return root + 1.5 * s / root if root > 0 else 0.0

    value, s = apart - 0.5 * (own["p"].value + own["q"].value), spread({"p": 0.5, "q": 0.5})
    return value, s + gap * apart / 3, max(above("p"), above("q"))


def _side(plan: Certified, k: int) -> np.ndarray:
    return plan.g if k else plan.f
