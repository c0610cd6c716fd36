"""The complete recipe, by Euler-Maruyama."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import InvalidInput
from ..targets.base import Batch, Target
from .noise import Noise
from .recipe_sampler import RecipeSampler


@dataclass(frozen=True)
class CompleteRecipe(RecipeSampler):
    """``z' = z + h [-(D + Q) grad H + div(D + Q)] + sqrt(2 h D) xi``: the diffusion leaves exp(-H) invariant for any positive
    semidefinite D and skew Q, and this discretisation of it has a bias of order h.

    Instances by name: `langevin`, `irreversible`, `irreversible_random`, `irreversible_optimal`, `riemannian`, `kinetic`, `sghmc`,
    `cld`, `psld`, `constant`, `random`, `random_field` (`recipe_sampler.py` has their D and Q).

    Cost: 1 score per step; where D or Q depend on z, their eigenvectors and derivatives as well: about n^2 reverse passes.

    Arguments:
        step_size: h > 0, in units of time; on a Gaussian target, for constant D and Q, below the least ``2 Re(mu)/|mu|^2`` over
            the eigenvalues mu of ``(D + Q) Hess H``.
        recipe: D and Q.
        start: variance of each momentum coordinate at the start, as a multiple of M; 0 or more.

    References: Ma, Chen, Fox, "A complete recipe for stochastic gradient MCMC" (2015), https://arxiv.org/abs/1506.04696
    """

    bias_order: ClassVar[float] = 1.0
    score_evaluations: ClassVar[float] = 1.0

    def check(self, target: Target) -> None:
        super().check(target)
        if (linear := self.recipe.linear(target)) is None:
            return
        mu = np.linalg.eigvals(-linear[0])
        mu = mu[np.abs(mu) > 1e-14 * np.abs(mu).max()]  # a direction that never moves puts no limit
        limit = float((2.0 * mu.real / np.abs(mu) ** 2).min(initial=np.inf))
        if self.step_size >= limit * (1 + 1e-12):
            raise InvalidInput(f"step_size must be below {max(limit, 0.0):.6g} on {target.name} (beyond it the chain explodes), got {self.step_size}")

    def move(self, target: Target, z: Batch, noise: Noise) -> Batch:
        h, r = self.step_size, self.recipe
        xi = noise.normal((len(z), r.normals(z.shape[1])))
        return z + h * r.drift(target, z) + h**0.5 * r.spread(target, z, xi)
