"""Reverse Kullback-Leibler divergence."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import Unsupported
from ..laws.grid import Grid
from ..laws.normal import Normal
from ..laws.particles import Particles
from ..targets.base import Target
from .base import Estimate, Metric
from .kl import KL


@dataclass(frozen=True)
class ReverseKL(Metric):
    """Relative entropy of the target with respect to the law, in nats: ``KL(q || p) = int q log(q/p) dx``.

    Normal and grid: `KL` with its arguments exchanged, and its errors. Particles: refused. It asks for the law's density wherever the
    target has mass, and a sample says nothing of it where it has no points, which is just where the integrand is largest.

    Cost: O(d^3); O(nodes).
    Errors: `Unsupported` where both covariances are singular, and for samples.
    References: Kullback, Leibler, "On information and sufficiency" (1951), https://doi.org/10.1214/aoms/1177729694
    """

    def normal(self, p: Normal, q: Normal) -> Estimate:
        return KL().normal(q, p)

    def grid(self, p: Grid, q: Grid) -> Estimate:
        return KL().grid(q, p)

    def sampled(self, p: Particles, target: Target) -> Estimate:
        raise Unsupported("reverse_kl of a sample needs the law's density where it has no particles; use kl, tv or classifier_tv")

    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        raise Unsupported("reverse_kl of a sample needs the law's density where it has no particles; use kl, tv or classifier_tv")
