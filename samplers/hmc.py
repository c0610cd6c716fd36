"""Hamiltonian Monte Carlo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..errors import InvalidInput
from ..targets.base import Batch, Target, Values
from .base import Sampler, positive
from .metropolis import Point
from .noise import Noise


@dataclass(frozen=True)
class HMC(Sampler):
    """Hamiltonian (hybrid) Monte Carlo: fresh momenta, L leapfrog steps, accept or reject on the energy.

    ``p ~ N(0, M I)``, then L times ``p += eps/2 score(x); x += eps p/M; p += eps/2 score(x)``; the end (x', p') is taken with
    probability ``min(1, exp(H(x, p) - H(x', p')))``, ``H = V(x) + |p|^2/(2 M)``, else x stays. The leapfrog map is reversible
    (after a flip of p) and keeps volume, so that the target is invariant at every eps; the energy error over a fixed time
    eps L is of order eps^2. With L = 1 it is MALA at h = eps^2/(2 M); a mass M is a step of eps/sqrt(M) at mass 1.

    Cost: L scores and 1 potential per step; those of the start are carried.

    Arguments:
        step_size: eps > 0, time of one leapfrog step; on a Gaussian target of largest curvature K below 2 sqrt(M/K), beyond which
            energies explode.
        leapfrog_steps: L >= 1.
        mass: M > 0, variance of each momentum coordinate.

    References: Duane, Kennedy, Pendleton, Roweth, "Hybrid Monte Carlo" (1987),
        https://doi.org/10.1016/0370-2693%2887%2991197-X
        Neal, "MCMC using Hamiltonian dynamics" (2011), sections 5.2.3 and 5.3, https://arxiv.org/abs/1206.1901
    """

    step_size: float
    leapfrog_steps: int = 10
    mass: float = 1.0

    potential_evaluations: ClassVar[float] = 1.0
    accepts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive(self.step_size, "step_size")
        if not (isinstance(self.leapfrog_steps, int) and self.leapfrog_steps >= 1):
            raise InvalidInput(f"leapfrog_steps must be a whole number of at least 1, got {self.leapfrog_steps}")
        positive(self.mass, "mass")

    @property
    def score_evaluations(self) -> float:  # type: ignore[override]  # it depends on a hyperparameter
        """Scores per particle and step."""
        return float(self.leapfrog_steps)

    def check(self, target: Target) -> None:
        big = target.constant("M") if target.is_gaussian else None
        if big is not None and self.step_size**2 * big >= 4.0 * self.mass:
            limit = "2/sqrt(M)" if self.mass == 1.0 else "2 sqrt(mass/M)"
            raise InvalidInput(
                f"step_size must be below {limit} = {2 * (self.mass / big) ** 0.5:.6g} on {target.name} (leapfrog is unstable), got {self.step_size}"
            )

    @property
    def time_step(self) -> float:
        """Time of the Hamiltonian flow that one step covers."""
        return self.step_size * self.leapfrog_steps

    def init(self, target: Target, x: Batch, noise: Noise) -> Point:
        return Point(x, *target.potential_and_score(x))

    def leapfrog(self, target: Target, here: Point, p: Batch) -> tuple[Point, Batch]:
        """(there, p') after L steps from (here, p)."""
        eps, x, fly = self.step_size, here.x, self.step_size / self.mass
        p = p + 0.5 * eps * here.score
        for _ in range(self.leapfrog_steps - 1):
            x = x + fly * p
            p = p + eps * target.score(x)  # the half kick that ends a step and the one that starts the next
        x = x + fly * p
        there = Point(x, *target.potential_and_score(x))
        return there, p + 0.5 * eps * there.score

    def propose(self, target: Target, here: Point, p: Batch) -> tuple[Point, Values]:
        """The end of the trajectory from (here, p), and the log of its acceptance ratio ``H(x, p) - H(x', p')``."""
        there, q = self.leapfrog(target, here, p)
        return there, here.potential - there.potential + 0.5 / self.mass * ((p * p).sum(1) - (q * q).sum(1))

    def step(self, target: Target, state: Point, noise: Noise) -> Point:
        there, log_ratio = self.propose(target, state, self.mass**0.5 * noise.normal(tuple(state.x.shape)))
        # a trajectory that is not finite has a NaN for its ratio, and NaN compares as a rejection
        accept = torch.log(noise.uniform((len(state.x),))) < log_ratio
        rows = accept.unsqueeze(1)
        return Point(
            torch.where(rows, there.x, state.x),
            torch.where(accept, there.potential, state.potential),
            torch.where(rows, there.score, state.score),
        )
