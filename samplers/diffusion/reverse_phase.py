"""What the samplers that run a process of positions and momenta backwards share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import torch

from ...errors import InvalidInput
from ...targets.base import Batch, Target
from ..base import Momentum, Stage, positive
from ..kinetic import Phase
from ..noise import Noise
from ..scheduled import Scheduled
from .phase_space import CLD, PSLD, PhaseSpaceSDE
from .reverse import admit_error, admit_run, admit_score, backward_times, scored
from .schedule import Constant, Linear


@dataclass(frozen=True)
class ReversePhase(Scheduled):
    """A sampler that carries u = (x, p) from the horizon T of ``du = beta A u dt + sqrt(beta C) dB`` back to the time `stop`:
    in backward time ``du = -beta A u dt + beta C S(u, t) dt + sqrt(beta C) dB``, S the score of the law of u_t.

    The chain starts from p ~ N(0, M I), the invariant law, whatever the start of x is.

    Arguments:
        steps: N >= 1.
        horizon: T > 0.
        process: ``cld`` or ``psld`` (`phase_space.py`).
        mass: M > 0, variance of p under the invariant law.
        friction: Gamma > 0. By default critical in ``cld``, ``2 sqrt(M)``, and 0.01 in ``psld``.
        nu: friction of the momentum in ``psld``. By default critical, ``Gamma + 2/sqrt(M)``.
        momentum_variance: gamma >= 0, variance of p_0 in units of M in the forward process.
        first, last: beta at 0 and at T (linear between; `last` is `first` where it is not given).
        stop: delta >= 0, where the backward run ends.
        spacing: of the times, ``uniform``, ``quadratic`` (in sqrt t) or ``geometric`` (needs stop > 0).
        score: ``oracle``, the score of the noised target in closed form; or the path of a checkpoint of a trained network, which
            gives it on rows (x, p): both halves, or in ``cld`` the momentum's alone.
        error: e >= 0; e/sqrt(d) is added to every coordinate of the score.

    Errors: `InvalidInput` for what is out of range; `Unsupported` for the oracle of what is no Gaussian and no mixture of these.
    """

    steps: int
    horizon: float
    process: str = "cld"
    mass: float = 0.25
    friction: float | None = None
    nu: float | None = None
    momentum_variance: float = 0.04
    first: float = 4.0
    last: float | None = None
    stop: float = 0.0
    spacing: str = "uniform"
    score: str = "oracle"
    error: float = 0.0

    def __post_init__(self) -> None:
        admit_run(self.steps, self.horizon, self.stop, self.spacing)
        admit_error(self.error)
        _ = self.forward

    @cached_property
    def forward(self) -> PhaseSpaceSDE:
        """The process that is run backwards."""
        last = self.first if self.last is None else self.last
        positive(self.mass, "mass")
        positive(self.first, "first")
        positive(last, "last")
        if not 0 <= self.momentum_variance < float("inf"):
            raise InvalidInput(f"momentum_variance must be a finite number of at least 0, got {self.momentum_variance}")
        schedule = Constant(self.first) if last == self.first else Linear(self.first, last, self.horizon)
        if self.process == "cld":
            if self.nu is not None:
                raise InvalidInput(f"nu must be left out where the process is cld, got {self.nu}")
            return CLD(self.mass, "critical" if self.friction is None else self.friction, self.momentum_variance, schedule)
        if self.process != "psld":
            raise InvalidInput(f"process must be cld or psld, got {self.process!r}")
        friction = 0.01 if self.friction is None else self.friction
        if self.nu is None:
            return PSLD.critical(self.mass, friction, self.momentum_variance, schedule)
        return PSLD(self.mass, friction, self.nu, self.momentum_variance, schedule)

    @cached_property
    def times(self) -> tuple[float, ...]:
        """``T = t_0 > t_1 > ... > t_N = stop``."""
        return backward_times(self.steps, self.horizon, self.stop, self.spacing)

    @property
    @final
    def length(self) -> int:
        return self.steps

    @property
    @final
    def momentum(self) -> Momentum:
        return Momentum(self.mass, self.mass)

    def check(self, target: Target) -> None:
        admit_score(self.score, target, self.forward)
        if self.score == "oracle":
            self.forward.noised(target, self.horizon)  # which says what is missing
        else:
            self._admit_process(target)

    def origin(self, target: Target) -> Target:
        return self.forward.noised(target, self.horizon)

    @final
    def init(self, target: Target, x: Batch, noise: Noise) -> Phase:
        return self.place(target, x, self.mass**0.5 * noise.normal(tuple(x.shape)))

    @final
    def place(self, target: Target, x: Batch, p: Batch) -> Phase:
        return Phase(x, p, x[:, :0])

    @final
    def look(self, target: Target, t: float, u: Phase) -> tuple[Batch, Batch]:
        """The score at time t in x and in p: of the oracle or of the network, with the error that was asked for."""
        found = scored(self.score, self.error, target, lambda: self.forward.noised(target, t), t, torch.cat([u.x, u.p], dim=1))
        return found[:, : target.dim], found[:, -target.dim :]

    @final
    def stages_at(self, k: int) -> tuple[Stage, ...]:
        return self.parts(self.times[k], self.times[k + 1])

    @final
    def advance(self, k: int, target: Target, state: Any, noise: Noise) -> Any:
        for stage in self.stages_at(k):
            state = stage(target, state, noise)
        return state

    @abstractmethod
    def parts(self, t: float, s: float) -> tuple[Stage, ...]:
        """The parts of the step from t to the time s < t, in order."""

    def _admit_process(self, target: Target) -> None:
        """Raise one line unless the checkpoint was trained on this process."""
        from .network import load

        trained = load(self.score, target.dim).process.sde
        for t in (0.01 * self.horizon, self.horizon):
            pairs = zip(trained.kernel(t), self.forward.kernel(t), strict=True) if isinstance(trained, PhaseSpaceSDE) else ()
            if not pairs or not all(torch.allclose(a, b, rtol=1e-9, atol=0.0) for a, b in pairs):
                raise InvalidInput(f"score must be a checkpoint of the sampler's own process, {self.process}, got {self.score} of another")
