"""The Fokker-Planck residual of a recipe: zero where exp(-H) is invariant, whatever the drift claims to be."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..targets.base import Batch, Target, Values
from .recipe import Recipe, derivatives, divergence


class Residual(NamedTuple):
    """value: r at each row, shape (N,). scale: the sum of the absolute values of its terms, shape (N,)."""

    value: Values
    scale: Values

    @property
    def relative(self) -> Values:
        """|value| / scale; 0 where nothing moves at all."""
        return self.value.abs() / self.scale.clamp(min=torch.finfo(self.scale.dtype).tiny)


def residual(recipe: Recipe, target: Target, z: Batch) -> Residual:
    """``r = [-div(f rho) + sum_ij d_i d_j (D_ij rho)] / rho`` at each row of `z`, rho = exp(-H), f the drift as coded:

    ``r = -div f + f . grad H + sum_ij [d_i d_j D_ij - 2 (d_i D_ij) d_j H + D_ij (d_i H d_j H - d_i d_j H)]``.

    f, D and H are differentiated by torch; of Q and of the formula of f nothing is used. exp(-H) is invariant if and only if
    r = 0 everywhere (and nothing runs away). f itself is that of the step, evaluated without a graph.

    Cost: about ``2 n^2 + 3 n`` reverse passes, n the size of z.

    References: Risken, "The Fokker-Planck equation" (1996), section 4.7, https://doi.org/10.1007/978-3-642-61544-3
    """
    n = z.shape[1]
    with torch.no_grad():
        f = recipe.drift(target, z.detach())
    with torch.enable_grad():
        y = z.detach().requires_grad_(True)
        drift, diffusion = recipe.drift(target, y), recipe.diffusion(target, y)
        slope = derivatives(recipe.energy(target, y), y, again=True)
        bend = torch.stack([derivatives(slope[:, i], y) for i in range(n)], 1)
        spreads = torch.stack([derivatives(drift[:, i], y)[:, i] for i in range(n)], 1)
        along = divergence(diffusion.mT, y, again=True)  # sum_i d_i D_ij
        twice = torch.stack([derivatives(along[:, j], y)[:, j] for j in range(n)], 1)
    g, d = slope.detach(), diffusion.detach()
    terms = torch.cat(
        [-spreads, f * g, twice, -2.0 * along.detach() * g, (d * g[:, :, None] * g[:, None, :]).flatten(1), -(d * bend).flatten(1)], dim=1
    ).detach()
    return Residual(terms.sum(1), terms.abs().sum(1))
