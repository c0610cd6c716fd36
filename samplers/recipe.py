"""The complete recipe: every pair of a positive semidefinite D and a skew Q leaves exp(-H) invariant."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from scipy import linalg

from ..errors import InvalidInput, Unsupported
from ..targets.base import Batch, Target, Values
from .base import positive
from .linear_sde import root

#: Relative departure from symmetry, skewness and positivity that counts as rounding.
ROUNDING = 1e-10


class Recipe(ABC):
    """D and Q of ``dz = [-(D + Q) grad H + div(D + Q)] dt + sqrt(2 D) dB``, with ``div(D + Q)_i = sum_j d(D + Q)_ij/dz_j``.

    z is the position x and ``H = V(x)``; or, with a mass M, z = (x, p) and ``H = V(x) + |p|^2/(2 M)``. exp(-H) is invariant
    for any D(z) positive semidefinite and Q(z) skew. A recipe of one's own writes `diffusion` and `curl`, in torch, so that
    they can be differentiated; the rest follows.

    References: Ma, Chen, Fox, "A complete recipe for stochastic gradient MCMC" (2015), Theorem 1, https://arxiv.org/abs/1506.04696
    """

    @abstractmethod
    def diffusion(self, target: Target, z: Batch) -> torch.Tensor:
        """D at each row of `z`, shape (N, n, n)."""

    @abstractmethod
    def curl(self, target: Target, z: Batch) -> torch.Tensor:
        """Q at each row of `z`, shape (N, n, n)."""

    # Hooks: the default is right for every D and Q.

    @property
    def mass(self) -> float | None:
        """M, or None where there is no momentum."""
        return None

    def check(self, target: Target) -> None:
        """Raise one line where D and Q do not fit the target. Default: D is symmetric positive semidefinite and Q skew, both
        finite and of the size of z, at eight fixed points."""
        n = target.dim * (1 if self.mass is None else 2)
        scales = np.repeat([[1.0], [3.0]], 4, axis=0)
        z = torch.as_tensor(np.random.Generator(np.random.Philox(0)).standard_normal((8, n)) * scales)
        with torch.no_grad():
            found = self.diffusion(target, z), self.curl(target, z)
        for matrices, name in zip(found, ("diffusion", "curl"), strict=True):
            if matrices.shape != (8, n, n):
                raise InvalidInput(f"{name} must have shape (N, {n}, {n}) on {target.name} in d = {target.dim}, got {tuple(matrices.shape)} at N = 8")
        for at, d, q in zip(z, *found, strict=True):
            admissible(d.numpy(), q.numpy(), f" at z = {np.array2string(at.numpy(), precision=3, separator=', ', max_line_width=10**6)}")

    def correction(self, target: Target, z: Batch) -> Batch:
        """div(D + Q) at each row of `z`, shape (N, n). Default: reverse-mode differentiation of the two, n^2 passes."""
        with torch.enable_grad():
            y = z if z.requires_grad else z.detach().requires_grad_(True)
            found = divergence(self.diffusion(target, y) + self.curl(target, y), y, again=z.requires_grad)
        return found if z.requires_grad else found.detach()

    def drift(self, target: Target, z: Batch) -> Batch:
        """``-(D + Q) grad H + div(D + Q)`` at each row; differentiable where `z` is."""
        both = self.diffusion(target, z) + self.curl(target, z)
        return -torch.einsum("nij,nj->ni", both, self.gradient(target, z)) + self.correction(target, z)

    def spread(self, target: Target, z: Batch, xi: Batch) -> Batch:
        """``sqrt(2 D) xi``. Default: with the symmetric root; NaN in rows where D is not finite."""
        noise = 2.0 * self.diffusion(target, z)
        finite = torch.isfinite(noise).flatten(1).all(1)[:, None]
        # eigh refuses the whole batch for one row that is not finite
        values, basis = torch.linalg.eigh(torch.where(finite[..., None], noise, torch.eye(z.shape[1]).to(z)))
        turned = torch.einsum("nji,nj->ni", basis, xi)
        moved = torch.einsum("nij,nj->ni", basis, torch.sqrt(values.clamp(min=0.0)) * turned)
        return torch.where(finite, moved, torch.nan)

    def normals(self, n: int) -> int:
        """Standard normals that `spread` takes per row, of n coordinates."""
        return n

    def linear(self, target: Target) -> tuple[np.ndarray, np.ndarray] | None:
        """(A, C) of ``dz = A (z - mu) dt + dW``, W of covariance C per time, where the diffusion is that: D and Q constant, the
        target Gaussian. Default: None."""
        return None

    # The same for all.

    @final
    def gradient(self, target: Target, z: Batch) -> Batch:
        """grad H at each row; differentiable where `z` is."""
        x = z[:, : target.dim]
        slope = -target.score(x)
        if torch.is_grad_enabled() and z.requires_grad and not slope.requires_grad:
            # a score by reverse-mode differentiation comes without its graph: the same differentiation, with it
            value = target.potential(x)
            if not value.requires_grad:
                raise Unsupported(f"{target.name} has a potential that torch cannot differentiate, so neither can its drift be")
            (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        return slope if self.mass is None else torch.cat([slope, z[:, target.dim :] / self.mass], dim=1)

    @final
    def hessian(self, target: Target) -> np.ndarray:
        """Hess H on a Gaussian target."""
        assert target.moments is not None
        precision = np.linalg.inv(target.moments[1].numpy())
        return precision if self.mass is None else np.asarray(linalg.block_diag(precision, np.eye(target.dim) / self.mass))

    @final
    def energy(self, target: Target, z: Batch) -> Values:
        """H at each row."""
        if self.mass is None:
            return target.potential(z)
        d = target.dim
        return target.potential(z[:, :d]) + (z[:, d:] ** 2).sum(1) / (2.0 * self.mass)


def derivatives(values: Values, z: Batch, again: bool = False) -> Batch:
    """``d values_n / d z_n`` at each row, shape (N, n); zero where nothing depends on `z`.

    Arguments:
        again: whether the result is to be differentiated in turn.
    """
    if not values.requires_grad:
        return torch.zeros_like(z)
    (found,) = torch.autograd.grad(values.sum(), z, create_graph=again, retain_graph=True, materialize_grads=True, allow_unused=True)
    return found


def divergence(matrices: torch.Tensor, z: Batch, again: bool = False) -> Batch:
    """``sum_j d m_ij / d z_j`` at each row, shape (N, n), from matrices (N, n, n) that torch made out of `z`: n^2 passes."""
    n = z.shape[1]
    return torch.stack([sum((derivatives(matrices[:, i, j], z, again)[:, j] for j in range(n)), z.new_zeros(len(z))) for i in range(n)], dim=1)


def admissible(d: np.ndarray, q: np.ndarray, where: str = "") -> None:
    """Raise one line unless D is symmetric positive semidefinite and Q skew, up to rounding."""
    for matrix, name in ((d, "diffusion"), (q, "curl")):
        if not np.isfinite(matrix).all():
            raise InvalidInput(f"{name} must be finite{where}, got {matrix[~np.isfinite(matrix)][0]}")
    size = float(np.abs(d).max(initial=0.0))
    if (off := float(np.abs(d - d.T).max(initial=0.0))) > ROUNDING * size:
        raise InvalidInput(f"diffusion must be symmetric{where}, D - D^T has an entry of {off:.3g}")
    if (least := float(np.linalg.eigvalsh((d + d.T) / 2)[0])) < -ROUNDING * size:
        raise InvalidInput(f"diffusion must be positive semidefinite{where}, its least eigenvalue is {least:.6g}")
    if (off := float(np.abs(q + q.T).max(initial=0.0))) > ROUNDING * float(np.abs(q).max(initial=0.0)):
        raise InvalidInput(f"curl must be skew{where}, Q + Q^T has an entry of {off:.3g}")


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
        admissible(d, q)
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

    def linear(self, target: Target) -> tuple[np.ndarray, np.ndarray] | None:
        if not target.is_gaussian or target.moments is None:
            return None
        d, q = self.whole(target.dim)
        return -(d + q) @ self.hessian(target), 2.0 * d

    @cached_property
    def _root(self) -> np.ndarray:
        """R with ``R R^T = 2 D``, as many columns as D has positive eigenvalues."""
        return root(2.0 * self.matrices[0])

    def diffusion(self, target: Target, z: Batch) -> torch.Tensor:
        return torch.as_tensor(self.whole(target.dim)[0]).to(z).expand(len(z), -1, -1)

    def curl(self, target: Target, z: Batch) -> torch.Tensor:
        return torch.as_tensor(self.whole(target.dim)[1]).to(z).expand(len(z), -1, -1)

    def correction(self, target: Target, z: Batch) -> Batch:
        return torch.zeros_like(z)

    def drift(self, target: Target, z: Batch) -> Batch:
        return -_apply(sum(self.matrices), self.gradient(target, z))

    def spread(self, target: Target, z: Batch, xi: Batch) -> Batch:
        return _apply(self._root, xi) if self._root.size else torch.zeros_like(z)

    def normals(self, n: int) -> int:
        return n * self._root.shape[1] // len(self.matrix_d)


def _square(value: Any, name: str) -> np.ndarray:
    try:
        matrix = np.atleast_2d(np.asarray(value, float))
    except (ValueError, TypeError):
        raise InvalidInput(f"{name} must be a matrix of numbers, with rows of one length") from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise InvalidInput(f"{name} must be a square matrix, got shape {matrix.shape}")
    return matrix


def _apply(matrix: Any, z: Batch) -> Batch:
    """The matrix on the coordinates of each row; one of fewer columns on each group of coordinates that it takes."""
    m = torch.as_tensor(matrix).to(z)
    n = len(z)
    return torch.einsum("ij,njd->nid", m, z.reshape(n, m.shape[1], -1)).reshape(n, -1)
