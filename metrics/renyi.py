"""Renyi divergence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InvalidInput, Unsupported
from ..laws.grid import Grid
from ..laws.normal import Normal
from ..laws.particles import Particles
from ..targets.base import Target
from .base import Estimate, Metric
from .neighbours import TAILS, K, against_density, hull, log_normalizer, null
from .numerics import EPS, Whitened, integrate, log1p_minus, log_ratio, whiten
from .sampling import energies, points


@dataclass(frozen=True)
class Renyi(Metric):
    """Renyi divergence of the law from the target, in nats.

    ``R_a(p || q) = 1/(a-1) log int p^a q^(1-a) dx``

    Normal, in the coordinates of `whiten`: ``s_i = a + (1-a) lambda_i`` must all be positive, else inf;
    ``R_a = a/2 sum delta_i^2/s_i - 1/(2(a-1)) sum [log s_i - (1-a) log lambda_i]`` through `log_affinity`.
    Grid: ``log(1 + T)/(a-1)``, ``T = int [p^a q^(1-a) - a p + (a-1) q] dx`` of one sign. For a > 1 nodes where a
    law is below its own rounding count towards the upper end of the interval only. The interval holds what the rounding
    of each node could do; where the integrand grows out of the box the value is a lower one.
    Particles: ``1/(a-1) log mean_i c u_i^(1-a)``, ``u_i = V_d rho_i^d q(x_i)`` with the distance rho_i to the k-th neighbour
    and ``1/c = E u^(1-a) = Gamma(k+1-a) Gamma(n) / (Gamma(k) Gamma(n+1-a))``, k = max(4, 2 + the integer part of 2|1-a|). What
    lies beyond a level of V, a twentieth of the sample and a hundredth of exact draws at least, is one cell, for otherwise
    few tail terms decide: a lower value, by data processing. Floor and interval as in `kl`; for a < 1 the upper end is short above d = 5.

    Cost: O(d^3); O(nodes); as `kl`.
    Arguments:
        order: a > 0, not 1 (that limit is `kl`).
    Errors: `InvalidInput` for another order; `Unsupported` where both covariances are singular; on samples those of `kl`, where there are no
        exact draws of the target, and between two samples.
    References: van Erven, Harremoes, "Renyi divergence and Kullback-Leibler divergence" (2014), https://arxiv.org/abs/1206.2459
        Gil, Alajaji, Linder, "Renyi divergence measures for commonly used univariate continuous distributions" (2013),
        https://doi.org/10.1016/j.ins.2013.06.018
    """

    order: float = 2.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.order) and self.order > 0 and self.order != 1):
            raise InvalidInput(f"order must be positive, finite and not 1 (use kl), got {self.order}")

    def normal(self, p: Normal, q: Normal) -> Estimate:
        a = float(self.order)
        w = whiten(p, q)
        if w is None:
            return Estimate.within(np.inf, 0.0)
        s, ds = 1 + (1 - a) * w.mu, abs(1 - a) * w.error + 4 * EPS
        if (s <= 0).any():
            return Estimate.within(np.inf, 0.0)
        value = float(log_affinity(np.asarray(a), w)) / (a - 1)
        low = s - ds, w.variances - w.error
        if min(low[0].min(), low[1].min()) <= 0:  # the exact s or lambda may be on the other side of zero
            return Estimate(value, 0.0, np.inf)
        # dR/dmu = a (a-1)/2 delta^2/s^2 + a mu/(2 s lambda), at the worst s and lambda
        slope = a * (abs(a - 1) * (w.delta / low[0]) ** 2 + np.abs(w.mu) / (low[0] * low[1]))
        return Estimate.within(value, float(slope @ (w.error + EPS * np.abs(w.mu))) + (2 * w.relative + 4 * EPS) * abs(value))

    def grid(self, p: Grid, q: Grid) -> Estimate:
        a, cell, ratio = float(self.order), p.mesh.cell, log_ratio(p, q)
        if a > 1 and float(p.density[np.isposinf(ratio)].sum()) * cell > p.error + q.error:
            return Estimate.within(np.inf, 0.0)
        with np.errstate(all="ignore"):
            power = a * p.log_density + (1 - a) * q.log_density
            weak = (p.density <= p.rounding) | (q.density <= q.rounding)
            power[np.isnan(power) | (weak if a > 1 else False)] = -np.inf
            scale = -max(0.0, float(power.max()) - 600.0)  # sums of exp(600) still are floats
            moved, unit = np.exp(power + scale), float(np.exp(scale))
            near = q.density * (np.expm1(a * ratio) - a * np.expm1(ratio))  # T's integrand without its cancellation
            g = np.where((np.abs(ratio) < 0.1) & np.isfinite(power), unit * near, moved + unit * ((a - 1) * q.density - a * p.density))
            # each node's densities are known up to their rounding: the integrand at the worst of both
            other = np.log(np.maximum(q.density - q.rounding, 0.0)) if a > 1 else np.log(q.density + q.rounding)
            worst = a * np.log(p.density + p.rounding) + (1 - a) * other
            worst[np.isnan(worst)] = -np.inf
            excess = cell * (np.exp(worst + scale) - moved).clip(min=0.0)
            rounding, beneath = (float(excess[where].sum()) for where in (~weak, weak))
        total, error, tail = integrate(np.maximum(np.sign(a - 1) * g, 0.0), p.mesh, negligible=min(rounding + beneath, 1.0) + p.error + q.error)
        # relative errors e of p move the integral by a e int (p^a q^(1-a) - p), to first order, and likewise for q
        error += cell * float(a * p.error * np.abs(moved - unit * p.density).sum() + abs(a - 1) * q.error * np.abs(moved - unit * q.density).sum())
        error += unit * (p.error + q.error) ** 2 + rounding
        if a > 1:
            tail += beneath  # the value holds nothing there, so there is nothing to take off the lower end
        else:
            error += beneath

        def divergence(t: float) -> float:
            if scale < 0:
                return float((np.log(unit + t) - scale) / (a - 1))
            t = float(np.sign(a - 1) * t)
            return max(0.0, float(np.log1p(t) / (a - 1))) if t > -1 else np.inf

        upper = divergence(total + error + tail)
        value = divergence(total)
        return Estimate(value, divergence(max(0.0, total - error)), upper, side="lower" if value < np.inf == upper else "exact")

    def sampled(self, p: Particles, target: Target) -> Estimate:
        a, k = float(self.order), max(K, int(2 * abs(1 - self.order)) + 2)  # a term has a variance where k > 2 |1 - a|
        log_z, shift = log_normalizer(p, target, self.name)
        law, zero = against_density(p, target, k, log_z), null(p, target, k, log_z)
        exact = energies(points(Particles.of_target(target, p.n, p.seed, "level")), target)
        level = min(np.quantile(v, 1 - tail, method="lower") for v, tail in zip((law.potential, exact), TAILS, strict=True))
        draws = max(1, int((exact > level).sum()))
        tail = float(level), draws / p.n, draws
        return hull(law.renyi(a, *tail), zero.renyi(a, *tail), "lower", shift)

    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        raise Unsupported(f"{self.name} between two samples has a bias that no floor shows; use kl (d <= 2), mmd or classifier_tv")


def log_affinity(w: np.ndarray, laws: Whitened) -> np.ndarray:
    """``log int p^w q^(1-w) dx`` of two Gaussians for an array of real or complex `w`, shape of `w`.

    ``-1/2 sum [log(1 + (1-w) mu) - (1-w) log lambda] - w (1-w)/2 sum delta^2/(1 + (1-w) mu)``; where mu is small, log(1+x)
    is replaced by ``log(1+x) - x``: the linear parts cancel by themselves, so nothing is lost as p tends to q or w to 1.
    """
    v = 1 - np.asarray(w)[..., None]
    near = np.abs(laws.mu) < 0.2
    mu, far = v * laws.mu[near], v * laws.mu[~near]
    spread = (log1p_minus(mu) - v * log1p_minus(laws.mu[near])).sum(-1) + (np.log1p(far) - v * np.log(laws.variances[~near])).sum(-1)
    return np.asarray(-0.5 * (spread + ((1 - v) * v * laws.delta**2 / (1 + v * laws.mu)).sum(-1)))
