"""Annealed Langevin dynamics: ULA on the target blurred less and less."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ...errors import InvalidInput
from ...targets.base import Target
from ..base import State, positive
from ..noise import Noise
from ..scheduled import Scheduled
from .forward import VE, diffused
from .reverse import admit_error, admit_score, scored, whole


@dataclass(frozen=True)
class AnnealedLangevin(Scheduled):
    """For ``sigma_1 > ... > sigma_L`` in geometric sequence, T times each: ``x' = x + h_i S(x, sigma_i) + sqrt(2 h_i) xi``, with
    ``h_i = h sigma_i^2 / sigma_L^2`` and S the score of the target plus N(0, sigma_i^2 I).

    The paper writes ``x + (alpha_i/2) S + sqrt(alpha_i) xi``, ``alpha_i = eps sigma_i^2/sigma_L^2``: ``h = eps/2``. Every level is a
    Langevin chain with a bias of its own and is left before it has converged: there is no order, and the error does not fall
    with the number of levels alone. A start as wide as sigma_1 is meant.

    Cost: 1 score per step, L T steps.

    Arguments:
        levels: L >= 1 (1: the level `least` alone).
        inner: T >= 1, steps per level.
        least, largest: sigma_L and sigma_1, ``0 < least < largest``, in units of x.
        step_size: h > 0, that of the last level.
        score: ``oracle``, or the path of a checkpoint trained on ``ve``, which is asked at the time t of ``v(t) = sigma_i^2``.
        error: e >= 0, the L2 norm of what is added to the score, e/sqrt(d) in every coordinate.

    Errors: `InvalidInput` for what is out of range; `Unsupported` for the oracle of a target without a closed form after noising.

    References: Song, Ermon, "Generative modeling by estimating gradients of the data distribution" (2019), Algorithm 1,
        https://arxiv.org/abs/1907.05600
    """

    levels: int
    inner: int
    least: float
    largest: float
    step_size: float
    score: str = "oracle"
    error: float = 0.0

    bias_order: ClassVar[float] = 1.0
    score_evaluations: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        whole(self.levels, "levels")
        whole(self.inner, "inner")
        positive(self.least, "least")
        if not self.least < self.largest < math.inf:
            raise InvalidInput(f"largest must be above least = {self.least:g} and finite, got {self.largest}")
        positive(self.step_size, "step_size")
        admit_error(self.error)

    @cached_property
    def sigmas(self) -> tuple[float, ...]:
        """``sigma_1 > ... > sigma_L``."""
        if self.levels == 1:
            return (self.least,)
        return (self.largest, *(float(s) for s in np.geomspace(self.largest, self.least, self.levels)[1:-1]), self.least)

    @property
    def length(self) -> int:
        return self.levels * self.inner

    def check(self, target: Target) -> None:
        admit_score(self.score, target)
        if self.score != "oracle":
            for sigma in (self.largest, self.least):
                self._age(target, sigma)

    def origin(self, target: Target) -> Target:
        """The target at the first level."""
        return diffused(target, 1.0, self.sigmas[0] ** 2)

    def advance(self, k: int, target: Target, state: Any, noise: Noise) -> State:
        x, sigma = state.x, self.sigmas[k // self.inner]
        h = self.step_size * (sigma / self.least) ** 2
        t = sigma if self.score == "oracle" else self._age(target, sigma)  # the oracle knows no time
        score = scored(self.score, self.error, target, lambda: diffused(target, 1.0, sigma**2), t, x)
        return State(x + h * score + (2 * h) ** 0.5 * noise.normal(tuple(x.shape)))

    def _age(self, target: Target, sigma: float) -> float:
        """The time of the checkpoint's own process at which it has noise of deviation sigma."""
        from .network import load

        process = load(self.score, target.dim).process.sde
        if not isinstance(process, VE):
            raise InvalidInput(f"score must be a checkpoint of the process ve, whose x_t is x_0 plus noise, got {self.score} of another")
        t = process.time(sigma**2)
        process.admit(t)
        return t
