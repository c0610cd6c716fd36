"""Gaussian laws, and the affine maps that carry them: exact at any dimension, no sampling error."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import linalg

from ..errors import Diverged, InvalidInput, Unsupported
from ..samplers.base import Momentum, Sampler
from ..samplers.noise import Probe
from ..targets.base import Target

#: A step is affine if it matches its own probed map to this relative error at random points.
AFFINE_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Normal:
    """N(mean, cov).

    Arguments:
        mean: shape (d,).
        cov: symmetric positive semidefinite, shape (d, d).
        joint: where a chain keeps a momentum, the law of (position, momentum), of which this is the position's part.
    """

    mean: np.ndarray
    cov: np.ndarray
    joint: Normal | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        mean, cov = np.atleast_1d(np.asarray(self.mean, float)), np.atleast_2d(np.asarray(self.cov, float))
        if mean.ndim != 1 or cov.shape != (mean.size, mean.size):
            raise InvalidInput(f"a normal law needs mean (d,) and cov (d, d), got {mean.shape} and {cov.shape}")
        if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
            raise InvalidInput("a normal law needs a finite mean and covariance")
        if np.abs(cov - cov.T).max() > 1e-10 * np.abs(cov).max():
            raise InvalidInput("the covariance of a normal law must be symmetric")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "cov", (cov + cov.T) / 2)

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.mean.size

    @cached_property
    def factor(self) -> np.ndarray:
        """A lower-triangular L with ``L L^T = cov``; raises where the covariance is not positive definite."""
        try:
            return np.asarray(linalg.cholesky(self.cov, lower=True))
        except linalg.LinAlgError:
            raise InvalidInput(f"the covariance is not positive definite: smallest eigenvalue {np.linalg.eigvalsh(self.cov)[0]:.3g}") from None


@dataclass(frozen=True, eq=False)
class AffineMap:
    """``z -> A z + b + xi``, ``xi ~ N(0, C)`` independent of z.

    Arguments:
        linear: A, shape (p, p), p the dimension of the sampler's whole state.
        offset: b, shape (p,).
        noise_cov: C, shape (p, p).
    """

    linear: np.ndarray
    offset: np.ndarray
    noise_cov: np.ndarray

    def __call__(self, law: Normal) -> Normal:
        """The law one application later."""
        a = self.linear
        return Normal(a @ law.mean + self.offset, a @ law.cov @ a.T + self.noise_cov)

    def then(self, later: AffineMap) -> AffineMap:
        """This map followed by `later`."""
        a = later.linear
        return AffineMap(a @ self.linear, a @ self.offset + later.offset, a @ self.noise_cov @ a.T + later.noise_cov)

    def power(self, k: int) -> AffineMap:
        """`k` >= 1 applications, by repeated squaring: O(d^3 log k)."""
        square, result = self, None
        while True:
            if k & 1:
                result = square if result is None else result.then(square)
            k >>= 1
            if k == 0:
                assert result is not None
                return result
            square = square.then(square)

    def exponent(self) -> tuple[float, float]:
        """(log of the spectral radius of A, error): ``log ||A^n|| / n`` at ``n = 2^40`` (Gelfand), by squaring and rescaling.

        No eigenvalues are computed: it also holds at a defective A, where ``||A^n||`` carries a power of n. The error is what
        the last squaring moved, twice.
        """
        a, log, n, before = self.linear, 0.0, 1.0, 0.0
        for _ in range(41):
            size = float(np.linalg.norm(a))
            if size == 0.0:
                return -np.inf, 0.0
            log, a, before = log + np.log(size) / n, a / size, log
            now = log
            a, n = a @ a, 2.0 * n
        return now, 2.0 * abs(now - before) + 1e-15

    def stationary(self) -> Normal:
        """The Gaussian fixed by the map; raises `Diverged` where the map does not contract.

        Solves ``S = A S A^T + C`` in the eigenbasis of A where A is symmetric, else by Smith's doubling
        ``S <- S + A S A^T, A <- A^2`` (R. A. Smith, 1968, https://doi.org/10.1137/0116017).
        """
        a, c = self.linear, self.noise_cov
        symmetric = np.allclose(a, a.T, rtol=0, atol=1e-13 * max(1.0, np.abs(a).max()))
        if symmetric:
            eigenvalues, q = linalg.eigh((a + a.T) / 2)
            radius = float(np.abs(eigenvalues).max())
        else:
            radius = float(np.abs(linalg.eigvals(a)).max())
        if radius >= 1.0:
            raise Diverged(f"the step multiplies a direction by {radius:.6g} >= 1: no stationary law", 0, 1.0)
        mean = linalg.solve(np.eye(len(a)) - a, self.offset)
        if symmetric:
            return Normal(mean, q @ ((q.T @ c @ q) / (1.0 - np.outer(eigenvalues, eigenvalues))) @ q.T)
        s = c
        for _ in range(64):
            update = a @ s @ a.T
            s, a = s + update, a @ a
            if np.abs(update).max() <= 1e-17 * np.abs(s).max():
                break
        return Normal(mean, s)


def phase(state: Any) -> torch.Tensor:
    """The phase variables of a state: positions, then momenta where there are any."""
    return torch.cat([state.x, state.p], dim=1) if hasattr(state, "p") else state.x


def placed(sampler: Sampler, target: Target, z: torch.Tensor) -> Any:
    """The state whose phase variables are the rows of `z`."""
    if sampler.momentum is None:
        return sampler.init(target, z, Probe(basis=False))
    return sampler.place(target, z[:, : target.dim], z[:, target.dim :])


def affine_map(sampler: Sampler, target: Target, given: float | None = None) -> AffineMap:
    """The affine map of one step, read off `sampler.step` by probing it with zeros and basis vectors.

    Arguments:
        given: None, or the value of every uniform number that the step draws: its map conditionally on them.

    Errors: `Unsupported` where the step is not affine in (state, noise) on this target: it draws uniforms, or the
    map read off does not reproduce the step at random points to 1e-9.
    Cost: one step on a batch of 1 + p + q rows, p the size of the state and q the number of normals.
    """
    p = target.dim * (1 if sampler.momentum is None else 2)
    origin = torch.zeros((1, p), dtype=torch.float64)
    sampler.step(target, placed(sampler, target, origin), Probe(False, given))  # refuses first where the step draws uniforms

    counter = Probe(False, given)
    states = torch.cat([origin, torch.eye(p, dtype=torch.float64)])
    image = phase(sampler.step(target, placed(sampler, target, states), counter))
    b = image[0]
    a = (image[1:] - b).T

    q = counter.count
    if q:
        rows = torch.zeros((q, p), dtype=torch.float64)
        kicked = phase(sampler.step(target, placed(sampler, target, rows), Probe(True, given)))
        n = (kicked - b).T
    else:
        n = torch.zeros((p, 1), dtype=torch.float64)

    check = np.random.Generator(np.random.Philox(0))  # not a Stream: no compiled code is loaded for three numbers
    z = torch.as_tensor(check.standard_normal((8, p)) * np.repeat([[1.0], [30.0]], 4, axis=0))
    replay = _Replay(torch.as_tensor(check.standard_normal((8, max(q, 1)))), given)
    predicted = z @ a.T + b + replay.values @ n.T
    actual = phase(sampler.step(target, placed(sampler, target, z), replay))
    scale = float(predicted.abs().max()) + 1.0
    error = float((actual - predicted).abs().max()) / scale
    if not error < AFFINE_TOLERANCE:
        raise Unsupported(f"{sampler.name} on {target.name} is not affine in (state, noise): relative error {error:.2g} at random points")
    return AffineMap(a.numpy(), b.numpy(), (n @ n.T).numpy())


def lifted(law: Normal, momentum: Momentum | None) -> Normal:
    """The law of (position, momentum) of a chain: the one that came with the position's, else with an independent momentum."""
    if momentum is None:
        return law
    if law.joint is not None:
        return law.joint
    d = law.dim
    return Normal(np.concatenate([law.mean, np.zeros(d)]), linalg.block_diag(law.cov, momentum.start * np.eye(d)))


def position(law: Normal, dim: int) -> Normal:
    """The law of the position, which carries the joint one along."""
    return law if law.dim == dim else Normal(law.mean[:dim], law.cov[:dim, :dim], joint=law)


class _Replay(Probe):
    """Noise that hands out the columns of a fixed matrix in order."""

    def __init__(self, values: torch.Tensor, given: float | None) -> None:
        super().__init__(False, given)
        self.values = values

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        taken = self.values[:, self.count : self.count + shape[1]]
        self.count += shape[1]
        return taken
