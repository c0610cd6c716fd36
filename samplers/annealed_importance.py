"""Annealed importance sampling."""

from __future__ import annotations

from dataclasses import dataclass

from .annealing import Annealing


@dataclass(frozen=True)
class AnnealedImportance(Annealing):
    """Annealed importance sampling (AIS): independent chains from the reference to the target, each of weight

    ``w = prod_k exp(-(b_k - b_(k-1)) (V - V_0)(x_(k-1)))``, x_k from x_(k-1) by MALA on ``b_k V + (1 - b_k) V_0``, E w = Z.

    Before the last step positions are those of the chains, without their weights, which stand beside them. In the last step the
    particles are resampled by weight, once, and moved on the target; the effective number of weights must be at least `least_points`.

    Cost: `moves` scores and potentials per particle and step, L = `levels` steps.

    Arguments, errors: as in `Annealing`.

    References: Neal, "Annealed importance sampling" (2001), section 2, https://arxiv.org/abs/physics/9803008
    """

    @property
    def threshold(self) -> float:
        return 0.0
