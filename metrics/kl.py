"""Kullback-Leibler divergence."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..laws.grid import Grid
from ..laws.normal import Normal
from ..laws.particles import Particles
from ..targets.base import Target
from .base import Estimate, Metric
from .neighbours import K, against_density, against_sample, hull, log_normalizer, null
from .numerics import EPS, integrate, log1p_minus, log_ratio, whiten


@dataclass(frozen=True)
class KL(Metric):
    """Relative entropy of the law with respect to the target, in nats.

    ``KL(p || q) = int p log(p/q) dx = int [p log(p/q) - p + q] dx``

    Normal: ``1/2 sum_i [lambda_i - 1 - log lambda_i + delta_i^2]`` in the coordinates of `whiten`, relative accuracy near
    zero; inf where one of the covariances is singular. Grid: the second integral, whose integrand is non-negative; inf
    where q vanishes on more of p than rounding leaves there. Where q is below its own rounding noise that level stands in.
    Particles: ``mean_i [psi(4) - psi(n) - log(V_d rho_i^d q(x_i))]``, rho_i the distance to the fourth neighbour; the entropy's
    estimate with the target's exact density; a normaliser that is not known is measured in the same way on exact draws.
    Between two samples, d <= 2: ``mean_i d log(nu_i / rho_i) + psi(m + 1) - psi(n)``, nu_i the distance to the fourth
    neighbour in the other sample, a lower value: both distances blur. Clipped at 0. Interval, 99 %: normal, and moved by the
    bias that exact draws of the same size show; their score is the floor. A lower value too where `Density.resolves` finds the
    law's structure narrower than the distances between its points. Regions that no particle has visited are not in it.

    Cost: O(d^3); O(nodes); as `against_density`, twice.
    Errors: `Unsupported` where both covariances are singular, and for a sample where neither normaliser nor exact draws of
        the target are known, or of two samples above d = 2; `InvalidInput` where particles coincide, lie on a hyperplane or are
        fewer than max(4, d) + 2.
    References: Kullback, Leibler, "On information and sufficiency" (1951), https://doi.org/10.1214/aoms/1177729694
        For the estimates, see `neighbours`.
    """

    def normal(self, p: Normal, q: Normal) -> Estimate:
        w = whiten(p, q)
        if w is None:
            return Estimate.within(np.inf, 0.0)
        excess = np.where(np.abs(w.mu) < 0.2, log1p_minus(w.mu), np.log(w.variances) - w.mu)
        value = 0.5 * float((w.delta**2 - excess).sum())
        return Estimate.within(value, float(np.abs(w.mu / w.variances) @ w.error + 2 * w.relative * value))

    def grid(self, p: Grid, q: Grid) -> Estimate:
        # a density that underflows keeps its logarithm: only absolute rounding makes it weak
        cell, weak = p.mesh.cell, (q.density <= q.rounding) & ((q.rounding > 0) | np.isneginf(q.log_density))
        with np.errstate(divide="ignore"):
            q = replace(q, log_density=np.maximum(q.log_density, np.log(q.rounding)))
        ratio = log_ratio(p, q)
        if float(p.density[np.isposinf(ratio)].sum()) * cell > p.error + q.error:
            return Estimate.within(np.inf, 0.0)
        finite = np.where(np.isfinite(ratio), ratio, 0.0)
        near, small = np.abs(ratio) < 1, np.clip(finite, -1, 1)
        g = np.where(near, p.density * (np.expm1(-small) + small), p.density * finite - p.density + q.density)
        g = np.where(np.isposinf(ratio), 0.0, g)
        blur = (p.error + q.error) * (float(np.abs(finite[p.density > 0]).max(initial=0.0)) + p.error + q.error)
        blur += float(q.density[weak].max(initial=0.0)) * cell * weak.size  # at least the stand-in's own mass
        value, error, tail = integrate(g, p.mesh, negligible=blur)
        # what q leaves uncovered lies under a log ratio of two floats, at most 745 from the one used
        error += blur + tail + 745 * float(p.density[weak | np.isposinf(ratio)].sum()) * cell
        # rounding of the logarithms themselves, weighted by the log ratio
        error += 2 * EPS * cell * float(np.abs(p.density * finite) @ (1 + np.abs(np.where(p.density > 0, p.log_density, 0.0))))
        return Estimate.within(value, error)

    def sampled(self, p: Particles, target: Target) -> Estimate:
        log_z, shift = log_normalizer(p, target, self.name)
        law, zero = against_density(p, target, K, log_z), null(p, target, K, log_z)
        return hull(law.kl(), zero.kl(), "exact" if law.resolves(zero) else "lower", shift)

    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        return hull(against_sample(p, q), against_sample(floor, q), "lower")
