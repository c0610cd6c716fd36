"""The lattice Ginzburg-Landau model: a double well at each site of a periodic lattice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
import torch

from ..errors import InvalidInput
from .base import DEPTH, Batch, Constant, Target, Values
from .chain import Chain, reach, spring
from .lattice import log_sobolev


@dataclass(frozen=True, eq=False)
class GinzburgLandau(Target):
    """``V = sum_s [ (1 - tau) x_s^2 / 2 + (tau alpha / 2) sum_e (x_{s+e} - x_s)^2 + tau lam x_s^4 / 4 ]`` on a periodic lattice.

    s runs over `side`^`dimension` sites, e over the unit vectors. On a lattice of two sites a side a bond counts twice, as in
    ``roll(x) - x``. Hess V is ``(1 - tau) + tau alpha L + 3 tau lam diag(x_s^2)``, L >= 0 with L 1 = 0: its least eigenvalue is
    ``1 - tau``, at x = 0 along constants. V grows like x^4: no M. On a ring (dimension 1) Z and the moments come from the transfer
    operator; in two and three dimensions they are not known.

    Cost: O(dimension) per site for V and the score.

    Arguments:
        side: sites per axis, at least 2.
        dimension: of the lattice: 1, 2 or 3.
        tau, lam, alpha: each positive.

    Errors: `InvalidInput` where a parameter is out of range.

    References: Brosse, Durmus, Moulines, Sabanis, "The tamed unadjusted Langevin algorithm" (2019), the numerical
        examples, https://doi.org/10.1016/j.spa.2018.10.002

    Versions:
        Brosse et al 2019 (https://github.com/nbrosse/TULA): (tau, lam, alpha) = (2, 0.5, 0.1), side 10 in three dimensions (d = 1000),
            forward differences, periodic, as here.
    """

    side: int = 10
    dimension: int = 3
    tau: float = 2.0
    lam: float = 0.5
    alpha: float = 0.1

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (
        ("", {"side": 10, "dimension": 1}),
        ("", {"side": 4, "dimension": 2}),
        ("", {"side": 3, "dimension": 3}),
    )

    def __post_init__(self) -> None:
        if self.side < 2:
            raise InvalidInput(f"side must be at least 2, got {self.side}")
        if self.dimension not in (1, 2, 3):
            raise InvalidInput(f"dimension must be 1, 2 or 3, got {self.dimension}")
        for name in ("tau", "lam", "alpha"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InvalidInput(f"{name} must be a positive finite number, got {getattr(self, name)}")

    @property
    def dim(self) -> int:
        return int(self.side**self.dimension)

    def _lattice(self, x: Batch) -> tuple[torch.Tensor, range]:
        """x on the lattice, shape (N, side, ..), and its axes."""
        return x.reshape(-1, *(self.side,) * self.dimension), range(1, self.dimension + 1)

    def potential(self, x: Batch) -> Values:
        y, axes = self._lattice(x)
        bonds = sum(((y.roll(-1, axis) - y) ** 2 for axis in axes), torch.zeros_like(y))
        square = y * y
        sites = (1 - self.tau) / 2 * square + self.tau * self.lam / 4 * square * square
        return (sites + self.tau * self.alpha / 2 * bonds).reshape(x.shape).sum(1)

    def score(self, x: Batch) -> Batch:
        y, axes = self._lattice(x)
        bends = sum((y.roll(1, axis) + y.roll(-1, axis) - 2 * y for axis in axes), torch.zeros_like(y))
        return (self.tau * self.alpha * bends - y * (1 - self.tau + self.tau * self.lam * y * y)).reshape(x.shape)

    @cached_property
    def _chain(self) -> Chain:
        site = partial(_well, curvature=1 - self.tau, quartic=self.tau * self.lam)
        return Chain(site, partial(spring, stiffness=self.tau * self.alpha), self.side, *reach(site, DEPTH + 10), ends="periodic")

    @property
    def log_normalizer(self) -> float | None:
        return self._chain.log_normalizer if self.dimension == 1 else None

    @cached_property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        # the mean is 0 by symmetry; the quadrature says so to rounding
        return (torch.zeros(self.dim, dtype=torch.float64), torch.as_tensor(self._chain.cov)) if self.dimension == 1 else None

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        # V - min V is at least a site's own share: the minimum has no bond stretched
        return np.full(self.dim, self._chain.lo), np.full(self.dim, self._chain.hi)

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        lsi = log_sobolev(1 - self.tau, self.tau * self.lam, self.dim, coupling=2 * self.dimension * self.tau * self.alpha)
        return {
            "m": Constant(1 - self.tau, "exact", "least eigenvalue of the Hessian, at 0 along constants"),
            "lsi": lsi,
            "poincare": Constant(lsi.value, "bound", "log-Sobolev implies Poincare"),
        }


def _well(x: np.ndarray, curvature: float, quartic: float) -> np.ndarray:
    return curvature / 2 * x**2 + quartic / 4 * x**4
