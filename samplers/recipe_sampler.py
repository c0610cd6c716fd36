"""What the samplers of a recipe share, and the recipes that have a name."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import torch

from ..errors import InvalidInput
from ..targets.base import Batch, Target
from .base import Momentum, Sampler, State, positive
from .kinetic import Phase
from .noise import Noise
from .recipe import Constant, Recipe
from .recipe_field import Field
from .recipe_optimal import Optimal
from .recipe_softabs import SoftAbs

#: Per coordinate, (x, p): Hamilton's curl.
HAMILTON = np.array([[0.0, -1.0], [1.0, 0.0]])


@dataclass(frozen=True)
class RecipeSampler(Sampler):
    """A sampler built on ``dz = [-(D + Q) grad H + div(D + Q)] dt + sqrt(2 D) dB``.

    The class methods name instances. Of positions: `langevin` D = I; `irreversible` D = I, Q any; `irreversible_random`,
    `irreversible_optimal`; `riemannian` D(x) the inverse of a metric. With a momentum, z = (x, p), and a mass M: `kinetic`
    D = diag(0, gamma M), Q Hamilton's; `sghmc`; `cld` and `psld`, the forward processes of diffusion models with grad V in
    place of x. Of either: `constant`, any matrices; `random`, drawn; `random_field`, drawn and dependent on z.

    Arguments:
        step_size: h > 0, in units of time.
        recipe: D and Q.
        start: variance of each momentum coordinate at the start, as a multiple of M; 0 or more.
    """

    step_size: float
    recipe: Recipe
    start: float = 1.0

    def __post_init__(self) -> None:
        positive(self.step_size, "step_size")
        if not 0 <= self.start < np.inf:
            raise InvalidInput(f"start must be a finite number of at least 0, got {self.start}")

    # Instances.

    @classmethod
    def constant(cls, step_size: float, diffusion: list[list[float]], curl: list[list[float]], mass: float | None = None) -> Self:
        """Any constant D and Q, of size d, or with a mass 2 d (positions first); or of size 1 or 2, alike on every coordinate."""
        return cls(step_size, Constant(diffusion, curl, mass))

    @classmethod
    def langevin(cls, step_size: float) -> Self:
        """Overdamped Langevin: D = I, Q = 0."""
        return cls(step_size, Constant([[1.0]], [[0.0]]))

    @classmethod
    def irreversible(cls, step_size: float, curl: list[list[float]]) -> Self:
        """Langevin with a skew Q on the positions: D = I."""
        return cls(step_size, Constant(np.eye(len(curl)), curl))

    @classmethod
    def irreversible_random(cls, step_size: float, dim: int, seed: int, scale: float = 1.0) -> Self:
        """The same with a drawn Q, whose entries are N(0, scale^2)."""
        dimension(dim)
        if not 0 <= scale < np.inf:
            raise InvalidInput(f"scale must be a finite number of at least 0, got {scale}")
        return cls(step_size, Constant(np.eye(dim), scale * skew(generator(seed), dim)))

    @classmethod
    def irreversible_optimal(cls, step_size: float) -> Self:
        """The same with the Q under which a Gaussian target is forgotten fastest, at the rate trace(P)/d (`recipe_optimal.py`)."""
        return cls(step_size, Optimal())

    @classmethod
    def riemannian(cls, step_size: float, alpha: float = 1.0) -> Self:
        """Q = 0 and D the inverse SoftAbs metric, with eigenvalues ``tanh(alpha l)/l`` for those l of Hess V
        (`recipe_softabs.py`): the steps follow the curvature. It needs a potential that torch can differentiate three times."""
        return cls(step_size, SoftAbs(alpha))

    @classmethod
    def kinetic(cls, step_size: float, friction: float, mass: float = 1.0) -> Self:
        """``dx = p/M dt, dp = -grad V dt - gamma p dt + sqrt(2 gamma M) dB``: D = diag(0, gamma M), friction gamma per time."""
        positive(friction, "friction")
        positive(mass, "mass")
        return cls(step_size, Constant(np.diag([0.0, friction * mass]), HAMILTON, mass))

    @classmethod
    def sghmc(cls, step_size: float, friction: float, mass: float = 1.0) -> Self:
        """Hamiltonian dynamics with friction: ``dp = -grad V dt - C p/M dt + sqrt(2 C) dB``, D = diag(0, C), C = friction."""
        positive(friction, "friction")
        return cls(step_size, Constant(np.diag([0.0, friction]), HAMILTON, mass))

    @classmethod
    def cld(cls, step_size: float, friction: float, mass: float = 1.0, beta: float = 1.0, momentum: float = 1.0) -> Self:
        """``dx = beta p/M dt, dp = -beta grad V dt - Gamma beta p/M dt + sqrt(2 Gamma beta) dB``; critical at
        ``Gamma^2 = 4 M m`` for curvature m. momentum: start variance of p, as a multiple of M."""
        positive(friction, "friction")
        positive(beta, "beta")
        return cls(step_size, Constant(beta * np.diag([0.0, friction]), beta * HAMILTON, mass), momentum)

    @classmethod
    def psld(cls, step_size: float, friction: float, nu: float, mass: float = 1.0, beta: float = 1.0, momentum: float = 1.0) -> Self:
        """Phase-space Langevin: ``D = beta/2 diag(Gamma, M nu)``, ``Q = beta/2`` Hamilton's; Gamma = friction of positions,
        nu of momenta, one of them may be 0; critical at ``(Gamma - nu)^2 = 4/M`` for a unit curvature."""
        for value, name in ((friction, "friction"), (nu, "nu")):
            if not 0 <= value < np.inf:
                raise InvalidInput(f"{name} must be a finite number of at least 0, got {value}")
        if friction + nu == 0:
            raise InvalidInput("friction and nu must not both be 0: nothing would forget the start")
        positive(mass, "mass")
        positive(beta, "beta")
        return cls(step_size, Constant(beta / 2 * np.diag([friction, mass * nu]), beta / 2 * HAMILTON, mass), momentum)

    @classmethod
    def random(cls, step_size: float, dim: int, seed: int, mass: float | None = None, rank: int | None = None) -> Self:
        """D = G G^T/rank with a Gaussian n x rank matrix G, and Q skew with N(0, 1) entries, n = dim, or 2 dim with a mass."""
        dimension(dim)
        n = dim if mass is None else 2 * dim
        if rank is not None and not 1 <= rank <= n:
            raise InvalidInput(f"rank must be in 1..{n}, got {rank}")
        draw = generator(seed)
        g = draw.standard_normal((n, rank or n))
        return cls(step_size, Constant(g @ g.T / (rank or n), skew(draw, n), mass))

    @classmethod
    def random_field(cls, step_size: float, dim: int, seed: int, mass: float | None = None) -> Self:
        """D and Q smooth random functions of z (`recipe_field.py`)."""
        return cls(step_size, Field(dim, seed, mass))

    # The sampler.

    @property
    def time_step(self) -> float:
        return self.step_size

    @property
    def momentum(self) -> Momentum | None:
        mass = self.recipe.mass
        return None if mass is None else Momentum(self.start * mass, mass)

    @property
    def noise_scale(self) -> float | None:
        """Where there is a momentum it is the law that a mesh must resolve, not the noise."""
        return None if self.momentum is None else float("inf")

    def check(self, target: Target) -> None:
        self.recipe.check(target)

    @final
    def init(self, target: Target, x: Batch, noise: Noise) -> Any:
        if self.momentum is None:
            return State(x)
        return self.place(target, x, self.momentum.start**0.5 * noise.normal(tuple(x.shape)))

    @final
    def place(self, target: Target, x: Batch, p: Batch) -> Phase:
        return Phase(x, p, x[:, :0])

    @final
    def step(self, target: Target, state: Any, noise: Noise) -> Any:
        if self.momentum is None:
            return State(self.move(target, state.x, noise))
        z = self.move(target, torch.cat([state.x, state.p], dim=1), noise)
        return Phase(z[:, : target.dim], z[:, target.dim :], state.score)

    @abstractmethod
    def move(self, target: Target, z: Batch, noise: Noise) -> Batch:
        """z one step later."""


def dimension(dim: int) -> None:
    """Raise one line unless there is a dimension."""
    if dim < 1:
        raise InvalidInput(f"dim must be at least 1, got {dim}")


def generator(seed: int) -> np.random.Generator:
    """The numbers of a drawn recipe, a function of its seed alone."""
    if seed < 0:
        raise InvalidInput(f"seed must be at least 0, got {seed}")
    return np.random.Generator(np.random.Philox(seed))


def skew(draw: np.random.Generator, n: int) -> np.ndarray:
    """A skew matrix whose entries are N(0, 1) above the diagonal."""
    a = draw.standard_normal((n, n))
    return np.asarray((a - a.T) / 2**0.5)
