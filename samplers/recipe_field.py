"""A smooth random recipe that depends on the state: an arbitrary instance of the theorem."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ..errors import InvalidInput
from ..targets.base import Batch, Target
from .base import positive
from .recipe import Recipe


@dataclass(frozen=True)
class Field(Recipe):
    """``D(z) = G(z) G(z)^T / n``, ``Q(z) = (S(z) - S(z)^T)/sqrt(2)``, each entry of G and S of the form
    ``a + b sin(w . z + c)``: a and b standard normal, w of length about 1, c a random phase.

    Arguments:
        dim: d >= 1, of the target; n = d, or 2 d with a momentum.
        seed: of the draw, 0 or more.
        momentum: M, where there is a momentum.
    """

    dim: int
    seed: int
    momentum: float | None = None

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise InvalidInput(f"dim must be at least 1, got {self.dim}")
        if self.seed < 0:
            raise InvalidInput(f"seed must be at least 0, got {self.seed}")
        if self.momentum is not None:
            positive(self.momentum, "mass")

    @property
    def mass(self) -> float | None:
        return self.momentum

    @cached_property
    def coefficients(self) -> tuple[np.ndarray, ...]:
        """(a, b, w, c), those of G first, those of S second."""
        n = self.dim if self.momentum is None else 2 * self.dim
        draw = np.random.Generator(np.random.Philox(self.seed))
        a, b = draw.standard_normal((2, 2, n, n))
        return a, b, draw.standard_normal((2, n, n, n)) / n**0.5, draw.uniform(0, 2 * np.pi, (2, n, n))

    def check(self, target: Target) -> None:
        if self.dim != target.dim:
            raise InvalidInput(f"dim must be that of {target.name}, {target.dim}, got {self.dim}")
        super().check(target)

    def _entries(self, which: int, z: Batch) -> torch.Tensor:
        a, b, w, c = (torch.as_tensor(m[which]).to(z) for m in self.coefficients)
        return a + b * torch.sin(torch.einsum("ijk,nk->nij", w, z) + c)

    def _slopes(self, which: int, z: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """``b cos(w . z + c)``, shape (N, n, n), and w: entry (i, j) has the gradient ``b_ij cos(...) w_ij``."""
        _, b, w, c = (torch.as_tensor(m[which]).to(z) for m in self.coefficients)
        return b * torch.cos(torch.einsum("ijk,nk->nij", w, z) + c), w

    def diffusion(self, target: Target, z: Batch) -> torch.Tensor:
        g = self._entries(0, z)
        return g @ g.mT / g.shape[1]

    def curl(self, target: Target, z: Batch) -> torch.Tensor:
        s = self._entries(1, z)
        return (s - s.mT) / 2**0.5

    def correction(self, target: Target, z: Batch) -> Batch:
        # div(G G^T)_i = sum_jr (d_j G_ir) G_jr + G_ir (d_j G_jr); the default would take n^2 passes
        g, (t, w) = self._entries(0, z), self._slopes(0, z)
        inner = torch.einsum("irj,njr->nir", w, g) * t
        outer = torch.einsum("njr,jrj->nr", t, w)
        u, v = self._slopes(1, z)
        curl = torch.einsum("nij,ijj->ni", u, v) - torch.einsum("nji,jij->ni", u, v)
        return (inner.sum(2) + torch.einsum("nir,nr->ni", g, outer)) / g.shape[1] + curl / 2**0.5
