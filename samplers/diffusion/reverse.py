"""What the samplers that run a forward process backwards share: times, scores, and where these come from."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
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
from .phase_space import PhaseSpaceSDE
from .schedule import Constant, Linear

#: Scales below this, and variances above its inverse, are refused: squares of them overflow.
FAINTEST = 1e-60

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
        admit_run(self.steps, self.horizon, self.stop, self.spacing)
        admit_error(self.error)
        admit_reach(self.forward)

    @cached_property
    def forward(self) -> Forward:
        """The process that is run backwards."""
        last = self.first if self.last is None else self.last
        positive(self.first, "first")
        positive(last, "last")
        if self.process == "ve":
            if not self.first < last:
                raise InvalidInput(f"last must be above first = {self.first:g}, sigma at the horizon above sigma at 0, got {last:g}")
            return VE(self.horizon, self.first, last)
        processes = {"vp": VP, "sub_vp": SubVP}
        if self.process not in processes:
            raise InvalidInput(f"process must be one of {', '.join([*processes, 've'])}, got {self.process!r}")
        return processes[self.process](self.horizon, Constant(self.first) if last == self.first else Linear(self.first, last, self.horizon))

    @cached_property
    def times(self) -> tuple[float, ...]:
        """``T = t_0 > t_1 > ... > t_N = stop``."""
        return backward_times(self.steps, self.horizon, self.stop, self.spacing)

    @final
    def origin(self, target: Target) -> Target:
        return self.forward.noised(target, self.horizon)

    @property
    @final
    def length(self) -> int:
        return self.steps

    def check(self, target: Target) -> None:
        admit_score(self.score, target, self.forward)

    @final
    def look(self, target: Target, t: float, x: Batch) -> Batch:
        """The score at time t: of the oracle or of the network, with the error that was asked for."""
        return scored(self.score, self.error, target, lambda: self.forward.noised(target, t), t, x)

    @final
    def advance(self, k: int, target: Target, state: Any, noise: Noise) -> State:
        return State(self.move(target, state.x, self.times[k], self.times[k + 1], noise))

    @abstractmethod
    def move(self, target: Target, x: Batch, t: float, s: float, noise: Noise) -> Batch:
        """x at the time s < t."""


# What runs on positions, runs on positions and momenta, and annealed chains share.


def backward_times(steps: int, horizon: float, stop: float, spacing: str) -> tuple[float, ...]:
    """``T = t_0 > t_1 > ... > t_N = stop``."""
    u = np.linspace(1.0, 0.0, steps + 1)
    if spacing == "geometric":
        t = stop * (horizon / stop) ** u
    elif spacing == "quadratic":
        t = (stop**0.5 + (horizon**0.5 - stop**0.5) * u) ** 2
    else:
        t = stop + (horizon - stop) * u
    return tuple(float(s) for s in (horizon, *t[1:-1], stop))


def scored(score: str, error: float, target: Target, noised: Callable[[], Target], t: float, x: Batch) -> Batch:
    """The score at time t of what `noised` makes, or of the checkpoint `score`, plus error/sqrt(d) in every coordinate."""
    if score == "oracle":
        found = noised().score(x)
    else:
        from .network import load  # networks are loaded where they are used

        found = load(score, target.dim).score(x, t)
    return found + error / target.dim**0.5 if error else found


def admit_run(steps: int, horizon: float, stop: float, spacing: str) -> None:
    """Raise one line where there are no such times."""
    whole(steps, "steps")
    positive(horizon, "horizon")
    if not 0 <= stop < horizon:
        raise InvalidInput(f"stop must be at least 0 and below the horizon {horizon:g}, got {stop}")
    if spacing not in SPACINGS:
        raise InvalidInput(f"spacing must be one of {', '.join(SPACINGS)}, got {spacing!r}")
    if spacing == "geometric" and stop == 0:
        raise InvalidInput("spacing must not be geometric where stop is 0: its times would be infinitely many")


def admit_reach(forward: Forward) -> None:
    """Raise one line where nothing of x_0 is left at the horizon, or the noise there is beyond all numbers."""
    try:
        scale, variance = forward.scale(forward.horizon), forward.variance(forward.horizon)
    except OverflowError:
        scale, variance = 0.0, math.inf
    if scale < FAINTEST:
        raise InvalidInput(f"horizon must leave something of x_0, a(T) at least {FAINTEST:g}, got {forward.horizon:g} with a(T) = {scale:.3g}")
    if not variance < 1.0 / FAINTEST:
        raise InvalidInput(f"last must be smaller: the variance at the horizon is {variance:.3g}, and at most {1 / FAINTEST:g} is carried")


def admit_error(error: float) -> None:
    """Raise one line unless it is the norm of an error."""
    if not 0 <= error < math.inf:
        raise InvalidInput(f"error must be a finite number of at least 0, got {error}")


def admit_score(score: str, target: Target, forward: Forward | PhaseSpaceSDE | None = None) -> None:
    """Raise one line where the oracle is asked for and there is none, and for a checkpoint of another dimension or process."""
    if score == "oracle" and "diffused" not in target.capabilities:
        raise Unsupported(f"score must be a checkpoint on {target.name}: it has no closed form after noising, and so no oracle")
    if score != "oracle":
        from .network import load

        load(score, target.dim, forward)


def whole(value: int, what: str, least: int = 1) -> None:
    """Raise one line unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not (isinstance(value, (int, np.integer)) and value >= least):
        raise InvalidInput(f"{what} must be a whole number of at least {least}, got {value!r}")
