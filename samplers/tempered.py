"""The geometric path between a Gaussian reference and the target, and the Metropolis moves along it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ..targets.base import Batch, Target, Values
from .base import positive
from .mala import MALA
from .metropolis import Point, log_normal_density
from .noise import Noise


@dataclass(frozen=True)
class Reference:
    """N(centre 1, width^2 I), normalised: the integral of exp(-V_0) is 1.

    Arguments:
        width: w > 0, in units of x. centre: mean along every axis.
    """

    width: float
    centre: float = 0.0

    def __post_init__(self) -> None:
        positive(self.width, "width")

    def potential(self, x: Batch) -> Values:
        """V_0 at each row."""
        return -log_normal_density(x, torch.full_like(x, self.centre), self.width**2)

    def score(self, x: Batch) -> Batch:
        """-grad V_0 at each row."""
        return (self.centre - x) / self.width**2

    def draw(self, like: Batch, noise: Noise) -> Batch:
        """As many independent draws as `like` has rows."""
        return self.centre + self.width * noise.normal(tuple(like.shape)).to(like)


@dataclass(frozen=True, eq=False)
class Tempered(Target):
    """``U_b = b V + (1 - b) V_0``, with V the target's potential; ``U_b = b V`` without a reference, where b is an inverse temperature.

    Arguments:
        target: of potential V.
        b: in (0, 1]; or of shape (N,), one for each row of the points.
        reference: of potential V_0; None for V_0 = 0.
    """

    target: Target
    b: float | Values
    reference: Reference | None = None

    @property
    def dim(self) -> int:
        return self.target.dim

    def potential(self, x: Batch) -> Values:
        v = self.b * self.target.potential(x)
        return v if self.reference is None else v + (1.0 - self.b) * self.reference.potential(x)

    def score(self, x: Batch) -> Batch:
        return self._tilted(x, self.target.score(x))

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        _, v, s = self.at(Point(x, *self.target.potential_and_score(x)))
        return v, s

    def _tilted(self, x: Batch, s: Batch) -> Batch:
        b = self.b.unsqueeze(1) if isinstance(self.b, torch.Tensor) else self.b
        return b * s if self.reference is None else b * s + (1.0 - b) * self.reference.score(x)

    def at(self, here: Point) -> Point:
        """U_b and its score, from V and the score of the target: nothing is evaluated."""
        v = self.b * here.potential
        v = v if self.reference is None else v + (1.0 - self.b) * self.reference.potential(here.x)
        return Point(here.x, v, self._tilted(here.x, here.score))

    def energy(self, here: Point) -> Values:
        """``dU_b/db = V - V_0``, from V: what changes of b are weighted by."""
        return here.potential if self.reference is None else here.potential - self.reference.potential(here.x)

    def step_size(self, h: float) -> float | Values:
        """That of a move at b, one for each b, where h > 0 is right for the target: ``1/h_b = b/h + (1 - b) d^(1/3)/w^2``; h/b without a reference.

        The curvature of U_b is at most ``b M + (1 - b)/w^2``, and step sizes go like its inverse. On the reference itself MALA at
        ``w^2 d^(-1/3)`` accepts 72 to 79 % of its proposals, in every dimension.
        """
        reference = 0.0 if self.reference is None else (1.0 - self.b) * self.dim ** (1 / 3) / self.reference.width**2
        return 1.0 / (self.b / h + reference)


@dataclass(frozen=True, eq=False)
class Scaled(Target):
    """``U(r u)``, a potential in u, with an r > 0 for each row: MALA of step size h in u is MALA of step size ``r^2 h`` in x = r u.

    Arguments:
        path: of potential U.
        ratio: r, shape (N, 1).
    """

    path: Target
    ratio: Batch

    @property
    def dim(self) -> int:
        return self.path.dim

    def potential(self, x: Batch) -> Values:
        return self.path.potential(x * self.ratio)

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        v, s = self.path.potential_and_score(x * self.ratio)
        return v, s * self.ratio


@dataclass(eq=False)
class _Overheard(Target):
    """The target, and what it was last asked and said."""

    target: Target
    said: Point | None = None

    @property
    def dim(self) -> int:
        return self.target.dim

    def potential(self, x: Batch) -> Values:
        return self.target.potential(x)

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        self.said = Point(x, *self.target.potential_and_score(x))
        return self.said[1:]


def move(path: Tempered, here: Point, h: float, noise: Noise) -> Point:
    """One step of MALA on the path at b, its step size ``h_b = path.step_size(h)``; where rows have a b each, one step of size h
    moves them all, as densities of ``x (h/h_b)^(1/2)``.

    Arguments:
        here: positions, with V and the score of the *target* there; so is what is returned, at any b.

    Cost: 1 score and 1 potential of the target, in one pass.
    """
    heard = _Overheard(path.target)
    law, start, size = replace(path, target=heard), path.at(here), path.step_size(h)
    if isinstance(size, torch.Tensor):
        ratio = torch.sqrt(size / h).unsqueeze(1)
        start = Point(start.x / ratio, start.potential, start.score * ratio)
        there = MALA(h).step(Scaled(law, ratio), start, noise)
    else:
        there = MALA(size).step(law, start, noise)
    assert heard.said is not None
    # a proposal was accepted where x has changed; where it has not, V and the score have not either
    moved = (there.x != start.x).any(1)
    rows = moved.unsqueeze(1)
    x, v, s = heard.said
    return Point(torch.where(rows, x, here.x), torch.where(moved, v, here.potential), torch.where(rows, s, here.score))
