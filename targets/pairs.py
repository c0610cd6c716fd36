"""Clusters of particles with pair energies, in coordinates without the centre of mass."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

import numpy as np
import torch

from ..errors import InvalidInput
from .base import Batch, Target, Values


class Pairs(Target):
    """``V(y) = sum_{i < j} phi(|x_i - x_j|^2) + k/2 sum_i |x_i - c|^2``, n particles in D dimensions, c their mean.

    The energy does not change when all particles are moved together, so it is no density of the n D positions. The
    coordinates here are the (n - 1) D numbers ``y = H x`` with H the Helmert basis of the mean-free space (orthonormal rows,
    orthogonal to (1, .., 1)): distances and volumes are those of mean-free positions, and ``sum_i |x_i - c|^2 = |y|^2``.
    y holds n - 1 points of D numbers each, one point after the other.

    Particles and pairs are columns of matrix products: nothing is looped over.
    """

    particles: int
    space: int

    @abstractmethod
    def _pair(self, square: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """phi and its derivative at squared distances, any shape; phi finite at 0, where the derivative is 0."""

    @property
    def _stiffness(self) -> float:
        """k."""
        return 0.0

    def _check(self) -> None:
        if self.particles < 2 or self.space < 1:
            raise InvalidInput(f"a cluster needs particles >= 2 and space >= 1, got {self.particles} and {self.space}")

    @property
    def dim(self) -> int:
        return (self.particles - 1) * self.space

    @cached_property
    def _helmert(self) -> torch.Tensor:
        """H, shape (n - 1, n): row k is k ones and then -k, over sqrt(k (k + 1))."""
        n = self.particles
        k = np.arange(1, n)[:, None]
        return torch.as_tensor((np.tri(n - 1, n) - k * np.eye(n - 1, n, 1)) / np.sqrt(k * (k + 1.0)))

    @cached_property
    def _pairs(self) -> torch.Tensor:
        """Differences of the columns of H, one column per pair i < j: shape (n - 1, n (n - 1) / 2)."""
        i, j = np.triu_indices(self.particles, 1)
        return self._helmert[:, i] - self._helmert[:, j]

    def positions(self, x: Batch) -> torch.Tensor:
        """Mean-free positions of the particles, shape (N, n, D), at coordinates of shape (N, d)."""
        return torch.einsum("ki,bkd->bid", self._helmert.to(x), x.reshape(len(x), self.particles - 1, self.space))

    def coordinates(self, positions: torch.Tensor) -> Batch:
        """Coordinates of shape (N, d) at positions of shape (N, n, D), whatever their mean."""
        return torch.einsum("ki,bid->bkd", self._helmert.to(positions), positions).reshape(len(positions), self.dim)

    def _differences(self, x: Batch) -> torch.Tensor:
        """x_i - x_j, shape (D, N, pairs)."""
        return x.reshape(len(x), self.particles - 1, self.space).permute(2, 0, 1) @ self._pairs.to(x)

    def distances(self, x: Batch) -> torch.Tensor:
        """|x_i - x_j| for i < j, shape (N, n (n - 1) / 2)."""
        return torch.linalg.vector_norm(self._differences(x), dim=0)

    def potential(self, x: Batch) -> Values:
        return self._pair(self._differences(x).square().sum(0))[0].sum(1) + self._stiffness / 2 * (x * x).sum(1)

    def score(self, x: Batch) -> Batch:
        return self.potential_and_score(x)[1]

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        away = self._differences(x)
        energy, slope = self._pair(away.square().sum(0))
        force = (-2.0 * slope * away) @ self._pairs.T.to(x)
        value = energy.sum(1) + self._stiffness / 2 * (x * x).sum(1)
        return value, force.permute(1, 2, 0).reshape(x.shape) - self._stiffness * x
