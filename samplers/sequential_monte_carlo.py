"""Sequential Monte Carlo along the path of tempered densities."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidInput
from .annealing import Annealing


@dataclass(frozen=True)
class SequentialMonteCarlo(Annealing):
    """Sequential Monte Carlo (SMC): annealed importance sampling whose particles are resampled where ``ESS = (sum w)^2/sum w^2``
    falls below a share of n, and in the last step.

    ``Z = prod_r mean w_r`` over the resamplings, w_r the weights gathered since the last one: every row carries the logarithm of the
    product so far. The estimate is unbiased whenever the particles are resampled. At `least_ess` = 0 it is `annealed_importance`.

    Cost: `moves` scores and potentials per particle and step, L = `levels` steps.

    Arguments: those of `Annealing`, and
        least_ess: share of the particles, in [0, 1]; 1 resamples at every level.

    Errors: as in `Annealing`.

    References: Del Moral, Doucet, Jasra, "Sequential Monte Carlo samplers" (2006), section 3.3.2.3 (MCMC moves, weights before
        the move), https://doi.org/10.1111/j.1467-9868.2006.00553.x
    """

    least_ess: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.least_ess <= 1:
            raise InvalidInput(f"least_ess must be in [0, 1], a share of the particles, got {self.least_ess}")

    @property
    def threshold(self) -> float:
        return self.least_ess
