"""ULA in W2: contraction to a ball, and how small its universal constant is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import InvalidInput
from ..metrics.w2 import W2
from .base import Bound, Case, needs, step_at_most
from .sources import chewi, dalalyan_karagulyan, durmus_majewski_miasojedow
from .verdict import Row, Verdict, judge_bound

#: The constant of Dalalyan-Karagulyan's bound, which proves ula-w2 with C = 1.65.
DALALYAN_KARAGULYAN = 1.65


@dataclass(frozen=True)
class ULAW2(Bound):
    """``W2(mu_k) <= exp(-m k h / 2) W2(mu_0) + C M sqrt(d h) / m`` for ``h <= 1/(M kappa)``, C universal.

    C is not stated, so two things are reported: whether the bound holds with C = 1.65 (proved, since ula-w2-dk implies
    it), and the smallest C that would do over the sweep, ``max over cells and steps of
    (W2(mu_k) - exp(-m k h / 2) W2(mu_0)) m / (M sqrt(d h))``. Beside it, in the same unit, the C of
    Durmus-Majewski-Miasojedow's square-root form, ``sqrt(2 / kappa)``, for each kappa of the sweep.
    """

    statement: ClassVar[str] = "W2(mu_k) <= exp(-m k h/2) W2(mu_0) + C M sqrt(d h)/m, C universal"
    source: ClassVar = chewi("Theorem 4.1.2")
    samplers: ClassVar[tuple[str, ...]] = ("ula",)
    instruments: ClassVar[str] = "AGPC"
    metric: ClassVar = W2()

    constant: float = DALALYAN_KARAGULYAN

    def __post_init__(self) -> None:
        if not 0 < self.constant < np.inf:
            raise InvalidInput(f"constant must be positive and finite, got {self.constant}")

    def hypotheses(self, case: Case) -> list[str]:
        unmet = needs(case, m="strongly log-concave", M="smooth")
        return unmet or step_at_most(case, case.constant("m") / case.constant("M") ** 2, "m/M^2")

    def bound(self, case: Case) -> np.ndarray:
        return np.asarray(self._transient(case) + self.constant * self._unit(case))

    def _transient(self, case: Case) -> np.ndarray:
        return np.asarray(np.exp(-case.constant("m") * case.t / 2) * case.initial(self.metric))

    @staticmethod
    def _unit(case: Case) -> float:
        return float(case.constant("M") * np.sqrt(case.dim * case.h) / case.constant("m"))

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        transient, unit = self._transient(case), self._unit(case)
        kappa = case.constant("M") / case.constant("m")
        # an upper value proves no constant to be needed
        needed = [0.0 if e.side == "upper" else max(0.0, e.lower - s) / unit for e, s in zip(case.measure(self.metric), transient, strict=True)]
        # x carries the smallest C of the row, floor stays the metric's
        rows = super().rows(case, factor)
        found = dict(zip(case.steps, needed, strict=True))
        return [dataclasses.replace(r, x=found[r.k], label=f"w2; kappa={kappa:.6g}") for r in rows]

    def judge(self, rows: Sequence[Row]) -> Verdict:
        verdict = judge_bound(rows)
        if all(r.side == "upper" for r in rows):
            return verdict
        smallest: dict[float, float] = {}
        for r in rows:
            kappa = float(r.label.rsplit("=", 1)[1])
            smallest[kappa] = max(smallest.get(kappa, 0.0), r.x)
        largest = max(smallest.values(), default=np.nan)
        figures = verdict.figures | {"smallest C": largest, "C of ula-w2-dk": DALALYAN_KARAGULYAN}
        for kappa, c in sorted(smallest.items()):
            figures |= {f"smallest C at kappa = {kappa:.4g}": c, f"C of ula-w2-dmm at kappa = {kappa:.4g}": float(np.sqrt(2 / kappa))}
        # pairs of chains give upper values, which ask for no C at all
        said = f"smallest C {largest:.4g} over the sweep, proved with C = {self.constant:g}" if largest > 0 else ""
        why = verdict.why or said
        return dataclasses.replace(verdict, figures=figures, why=why)


@dataclass(frozen=True)
class ULAW2DK(Bound):
    """``W2(mu_k) <= (1 - m h)^k W2(mu_0) + 1.65 (M/m) sqrt(h d)`` for ``h <= 2/(m + M)``;
    ``W2(mu_k) <= (M h - 1)^k W2(mu_0) + 1.65 M h / (2 - M h) sqrt(h d)`` for ``2/(m + M) <= h < 2/M``."""

    id: ClassVar[str] = "ula-w2-dk"
    statement: ClassVar[str] = "W2(mu_k) <= (1 - m h)^k W2(mu_0) + 1.65 (M/m) sqrt(h d)"
    source: ClassVar = dalalyan_karagulyan("Theorem 1")
    samplers: ClassVar[tuple[str, ...]] = ("ula",)
    instruments: ClassVar[str] = "AGPC"
    metric: ClassVar = W2()

    def hypotheses(self, case: Case) -> list[str]:
        unmet = needs(case, m="strongly log-concave", M="smooth")
        if unmet or case.h < 2 / case.constant("M"):
            return unmet
        return [f"step_size below 2/M = {2 / case.constant('M'):.6g}, got {case.h:.6g}"]

    def bound(self, case: Case) -> np.ndarray:
        m, big, h, d, k = case.constant("m"), case.constant("M"), case.h, case.dim, case.k
        start = case.initial(self.metric)
        if h <= 2 / (m + big):
            return np.asarray((1 - m * h) ** k * start + DALALYAN_KARAGULYAN * (big / m) * np.sqrt(h * d))
        return np.asarray((big * h - 1) ** k * start + DALALYAN_KARAGULYAN * big * h / (2 - big * h) * np.sqrt(h * d))


@dataclass(frozen=True)
class ULAW2DMM(Bound):
    """``W2^2(mu_k) <= (1 - m h)^k W2^2(mu_0) + 2 M h d / m`` for ``h <= 1/M``."""

    id: ClassVar[str] = "ula-w2-dmm"
    statement: ClassVar[str] = "W2^2(mu_k) <= (1 - m h)^k W2^2(mu_0) + 2 M h d/m"
    source: ClassVar = durmus_majewski_miasojedow("Corollary 10")
    samplers: ClassVar[tuple[str, ...]] = ("ula",)
    instruments: ClassVar[str] = "AGPC"
    metric: ClassVar = W2()

    def hypotheses(self, case: Case) -> list[str]:
        unmet = needs(case, m="strongly log-concave", M="smooth")
        return unmet or step_at_most(case, 1 / case.constant("M"), "1/M")

    def bound(self, case: Case) -> np.ndarray:
        m, big, h, d, k = case.constant("m"), case.constant("M"), case.h, case.dim, case.k
        start = case.initial(self.metric)
        return np.asarray(np.sqrt((1 - m * h) ** k * start**2 + 2 * big * h * d / m))
