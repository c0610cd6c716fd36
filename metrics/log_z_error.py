"""Error of an estimate of log Z."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import Unsupported
from ..laws.particles import Particles
from ..samplers.annealing import effective_size, log_mean
from ..targets.base import Target
from .base import Estimate, Metric
from .sampling import Z, points


@dataclass(frozen=True)
class LogZError(Metric):
    """``|log mean w - log Z|``, w the weights that stand beside the particles, Z = integral of exp(-V): the logarithm of a ratio.

    E mean w = Z, so that the logarithm is low by half the variance of mean w / Z on the average. Before the last level of an
    annealed sampler mean w estimates the integral of exp(-U_b) at the b it has got to, and this is how far that is from Z.

    Interval: weights that differ are taken for independent, ``+- 2.58 s``, ``s^2 = (1/ESS - 1/n) n/(n - 1)``, the delta method at
    99 %. That is right for annealed importance sampling, before it resamples, where the ESS is large. Once the particles have been
    resampled the weights gathered before are alike, and the interval leaves their error out: after the last step it is the value
    itself. How far estimates scatter is then to be seen over seeds only. Floor: 0.

    Cost: O(n).
    Errors: `Unsupported` for samples without weights, and for targets whose log_normalizer is not known.
    References: Neal, "Annealed importance sampling" (2001), section 2, https://arxiv.org/abs/physics/9803008
    """

    def sampled(self, p: Particles, target: Target) -> Estimate:
        points(p, dim=target.dim)
        if p.log_weights is None:
            raise Unsupported(f"{self.name} needs particles with weights, as annealed_importance and sequential_monte_carlo carry them, got none")
        if target.log_normalizer is None:
            raise Unsupported(f"{self.name} needs the log_normalizer of {target.name}, which is not known")
        value, n = abs(log_mean(p.log_weights) - target.log_normalizer), p.n
        if math.isinf(value) or n == 1:
            return Estimate(value, value, value)
        # equal weights have an ESS of n up to rounding
        spread = Z * math.sqrt(max(0.0, 1.0 / effective_size(p.log_weights) - 1.0 / n) * n / (n - 1))
        return Estimate(value, max(0.0, value - spread), value + spread)
