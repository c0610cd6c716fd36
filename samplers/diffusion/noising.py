"""What a score is trained on: a forward process by name, and tables of its coefficients at many times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import InvalidInput
from ...targets.base import Batch, Target
from ..base import positive
from .forward import VE, VP, Forward, SubVP
from .phase_space import CLD, PSLD, PhaseSpaceSDE
from .schedule import Constant, Linear, Schedule

POSITIONS, PHASES = ("vp", "sub_vp", "ve", "sigma"), ("cld", "psld")
#: Weightings w(t) of the squared error of a score: its noise's variance, the squared diffusion coefficient, one.
WEIGHTS = ("variance", "likelihood", "uniform")


class Level(NamedTuple):
    """Where rows stand in a process on positions, ``x_t = a x_0 + sqrt(v) eps``: columns of shape (N, 1).

    t: time. age: log sqrt(v)/a, mapped to [-1, 1] over the times of the process. scale, variance: a, v. rate: g(t)^2.
    """

    t: Tensor
    age: Tensor
    scale: Tensor
    variance: Tensor
    rate: Tensor

    def noised(self, x0: Batch, eps: Batch) -> Batch:
        """x_t, from eps of the shape of x_0."""
        return self.scale * x0 + self.variance.sqrt() * eps

    def weights(self, weight: str) -> Tensor:
        """w(t)."""
        return self.variance if weight == "variance" else self.rate if weight == "likelihood" else torch.ones_like(self.rate)

    def rows(self, index: Tensor | slice) -> Level:
        """The levels of some rows."""
        return Level(*(column[index] for column in self))

    def to(self, like: Tensor) -> Level:
        """The same in the dtype of `like`."""
        return Level(*(column.to(like) for column in self))


class PhaseLevel(NamedTuple):
    """Where rows stand in a process on (x, p), ``u_t = (to_x x_0, to_p x_0) + L eps``, ``L = ((xx, 0), (px, pp))``: columns (N, 1).

    p_0 is integrated out. age: log of int beta, mapped to [-1, 1]. rate_x, rate_p: the diagonal of G G^T at t.
    """

    t: Tensor
    age: Tensor
    to_x: Tensor
    to_p: Tensor
    xx: Tensor
    px: Tensor
    pp: Tensor
    rate_x: Tensor
    rate_p: Tensor

    def noised(self, x0: Batch, eps: Batch) -> Batch:
        """u_t, shape (N, 2d), from eps of shape (N, 2d)."""
        e, f = eps.chunk(2, 1)
        return torch.cat((self.to_x * x0 + self.xx * e, self.to_p * x0 + self.px * e + self.pp * f), 1)

    def rows(self, index: Tensor | slice) -> PhaseLevel:
        """The levels of some rows."""
        return PhaseLevel(*(column[index] for column in self))

    def to(self, like: Tensor) -> PhaseLevel:
        """The same in the dtype of `like`."""
        return PhaseLevel(*(column.to(like) for column in self))


@dataclass(frozen=True)
class Sigma(Forward):
    """``dx = sqrt(2 t) dB``: the time is the noise level, ``a = 1``, ``v = t^2``. What annealed chains ask a network at.

    References: Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative models" (2022), Table 1,
        https://arxiv.org/abs/2206.00364

    Arguments: horizon: the largest level.
    """

    horizon: float

    def __post_init__(self) -> None:
        positive(self.horizon, "horizon")

    def scale(self, t: float) -> float:
        return 1.0

    def variance(self, t: float) -> float:
        return t * t

    def drift(self, t: float) -> float:
        return 0.0

    def noise(self, t: float) -> float:
        return 2.0 * t

    @property
    def prior(self) -> float:
        """v(T)."""
        return self.horizon**2


@dataclass(frozen=True)
class Process:
    """A forward process by name, on the times [least, horizon].

    Arguments:
        name: ``vp``, ``sub_vp``, ``ve`` (`forward.py`), ``sigma`` (VE whose time is the noise level), ``cld`` or ``psld``
            (`phase_space.py`).
        horizon: T > 0.
        first, last: beta at 0 and at T (linear between; `last` is `first` where it is not given), for ``ve`` sigma at 0 and at T;
            ``sigma`` has none. `first` is 2 by default, 4 for ``cld`` and 8 for ``psld``.
        least: the earliest time that is trained, in (0, T); before it the network is asked at `least`.
        mass, friction, momentum_variance, nu: of ``cld`` and ``psld`` alone, by default those of the papers, critically damped.

    Errors: `InvalidInput` for what is out of range.
    """

    name: str = "vp"
    horizon: float = 3.0
    first: float | None = None
    last: float | None = None
    least: float = 1e-3
    mass: float | None = None
    friction: float | None = None
    momentum_variance: float | None = None
    nu: float | None = None

    def __post_init__(self) -> None:
        if self.name not in POSITIONS + PHASES:
            raise InvalidInput(f"name must be one of {', '.join(POSITIONS + PHASES)}, got {self.name!r}")
        positive(self.horizon, "horizon")
        if not 0 < self.least < self.horizon:
            raise InvalidInput(f"least must be positive and below the horizon {self.horizon:g}, got {self.least}")
        phase = ("mass", "friction", "momentum_variance", "nu")
        foreign = {"sigma": ("first", "last", *phase), "cld": ("nu",), "psld": ()}.get(self.name, phase)
        for key in foreign:
            if getattr(self, key) is not None:
                raise InvalidInput(f"{key} must be left out where the process is {self.name}, got {getattr(self, key)}")
        for key in ("first", "last", "mass", "friction", "nu"):
            if getattr(self, key) is not None:
                positive(getattr(self, key), key)
        if self.name == "ve" and not (self.first is not None and self.last is not None and self.first < self.last):
            raise InvalidInput(
                f"last must be above first, sigma at the horizon above sigma at 0, and both be given, got {self.first} and {self.last}"
            )
        _ = self.sde

    @property
    def phase(self) -> bool:
        """Whether it runs on (x, p)."""
        return self.name in PHASES

    @cached_property
    def sde(self) -> Forward | PhaseSpaceSDE:
        """The process itself."""
        if self.name == "sigma":
            return Sigma(self.horizon)
        first = {"cld": 4.0, "psld": 8.0}.get(self.name, 2.0) if self.first is None else self.first
        last = first if self.last is None else self.last
        if self.name == "ve":
            return VE(self.horizon, first, last)
        schedule: Schedule = Constant(first) if last == first else Linear(first, last, self.horizon)
        if not self.phase:
            return (VP if self.name == "vp" else SubVP)(self.horizon, schedule)
        mass = 0.25 if self.mass is None else self.mass
        start = 0.04 if self.momentum_variance is None else self.momentum_variance
        if self.name == "cld":
            return CLD(mass, "critical" if self.friction is None else self.friction, start, schedule)
        friction = 0.01 if self.friction is None else self.friction
        return PSLD.critical(mass, friction, start, schedule) if self.nu is None else PSLD(mass, friction, self.nu, start, schedule)

    def levels(self, times: Tensor) -> Level | PhaseLevel:
        """The coefficients at `times` (K,), in float64; times before `least` count as `least`."""
        t = times.double().clamp(min=self.least)
        if isinstance(self.sde, PhaseSpaceSDE):
            beta = self.sde.schedule
            low, high = beta.integral(self.least), beta.integral(self.horizon)
            age = 2.0 * torch.log(beta.integral(t) / low) / math.log(high / low) - 1.0
            chol, transition = self.sde.cholesky(t), self.sde.kernel(t).transition
            (xx, _), (_, pp) = self.sde.noise_cov
            columns = (t, age, transition[:, 0, 0], transition[:, 1, 0], chol[:, 0, 0], chol[:, 1, 0], chol[:, 1, 1])
            return PhaseLevel(*(c[:, None] for c in (*columns, xx * beta.rate(t), pp * beta.rate(t))))
        forward = self.sde
        kernels = torch.tensor([[*forward.kernel(s), forward.noise(s)] for s in t.tolist()], dtype=torch.float64)
        low, high = (0.5 * math.log(v) - math.log(a) for a, v in map(forward.kernel, (self.least, self.horizon)))
        age = 2.0 * (0.5 * torch.log(kernels[:, 1]) - torch.log(kernels[:, 0]) - low) / (high - low) - 1.0
        return Level(*(c[:, None] for c in (t, age, kernels[:, 0], kernels[:, 1], kernels[:, 2])))

    def admits(self, other: Forward | PhaseSpaceSDE) -> str:
        """What keeps this process from being `other`, in words; "" where their kernels agree on all times of the other."""
        here = self.sde
        if isinstance(here, Forward) != isinstance(other, Forward):
            return f"it was trained on {self.name}, a process of {'x' if isinstance(here, Forward) else '(x, p)'}"
        horizon = other.horizon if isinstance(other, Forward) else getattr(other.schedule, "horizon", self.horizon)
        if horizon > self.horizon * (1 + 1e-12):
            return f"it was trained up to the time {self.horizon:g}, and is asked for {horizon:g}"
        for share in (0.01, 0.1, 0.5, 1.0):
            ours, theirs = (_coefficients(sde, share * horizon) for sde in (here, other))
            if not all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(ours, theirs, strict=True)):
                said = ["(" + ", ".join(f"{c:.6g}" for c in numbers) + ")" for numbers in (ours, theirs)]
                return f"the coefficients of its kernel at the time {share * horizon:g} are {said[0]}, the sampler's {said[1]}"
        return ""

    def noised(self, target: Target, t: float) -> Target:
        """The law of x_t (of (x_t, p_t)) from x_0 ~ target."""
        return self.sde.noised(target, t)


def _coefficients(sde: Forward | PhaseSpaceSDE, t: float) -> tuple[float, ...]:
    """(a, v); on (x, p) the first column of the transition and the covariance."""
    if isinstance(sde, Forward):
        return sde.kernel(t)
    transition, cov = sde.kernel(t)
    return (*transition[:, 0].tolist(), *cov.flatten().tolist())
