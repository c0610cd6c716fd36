"""The complete recipe: every pair of a positive semidefinite D and a skew Q leaves exp(-H) invariant."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import linalg

from ..errors import InvalidInput
from ..targets.base import Batch, Target, Values
from .base import positive

#: Relative departure from symmetry, skewness and positivity that counts as rounding.
ROUNDING = 1e-10


class Recipe(ABC):
    """D and Q of ``dz = [-(D + Q) grad H + div(D + Q)] dt + sqrt(2 D) dB``, with ``div(D + Q)_i = sum_j d(D + Q)_ij/dz_j``.

    z is the position x and ``H = V(x)``; or, with a mass M, z = (x, p) and ``H = V(x) + |p|^2/(2 M)``. exp(-H) is invariant
    for any D(z) positive semidefinite and Q(z) skew.

    References: Ma, Chen, Fox, "A complete recipe for stochastic gradient MCMC" (2015), Theorem 1, https://arxiv.org/abs/1506.04696
    """

    @property
    def mass(self) -> float | None:
        """M, or None where there is no momentum."""
        return None

    @abstractmethod
    def diffusion(self, target: Target, z: Batch) -> torch.Tensor:
        """D at each row of `z`, shape (N, n, n)."""

    @abstractmethod
    def curl(self, target: Target, z: Batch) -> torch.Tensor:
        """Q at each row of `z`, shape (N, n, n)."""

    def correction(self, target: Target, z: Batch) -> Batch:
        """div(D + Q) at each row of `z`, shape (N, n). Default: reverse-mode differentiation of the two, n^2 passes."""
        with torch.enable_grad():
            y = z.detach().requires_grad_(True)
            both = self.diffusion(target, y) + self.curl(target, y)
            n = y.shape[1]
            if not both.requires_grad:
                return torch.zeros_like(z)
            rows = [torch.zeros_like(z[:, 0]) for _ in range(n)]
            for i in range(n):
                for j in range(n):
                    (slopes,) = torch.autograd.grad(both[:, i, j].sum(), y, retain_graph=True, materialize_grads=True, allow_unused=True)
                    rows[i] = rows[i] + slopes[:, j]
        return torch.stack(rows, dim=1)

    def check(self, target: Target) -> None:
        """Raise one line where D and Q do not fit the target. Default: they always do."""

    # The same for all.

    def drift(self, target: Target, z: Batch) -> Batch:
        """``-(D + Q) grad H + div(D + Q)`` at each row."""
        both = self.diffusion(target, z) + self.curl(target, z)
        return -torch.einsum("nij,nj->ni", both, self.gradient(target, z)) + self.correction(target, z)

    def spread(self, target: Target, z: Batch, xi: Batch) -> Batch:
        """``sqrt(2 D) xi``, with the symmetric root."""
        values, basis = torch.linalg.eigh(2.0 * self.diffusion(target, z))
        turned = torch.einsum("nji,nj->ni", basis, xi)
        return torch.einsum("nij,nj->ni", basis, torch.sqrt(values.clamp(min=0.0)) * turned)

    def normals(self, n: int) -> int:
        """Standard normals that `spread` takes per row, of n coordinates."""
        return n

    def gradient(self, target: Target, z: Batch) -> Batch:
        """grad H at each row."""
        if self.mass is None:
            return -target.score(z)
        d = target.dim
        return torch.cat([-target.score(z[:, :d]), z[:, d:] / self.mass], dim=1)

    def energy(self, target: Target, z: Batch) -> Values:
        """H at each row."""
        if self.mass is None:
            return target.potential(z)
        d = target.dim
        return target.potential(z[:, :d]) + (z[:, d:] ** 2).sum(1) / (2.0 * self.mass)


@dataclass(frozen=True)
class Constant(Recipe):
    """D and Q the same everywhere: the correction vanishes.

    Arguments:
        matrix_d, matrix_q: D, symmetric positive semidefinite, and Q, skew, as anything numpy takes; kept as tuples of rows. Of
            size d for positions, 2 d with a momentum; of size 1, or 2 with a momentum, they act alike on every coordinate.
        momentum: M, where there is a momentum.

    Errors: `InvalidInput`, one line, where D or Q is not what it must be.
    """

    matrix_d: Any
    matrix_q: Any
    momentum: float | None = None

    def __post_init__(self) -> None:
        if self.momentum is not None:
            positive(self.momentum, "mass")
        d, q = (_square(value, name) for value, name in ((self.matrix_d, "diffusion"), (self.matrix_q, "curl")))
        if d.shape != q.shape:
            raise InvalidInput(f"curl must have the shape of diffusion, {d.shape[0]} x {d.shape[0]}, got {q.shape[0]} x {q.shape[0]}")
        size = max(float(np.abs(d).max()), 1e-300)
        if np.abs(d - d.T).max() > ROUNDING * size:
            raise InvalidInput(f"diffusion must be symmetric, D - D^T has an entry of {np.abs(d - d.T).max():.3g}")
        least = float(np.linalg.eigvalsh((d + d.T) / 2)[0])
        if least < -ROUNDING * size:
            raise InvalidInput(f"diffusion must be positive semidefinite, its least eigenvalue is {least:.6g}")
        if np.abs(q + q.T).max() > ROUNDING * max(float(np.abs(q).max()), 1e-300):
            raise InvalidInput(f"curl must be skew, Q + Q^T has an entry of {np.abs(q + q.T).max():.3g}")
        object.__setattr__(self, "matrix_d", tuple(map(tuple, ((d + d.T) / 2).tolist())))
        object.__setattr__(self, "matrix_q", tuple(map(tuple, ((q - q.T) / 2).tolist())))

    @cached_property
    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        """(D, Q) as given."""
        return np.asarray(self.matrix_d), np.asarray(self.matrix_q)

    @property
    def mass(self) -> float | None:
        return self.momentum

    def check(self, target: Target) -> None:
        n, one = len(self.matrix_d), 1 if self.mass is None else 2
        if n not in (one, one * target.dim):
            raise InvalidInput(f"diffusion must be of size {one} or {one * target.dim} on {target.name} in d = {target.dim}, got {n}")

    def whole(self, dim: int) -> tuple[np.ndarray, np.ndarray]:
        """(D, Q) on all coordinates of z, positions first."""
        eye = np.eye(dim if len(self.matrix_d) == (1 if self.mass is None else 2) else 1)
        return np.kron(self.matrices[0], eye), np.kron(self.matrices[1], eye)

    def hessian(self, target: Target) -> np.ndarray:
        """Hess H on a Gaussian target."""
        assert target.moments is not None
        precision = np.linalg.inv(target.moments[1].numpy())
        return precision if self.mass is None else np.asarray(linalg.block_diag(precision, np.eye(target.dim) / self.mass))

    @cached_property
    def _root(self) -> np.ndarray:
        """R with ``R R^T = 2 D``, as many columns as D has positive eigenvalues."""
        values, basis = np.linalg.eigh(2.0 * self.matrices[0])
        keep = values > ROUNDING * max(float(values[-1]), 1e-300)
        return np.asarray(basis[:, keep] * np.sqrt(values[keep]))

    def diffusion(self, target: Target, z: Batch) -> torch.Tensor:
        return torch.as_tensor(self.whole(target.dim)[0]).to(z).expand(len(z), -1, -1)

    def curl(self, target: Target, z: Batch) -> torch.Tensor:
        return torch.as_tensor(self.whole(target.dim)[1]).to(z).expand(len(z), -1, -1)

    def correction(self, target: Target, z: Batch) -> Batch:
        return torch.zeros_like(z)

    def drift(self, target: Target, z: Batch) -> Batch:
        return -_apply(sum(self.matrices), self.gradient(target, z))

    def spread(self, target: Target, z: Batch, xi: Batch) -> Batch:
        return _apply(self._root, xi)

    def normals(self, n: int) -> int:
        return n * self._root.shape[1] // len(self.matrix_d)


def _square(value: Any, name: str) -> np.ndarray:
    try:
        matrix = np.atleast_2d(np.asarray(value, float))
    except ValueError:
        raise InvalidInput(f"{name} must be a matrix, got rows of unequal lengths") from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise InvalidInput(f"{name} must be a finite square matrix, got shape {matrix.shape}")
    return matrix


def _apply(matrix: Any, z: Batch) -> Batch:
    """The matrix on the coordinates of each row; one of fewer columns on each group of coordinates that it takes."""
    m = torch.as_tensor(matrix).to(z)
    n = len(z)
    return torch.einsum("ij,njd->nid", m, z.reshape(n, m.shape[1], -1)).reshape(n, -1)
