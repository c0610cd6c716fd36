"""Wasserstein distance of order 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import InvalidInput
from ..laws.coupling import Coupled
from ..laws.grid import Grid
from ..laws.normal import Normal
from ..laws.particles import Particles
from ..targets.base import Target
from .base import Estimate, Metric
from .numerics import EPS, inverse_norm
from .plane import knothe, polar, pooled_transport
from .quantiles import line
from .transport import plug_in

#: Absolute rounding error of a cumulative mass whose density came through a Fourier transform.
ROUNDING = 2e-15


@dataclass(frozen=True)
class W2(Metric):
    """Wasserstein distance of order 2, in units of length.

    ``W2(p, q)^2 = inf E|X - Y|^2`` over X of law p, Y of law q

    Normal: ``|m_p - m_q|^2 + min_U ||L_p - L_q U||_F^2`` over orthogonal U (the polar factor of ``L_q^T L_p``): no
    difference of traces, so W2 itself, not its square, is accurate to rounding. Singular covariances are allowed.
    Grid, 1-D: ``int_0^1 (F_p^-1 - F_q^-1)^2 du`` over u = expit(z), by Gauss-Legendre between the nodes of both.
    Grid, 2-D: an interval. Lower end: moments (Gelbrich), marginals; upper end: the Knothe-Rosenblatt couplings; both: exact
    transport between the laws pooled onto 31 x 31 points, by the triangle inequality. Value: the pooled distance, with what
    the moments say about the inside of the cells; the middle of the interval where that is above it.
    Particles: plug-in optimal transport, biased upwards by about the `floor` (two samples of one law score that much). Interval:
    ``[W2 - floor - 3 s, W2 + 3 s]``, s from the infinitesimal jackknife: the influence of a particle on W2^2 is its
    Kantorovich potential, so ``s(W2^2)^2 = Var f(X)/n + Var g(Y)/m``. It holds W2 of the laws with probability 0.997 or more:
    the bias is at most the floor (computed for maps x -> s x + c, measured on Gaussians). W2 of the samples is sorted (d = 1)
    or comes with a certificate ``bound <= W2^2 <= value`` (`column_generation`), at rounding by default.
    Pairs of chains at lag 0: an upper value, ``(mean |X - Y|^2)^1/2``, with the mean plus and minus three standard errors; with
    a lag, the sample X.

    Cost: O(d^3), 0.5 s at d = 1000; 0.02 s; 0.5 s; two transport problems: n log n (d = 1), else about n^2 d; O(n d).
    Arguments:
        gap: relative gap of the certificate on samples in d > 1, in [0, 1): ``value - bound <= gap value`` of W2^2. Both ends
            lie in the interval.
    Errors: `Diverged` for particles that are not finite; `MixrateError` where the transport solver does not converge.
    References: Gelbrich, "On a formula for the L2 Wasserstein metric ..." (1990), https://doi.org/10.1002/mana.19901470121
        Bhatia, Jain, Lim, "On the Bures-Wasserstein distance between positive definite matrices" (2019), Theorem 1,
        https://doi.org/10.1016/j.exmath.2018.01.002
        Villani, "Topics in optimal transportation" (2003), sections 2.2 and 2.3, https://doi.org/10.1090/gsm/058
        del Barrio, Loubes, "Central limit theorems for empirical transportation cost in general dimension" (2019),
        https://doi.org/10.1214/18-AOP1275
    """

    gap: float = 0.0
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not 0.0 <= self.gap < 1.0:
            raise InvalidInput(f"gap must be in [0, 1), got {self.gap}")

    def normal(self, p: Normal, q: Normal) -> Estimate:
        if p.dim != q.dim:
            raise InvalidInput(f"the two laws need one dimension, got {p.dim} and {q.dim}")
        (a, da), (b, db) = _root(p), _root(q)
        value = float(np.hypot(np.linalg.norm(p.mean - q.mean), np.linalg.norm(a - b @ polar(b.T @ a))))
        return Estimate.within(value, da + db + 4 * EPS * value)

    def grid(self, p: Grid, q: Grid) -> Estimate:
        if p.dim == 1:
            x = p.mesh.axes[0]
            return line(x, p.density, q.density, absolute_error(p, q))
        return self._plane(p, q)

    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        value, bound, s = plug_in(p, q, self.gap)
        least = plug_in(floor, q, self.gap).value
        return Estimate(value, max(0.0, bound - least - 3 * s), value + 3 * s, floor=least)

    def coupled(self, p: Coupled, target: Target) -> Estimate:
        if p.lag:
            return super().coupled(p, target)
        distances = p.distances
        unit = float(distances.max())
        if unit == 0.0:
            return Estimate(0.0, 0.0, 0.0, side="upper")
        squares = (distances / unit) ** 2
        mean, s = float(squares.mean()), float(squares.std()) / p.n**0.5 if p.n > 1 else np.inf
        return Estimate(unit * mean**0.5, unit * max(0.0, mean - 3 * s) ** 0.5, unit * (mean + 3 * s) ** 0.5, side="upper")

    def _plane(self, p: Grid, q: Grid) -> Estimate:
        first, second = p.mesh.axes
        one, two = (law.density.reshape(p.mesh.shape) for law in (p, q))
        noise = absolute_error(p, q)
        marginals = [line(x, one.sum(1 - i), two.sum(1 - i), noise) for i, x in enumerate((first, second))]
        gelbrich = self.normal(p.moments, q.moments)
        # what rounding and lost mass can do to a distance, as in one dimension
        slack = float(np.hypot(marginals[0].upper - marginals[0].value, marginals[1].upper - marginals[1].value))
        lower = max(0.0, gelbrich.lower - slack, float(np.hypot(marginals[0].lower, marginals[1].lower)))
        # conditional quantiles are interpolated to third order: at most 0.4 % at one node per deviation (measured on Gaussians)
        sharpest = min(float(np.linalg.eigvalsh(law.moments.cov)[0]) for law in (p, q))
        loose = 1 + 0.01 * float(p.mesh.spacing.max() / np.sqrt(sharpest)) ** 3
        upper = loose * min(knothe(first, second, one, two), knothe(second, first, one.T, two.T)) + slack
        value, pooled, displaced = pooled_transport(p, q)
        lower, upper = max(lower, pooled - displaced), min(upper, pooled + displaced)
        upper = max(upper, lower)
        if value > upper:  # nearly equal laws, their distance far below the cells: the solver saw nothing but the cells
            value = 0.5 * (lower + upper)
        return Estimate(max(value, lower), lower, upper)


def _root(law: Normal) -> tuple[np.ndarray, float]:
    """(L with L L^T = cov, what its rounding may do to W2)."""
    deviation = float(np.sqrt(np.trace(law.cov)))
    condition = inverse_norm(law)
    if np.isfinite(condition):
        # Cholesky of cov + E, |E_ij| <= c eps s_i s_j, moves W2 by |L^-1 E|_F / 2
        return law.factor, 2 * EPS * condition * deviation
    eigenvalues, basis = np.linalg.eigh(law.cov)
    return basis * np.sqrt(np.maximum(eigenvalues, 0.0)), 2 * float(np.sqrt(law.dim * EPS)) * deviation


def absolute_error(p: Grid, q: Grid) -> float:
    return p.lost + p.unresolved + q.lost + q.unresolved + ROUNDING
