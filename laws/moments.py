"""Second moments of chains that are affine once their uniform numbers are given, next to the diffusion they approximate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import linalg

from ..errors import InvalidInput, Unsupported
from ..samplers.base import Sampler
from ..samplers.kinetic import Kinetic
from ..samplers.langevin_diffusion import LangevinDiffusion
from ..samplers.linear_sde import root
from ..samplers.recipe_diffusion import RecipeDiffusion
from ..targets.base import Target
from ..targets.gaussian import Gaussian
from .normal import AffineMap, Normal, affine_map

#: Gauss-Legendre nodes for the mean over the uniform number: the maps are exponentials and polynomials in it.
NODES = 12


@dataclass(frozen=True)
class Pair:
    """One coordinate of the chain Z and of the exact diffusion Z* on it, in the eigenbasis of a Gaussian target, side by side.

    What evolves is ``E W W^T`` with ``W = (Z - Z*, Z*)``, both relative to the target's mean: given its uniform u a step is
    ``Z' = A_u Z + L_u xi`` and the diffusion ``Z*' = E Z* + N eta``; xi and eta are coupled, for each u, so that
    ``E|L_u xi - N eta|^2`` is least. Z* keeps the target's law, since eta does not know u. Differences are never taken of
    moments, so that a small ``E|Z - Z*|^2`` is accurate.

    Arguments:
        step: the affine map of the entries of ``E W W^T`` over one step; its noise is zero.
        width: length of W.
    """

    step: AffineMap
    width: int

    def square(self, moments: np.ndarray) -> float:
        """``E (X - X*)^2`` of the position."""
        return float(moments[0])

    def variance(self, moments: np.ndarray) -> float:
        """``E X^2`` of the chain's position, relative to the target's mean."""
        s, n = moments.reshape(self.width, self.width), self.width // 2
        return float(s[0, 0] + 2.0 * s[0, n] + s[n, n])

    def start(self, mean: float, variance: float, curvature: float, momentum: float) -> np.ndarray:
        """The moments at the start, the position's N(mean, variance) mapped monotonically to the target's, momenta the same."""
        deviation = curvature**-0.5
        n = self.width // 2
        slope = variance**0.5 / deviation - 1.0  # X - X* = mean + slope X*
        s = np.zeros((self.width, self.width))
        s[0, 0] = mean**2 + (slope * deviation) ** 2
        s[0, n] = s[n, 0] = slope / curvature
        s[n, n] = 1.0 / curvature
        if n == 2:
            s[3, 3] = momentum
        return s.ravel()


@lru_cache(maxsize=1024)
def pair(sampler: Sampler, curvature: float) -> Pair:
    """The pair on a coordinate of this curvature.

    Errors: `Unsupported` where the sampler approximates neither the kinetic nor the overdamped diffusion.
    """
    line = Gaussian([0.0], [[1.0 / curvature]])
    if isinstance(sampler, Kinetic):
        exact = affine_map(RecipeDiffusion.kinetic(sampler.step_size, sampler.rate(line), sampler.mass), line)
    elif sampler.momentum is None and sampler.time_step != 1.0:
        exact = affine_map(LangevinDiffusion(sampler.time_step), line)
    else:
        raise Unsupported(f"{sampler.name} is not set beside a diffusion")
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    n = len(exact.offset)
    linear, constant = np.zeros((4 * n * n, 4 * n * n)), np.zeros(4 * n * n)
    for u, w in zip((nodes + 1) / 2, weights / 2, strict=True):
        step = affine_map(sampler, line, given=float(u))
        one, other = _square_root(step.noise_cov), _square_root(exact.noise_cov)
        turn, _ = linalg.polar(other.T @ one)
        gap, there = one - other @ turn, other @ turn
        a = np.block([[step.linear, step.linear - exact.linear], [np.zeros((n, n)), exact.linear]])
        noise = np.vstack([gap, there])
        linear += w * np.kron(a, a)
        constant += w * (noise @ noise.T).ravel()
    return Pair(AffineMap(linear, constant, np.zeros_like(linear)), 2 * n)


def settled(sampler: Sampler, target: Target) -> Sampler:
    """The sampler with the friction that it has on the whole target: a coordinate alone may have another critical one."""
    return replace(sampler, friction=sampler.rate(target)) if isinstance(sampler, Kinetic) else sampler


def _square_root(cov: np.ndarray) -> np.ndarray:
    """A square root as wide as it is high."""
    r = root(cov)
    return np.pad(r, ((0, 0), (0, len(cov) - r.shape[1])))


@dataclass(frozen=True)
class Coordinates:
    """A start and a Gaussian target in the eigenbasis of the latter: curvatures, means and variances, one per coordinate.

    Errors: `InvalidInput` where the start's covariance is not diagonal there.
    """

    curvatures: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    @classmethod
    def of(cls, target: Target, start: Normal) -> Coordinates:
        """The coordinates of a start on a Gaussian target."""
        if not target.is_gaussian or target.moments is None:
            raise Unsupported(f"second moments close on Gaussian targets only, not on {target.name}")
        mean, cov = (moment.numpy() for moment in target.moments)
        values, basis = np.linalg.eigh(cov)
        turned = basis.T @ start.cov @ basis
        if np.abs(turned - np.diag(np.diag(turned))).max() > 1e-12 * np.abs(turned).max():
            raise InvalidInput("the start's covariance must be diagonal in the eigenbasis of the target's")
        return cls(1.0 / values, basis.T @ (start.mean - mean), np.diag(turned))


def joined(sampler: Sampler, target: Target, start: Normal) -> tuple[AffineMap, np.ndarray, np.ndarray]:
    """(step, start, where) of all coordinates at once: the affine map of their moments, the moments at the start, and where in
    them the ``E (X_i - X*_i)^2`` stand, whose sum bounds W2^2 of the chain's positions from the target's. Equal coordinates
    (curvature, and with it the map) are carried once, by their sum."""
    if start.joint is not None:
        raise InvalidInput("the start must be a law of positions; momenta start in their invariant law")
    at, sampler = Coordinates.of(target, start), settled(sampler, target)
    momentum = 0.0 if sampler.momentum is None else sampler.momentum.start
    maps, starts, where, size = [], [], [], 0
    order = np.argsort(at.curvatures)
    groups = np.split(order, np.flatnonzero(np.diff(at.curvatures[order]) > 1e-9 * at.curvatures[order][1:]) + 1)
    for mine in groups:
        curvature, count = float(at.curvatures[mine].mean()), len(mine)
        one = pair(sampler, curvature)
        moments = sum(one.start(float(m), float(v), curvature, momentum) for m, v in zip(at.means[mine], at.variances[mine], strict=True))
        maps.append((one.step.linear, count * one.step.offset))
        starts.append(moments)
        where.append(size)
        size += len(one.step.offset)
    linear = linalg.block_diag(*(m for m, _ in maps))
    return AffineMap(linear, np.concatenate([c for _, c in maps]), np.zeros_like(linear)), np.concatenate(starts), np.asarray(where)
