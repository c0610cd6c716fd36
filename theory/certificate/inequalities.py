"""Poincare and log-Sobolev constants: gaps of another discretisation, and quotients of test functions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import scipy  # its parts are loaded where they are used
import torch

from ...errors import Unsupported
from ...samplers.noise import Stream
from ...targets.base import Batch, Constant, Target
from ...targets.functional import log_sobolev_bracket
from ...targets.plane_gap import plane_gap
from ...targets.spectrum import gap_of_density
from .base import SIGMAS, Finding, Subject, word_of
from .normaliser import additivity, annealed
from .quadrature import line_of

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
        if subject.exact and subject.effort.deep:
            above, error = quotient(subject)
            yield Finding("poincare", "quotient of test functions: an upper bound", "measured", found=above, error=error)
        return
    if declared.value == 0.0:
        yield _none(subject, "poincare", 1)
        return
    known = independent_gap(subject)
    if known is not None:
        yield _compare("poincare", declared, *known)
    if subject.exact and (subject.effort.deep or known is None):
        above, error = quotient(subject)
        word = word_of(declared.value <= above + error)
        if word == "failed" or known is None:
            yield Finding("poincare", "quotient of test functions: an upper bound", word, declared.value, above, error)
    elif known is None and (m := target.constants.get("m")) is not None and 0 < declared.value <= m.value * (1 + 1e-9):
        yield Finding("poincare", "Brascamp-Lieb: at least m", "certified", declared.value, m.value, 0.0, "m is certified by itself")
    elif known is None and subject.effort.deep and (particles := annealed(subject)) is not None:
        above, error = quotient(subject, particles.resampled(subject.noise("resampled")))
        word = word_of(declared.value <= above + error)
        yield Finding("poincare", "quotient of test functions over annealed particles: an upper bound", word, declared.value, above, error)
    elif known is None and subject.effort.deep:
        yield Finding("poincare", "no independent route", "open", declared.value)


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


def _none(subject: Subject, what: str, power: int) -> Finding:
    """No inequality: a Poincare inequality makes |x| sub-exponential (power 1), a log-Sobolev inequality sub-Gaussian (power 2)."""
    if not subject.exact:
        return Finding(what, "no independent route", "open", 0.0)
    # -d log P(|x - c| > r) / d r^power of a law with the inequality does not go to 0
    x = torch.cat([subject.target.sample(20_000, Stream(subject.key, "tail", k)) for k in range(10)])
    r = torch.linalg.vector_norm((x - subject.centre) / subject.scale, dim=1).numpy() ** power
    levels = np.quantile(r, [0.5, 0.9, 0.999, 0.9999])
    slopes = np.log([5.0, 10.0]) / np.diff(levels)[[0, 2]]  # the last one to a quarter, from 20 points in 200,000
    if slopes[1] < 0.5 * slopes[0]:
        note = f"-d log P(|x| > r)/d{'r' if power == 1 else 'r^2'} falls from {slopes[0]:.3g} to {slopes[1]:.3g}"
        return Finding(what, "tail of |x| over 200,000 draws", "certified", 0.0, float(slopes[1]), math.nan, note)
    return _growth(subject, what, power)


def _growth(subject: Subject, what: str, power: int) -> Finding:
    """Whether ``min over |x - c| = r of V - V(c)`` grows slower than r (no Poincare inequality: it makes |x| sub-exponential) or
    slower than r^2 (no log-Sobolev inequality: it makes |x| sub-Gaussian); r in deviations, by descent on two spheres."""
    target, d = subject.target, subject.target.dim
    near, far = 30.0, 3000.0
    start = subject.noise(f"spheres {what}").normal((64, d))
    start[:d] = torch.eye(d, dtype=start.dtype)[: len(start)]
    start[d : 2 * d] = -torch.eye(d, dtype=start.dtype)[: len(start[d : 2 * d])]
    rises = []
    for r in (near, far):
        w = start.clone().requires_grad_(True)
        best, optimiser = math.inf, torch.optim.Adam([w], lr=0.03)
        with torch.enable_grad():
            for _ in range(400):
                v = target.potential(subject.centre + subject.scale * r * w / torch.linalg.vector_norm(w, dim=1, keepdim=True))
                best = min(best, float(v.detach().nan_to_num(math.inf).min()))
                (gradient,) = torch.autograd.grad(torch.asinh(v).nan_to_num(0.0, 0.0, 0.0).sum(), w)
                w.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
                optimiser.step()
        rises.append((best - float(target.potential(subject.centre[None]))) / r**power)
    falls = rises[1] < 0.5 * rises[0]
    shape = "r" if power == 1 else "r^2"
    note = (
        f"min V/{shape} on a sphere falls from {rises[0]:.2g} at {near:g} to {rises[1]:.2g} at {far:g} deviations"
        if falls
        else "V does not grow slowly enough"
    )
    return Finding(what, "growth of V on spheres", "certified" if falls else "open", 0.0, rises[1], math.nan, note)


def quotient(subject: Subject, draws: Batch | None = None) -> tuple[float, float]:
    """(u, 4.89 standard errors): ``E|grad f|^2 / Var f`` of the best f in a span of test functions, an upper bound of the
    Poincare constant. The combination is chosen on one half of the draws and evaluated on the other.

    The span: coordinates, their squares, hyperbolic tangents along 24 directions, and Gaussian bumps at 24 draws.
    """
    target, x = subject.target, subject.x[:8000] if draws is None else draws
    z = (x - subject.centre) / subject.scale
    d = target.dim
    w = subject.noise("test functions").normal((24, d))
    w = w / torch.linalg.vector_norm(w, dim=1, keepdim=True)
    w[: min(d, 12)] = torch.eye(d, dtype=x.dtype)[: min(d, 12)]
    values: list[torch.Tensor] = []
    gradients: list[torch.Tensor] = []
    axes = torch.eye(d, dtype=x.dtype)[: min(d, 40)]
    values += [z @ axes.T, (z @ axes.T) ** 2]
    gradients += [axes.expand(len(x), -1, -1), 2 * (z @ axes.T).unsqueeze(2) * axes]
    for sharp in (1.0, 3.0):
        t = torch.tanh(sharp * z @ w.T)
        values.append(t)
        gradients.append((sharp * (1 - t * t)).unsqueeze(2) * w)
    centres = z[-24:]
    away = z.unsqueeze(1) - centres
    width = 0.5 * float(torch.median((away * away).sum(2)))
    bump = torch.exp(-(away * away).sum(2) / (2 * width))
    values.append(bump)
    gradients.append(-bump.unsqueeze(2) * away / width)
    half = len(x) // 2
    f, g = torch.cat(values, 1).numpy(), (torch.cat(gradients, 1) / subject.scale).numpy()
    f = f - f[:half].mean(0)
    energy = np.einsum("nad,nbd->ab", g[:half], g[:half]) / half
    variance = f[:half].T @ f[:half] / half
    ridge = 1e-9 * np.diag(np.diag(variance))
    _, vectors = scipy.linalg.eigh(energy + 1e-9 * np.diag(np.diag(energy)), variance + ridge + 1e-300 * np.eye(len(variance)))
    best = vectors[:, 0]
    square = ((g[half:] * best[None, :, None]).sum(1) ** 2).sum(1)
    value = f[half:] @ best
    value = value - value.mean()
    u = square.mean() / (value**2).mean()
    residual = (square - u * value**2) / (value**2).mean()  # delta method for a quotient of means
    return float(u), float(SIGMAS * residual.std() / math.sqrt(len(residual)))


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
        yield _none(subject, "lsi", 2)
        return
    above = log_sobolev_above(subject)
    if above is not None:
        how, found, error = above
        over = declared.value > found + error
        short = declared.how == "exact" and declared.value < 0.98 * found
        yield Finding("lsi", how, "failed" if over or short else "certified", declared.value, found, error)
    elif gap is not None:
        word = word_of(declared.value <= gap.value * (1 + 1e-9))
        m = target.constants.get("m")
        strong = m is not None and m.value > 0 and declared.value <= m.value * (1 + 1e-9)
        how = "at most the Poincare constant" + (", and by Bakry-Emery at least m" if strong else "")
        yield Finding("lsi", how, word, declared.value, gap.value, 0.0)
    elif subject.effort.deep:
        yield Finding("lsi", "no independent route", "open", declared.value)


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
        return f"test functions on the line{bracket}", *_entropy_quotient(target)
    if target.split is not None and all(f.dim == 1 for f in target.split.factors) and additivity(subject)[1] < 1e-9:
        parts = [_entropy_quotient(f) for f in dict.fromkeys(target.split.factors)]
        return "test functions of the smallest factor", *min(parts)
    return None


def _entropy_quotient(target: Target) -> tuple[float, float]:
    """The smallest ``2 E f'^2 / Ent f^2`` over f on a mesh of 301 nodes, f = exp(g/2), by L-BFGS from several starts."""
    lo, hi = (float(end[0]) for end in target.extent())
    x = np.linspace(lo, hi, 301)
    v = target.potential(torch.as_tensor(x[:, None]))
    keep = (v - v.min()) < 30.0
    x, v = x[keep.numpy()], v[keep]
    p = torch.softmax(-v, 0)
    edge = torch.sqrt(p[1:] * p[:-1])
    dx = float(x[1] - x[0])
    places = torch.as_tensor(x)
    mean = float((p * places).sum())
    deviation = float((p * (places - mean) ** 2).sum()) ** 0.5
    best = math.inf

    def loss(g: torch.Tensor) -> torch.Tensor:
        # weights of f^2 = exp(g), normalised under p; f' by differences
        log_f2 = g - torch.logsumexp(g + torch.log(p), 0)
        f = torch.exp(log_f2 / 2)
        entropy = (p * torch.exp(log_f2) * log_f2).sum()
        return 2 * (edge * (f[1:] - f[:-1]) ** 2).sum() / dx**2 / entropy

    for tilt in (0.3, -0.3, 2.0, -2.0):
        for shape in (lambda y: y, lambda y: torch.tanh(3 * y)):
            g = (tilt * shape((places - mean) / deviation)).clone().requires_grad_(True)
            optimiser = torch.optim.LBFGS([g], max_iter=60, line_search_fn="strong_wolfe")

            def closure(g: torch.Tensor = g, optimiser: torch.optim.Optimizer = optimiser) -> torch.Tensor:
                optimiser.zero_grad()
                value = loss(g)
                value.backward()
                return value

            with torch.enable_grad():
                optimiser.step(closure)
            value = float(loss(g.detach()))
            best = min(best, value) if math.isfinite(value) else best
    # the mesh: second order in dx against the shortest length in play
    return best, 0.02 * best
