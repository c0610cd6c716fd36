"""Poincare and log-Sobolev constants against gaps of another discretisation, and against what test functions allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch

from ...errors import Unsupported
from ...targets.base import Constant, Target
from ...targets.functional import log_sobolev_bracket
from ...targets.plane_gap import plane_gap
from ...targets.spectrum import gap_of_density
from .base import Finding, Subject, word_of
from .normaliser import additivity, annealed
from .quadrature import line_of
from .quotients import entropy_quotient, quotient
from .tails import no_inequality

#: Half the box, in deviations of the mass, on which the gap of a density that declares none is looked for.
BOX = 80.0


def constants(subject: Subject) -> Iterator[Finding]:
    """The Poincare and the log-Sobolev constant, each finding with how the target knows it."""
    for name, check in (("poincare", poincare), ("lsi", log_sobolev)):
        known = subject.target.constants.get(name)
        for finding in check(subject):
            yield finding if known is None else dataclasses.replace(finding, known=known.how, note=finding.note or known.why)


def poincare(subject: Subject) -> Iterator[Finding]:
    """The declared constant against a spectral gap on the line or in the plane, the factors' gaps, or a quotient from above."""
    target = subject.target
    declared = target.constants.get("poincare")
    if declared is None:
        if subject.exact and (upper := above(subject)) is not None:
            yield Finding("poincare", upper[0], "measured", found=upper[1], error=upper[2])
        return
    if declared.value == 0.0:
        yield no_inequality(subject, "poincare", 1)
        return
    known = independent_gap(subject)
    if known is not None:
        yield _compare("poincare", declared, *known)
    if known is None and (m := target.constants.get("m")) is not None and 0 < declared.value <= m.value * (1 + 1e-9):
        yield Finding("poincare", "Brascamp-Lieb: at least m", "certified", declared.value, m.value, 0.0, "m is certified by itself")
    upper = above(subject)
    if upper is not None:
        how, found, error = upper
        word = word_of(declared.value <= found + error)
        if word == "failed" or known is None:
            yield Finding("poincare", how, word, declared.value, found, error)
    elif known is None:
        yield Finding("poincare", "no independent route", "open", declared.value)


def above(subject: Subject) -> tuple[str, float, float] | None:
    """(route, upper bound of the Poincare constant, error) by test functions over draws, or over annealed particles."""
    if "above" not in subject.kept:
        found: tuple[str, float, float] | None = None
        if subject.exact:
            found = "quotient of test functions: an upper bound", *quotient(subject)
        elif (particles := annealed(subject)) is not None:
            found = (
                "quotient of test functions over annealed particles: an upper bound",
                *quotient(subject, particles.resampled(subject.noise("resampled"))),
            )
        subject.kept["above"] = found
    kept = subject.kept["above"]
    assert kept is None or isinstance(kept, tuple)
    return kept


def _compare(what: str, declared: Constant, how: str, found: float, error: float) -> Finding:
    """A bound must not exceed what was found, a value must meet it; both within the errors."""
    over = declared.value > found + error + 1e-9 * found
    under = declared.how != "bound" and declared.value < found - error - 0.01 * found
    note = "declared larger than what was found" if over else "declared smaller than what was found" if under else ""
    return Finding(what, how, "failed" if over or under else "certified", declared.value, found, error, note)


def independent_gap(subject: Subject) -> tuple[str, float, float] | None:
    """(route, gap, error) by finite volumes, which the declared values (spectral, or with another mean in the plane) do not use."""
    target = subject.target
    if target.is_gaussian:
        return "smallest eigenvalue of Hess V: Brascamp-Lieb, attained by a linear function", _precision(target), 1e-8
    if target.dim == 1:
        return _line_gap(target)
    if target.split is not None and max(f.dim for f in target.split.factors) < target.dim and additivity(subject)[1] < 1e-9:
        parts = [independent_gap(Subject(f, subject.effort, subject.key)) for f in dict.fromkeys(target.split.factors)]
        known = [p for p in parts if p is not None]
        if len(known) < len(parts):
            return None
        least = min(known, key=lambda p: p[1])
        return f"smallest factor: {least[0]}", least[1], least[2]
    if target.dim == 2 and subject.effort.deep:
        try:
            found = plane_gap(target, "arithmetic")
        except Unsupported:
            return None
        return "finite volumes in the plane, another mean", found.value, max(0.01, 2 * _stated(found)) * found.value
    return None


def _precision(target: Target) -> float:
    """The smallest eigenvalue of a Gaussian's Hessian; that V is quadratic is checked by `curvature`."""
    return float(torch.linalg.eigvalsh(target.hessian(torch.zeros((1, target.dim), dtype=torch.float64)))[0, 0])


