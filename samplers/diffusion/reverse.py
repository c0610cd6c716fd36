"""What the samplers that run a forward process backwards share: times, scores, and where these come from."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np

from ...errors import InvalidInput, Unsupported
from ...targets.base import Batch, Target
from ..base import State, positive
from ..noise import Noise
from ..scheduled import Scheduled
from .forward import VE, VP, Forward, SubVP
from .schedule import Constant, Linear

SPACINGS = ("uniform", "quadratic", "geometric")


@dataclass(frozen=True)
class Reverse(Scheduled):
    """A sampler that carries x from the horizon T of a forward process back to the time `stop`, in `steps` steps.

    Arguments:
        steps: N >= 1.
        horizon: T > 0.
        process: ``vp``, ``sub_vp`` or ``ve`` (`forward.py`).
        first, last: beta at 0 and at T (linear between; `last` is `first` where it is not given), for ``ve`` sigma at 0 and at T.
            The defaults make ``vp`` the Ornstein-Uhlenbeck process ``dx = -x dt + sqrt(2) dB``.
        stop: delta >= 0, where the backward run ends (early stopping).
        spacing: of the times, ``uniform``, ``quadratic`` (in sqrt t) or ``geometric`` (needs stop > 0).
        score: ``oracle``, the score of the noised target in closed form; or the path of a checkpoint of a trained network.
        error: e >= 0; e/sqrt(d) is added to every coordinate of the score, an error of L2 norm e at every time.

    Errors: `InvalidInput` for what is out of range; `Unsupported` for the oracle of a target without a closed form after noising.
    """

    steps: int
    horizon: float
    process: str = "vp"
    first: float = 2.0
    last: float | None = None
    stop: float = 0.0
    spacing: str = "uniform"
    score: str = "oracle"
    error: float = 0.0

    def __post_init__(self) -> None:
        if not (isinstance(self.steps, int) and self.steps >= 1):
            raise InvalidInput(f"steps must be a whole number of at least 1, got {self.steps}")
        positive(self.horizon, "horizon")
        if not 0 <= self.stop < self.horizon:
            raise InvalidInput(f"stop must be at least 0 and below the horizon {self.horizon:g}, got {self.stop}")
        if self.spacing not in SPACINGS:
            raise InvalidInput(f"spacing must be one of {', '.join(SPACINGS)}, got {self.spacing!r}")
        if self.spacing == "geometric" and self.stop == 0:
            raise InvalidInput("spacing must not be geometric where stop is 0: its times would be infinitely many")
        if not 0 <= self.error < math.inf:
            raise InvalidInput(f"error must be a finite number of at least 0, got {self.error}")
        _ = self.forward

    @cached_property
    def forward(self) -> Forward:
        """The process that is run backwards."""
        last = self.first if self.last is None else self.last
        if self.process == "ve":
            return VE(self.horizon, self.first, last)
        processes = {"vp": VP, "sub_vp": SubVP}
        if self.process not in processes:
            raise InvalidInput(f"process must be one of {', '.join([*processes, 've'])}, got {self.process!r}")
        return processes[self.process](self.horizon, Constant(self.first) if last == self.first else Linear(self.first, last, self.horizon))

    @cached_property
    def times(self) -> tuple[float, ...]:
        """``T = t_0 > t_1 > ... > t_N = stop``."""
        u = np.linspace(1.0, 0.0, self.steps + 1)
        if self.spacing == "geometric":
            t = self.stop * (self.horizon / self.stop) ** u
        elif self.spacing == "quadratic":
            t = (self.stop**0.5 + (self.horizon**0.5 - self.stop**0.5) * u) ** 2
        else:
            t = self.stop + (self.horizon - self.stop) * u
        return tuple(float(s) for s in (self.horizon, *t[1:-1], self.stop))

    @property
    @final
    def length(self) -> int:
        return self.steps

    def check(self, target: Target) -> None:
        if self.score == "oracle" and "diffused" not in target.capabilities:
            raise Unsupported(f"score must be a checkpoint on {target.name}: it has no closed form after noising, and so no oracle")

    @final
    def look(self, target: Target, t: float, x: Batch) -> Batch:
        """The score at time t: of the oracle or of the network, with the error that was asked for."""
        if self.score == "oracle":
            found = self.forward.noised(target, t).score(x)
        else:
            from .network import load  # networks are loaded where they are used

            found = load(self.score, target.dim).score(x, t)
        return found + self.error / x.shape[1] ** 0.5 if self.error else found

    @final
    def advance(self, k: int, target: Target, state: Any, noise: Noise) -> State:
        return State(self.move(target, state.x, self.times[k], self.times[k + 1], noise))

    @abstractmethod
    def move(self, target: Target, x: Batch, t: float, s: float, noise: Noise) -> Batch:
        """x at the time s < t."""
