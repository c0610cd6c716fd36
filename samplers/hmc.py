"""Hamiltonian Monte Carlo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..errors import InvalidInput
from ..targets.base import Batch, Target, Values
from .base import Sampler, State, positive
from .noise import Noise


@dataclass(frozen=True)
class HMC(Sampler):
    """Hamiltonian (hybrid) Monte Carlo: fresh momenta, L leapfrog steps, accept or reject on the energy.

    ``p ~ N(0, I)``, then L times ``p += eps/2 score(x); x += eps p; p += eps/2 score(x)``; the end (x', p') is taken with
    probability ``min(1, exp(H(x, p) - H(x', p')))``, ``H = V(x) + |p|^2 / 2``, else x stays. The leapfrog map is reversible
    (after a flip of p) and keeps volume, so that the target is invariant at every eps; the energy error over a fixed time
    eps L is of order eps^2. With L = 1 it is MALA at h = eps^2 / 2.

    Cost: L + 1 scores and 2 potentials per step.

    Arguments:
        step_size: eps > 0, time of one leapfrog step; on a Gaussian target below 2/sqrt(M), beyond which energies explode.
        leapfrog_steps: L >= 1.

    References: Duane, Kennedy, Pendleton, Roweth, "Hybrid Monte Carlo" (1987),
        https://doi.org/10.1016/0370-2693(87)91197-X
        Neal, "MCMC using Hamiltonian dynamics" (2011), sections 5.2.3 and 5.3, https://arxiv.org/abs/1206.1901
    """

    step_size: float
    leapfrog_steps: int = 10

    potential_evaluations: ClassVar[float] = 2.0

    def __post_init__(self) -> None:
        positive(self.step_size, "step_size")
        if not (isinstance(self.leapfrog_steps, int) and self.leapfrog_steps >= 1):
            raise InvalidInput(f"leapfrog_steps must be a whole number of at least 1, got {self.leapfrog_steps}")

    @property
    def score_evaluations(self) -> float:  # type: ignore[override]  # it depends on a hyperparameter
        """Scores per particle and step."""
        return self.leapfrog_steps + 1.0

    def check(self, target: Target) -> None:
        big = target.constant("M") if target.is_gaussian else None
        if big is not None and self.step_size**2 * big >= 4.0:
            raise InvalidInput(
                f"step_size must be below 2/sqrt(M) = {2 / big**0.5:.6g} on {target.name} (leapfrog is unstable), got {self.step_size}"
            )

    @property
    def time_step(self) -> float:
        """Time of the Hamiltonian flow that one step covers."""
        return self.step_size * self.leapfrog_steps

    def leapfrog(self, target: Target, x: Batch, p: Batch) -> tuple[Batch, Batch]:
        """(x', p') after L steps from (x, p)."""
        eps = self.step_size
        p = p + 0.5 * eps * target.score(x)
        for i in range(self.leapfrog_steps):
            x = x + eps * p
            # the half kick that ends one step and the one that starts the next are one kick
            p = p + (eps if i + 1 < self.leapfrog_steps else 0.5 * eps) * target.score(x)
        return x, p

    def propose(self, target: Target, x: Batch, p: Batch) -> tuple[Batch, Values]:
        """The end of the trajectory from (x, p), and the log of its acceptance ratio ``H(x, p) - H(x', p')``."""
        y, q = self.leapfrog(target, x, p)
        return y, target.potential(x) - target.potential(y) + 0.5 * ((p**2).sum(1) - (q**2).sum(1))

    def step(self, target: Target, state: State, noise: Noise) -> State:
        x = state.x
        y, log_ratio = self.propose(target, x, noise.normal(tuple(x.shape)))
        # a trajectory that is not finite has a NaN for its ratio, and NaN compares as a rejection
        accept = torch.log(noise.uniform((len(x),))) < log_ratio
        return State(torch.where(accept.unsqueeze(1), y, x))
