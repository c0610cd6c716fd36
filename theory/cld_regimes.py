"""Under-, critically and over-damped Langevin: which friction forgets its start fastest, at once and in the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..laws.normal import Normal, affine_map
from ..metrics.base import Estimate
from ..metrics.w2 import W2
from ..samplers.diffusion.phase_space import CLD
from .base import Case, Identity, Source
from .phase_kernels import forward
from .verdict import Row, Verdict, judge_identity

#: Labels of the two kinds of rows.
EXPONENT, DISTANCE = "exponent", "w2"


@dataclass(frozen=True)
class CLDRegimes(Identity):
    """On N(0, I) CLD converges at the exponent ``beta (Gamma - Re sqrt(Gamma^2 - 4 M))/(2 M)``, the spectral abscissa of its
    drift, which is largest at ``Gamma^2 = 4 M``: below it the law oscillates at the rate ``beta Gamma/(2 M)``, above it a slow
    mode remains.

    Per cell: the exponent of the diffusion's own step, ``-log ||A^n||/(n h)`` at n = 2^40 (no eigenvalues are computed), against
    the formula, to 1e-5: at x = 1 the matrix is defective, and its spectrum known to the root of rounding only; and W2 to the
    target at each recorded time against the closed-form kernel. x is ``Gamma/(2 sqrt(M))``. Over a sweep of Gamma the largest
    exponent must be at x = 1, if x = 1 is swept. The figures give, for each recorded time, the x of the least W2: at a finite
    time it is below 1, since at x = 1 the mean carries a factor t.

    `factor` multiplies the stated exponent.
    """

    statement: ClassVar[str] = "exponent = beta (Gamma - Re sqrt(Gamma^2 - 4 M))/(2 M), largest at Gamma^2 = 4 M"
    source: ClassVar = Source(
        "Score-based generative modeling with critically-damped Langevin diffusion",
        "Dockhorn, Vahdat, Kreis",
        2022,
        "section 3.1",
        "https://arxiv.org/abs/2112.07068",
    )
    samplers: ClassVar[tuple[str, ...]] = ("recipe_diffusion",)
    instruments: ClassVar[str] = "A"
    quantity: ClassVar[str] = "exponent"

    def hypotheses(self, case: Case) -> list[str]:
        if not isinstance(forward(case), CLD):
            return [f"CLD on N(0, I), got {case.sampler.name} with other matrices, or {case.target.name}"]
        cov = case.start.cov if isinstance(case.start, Normal) else np.zeros((1, 1))
        isotropic = np.abs(cov - cov[0, 0] * np.eye(len(cov))).max() <= 1e-12
        return [] if isotropic else ["the start's covariance is a multiple of I"]

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        sde = forward(case)
        assert isinstance(sde, CLD) and isinstance(case.start, Normal)
        mass, gamma, beta = sde.mass, float(sde.friction), float(sde.schedule.rate(0.0))
        x = gamma / (2.0 * mass**0.5)
        log, error = affine_map(case.sampler, case.target).exponent()
        stated = beta * (gamma - np.sqrt(complex(gamma**2 - 4.0 * mass)).real) / (2.0 * mass)
        rows = [Row.of(Estimate.within(-log / case.h, error / case.h), factor * stated, x=x, tolerance=1e-5 * stated, label=EXPONENT)]
        for k, t, measured in zip(case.steps, case.t, case.measure(W2()), strict=True):
            kernel = sde.kernel(float(t))
            keep = float(kernel.transition[0, 0])
            spread = np.sqrt(float(kernel.cov[0, 0]) + keep**2 * case.start.cov[0, 0])
            closed = float(np.hypot(keep * np.linalg.norm(case.start.mean), case.dim**0.5 * (spread - 1.0)))
            rows.append(Row.of(measured, closed, k=k, time=float(t), x=x, tolerance=1e-10, label=DISTANCE))
        return rows

    def judge(self, rows: Sequence[Row]) -> Verdict:
        verdict = judge_identity(rows)
        exponents = [r for r in rows if r.label == EXPONENT]
        best = max(exponents, key=lambda r: r.measured)
        figures = verdict.figures | {"Gamma/(2 sqrt(M)) of the largest exponent": best.x}
        if verdict.word == "holds" and abs(best.x - 1.0) > 1e-9 and any(abs(r.x - 1.0) <= 1e-9 for r in exponents):
            return dataclasses.replace(verdict, word="violated", why=f"the largest exponent is at Gamma = {best.x:.6g} x 2 sqrt(M)", figures=figures)
        for t in sorted({r.time for r in rows if r.label == DISTANCE and r.time > 0}):
            there = [r for r in rows if r.label == DISTANCE and r.time == t]
            least = min(there, key=lambda r: r.measured)
            if least.measured > 10.0 * (least.upper - least.measured):  # below that it is rounding that decides
                figures[f"Gamma/(2 sqrt(M)) of the least W2 at t = {t:.4g}"] = least.x
        why = f"largest exponent at Gamma = {best.x:.6g} x 2 sqrt(M); {verdict.why}"
        return dataclasses.replace(verdict, why=why, figures=figures)
