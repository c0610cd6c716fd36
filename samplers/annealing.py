"""Weighted particles carried from a Gaussian reference to the target, level by level: what annealed samplers share."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
import torch

from ..errors import Diverged, InvalidInput, Unsupported
from ..targets.base import Batch, Target, Values
from .base import positive
from .metropolis import Point
from .noise import Noise, Probe
from .scheduled import Scheduled
from .tempered import Reference, Tempered, move

SPACINGS = ("linear", "quadratic", "geometric")


class Weighted(NamedTuple):
    """Particles with weights; the mean of exp(log_weights) estimates the integral of exp(-U_b).

    x, score: shape (n, d). potential: V of the target, (n,). log_weights: (n,); all alike after a resampling.
    """

    x: Batch
    potential: Values
    score: Batch
    log_weights: Values


@dataclass(frozen=True)
class Annealing(Scheduled):
    """Particles on ``U_b = b V + (1 - b) V_0`` at ``0 = b_0 < ... < b_L = 1``, one level a step. A concrete one writes `threshold`.

    Step k: ``log w -= (b_k - b_(k-1)) (V - V_0)(x)``, where the particle *is*, at a point of the law at b_(k-1); resample where that is due
    (always in the last step); then `moves` steps of MALA at b_k (`Tempered.step_size`). At the end the positions are a sample of equal
    weights, in which copies of one particle part as far as the last moves take them, and every row holds the logarithm of the
    estimate of Z = integral of exp(-V), which is unbiased, and as such right at every step size.

    The particles start at draws of the reference, whatever start is given: the law at step 0 is N(centre, width^2 I).

    Arguments:
        levels: L >= 1.
        step_size: h > 0, that of the last level, in units of time.
        width: w > 0, that of the reference, in units of x: wider than the target, or weights have no variance.
        centre: mean of the reference along every axis.
        moves: >= 1, steps of MALA per level.
        spacing: of the levels, ``linear``, ``quadratic`` (b = (k/L)^2, finer near the reference), or ``geometric`` from `first` to 1.
        first: b_1 where the spacing is geometric, in (0, 1).
        least_points: least effective number of particles at a resampling.

    Errors: `InvalidInput` for what is out of range; `Unsupported` for laws other than particles; `Diverged` where fewer than
        `least_points` particles count.
    """

    levels: int
    step_size: float
    width: float
    centre: float = 0.0
    moves: int = 1
    spacing: str = "linear"
    first: float = 1e-3
    least_points: float = 5.0

    #: What is left falls with the number of particles, not with h.
    bias_order: ClassVar[float] = 0.0
    interacts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("levels", "moves"):
            value = getattr(self, name)
            if isinstance(value, bool) or not (isinstance(value, int) and value >= 1):
                raise InvalidInput(f"{name} must be a whole number of at least 1, got {value!r}")
        positive(self.step_size, "step_size")
        _ = self.reference  # which says what is wrong with its width
        if self.spacing not in SPACINGS:
            raise InvalidInput(f"spacing must be one of {', '.join(SPACINGS)}, got {self.spacing!r}")
        if not 0 < self.first < 1:
            raise InvalidInput(f"first must be in (0, 1), got {self.first}")
        if not 0 <= self.least_points < math.inf:
            raise InvalidInput(f"least_points must be at least 0 and finite, got {self.least_points}")

    @property
    @abstractmethod
    def threshold(self) -> float:
        """Share of the particles below which the effective number must not fall, or they are resampled."""

    @property
    def score_evaluations(self) -> float:  # type: ignore[override]  # it depends on a hyperparameter
        """Scores per particle and step."""
        return float(self.moves)

    @property
    def potential_evaluations(self) -> float:  # type: ignore[override]  # it depends on a hyperparameter
        """Potentials per particle and step; weights take the one that the moves have carried along."""
        return float(self.moves)

    @cached_property
    def reference(self) -> Reference:
        """The law at b = 0."""
        return Reference(self.width, self.centre)

    @cached_property
    def inverse_temperatures(self) -> tuple[float, ...]:
        """``0 = b_0 < ... < b_L = 1``."""
        u = np.linspace(0.0, 1.0, self.levels + 1)
        if self.spacing == "geometric":
            b = [0.0, *np.geomspace(self.first, 1.0, self.levels)] if self.levels > 1 else u
        else:
            b = u**2 if self.spacing == "quadratic" else u
        return tuple(float(c) for c in (0.0, *b[1:-1], 1.0))

    @property
    @final
    def length(self) -> int:
        return self.levels

    def init(self, target: Target, x: Batch, noise: Noise) -> Weighted:
        """Draws of the reference, as many as `x` has rows."""
        if isinstance(noise, Probe):
            raise Unsupported(f"{self.name} moves particles that see each other, and has no exact law: use particles")
        x = self.reference.draw(x, noise)
        return Weighted(x, *target.potential_and_score(x), x.new_zeros(len(x)))

    def advance(self, k: int, target: Target, state: Any, noise: Noise) -> Weighted:
        b = self.inverse_temperatures
        path, here = Tempered(target, b[k + 1], self.reference), Point(state.x, state.potential, state.score)
        log_w = self.weighed(b[k + 1] - b[k], path, here, state.log_weights)
        # not >=: what is not a number is resampled, which says so
        if k + 1 == self.levels or not effective_size(log_w) >= self.threshold * len(log_w):
            here, log_w = self.resampled(k, here, log_w, noise)
        for _ in range(self.moves):
            here = move(path, here, self.step_size, noise)
        return Weighted(here.x, here.potential, here.score, log_w)

    def weighed(self, rise: float, path: Tempered, here: Point, log_w: Values) -> Values:
        """The weights after b has risen: the density's own change where the particles are."""
        return log_w - rise * path.energy(here)

    def resampled(self, k: int, here: Point, log_w: Values, noise: Noise) -> tuple[Point, Values]:
        """Particles in proportion to their weights, which become their mean."""
        found = effective_size(log_w)
        if not found >= self.least_points:
            what = f"{found:.3g} of {len(log_w)} particles at level {k + 1} of {self.levels}, least_points = {self.least_points:g}"
            raise Diverged(f"ESS too low: {what}; raise levels, moves or the number of particles", k + 1, 1.0)
        chosen = systematic(log_w, float(noise.uniform((1,))))
        x, v, s = here.x.T[:, chosen].T, here.potential[chosen], here.score.T[:, chosen].T
        return Point(x, v, s), torch.full_like(log_w, log_mean(log_w))


