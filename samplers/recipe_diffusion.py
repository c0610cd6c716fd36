"""The diffusion of a constant recipe itself, on Gaussian targets: no discretisation error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from ..errors import Unsupported
from ..targets.base import Batch, Target
from .linear_sde import root, transition
from .noise import Noise
from .recipe_sampler import RecipeSampler


@dataclass(frozen=True)
class RecipeDiffusion(RecipeSampler):
    """``dz = -(D + Q) grad H dt + sqrt(2 D) dB`` over a time h, for constant D and Q and a Gaussian target of precision P:
    ``z' = mu + e^(A h) (z - mu) + N^(1/2) xi``, ``A = -(D + Q) Hess H``, ``N = 2 int_0^h e^(A s) D e^(A s)^T ds``
    (`linear_sde.py`). The class methods of `complete_recipe` name instances.

    Cost: a product with a matrix of the size of z per particle; the matrices once, ``O(n^3)``.

    Arguments: those of `complete_recipe`; `step_size` changes where the law is observed, never the law.

    References: Pavliotis, "Stochastic Processes and Applications" (2014), section 3.7, https://doi.org/10.1007/978-1-4939-1323-7
    """

    def check(self, target: Target) -> None:
        super().check(target)
        if self.recipe.linear(target) is None:
            what = target.name if not target.is_gaussian else "a recipe that depends on the state"
            raise Unsupported(
                f"the diffusion of a recipe has an exact step on Gaussian targets for constant D and Q, not on {what}: use complete_recipe"
            )

    @property
    def noise_scale(self) -> float:
        return float("inf")

    def move(self, target: Target, z: Batch, noise: Noise) -> Batch:
        centre, keep, spread = (torch.as_tensor(m).to(z) for m in _matrices(self, target))
        xi = noise.normal((len(z), spread.shape[1]))
        return centre + (z - centre) @ keep.T + xi @ spread.T


@lru_cache(maxsize=8)
def _matrices(sampler: RecipeDiffusion, target: Target) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mu, e^(A h), root of N) on all of z."""
    sampler.check(target)
    linear = sampler.recipe.linear(target)
    assert linear is not None and target.moments is not None
    mean = target.moments[0].numpy()
    if sampler.recipe.mass is not None:
        mean = np.concatenate([mean, np.zeros(target.dim)])
    keep, spread = transition(*linear, sampler.step_size)
    return mean, keep, root(spread)
