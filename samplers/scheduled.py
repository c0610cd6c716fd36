"""Samplers whose step depends on how many were taken: annealed chains, reverse diffusions."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, final

from ..errors import InvalidInput
from ..targets.base import Batch, Target
from .base import Momentum, Sampler, Stage
from .noise import Noise


class Scheduled(Sampler):
    """A finite sequence of kernels. A concrete one writes `length` and `advance`; `at(k)` is the kernel of the step after k.

    Laws ask for `at(k)` and carry each kernel as they carry any sampler; there is no stationary law.
    """

    @property
    @abstractmethod
    def length(self) -> int:
        """Number of steps of the schedule."""

    @abstractmethod
    def advance(self, k: int, target: Target, state: Any, noise: Noise) -> Any:
        """The state after the step that follows k steps."""

    def stages_at(self, k: int) -> tuple[Stage, ...]:
        """The parts of that step. Default: the step itself."""
        return (lambda target, state, noise: self.advance(k, target, state, noise),)

    @final
    def at(self, k: int) -> Sampler:
        if not 0 <= k < self.length:
            raise InvalidInput(f"steps must be at most {self.length}, the length of the schedule, got {k + 1}")
        return _Kernel(self, k)

    @final
    def step(self, target: Target, state: Any, noise: Noise) -> Any:
        """The first step."""
        return self.advance(0, target, state, noise)

    @property
    def noise_scale(self) -> float | None:
        """It is the law that a mesh must resolve, not the noise, which may vanish."""
        return float("inf")


@dataclass(frozen=True)
class _Kernel(Sampler):
    """One step of a schedule."""

    whole: Scheduled
    k: int

    @property
    def momentum(self) -> Momentum | None:
        return self.whole.momentum

    @property
    def time_step(self) -> float:
        return self.whole.time_step

    @property
    def noise_scale(self) -> float | None:
        return self.whole.noise_scale

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.whole.stages_at(self.k)

    def check(self, target: Target) -> None:
        self.whole.check(target)

    def init(self, target: Target, x: Batch, noise: Noise) -> Any:
        return self.whole.init(target, x, noise)

    def place(self, target: Target, x: Batch, p: Batch) -> Any:
        return self.whole.place(target, x, p)

    def step(self, target: Target, state: Any, noise: Noise) -> Any:
        return self.whole.advance(self.k, target, state, noise)
