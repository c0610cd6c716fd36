"""Generalised Hamiltonian Monte Carlo: momenta that are refreshed in part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from ..targets.base import Batch, Target, Values
from .base import Momentum, Sampler
from .flight import over
from .hmc import HMC
from .kinetic import admit_friction, friction_rate
from .metropolis import Point
from .noise import Noise


class Guided(NamedTuple):
    """Positions, momenta, and what the target says at the positions.

    x, p, score: shape (N, d). potential: V(x), shape (N,).
    """

    x: Batch
    p: Batch
    potential: Values
    score: Batch


@dataclass(frozen=True)
class GHMC(Sampler):
    """Partly refreshed momenta, L leapfrog steps, accept, or reject and turn back.

    Over the time ``t = L h`` of a step: ``p = e^(-gamma t) p + sqrt(M (1 - e^(-2 gamma t))) xi``, then L leapfrog steps of `hmc`
    to (x', p'), taken with probability ``min(1, exp(H(x, p) - H(x', p')))``; else x stays and **p becomes -p**.

    The flip is what makes the accept step reversible; it costs progress, so small energy errors matter more than in HMC. Both
    parts leave exp(-V) N(p; 0, M I) invariant at every h. As gamma grows it is HMC; with L = 1, as h falls, it is
    kinetic Langevin.

    Cost: L scores and 1 potential per step; those of the start are carried.

    Arguments:
        step_size: h > 0, time of one leapfrog step; limited on a Gaussian target as in `hmc`.
        friction: gamma > 0, per time; or ``critical``, ``2 sqrt(m/M)`` for the target's m > 0.
        leapfrog_steps: L >= 1.
        mass: M > 0, variance of each momentum coordinate.

    References: Horowitz, "A generalized guided Monte Carlo algorithm" (1991), https://doi.org/10.1016/0370-2693%2891%2990812-5
        Neal, "MCMC using Hamiltonian dynamics" (2011), section 5.5.3, https://arxiv.org/abs/1206.1901
    """

    step_size: float
    friction: float | str = "critical"
    leapfrog_steps: int = 1
    mass: float = 1.0

    potential_evaluations: ClassVar[float] = 1.0
    accepts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        admit_friction(self.friction)
        _ = self.flow  # which says what is wrong with the rest

    @property
    def flow(self) -> HMC:
        """The leapfrog steps and their energy."""
        return HMC(self.step_size, self.leapfrog_steps, self.mass)

    @property
    def score_evaluations(self) -> float:  # type: ignore[override]  # it depends on a hyperparameter
        """Scores per particle and step."""
        return float(self.leapfrog_steps)

    @property
    def time_step(self) -> float:
        return self.step_size * self.leapfrog_steps

    @property
    def momentum(self) -> Momentum:
        return Momentum(self.mass, self.mass)

    def check(self, target: Target) -> None:
        friction_rate(self.friction, self.mass, target)
        self.flow.check(target)

    def init(self, target: Target, x: Batch, noise: Noise) -> Guided:
        return self.place(target, x, self.mass**0.5 * noise.normal(tuple(x.shape)))

    def place(self, target: Target, x: Batch, p: Batch) -> Guided:
        return Guided(x, p, *target.potential_and_score(x))

    def refresh(self, target: Target, p: Batch, noise: Noise) -> Batch:
        """p, partly forgotten."""
        decay, _, _, stir, _, _ = over(friction_rate(self.friction, self.mass, target), self.mass, self.time_step)
        return decay * p + stir * noise.normal(tuple(p.shape))

    def step(self, target: Target, state: Guided, noise: Noise) -> Guided:
        here, p = Point(state.x, state.potential, state.score), self.refresh(target, state.p, noise)
        there, q = self.flow.leapfrog(target, here, p)
        log_ratio = here.potential - there.potential + ((p * p).sum(1) - (q * q).sum(1)) / (2.0 * self.mass)
        # a trajectory that is not finite has a NaN for its ratio, and NaN compares as a rejection
        accept = torch.log(noise.uniform((len(p),))) < log_ratio
        rows = accept.unsqueeze(1)
        return Guided(
            torch.where(rows, there.x, state.x),
            torch.where(rows, q, -p),
            torch.where(accept, there.potential, state.potential),
            torch.where(rows, there.score, state.score),
        )