# In numpy, whose sums do not depend on the number of threads.


def relative(log_weights: Values) -> tuple[float, np.ndarray]:
    """(c, w) with weights w exp(c), the largest w being 1; NaN where no weight is positive and finite."""
    logs = log_weights.detach().double().cpu().numpy()
    top = float(logs.max())
    with np.errstate(invalid="ignore"):
        return top, np.exp(logs - top)


def log_mean(log_weights: Values) -> float:
    """``log mean w``; -inf where no weight is positive."""
    top, w = relative(log_weights)
    return top if top == -math.inf else top + math.log(w.mean())


def effective_size(log_weights: Values) -> float:
    """``(sum w)^2 / sum w^2``, in [1, n]; NaN where the weights are no numbers."""
    _, w = relative(log_weights)
    return float(w.sum() ** 2 / (w * w).sum())


def systematic(log_weights: Values, u: float) -> torch.Tensor:
    """Indices of n particles: the i-th is where the cumulative weights pass (i + u)/n. A particle of normalised weight w is taken
    n w times, rounded up or down, and n w times on the average over u in (0, 1).

    References: Douc, Cappe, Moulines, "Comparison of resampling schemes for particle filtering" (2005),
        https://arxiv.org/abs/cs/0507025
    """
    _, w = relative(log_weights)
    n, total = len(w), np.cumsum(w)
    chosen = np.searchsorted(total, (np.arange(n) + u) / n * total[-1], side="right")
    # rounding may lead past the last particle that has a weight
    return torch.as_tensor(np.minimum(chosen, np.flatnonzero(w)[-1])).to(log_weights.device)
