"""Kinetic (underdamped) Langevin dynamics: what its integrators share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, final

import numpy as np
import torch

from ..errors import InvalidInput
from ..targets.base import Batch, Target
from .base import Momentum, Sampler, Stage, positive
from .flight import over
from .noise import Noise, Probe


class Phase(NamedTuple):
    """Positions, momenta, and the score at the positions where the next step begins with it, else shape (N, 0)."""

    x: Batch
    p: Batch
    score: Batch


def admit_friction(friction: float | str) -> None:
    """Raise one line unless the friction is a positive number or ``critical``."""
    if friction != "critical":
        if isinstance(friction, str):
            raise InvalidInput(f"friction must be a positive number or 'critical', got {friction!r}")
        positive(friction, "friction")


def friction_rate(friction: float | str, mass: float, target: Target) -> float:
    """gamma on this target: the number given, or ``2 sqrt(m/M)`` where it is ``critical``."""
    if friction != "critical":
        return float(friction)
    m = target.constant("m")
    if m is None or m <= 0:
        what = "no m is known" if m is None else f"m = {m:.6g}"
        raise InvalidInput(f"friction must be a number on {target.name}: critical is 2 sqrt(m/mass), which needs m > 0, and {what}")
    return float(2.0 * (m / mass) ** 0.5)


@dataclass(frozen=True)
class Kinetic(Sampler):
    """An integrator of ``dx = p/M dt, dp = -grad V dt - gamma p dt + sqrt(2 gamma M) dB``, of invariant law exp(-V) N(p; 0, M I).

    Parts that the integrators are made of, over a time t = part h:
    kick (B) ``p += t score(x)``; drift (A) ``x += t p/M``; fluctuate (O) ``p' = e^(-gamma t) p + sqrt(M (1 - e^(-2 gamma t))) xi``;
    fly (U): drift and fluctuate at once, exactly.

    Arguments:
        step_size: h > 0, in units of time.
        friction: gamma > 0, per time; or ``critical``, ``2 sqrt(m/M)``, at which the slowest direction of a Gaussian target
            with least curvature m forgets its start fastest. In the convention ``-Gamma p/M`` it is ``gamma = Gamma/M``.
        mass: M > 0, variance of each momentum coordinate; the velocity is p/M.

    Errors: `InvalidInput` for a critical friction on a target without m > 0, and for a step that explodes on a Gaussian target.

    References: Leimkuhler, Matthews, "Rational construction of stochastic numerical methods for molecular sampling" (2013),
        https://arxiv.org/abs/1203.5428
    """

    step_size: float
    friction: float | str = "critical"  # a literal type could not be looked up from the modules of the integrators
    mass: float = 1.0

    score_evaluations: ClassVar[float] = 1.0
    #: Whether a step begins with the score at its start, which the step before has computed.
    carries_score: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive(self.step_size, "step_size")
        positive(self.mass, "mass")
        admit_friction(self.friction)

    @property
    @abstractmethod
    def stages(self) -> tuple[Stage, ...]:
        """The parts of a step, in order."""

    @property
    def time_step(self) -> float:
        return self.step_size

    @property
    def momentum(self) -> Momentum:
        return Momentum(self.mass, self.mass)

    @property
    def noise_scale(self) -> float:
        """No noise acts on the position alone: what a mesh must resolve is the law."""
        return float("inf")

    @final
    def rate(self, target: Target) -> float:
        """gamma on this target."""
        return friction_rate(self.friction, self.mass, target)

    def check(self, target: Target) -> None:
        gamma = self.rate(target)
        if target.is_gaussian:
            fixed = replace(self, friction=gamma)
            ends = float(target.constant("m") or 0.0), float(target.constant("M") or 0.0)
            if fixed.unstable(ends):
                low, high = 0.0, self.step_size
                for _ in range(50):
                    middle = 0.5 * (low + high)
                    low, high = (low, middle) if replace(fixed, step_size=middle).unstable(ends) else (middle, high)
                raise InvalidInput(f"step_size must be below {low:.6g} on {target.name} (beyond it the chain explodes), got {self.step_size}")

    def unstable(self, curvatures: tuple[float, ...]) -> bool:
        """Whether one step multiplies some (x, p) on a Gaussian of one of these curvatures by 1 or more."""
        return max(self.growth(c) for c in curvatures) >= 1.0 + 1e-12

    def growth(self, curvature: float) -> float:
        """Factor by which a step multiplies (x, p) in the long run on a Gaussian of this curvature on the line. Default: the
        spectral radius of the step without its noise."""
        from ..targets.gaussian import Gaussian

        line, eye = Gaussian([0.0], [[1.0 / curvature]]), torch.eye(2, dtype=torch.float64)
        moved = self.step(line, self.place(line, eye[:, :1], eye[:, 1:]), Probe(basis=False))
        return float(np.abs(np.linalg.eigvals(torch.cat([moved.x, moved.p], dim=1).numpy())).max())

    @final
    def init(self, target: Target, x: Batch, noise: Noise) -> Phase:
        return self.place(target, x, self.mass**0.5 * noise.normal(tuple(x.shape)))

    @final
    def place(self, target: Target, x: Batch, p: Batch) -> Phase:
        return Phase(x, p, target.score(x) if self.carries_score else x[:, :0])

    @final
    def step(self, target: Target, state: Phase, noise: Noise) -> Phase:
        for stage in self.stages:
            state = stage(target, state, noise)
        return state

    # The parts.

    def kick(self, part: float, look: bool = True) -> Stage:
        """B; without `look` it uses the score that the state carries."""

        def stage(target: Target, state: Phase, noise: Noise) -> Phase:
            score = target.score(state.x) if look else state.score
            return Phase(state.x, state.p + part * self.step_size * score, score if self.carries_score else state.score)

        return stage

    def drift(self, part: float) -> Stage:
        """A."""

        def stage(target: Target, state: Phase, noise: Noise) -> Phase:
            return state._replace(x=state.x + (part * self.step_size / self.mass) * state.p)

        return stage

    def fluctuate(self, part: float) -> Stage:
        """O."""

        def stage(target: Target, state: Phase, noise: Noise) -> Phase:
            decay, _, _, stir, _, _ = over(self.rate(target), self.mass, part * self.step_size)
            return state._replace(p=decay * state.p + stir * noise.normal(tuple(state.p.shape)))

        return stage

    def fly(self, part: float) -> Stage:
        """U."""

        def stage(target: Target, state: Phase, noise: Noise) -> Phase:
            decay, reach, _, stir, along, across = over(self.rate(target), self.mass, part * self.step_size)
            y, z = noise.normal(tuple(state.p.shape)), noise.normal(tuple(state.p.shape))
            x = state.x + (reach / self.mass) * state.p + along * y + across * z
            return Phase(x, decay * state.p + stir * y, state.score)

        return stage
