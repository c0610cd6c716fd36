"""Riemannian Langevin dynamics: the noise follows the inverse of the SoftAbs metric, which is defined where V is not convex."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..targets.base import Batch, Target
from .base import positive
from .matrix_function import Tanhc, eigen, first
from .recipe import Recipe, derivatives


@dataclass(frozen=True)
class SoftAbs(Recipe):
    """``D(x) = phi(Hess V(x))``, ``phi(l) = tanh(alpha l)/l``, and Q = 0: the inverse of the metric with eigenvalues
    ``l coth(alpha l)``, which is |l| where that exceeds 1/alpha, and 1/alpha near l = 0.

    The correction needs third derivatives T_j = d_j Hess V (reverse mode, from V) and the derivative of a matrix function:
    with ``Hess V = U diag(l) U^T``, ``d_j D = U (F o (U^T T_j U)) U^T``, ``F_ab = (phi(l_a) - phi(l_b))/(l_a - l_b)``, the
    derivative of phi where two eigenvalues meet (`matrix_function.py`: no cancellation at near ones).

    Arguments:
        alpha: > 0, in units of 1/curvature; the largest eigenvalue of D.

    References: Betancourt, "A general metric for Riemannian manifold Hamiltonian Monte Carlo" (2013), https://arxiv.org/abs/1212.4693
        Girolami, Calderhead, "Riemann manifold Langevin and Hamiltonian Monte Carlo methods" (2011),
        https://doi.org/10.1111/j.1467-9868.2010.00765.x
        Higham, "Functions of matrices" (2008), Theorem 3.11 (Daleckii and Krein), https://doi.org/10.1137/1.9780898717778
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        positive(self.alpha, "alpha")

    def diffusion(self, target: Target, z: Batch) -> torch.Tensor:
        bend = hessian(target, z) if torch.is_grad_enabled() and z.requires_grad else target.hessian(z)
        found: torch.Tensor = Tanhc.apply(self.alpha * bend)
        return self.alpha * found

    def curl(self, target: Target, z: Batch) -> torch.Tensor:
        return z.new_zeros(len(z), z.shape[1], z.shape[1])

    def correction(self, target: Target, z: Batch) -> Batch:
        if torch.is_grad_enabled() and z.requires_grad:
            return super().correction(target, z)
        d = z.shape[1]
        with torch.enable_grad():
            y = z.detach().requires_grad_(True)
            bend = hessian(target, y)
            upper = {(a, b): derivatives(bend[:, a, b], y).detach() for a in range(d) for b in range(a, d)}
        third = torch.stack([torch.stack([upper[min(a, b), max(a, b)] for b in range(d)], 1) for a in range(d)], 1)
        values, basis = eigen(self.alpha * bend.detach())
        f = self.alpha**2 * first(values[:, :, None], values[:, None, :])
        turned = torch.einsum("nka,nklj,nlb->nabj", basis, third, basis)
        return torch.einsum("nia,nabj,njb->ni", basis, f[..., None] * turned, basis)


def hessian(target: Target, x: Batch) -> torch.Tensor:
    """Hess V at each row, with its graph: from the potential, by differentiation."""
    slope = derivatives(target.potential(x), x, again=True)
    return torch.stack([derivatives(slope[:, i], x, again=True) for i in range(x.shape[1])], 1)
