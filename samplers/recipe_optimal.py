"""The skew matrix that makes Langevin dynamics on a Gaussian target forget its start fastest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from ..errors import Unsupported
from ..targets.base import Batch, Target
from .recipe import Constant, Recipe


@dataclass(frozen=True)
class Optimal(Recipe):
    """D = I and the Q of `optimal_curl` for the target's precision P: every eigenvalue of ``(I + Q) P`` has the real part
    ``trace(P)/d``, the largest least one that any skew Q can give.

    Errors: `Unsupported` where the target is not Gaussian.
    """

    def check(self, target: Target) -> None:
        _constant(target)

    def diffusion(self, target: Target, z: Batch) -> torch.Tensor:
        return _constant(target).diffusion(target, z)

    def curl(self, target: Target, z: Batch) -> torch.Tensor:
        return _constant(target).curl(target, z)

    def drift(self, target: Target, z: Batch) -> Batch:
        return _constant(target).drift(target, z)

    def spread(self, target: Target, z: Batch, xi: Batch) -> Batch:
        return _constant(target).spread(target, z, xi)

    def linear(self, target: Target) -> tuple[np.ndarray, np.ndarray] | None:
        return _constant(target).linear(target)


@lru_cache(maxsize=8)
def _constant(target: Target) -> Constant:
    if not target.is_gaussian or target.moments is None:
        raise Unsupported(f"the optimal skew matrix is that of a Gaussian target, and {target.name} is not: use irreversible")
    return Constant(np.eye(target.dim), optimal_curl(np.linalg.inv(target.moments[1].numpy())))


def optimal_curl(precision: np.ndarray) -> np.ndarray:
    """Q, skew, with ``Re mu = trace(P)/d`` for every eigenvalue mu of ``(I + Q) P``.

    In an orthonormal basis in which each diagonal entry of P is ``trace(P)/d``, with numbers ``l_1 < ... < l_d`` equally spaced
    in [1, 2] and L = diag(l), the skew ``K_jk = (l_j + l_k)/(l_j - l_k) P_jk`` solves ``(P + K) L + L (P + K)^T = 2 (trace(P)/d) L``;
    ``Q = P^(-1/2) K P^(-1/2)``. With l_d/l_1 = 2, ``|e^(-(P + K) t)| <= sqrt(2) e^(-trace(P) t/d)``: of linear functions, the
    norm of the semigroup in L2(pi).

    Arguments:
        precision: P, symmetric positive definite, shape (d, d).

    References: Lelievre, Nier, Pavliotis, "Optimal non-reversible linear drift for the convergence to equilibrium of a diffusion"
        (2013), https://arxiv.org/abs/1212.0876
    """
    values, vectors = np.linalg.eigh(precision)
    d, mean = len(values), float(values.mean())
    # bases in the eigenbasis of P: rotate the largest diagonal entry against the smallest until one of them is the mean
    basis, todo = np.eye(d), list(range(d))
    turned = np.diag(values)
    while len(todo) > 1:
        diagonal = np.diag(turned)
        i, j = max(todo, key=lambda k: diagonal[k]), min(todo, key=lambda k: diagonal[k])
        if i == j:
            break
        above, below, cross = max(diagonal[i] - mean, 0.0), max(mean - diagonal[j], 0.0), turned[i, j]
        # tan t of the rotation that leaves the mean at i: above + 2 cross tan t - below tan^2 t = 0
        half = np.sqrt(cross**2 + above * below)
        tangent = 0.0 if above == 0.0 else above / (-cross + half) if cross <= 0 else -above / (cross + half)
        cosine = 1.0 / np.hypot(1.0, tangent)
        sine = tangent * cosine
        basis[:, [i, j]] = basis[:, [i, j]] @ np.array([[cosine, -sine], [sine, cosine]])
        turned = basis.T @ (values[:, None] * basis)
        todo.remove(i)
    numbers = np.linspace(1.0, 2.0, d) if d > 1 else np.ones(1)
    gaps = numbers[:, None] - numbers[None, :] + np.eye(d)
    skew = (numbers[:, None] + numbers[None, :]) / gaps * (turned - np.diag(np.diag(turned)))
    inner = basis @ skew @ basis.T / np.sqrt(np.outer(values, values))
    found = vectors @ inner @ vectors.T
    return np.asarray((found - found.T) / 2)
