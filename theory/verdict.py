"""From rows of measurements to a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import special

from ..metrics.base import Estimate, Side

Word = Literal["holds", "violated", "inconclusive", "not applicable"]

#: Relative slack of a comparison: equality up to rounding counts as holding (its tightness reads 1.0000).
SLACK = 1e-9

#: An identity is decided only where the measurement's error is below this part of its sides.
USELESS = 1e-3

#: A rate is fitted only where its interval is at most this wide on either side; wider is inconclusive.
RESOLUTION = 0.15


@dataclass(frozen=True)
class Row:
    """One comparison.

    Arguments:
        k: step at which the law was taken (0 for quantities without one).
        time: k times the step size.
        x: abscissa of a rate; NaN otherwise.
        measured, lower, upper, floor, side: the estimate.
        bound: what the theorem says: upper bound, right side of an identity, NaN for a rate.
        tolerance: absolute tolerance of an identity; 0 otherwise.
        label: what was measured.
        cell: key of the cell it comes from; the rows of one cell and label are one trajectory.
    """

    k: int
    time: float
    x: float
    measured: float
    lower: float
    upper: float
    floor: float
    side: Side
    bound: float
    tolerance: float = 0.0
    label: str = ""
    cell: str = ""

    @classmethod
    def of(
        cls, estimate: Estimate, bound: float, *, k: int = 0, time: float = 0.0, x: float = np.nan, tolerance: float = 0.0, label: str = ""
    ) -> Row:
        """A row from an estimate."""
        e = estimate
        return cls(k, time, x, e.value, e.lower, e.upper, e.floor, e.side, float(bound), tolerance, label)


@dataclass(frozen=True)
class Verdict:
    """What came out, with its evidence.

    Arguments:
        word: holds, violated, inconclusive or not applicable.
        tightness: largest measured / bound among the rows judged; NaN where there is no bound.
        stated: the stated exponent of a rate, or NaN.
        exponent, low, high: the measured exponent and its interval, or NaN.
        judged: number of rows that entered.
        why: one clause: the worst row, the unmet hypothesis, the regime of a fit.
        figures: further numbers worth printing (a fitted constant, say).
    """

    word: Word
    tightness: float = np.nan
    stated: float = np.nan
    exponent: float = np.nan
    low: float = np.nan
    high: float = np.nan
    judged: int = 0
    why: str = ""
    figures: dict[str, float] = field(default_factory=dict)


def judge_row(row: Row, resolution: float = 0.0) -> Word | None:
    """The word for one upper bound, or None where the comparison is below the numerical error.

    Arguments:
        resolution: what the numbers at hand resolve: on an exact route, an interval narrower than this that straddles
            the bound is rounding, not a finding, and so is an excess below it.
    """
    if not np.isfinite(row.bound):
        return None  # a bound that says nothing is neither kept nor broken
    slack = SLACK * abs(row.bound)
    if row.upper <= row.bound + slack:
        return "inconclusive" if row.side == "lower" else "holds"
    if row.lower > row.bound + slack:
        small = row.side == "exact" and row.lower <= row.bound + resolution
        return None if small else "inconclusive" if row.side == "upper" else "violated"
    if row.side == "exact" and row.floor == 0.0 and row.upper - row.lower <= 1e-6 * abs(row.bound):
        return "holds"  # equality, as far as it can be told
    if row.lower <= 0.0 or row.measured < 2.0 * row.floor or row.upper - row.lower <= resolution:
        # nothing is resolved here; a value above the bound is not waved through all the same
        return "inconclusive" if row.measured > row.bound + max(resolution, 2.0 * row.floor) else None
    return "inconclusive"


def judge_bound(rows: Sequence[Row]) -> Verdict:
    """Holds where every resolved row does; the worst row is quoted.

    Rows that straddle their bound with an interval below 1e-10 of the trajectory's largest measured value are rounding
    and not judged; how many rows were not is said.
    """
    scale: dict[tuple[str, str], float] = {}
    for r in rows:
        scale[r.cell, r.label] = max(scale.get((r.cell, r.label), 0.0), r.measured if np.isfinite(r.measured) else 0.0)
    words = [(judge_row(r, 1e-10 * scale[r.cell, r.label]), r) for r in rows]
    judged = [(w, r) for w, r in words if w is not None]
    if not judged:
        return Verdict("inconclusive", why="nothing is resolved above the numerical floor")
    tightness = float(max(_ratio(r) for _, r in judged))
    last = max(r.k for _, r in judged)
    figures = {"tightness at the last step": float(max(_ratio(r) for _, r in judged if r.k == last))}
    for word in ("violated", "inconclusive"):
        bad = [r for w, r in judged if w == word]
        if bad:
            worst = max(bad, key=_ratio)
            what = worst.label.split(";")[0] or "measured"
            why = f"{what} {worst.measured:.6g} in [{worst.lower:.6g}, {worst.upper:.6g}] against {worst.bound:.6g} at step {worst.k}"
            return Verdict(word, tightness, judged=len(judged), why=why, figures=figures)
    unresolved = len(rows) - len(judged)
    why = f"{unresolved} of {len(rows)} rows lie below the numerical error or the floor" if unresolved else ""
    return Verdict("holds", tightness, judged=len(judged), why=why, figures=figures)


def _ratio(row: Row) -> float:
    if row.bound <= 0.0:
        return np.inf if row.measured > 0.0 else 0.0
    return row.measured / row.bound


def judge_identity(rows: Sequence[Row], useless: float = USELESS) -> Verdict:
    """Holds where both sides agree within tolerance plus the measurement's own error, and that error is small.

    An error above `useless` of the larger side could hide any difference: the row is then inconclusive.
    """
    if not rows:
        return Verdict("inconclusive", why="nothing was measured")

    def error(r: Row) -> float:
        return max(r.upper - r.measured, r.measured - r.lower)

    def excess(r: Row) -> float:
        return abs(r.measured - r.bound) - r.tolerance - error(r)

    largest = max(abs(r.measured - r.bound) for r in rows)
    figures = {"difference": largest}
    worst = max(rows, key=excess)
    if excess(worst) > 0:
        what = f"{worst.label or 'measured'} {worst.measured:.10g} against {worst.bound:.10g} at step {worst.k}"
        why = f"{what}: off by {abs(worst.measured - worst.bound):.2g}, allowed {worst.tolerance + error(worst):.2g}"
        return Verdict("violated", judged=len(rows), why=why, figures=figures)
    vague = max(rows, key=lambda r: error(r) / max(abs(r.measured), abs(r.bound), 1e-300) if _vague(r, error(r), useless) else -1.0)
    if _vague(vague, error(vague), useless):
        why = f"{vague.label or 'measured'} is known to within {error(vague):.2g} only, at step {vague.k}"
        return Verdict("inconclusive", judged=len(rows), why=why, figures=figures)
    return Verdict("holds", judged=len(rows), why=f"largest difference {largest:.2g}", figures=figures)


def _vague(row: Row, error: float, useless: float) -> bool:
    """Whether the error exceeds both the tolerance and what is useful."""
    return error > row.tolerance and error > useless * max(abs(row.measured), abs(row.bound), useless)


@dataclass(frozen=True)
class Fit:
    """A fitted exponent: slope of log y against log x, with its interval; `bend` is the coefficient of a finite-size term, `limit`
    where the local slopes tend, if they do."""

    exponent: float
    low: float
    high: float
    used: int
    regime: str
    bend: float = 0.0
    limit: float | None = None


def fit_exponent(rows: Sequence[Row]) -> Fit | None:
    """The exponent of ``measured ~ x^e``, or None where fewer than three points are resolved.

    Points below twice their floor, or whose interval is wider than half their value, are left out. Where the local
    slopes drift (a transient or a plateau), the fit keeps the longest run of points, from the end where slopes change
    least, whose local slopes stay within 0.1 of each other. The interval is the larger of the regression's 99 %
    interval and the spread of the local slopes.
    """
    good = [r for r in rows if r.x > 0 and r.measured > 2.0 * r.floor and r.measured > 0 and r.upper - r.lower < 0.5 * r.measured]
    good.sort(key=lambda r: r.x)
    if len(good) < 3:
        return None
    x, y = np.log([r.x for r in good]), np.log([r.measured for r in good])
    if (np.diff(x) <= 0).any():
        return None
    local = np.diff(y) / np.diff(x)
    runs = [(i, j) for i in range(len(local)) for j in range(i + 2, len(local) + 1) if np.ptp(local[i:j]) <= 0.1]
    if runs:
        i, j = max(runs, key=lambda ij: (ij[1] - ij[0], -np.ptp(local[ij[0] : ij[1]])))
    else:
        i, j = 0, len(local)
    x, y, local = x[i : j + 1], y[i : j + 1], local[i:j]
    away = x - x.mean()
    slope = float(away @ y / (away @ away))
    residual = y - y.mean() - slope * away
    half = float(np.abs(local - slope).max())
    if len(x) > 2:
        half = max(half, float(special.stdtrit(len(x) - 2, 0.995) * np.sqrt(residual @ residual / (len(x) - 2) / (away @ away))))
    # the measurements' own intervals, propagated to the slope's ends
    noise = max((r.upper - r.lower) / (2 * r.measured) for r in good[i : j + 1])
    half += 2 * noise / float(x[-1] - x[0]) + 1e-12
    regime = f"{len(x)} of {len(rows)} points, x = {np.exp(x[0]):.3g}..{np.exp(x[-1]):.3g}"
    return Fit(slope, slope - half, slope + half, len(x), regime, limit=_limit(local))


def _limit(slopes: np.ndarray) -> float | None:
    """Where local slopes tend at small x, and half as far again: Aitken's extrapolation from the three smallest x, if the slopes
    change in one direction, by at most three quarters of the change before; never farther than they have come. Else None."""
    if len(slopes) < 3 or not (np.all(np.diff(slopes) > 0) or np.all(np.diff(slopes) < 0)):
        return None
    near, middle, far = slopes[:3]
    first, second = middle - far, near - middle
    if abs(second) > 0.75 * abs(first):
        return None
    reach = min(1.5 * second**2 / abs(first - second), float(np.ptp(slopes)))
    return float(near + np.sign(second) * reach)


#: Largest coefficient of the first term that a corrected fit leaves out, in log y: expansions in x^-order whose coefficients
#: are of order one (for the step of MALA on Gaussians, by quadrature up to d = 10^6: 0.35 at first order, -0.46 at second).
NEXT = 0.5


def fit_corrected(rows: Sequence[Row], order: float) -> Fit | None:
    """The exponent of ``measured ~ x^e (1 + b x^-order)``, the order of the correction known; None below four points.

    Weighted least squares of ``log y = c + e log x + b x^-order``, weights from the intervals of the points. The interval of
    e is what those intervals do to it (99 %, as theirs), widened where the points lie farther from the curve than they say,
    plus what a next term ``b' x^(-2 order)`` would shift it, ``|b'| <= NEXT``.
    """
    good = [r for r in rows if r.x > 0 and r.measured > 2.0 * r.floor and r.lower > 0 and r.upper - r.lower < 0.5 * r.measured]
    if len(good) < 4:
        return None
    x, y = np.array([r.x for r in good]), np.log([r.measured for r in good])
    arms = np.array([max(np.log(r.upper / r.measured), np.log(r.measured / r.lower), 1e-12) for r in good])
    design = np.stack([np.ones_like(x), np.log(x), x**-order], axis=1) / arms[:, None]
    if np.linalg.matrix_rank(design) < 3:
        return None
    inverse = np.linalg.inv(design.T @ design)
    solution = inverse @ design.T @ (y / arms)
    misfit = float((((y / arms) - design @ solution) ** 2).sum()) * float(special.ndtri(0.995)) ** 2  # in units of the standard errors
    half = float(np.sqrt(inverse[1, 1] * max(1.0, misfit / (len(good) - 3))))
    half += NEXT * abs(float((inverse @ design.T @ (x ** (-2 * order) / arms))[1]))
    regime = f"{len(good)} of {len(rows)} points, x = {x.min():.3g}..{x.max():.3g}, with a term of order x^-{order:.3g}"
    return Fit(float(solution[1]), float(solution[1]) - half, float(solution[1]) + half, len(good), regime, float(solution[2]))


def judge_rate(
    rows: Sequence[Row], stated: float, sense: Literal["equal", "at most", "at least"], correction: float | None = None, small: bool = False
) -> Verdict:
    """Compares the fitted exponent's interval with the stated one.

    Arguments:
        small: whether the exponent is that of x to zero (a step size): an equality is then compared with where the slopes tend.
    """
    fit = fit_exponent(rows) if correction is None else fit_corrected(rows, correction)
    if fit is None:
        return Verdict("inconclusive", stated=stated, why="fewer than three points are resolved above the floor")
    low, high = fit.low, fit.high
    if small and sense == "equal" and fit.limit is not None:  # the exponent is where the local slopes tend, not their mean
        low, high = min(low, fit.limit), max(high, fit.limit)
    common = {"stated": stated, "exponent": fit.exponent, "low": low, "high": high, "judged": fit.used}
    if high - low > 2 * RESOLUTION:
        return Verdict("inconclusive", why=f"the interval is wider than +-{RESOLUTION} ({fit.regime})", **common)  # type: ignore[arg-type]
    inside = {"equal": low <= stated <= high, "at most": high <= stated + SLACK, "at least": low >= stated - SLACK}[sense]
    outside = {"equal": not low <= stated <= high, "at most": low > stated, "at least": high < stated}[sense]
    word: Word = "holds" if inside else "violated" if outside else "inconclusive"
    return Verdict(word, why=f"{sense} {stated:g}; {fit.regime}", **common)  # type: ignore[arg-type]
