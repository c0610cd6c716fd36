"""Order in the step size of the stationary bias of positions, one theorem per integrator of the kinetic diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..metrics.base import Estimate
from ..metrics.w2 import W2
from .base import Case, Rate, Source
from .sources import dalalyan_riou_durand, leimkuhler_matthews
from .verdict import Row, Verdict, judge_rate


@dataclass(frozen=True)
class _Order(Rate):
    """``W2(pi_h, pi) ~ h^order`` for the positions under the integrator's own stationary law pi_h: by a Lyapunov equation on
    Gaussian targets, by the density of (position, momentum) on the line; no sampling error.

    Arguments:
        claimed: None: the stated order. Else another one, a negative control.
    """

    instruments: ClassVar[str] = "AG"
    abscissa: ClassVar[str] = "step size h"
    quantity: ClassVar[str] = "stationary w2"

    claimed: float | None = None

    def hypotheses(self, case: Case) -> list[str]:
        return []

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        return [(case.h, W2()(case.stationary, case.target))]

    def judge(self, rows: Sequence[Row]) -> Verdict:
        return judge_rate(rows, self.stated if self.claimed is None else self.claimed, "equal", small=True)


@dataclass(frozen=True)
class OrderEuler(_Order):
    """Euler-Maruyama: order 1."""

    id: ClassVar[str] = "rate-integrators-euler"
    statement: ClassVar[str] = "Euler-Maruyama: W2(pi_h, pi) ~ h^1"
    source: ClassVar = Source(
        "Expansion of the global error for numerical schemes solving stochastic differential equations",
        "Talay, Tubaro",
        1990,
        "Theorem 1",
        "https://doi.org/10.1080/07362999008809220",
    )
    samplers: ClassVar[tuple[str, ...]] = ("kinetic_euler",)
    stated: ClassVar[float] = 1.0


@dataclass(frozen=True)
class OrderKLMC(_Order):
    """The exponential integrator with a frozen force: order 1, as the bound of klmc-w2 has it; on a Gaussian of curvature l the
    variance is ``1/l + h/(2 gamma) + O(h^2)`` at mass 1."""

    id: ClassVar[str] = "rate-integrators-klmc"
    statement: ClassVar[str] = "KLMC: W2(pi_h, pi) ~ h^1"
    source: ClassVar = dalalyan_riou_durand("Theorem 2 (an upper bound of order 1)")
    samplers: ClassVar[tuple[str, ...]] = ("klmc",)
    stated: ClassVar[float] = 1.0


@dataclass(frozen=True)
class OrderOBABO(_Order):
    """OBABO: order 2."""

    id: ClassVar[str] = "rate-integrators-obabo"
    statement: ClassVar[str] = "OBABO: W2(pi_h, pi) ~ h^2"
    source: ClassVar = leimkuhler_matthews("abstract: symmetric splittings are of order 2")
    samplers: ClassVar[tuple[str, ...]] = ("obabo",)
    stated: ClassVar[float] = 2.0


@dataclass(frozen=True)
class OrderBAOAB(_Order):
    """BAOAB: order 2 off Gaussians; on them the positions are exact (baoab-gauss) and there is no order."""

    id: ClassVar[str] = "rate-integrators-baoab"
    statement: ClassVar[str] = "BAOAB off Gaussians: W2(pi_h, pi) ~ h^2"
    source: ClassVar = leimkuhler_matthews("abstract: symmetric splittings are of order 2")
    samplers: ClassVar[tuple[str, ...]] = ("baoab",)
    stated: ClassVar[float] = 2.0

    def hypotheses(self, case: Case) -> list[str]:
        return ["the target is not Gaussian (there the bias is zero)"] if case.target.is_gaussian else []


@dataclass(frozen=True)
class OrderUBU(_Order):
    """UBU: order 2."""

    id: ClassVar[str] = "rate-integrators-ubu"
    statement: ClassVar[str] = "UBU: W2(pi_h, pi) ~ h^2"
    source: ClassVar = Source(
        "Wasserstein distance estimates for the distributions of numerical approximations to ergodic stochastic differential equations",
        "Sanz-Serna, Zygalakis",
        2021,
        "Theorem 18",
        "https://arxiv.org/abs/2104.12384",
        "Paulin, Whalley, correction of its section 7.6 (2024), https://arxiv.org/abs/2402.08711",
    )
    samplers: ClassVar[tuple[str, ...]] = ("ubu",)
    stated: ClassVar[float] = 2.0
