"""Gelbrich's lower bound of the Wasserstein distance of order 2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ..errors import Unsupported
from ..laws.normal import Normal
from ..laws.particles import Particles
from ..samplers.noise import Stream
from ..targets.base import Target
from .base import Estimate, Metric
from .plane import polar
from .transport import samples
from .w2 import W2


@dataclass(frozen=True)
class Gelbrich(Metric):
    """W2 between the Gaussians of the same means and covariances, in units of length: at most W2, with equality on Gaussians.

    ``G^2 = |m_p - m_q|^2 + tr(C_p + C_q - 2 (C_p^1/2 C_q C_p^1/2)^1/2) <= W2(p, q)^2``

    Normal: W2 itself. Particles: of the sample moments, computed as ``min_U |C_p^1/2 - C_q^1/2 U|_F`` over orthogonal U;
    against a target whose moments are known, those take the place of a sample. Singular covariances (n <= d) are allowed. The
    value is biased upwards by about the `floor`, which is of order d / sqrt(n), for any law. Interval: ``[G - floor - 3 s, G +
    3 s]``, s from the jackknife: with B the linear map that carries the centred x, the influence on G^2 is ``|x|^2 - x.B x + 2
    (m_p - m_q).x``. It holds G of the laws with probability 0.997 or more.

    Cost: O(n d^2 + d^3).
    Errors: `Unsupported` on grids (there `w2` is as cheap); `Diverged` for particles that are not finite.
    References: Gelbrich, "On a formula for the L2 Wasserstein metric ..." (1990), Theorem 2.1,
        https://doi.org/10.1002/mana.19901470121
        Rippl, Munk, Sturm, "Limit laws of the empirical Wasserstein distance: Gaussian distributions" (2016), for the
        derivative, https://doi.org/10.1016/j.jmva.2016.06.005
    """

    def normal(self, p: Normal, q: Normal) -> Estimate:
        e = W2().normal(p, q)
        return Estimate(e.value, e.lower, e.upper, side="lower")

    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        (x, y, z), unit = samples(p, q, floor)
        return _estimate(_Moments.of(x), _Moments.of(y), _Moments.of(z), unit)

    def sampled(self, p: Particles, target: Target) -> Estimate:
        if target.moments is None:
            reference, floor = (Particles.of_target(target, p.n, p.seed, key) for key in ("reference", "floor"))
            return self.particles(p, reference, floor)
        mean, cov = (moment.detach().cpu().double().numpy() for moment in target.moments)
        try:
            floor = Particles.of_target(target, p.n, p.seed, "floor")
        except Unsupported:  # no exact draws: those of the Gaussian of these moments
            z = Stream(p.seed, "floor").normal((p.n, p.dim)).numpy()
            floor = Particles(torch.from_numpy(mean + z @ _Moments(mean, cov, None).root))
        # the mean rides along as a sample of one, so that all are in one unit
        (x, z, centre), unit = samples(p, floor, Particles(torch.from_numpy(mean)[None]))
        return _estimate(_Moments.of(x), _Moments(centre[0], cov / unit / unit, None), _Moments.of(z), unit)


class _Moments(NamedTuple):
    """Mean, covariance and, of a sample, the points they come from."""

    mean: np.ndarray
    cov: np.ndarray
    points: np.ndarray | None

    @classmethod
    def of(cls, x: np.ndarray) -> _Moments:
        mean = x.mean(0)
        return cls(mean, (x - mean).T @ (x - mean) / len(x), x - mean)

    @property
    def root(self) -> np.ndarray:
        """The symmetric square root of the covariance."""
        w, basis = np.linalg.eigh(self.cov)
        return np.asarray((basis * np.sqrt(np.maximum(w, 0.0))) @ basis.T)


def _estimate(p: _Moments, q: _Moments, floor: _Moments, unit: float) -> Estimate:
    (value, variance), (least, _) = _squared(p, q), _squared(floor, q)
    value, least = math.sqrt(value), math.sqrt(least)
    s = math.sqrt(variance) / (2 * value) if value > 0 else 0.0
    return Estimate(unit * value, unit * max(0.0, value - least - 3 * s), unit * (value + 3 * s), floor=unit * least, side="lower")


def _squared(p: _Moments, q: _Moments) -> tuple[float, float]:
    """(G^2, its variance)."""
    a, b = p.root, q.root
    turned = b @ polar(b @ a)
    shift = p.mean - q.mean
    variance = 0.0
    for law, root, other, gap in ((p, a, turned, shift), (q, turned, a, -shift)):
        if law.points is None:
            continue
        # x = root w, so B x = other w; in the null space of a singular covariance there are no points
        w = law.points @ np.linalg.pinv(root, rcond=1e-7).T
        influence = (law.points**2).sum(1) - (law.points * (w @ other.T)).sum(1) + 2 * law.points @ gap
        variance += float(influence.var()) / len(law.points)
    return float(shift @ shift + ((a - turned) ** 2).sum()), variance
