"""The Mueller-Brown surface: three wells in the plane joined by a curved path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, ClassVar

import numpy as np
import torch

from ..errors import InvalidInput
from .base import Batch, Constant, Constants, Values, vector
from .plane import Plane
from .plane_gap import plane_gap

#: A, a, b, c, X, Y of the four terms (Mueller, Brown 1979).
TERMS = (
    (-200.0, -100.0, -170.0, 15.0),
    (-1.0, -1.0, -6.5, 0.7),
    (0.0, 0.0, 11.0, 0.6),
    (-10.0, -10.0, -6.5, 0.7),
    (1.0, 0.0, -0.5, -1.0),
    (0.0, 0.5, 1.5, 1.0),
)

#: Weights (kx, ky) and centre of the quadratic term that ZOD-MC adds.
WELL = (35.0136, 59.8399), (-0.033923, 0.465694)


@dataclass(frozen=True, eq=False)
class MuellerBrown(Plane):
    """``V = beta [E(x, y) + w Q(x, y)]`` at ``(x, y) = (X - shift) / scale``, ``E = sum_k A_k exp(q_k)``,
    ``q_k = a_k (x - X_k)^2 + b_k (x - X_k)(y - Y_k) + c_k (y - Y_k)^2`` with the constants of 1979 and w = 0 by default.

    E has minima -146.70 at (-0.558, 1.442), -108.17 at (0.623, 0.028) and -80.77 at (-0.050, 0.467), and saddles -40.66 at
    (-0.822, 0.624) and -72.25 at (0.212, 0.293). ``Q = 35.0136 (x + 0.033923)^2 + 59.8399 (y - 0.465694)^2``. The fourth term
    grows like ``exp(0.4 r^2)`` to ``exp(r^2)``: V is not smooth, and overflows (to +inf) from r = 26 on, 9 in float32.

    Z, the moments and draws come from quadrature. m is ``beta / scale^2`` times the least eigenvalue of ``Hess(E + w Q)``,
    searched on finer and finer meshes; outside them the fourth term, which is convex, outweighs the others. The Poincare
    constant is the gap of a finite-volume generator: for large beta it is below rounding, and not declared.

    Cost: four exponentials per row for V, its score, or both.

    Arguments:
        beta: inverse temperature > 0; E is in the units of 1979, with barriers of 8.5 to 106.
        confinement: w >= 0.
        scale: length of the unit of 1979, > 0.
        shift: where the origin of 1979 lies, two numbers.

    Errors: `InvalidInput` where beta or scale is not positive, confinement negative, or shift not a pair.

    References: Mueller, Brown, "Location of saddle points and minimum energy paths by a constrained simplex optimization
        procedure" (1979), footnote 7, https://doi.org/10.1007/BF00547608

    Versions:
        Mueller, Brown 1979 (https://doi.org/10.1007/BF00547608): the surface E, no temperature.
        ZOD-MC / He, Rojas, Tao 2024 (https://github.com/KevinRojas1499/ZOD-MC): `mueller_brown.modified`: beta = 0.1 and E + Q,
            five times as wide, origin moved to (3.5, -6.5); wells and barriers differ from those of E.
        scoremd / Plainer et al 2025 (https://github.com/noegroup/ScoreMD): E at k T = 23, that is beta = 1/23, as here.
        GADES (https://arminshzd.github.io/GADES/examples/MB_pot/): E with underdamped dynamics at k T = 2, that is beta = 0.5.
    """

    beta: float = 0.1
    confinement: float = 0.0
    scale: float = 1.0
    shift: Any = (0.0, 0.0)

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (("", {"beta": 0.1}), ("", {"beta": 0.05}), ("modified", {}))

    def __post_init__(self) -> None:
        for name in ("beta", "scale"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InvalidInput(f"{name} must be a positive finite number, got {getattr(self, name)}")
        if not (np.isfinite(self.confinement) and self.confinement >= 0):
            raise InvalidInput(f"confinement must be a finite number, at least 0, got {self.confinement}")
        shift = vector(self.shift, "shift")
        if len(shift) != 2:
            raise InvalidInput(f"shift must be two numbers, got {len(shift)}")
        object.__setattr__(self, "shift", shift)

    @classmethod
    def modified(cls, beta: float = 0.1) -> MuellerBrown:
        """The variant of ZOD-MC: confined, five times as wide, moved."""
        return cls(beta, confinement=1.0, scale=5.0, shift=(3.5, -6.5))

    def _terms(self, x: Batch) -> tuple[torch.Tensor, ...]:
        """A_k exp(q_k), the derivatives of q_k by x and y, each (4, N), and the displacement from the well of Q, (2, N)."""
        amplitude, a, b, c, centre_x, centre_y = (x.new_tensor(row)[:, None] for row in TERMS)
        z = (x.T - self.shift.to(x)[:, None]) / self.scale
        dx, dy = z[0] - centre_x, z[1] - centre_y
        by_x, by_y = 2 * a * dx + b * dy, b * dx + 2 * c * dy
        # q = (dx q_x + dy q_y) / 2: a quadratic form by its gradient
        return amplitude * torch.exp((dx * by_x + dy * by_y) / 2), by_x, by_y, z - z.new_tensor(WELL[1])[:, None]

    def potential(self, x: Batch) -> Values:
        value, _, _, away = self._terms(x)
        return self.beta * (value.sum(0) + self.confinement * (x.new_tensor(WELL[0]) @ (away * away)))

    def score(self, x: Batch) -> Batch:
        return self.potential_and_score(x)[1]

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        value, by_x, by_y, away = self._terms(x)
        pull = self.confinement * away * x.new_tensor(WELL[0])[:, None]
        slope = torch.stack([(value * by_x).sum(0), (value * by_y).sum(0)]) + 2 * pull
        return self.beta * (value.sum(0) + (away * pull).sum(0)), ((-self.beta / self.scale) * slope).T

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        return Constants(m=partial(_least_curvature, self), poincare=partial(plane_gap, self))


def _least_curvature(target: MuellerBrown) -> Constant:
    value = target.beta / target.scale**2 * _least_eigenvalue(target.confinement)
    return Constant(value, "numeric", "least eigenvalue of the Hessian over the plane, on finer and finer meshes")


@lru_cache(maxsize=16)
def _least_eigenvalue(confinement: float) -> float:
    """Over (-3, 3) x (-2, 4) in the units of 1979: twelve cells per narrowest width of the terms, then finer and finer meshes."""

    def curvature(z: np.ndarray) -> np.ndarray:
        amplitude, a, b, c, centre_x, centre_y = (np.array(row) for row in TERMS)
        dx, dy = z[:, :1] - centre_x, z[:, 1:] - centre_y
        value = amplitude * np.exp(a * dx * dx + b * dx * dy + c * dy * dy)
        by_x, by_y = 2 * a * dx + b * dy, b * dx + 2 * c * dy
        xx = (value * (by_x * by_x + 2 * a)).sum(1) + 2 * confinement * WELL[0][0]
        yy = (value * (by_y * by_y + 2 * c)).sum(1) + 2 * confinement * WELL[0][1]
        xy = (value * (by_x * by_y + b)).sum(1)
        return (xx + yy) / 2 - np.hypot((xx - yy) / 2, xy)

    def mesh(centre: np.ndarray, half: float, n: int) -> np.ndarray:
        offsets = np.linspace(-half, half, n)
        return centre + np.stack([g.ravel() for g in np.meshgrid(offsets, offsets, indexing="ij")], axis=1)

    best, half = np.array([0.0, 1.0]), 3.0
    nodes = mesh(best, half, 361)
    for _ in range(14):
        best, half = nodes[curvature(nodes).argmin()], half / 4 if half < 3.0 else half / 60
        nodes = mesh(best, half, 17)
    return float(curvature(nodes).min())
