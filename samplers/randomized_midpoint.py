"""Randomized midpoint for kinetic Langevin: the force at a uniformly random time of the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ..targets.base import Target
from .base import Stage
from .flight import flight
from .kinetic import Kinetic, Phase
from .noise import Noise, Probe

#: Largest ``gamma h`` whose growth is computed.
FARTHEST = 30.0


@dataclass(frozen=True)
class RandomizedMidpoint(Kinetic):
    """Kinetic Langevin with the force of a step taken at a uniformly random time within it.

    With ``alpha ~ U(0, 1)`` per particle and ``s = alpha h``, and the functions psi of `klmc`:

    ``y  = x + (psi1(s) p - psi2(s) grad V(x))/M + X_s``,
    ``x' = x + (psi1(h) p - h psi1(h - s) grad V(y))/M + X_h``, ``p' = e^(-gamma h) p - h e^(-gamma (h - s)) grad V(y) + P_h``;
    (X, P) is the free flight of one Brownian path from (0, 0), here over s and then over h - s (`flight.py`).

    The mean over alpha of ``h f(alpha h)`` is the integral of f over the step: the force enters without a bias, but for that of y.
    The theorem has a bias in W2 of order 3/2 in h, which is the strong error. In law the error is smaller: mean and second
    moments of a step are off by h^4 from those of the diffusion, and the stationary bias is of order 3 (on Gaussians
    ``Var x = 1/k + k h^3/(24 gamma M^2) + ...`` for curvature k). Conditionally on alpha a step is affine on a Gaussian, but its law is a mixture.

    Cost: 2 scores, 4 normals per coordinate and 1 uniform a step.

    Arguments: `step_size` (limited on a Gaussian target by the growth of second moments), `friction`, `mass` of `Kinetic`.

    References: Shen, Lee, "The randomized midpoint method for log-concave sampling" (2019), Algorithm 1,
        https://arxiv.org/abs/1909.05503
        Yu, Karagulyan, Dalalyan, "Langevin Monte Carlo for strongly log-concave distributions: randomized midpoint revisited" (2023),
        https://arxiv.org/abs/2306.08494
    """

    bias_order: ClassVar[float] = 3.0
    score_evaluations: ClassVar[float] = 2.0

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (self.whole,)

    def whole(self, target: Target, state: Phase, noise: Noise) -> Phase:
        """The step."""
        x, p, h, gamma, mass = state.x, state.p, self.step_size, self.rate(target), self.mass
        s = h * noise.uniform((len(x),)).unsqueeze(1)
        over = flight(gamma, mass, torch.tensor(h, dtype=torch.float64, device=x.device))
        first, rest = flight(gamma, mass, s), flight(gamma, mass, h - s)
        # the coefficients are computed in float64
        over, first, rest = (type(f)(*(c.to(x) for c in f)) for f in (over, first, rest))
        shape = tuple(x.shape)
        y1, z1, y2, z2 = (noise.normal(shape) for _ in range(4))
        x_s, p_s = first.along * y1 + first.across * z1, first.stir * y1
        middle = x + (first.reach * p + first.push * target.score(x)) / mass + x_s
        g = h * target.score(middle)
        x_h, p_h = x_s + rest.reach / mass * p_s + rest.along * y2 + rest.across * z2, rest.decay * p_s + rest.stir * y2
        return Phase(x + (over.reach * p + rest.reach * g) / mass + x_h, over.decay * p + rest.decay * g + p_h, state.score)

    def growth(self, curvature: float) -> float:
        """Square root of the spectral radius of ``E[A kron A]``, A the step's matrix given alpha: second moments must not grow.

        A is read off the step at Gauss-Legendre nodes alpha; its entries are products of exponentials and polynomials in alpha,
        so that 32 nodes leave rounding as long as ``gamma h`` is below 30.
        """
        from ..targets.gaussian import Gaussian

        if not isinstance(self.friction, str) and self.friction * self.step_size > FARTHEST:
            return np.inf  # beyond what the nodes resolve, and far beyond any use

        nodes, weights = np.polynomial.legendre.leggauss(32)
        line, eye = Gaussian([0.0], [[1.0 / curvature]]), torch.eye(2, dtype=torch.float64).repeat(len(nodes), 1)
        alpha = _At(torch.as_tensor((1.0 + nodes) / 2.0).repeat_interleave(2))
        moved = self.step(line, self.place(line, eye[:, :1], eye[:, 1:]), alpha)
        a = torch.cat([moved.x, moved.p], dim=1).numpy().reshape(-1, 2, 2).transpose(0, 2, 1)
        second = np.einsum("q,qij,qkl->ikjl", weights / 2.0, a, a).reshape(4, 4)
        return float(np.abs(np.linalg.eigvals(second)).max() ** 0.5)


class _At(Probe):
    """No noise, and given uniforms."""

    def __init__(self, alpha: torch.Tensor) -> None:
        super().__init__(basis=False)
        self.alpha = alpha

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        return self.alpha