def _stated(found: Constant) -> float:
    """The relative error that a numeric gap states at the end of its reason."""
    return float(found.why.rsplit(" ", 1)[-1]) / found.value


def _line_gap(target: Target) -> tuple[str, float, float] | None:
    """Finite volumes on two meshes, extrapolated; where tails decide (the gap moves with the box), extrapolated in the box too."""
    law = line_of(target)
    low, centre, high = np.interp([0.16, 0.5, 0.84], np.cumsum(law.weights), law.nodes)
    scale = float(high - low) / 2
    try:
        lo, hi = (float(end[0]) for end in target.extent())
    except Unsupported:
        lo, hi = float(centre) - BOX * scale, float(centre) + BOX * scale
    values, widths = [], []
    rough = np.linspace(lo, hi, 4001)
    v = target.potential(torch.as_tensor(rough[:, None])).numpy()
    for depth in (45.0, 32.0):  # by depth, not by length: a mode may lie at one end of its box
        inside = rough[v - v.min() < depth]
        widths.append(float(inside[-1] - inside[0]))
        gaps = []
        for n in (1501, 3001):
            x = np.linspace(inside[0], inside[-1], n)
            gaps.append(gap_of_density(-target.potential(torch.as_tensor(x[:, None])).numpy(), float(x[1] - x[0])))
        values.append((gaps[1] + (gaps[1] - gaps[0]) / 3, abs(gaps[1] - gaps[0])))
    (gap, error), (smaller, _) = values
    if abs(smaller - gap) <= 1e-3 * gap:
        return "finite volumes on the line", gap, error + abs(smaller - gap) + 1e-6 * gap
    # a continuous spectrum from a on: on a box of width L the gap is a + b / L^2
    wide, narrow = widths[0] ** 2, widths[1] ** 2
    edge = (gap * wide - smaller * narrow) / max(wide - narrow, 1e-300)
    if gap < 1e-12:  # modes that no mesh can tell apart
        return None
    return "finite volumes on the line, extrapolated to an infinite box", edge, 0.05 * edge


def log_sobolev(subject: Subject) -> Iterator[Finding]:
    """The declared constant against test functions on the line (and the bracket there), the factors, or the Poincare constant."""
    target = subject.target
    declared = target.constants.get("lsi")
    if declared is None:
        return
    gap = target.constants.get("poincare")
    if declared.value == 0.0:
        if gap is not None and gap.value == 0:
            yield Finding("lsi", "no Poincare inequality", "certified", 0.0, 0.0)
            return
        yield no_inequality(subject, "lsi", 2)
        return
    upper = log_sobolev_above(subject)
    if upper is not None:
        how, found, error = upper
        over = declared.value > found + error
        short = declared.how == "exact" and declared.value < 0.98 * found
        yield Finding("lsi", how, "failed" if over or short else "certified", declared.value, found, error)
        return
    m = target.constants.get("m")
    if m is not None and 0 < declared.value <= m.value * (1 + 1e-9):
        yield Finding("lsi", "Bakry-Emery: at least m", "certified", declared.value, m.value, 0.0, "m is certified by itself")
        return
    # never above the Poincare constant: not the declared one, which may come from this very number
    known = independent_gap(subject) or above(subject)
    if known is None:
        yield Finding("lsi", "no independent route", "open", declared.value)
        return
    how, found, error = known
    yield Finding("lsi", f"at most the Poincare constant, {how}", word_of(declared.value <= found + error), declared.value, found, error)


def log_sobolev_above(subject: Subject) -> tuple[str, float, float] | None:
    """(route, upper bound of the constant, error): the smallest ``2 E f'^2 / Ent f^2`` that minimisation finds on the line."""
    target = subject.target
    if target.is_gaussian:
        return "smallest eigenvalue of Hess V: Bakry-Emery, attained by exponentials of linear functions", _precision(target), 1e-8
    if target.dim == 1:
        bracket = ""
        try:
            large, small = log_sobolev_bracket(target)
            bracket = f", bracket [{1 / (2 * large):.3g}, {2 / small:.3g}]"
        except Unsupported:
            pass
        return f"test functions on the line{bracket}", *entropy_quotient(target)
    if target.split is not None and all(f.dim == 1 for f in target.split.factors) and additivity(subject)[1] < 1e-9:
        parts = [entropy_quotient(f) for f in dict.fromkeys(target.split.factors)]
        return "test functions of the smallest factor", *min(parts)
    return None
