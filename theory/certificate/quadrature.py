"""Integrals of exp(-V) by Gauss-Legendre panels: on the line, along a radius, in the plane.

Panels are laid in t, ``x = c + s sinh(t)``: fine at the mass, and far enough out for polynomial tails. None of it shares a node,
a box or a rule with the trapezoid sums that targets declare their normalisers by.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import scipy  # its parts are loaded where they are used
import torch
from scipy import special

from ...errors import Unsupported
from ...samplers.noise import Stream
from ...targets.base import Target

NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)
#: Integrals from -1 to each node of the polynomial through values at the nodes.
PARTIAL = np.stack([np.polynomial.legendre.legval(NODES, np.polynomial.legendre.legint(c, lbnd=-1)) for c in np.eye(12)], axis=1) @ np.linalg.inv(
    np.polynomial.legendre.legvander(NODES, 11)
)
#: Where panels of equal length end, in t: sinh(30) = 5e12 scales; and where all end: tails like |x|^-1.1 are in.
NEAR, REACH = 30.0, 300.0


@dataclass(frozen=True, eq=False)
class Line:
    """A density on the line from its panels.

    Arguments:
        edges: panel ends in x, increasing.
        masses: probability of each panel.
        density: probability per unit of t at the edges, for the distribution function between them.
        t: panel ends in t.
        log_z, error: log of the integral, and what refining the panels moves.
        nodes, weights: all quadrature nodes in x, and their probabilities.
    """

    edges: np.ndarray
    masses: np.ndarray
    density: np.ndarray
    t: np.ndarray
    log_z: float
    error: float
    nodes: np.ndarray
    weights: np.ndarray
    centre: float
    scale: float

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """The distribution function, from panel masses and the density at their ends (Hermite, monotone where it matters)."""
        spline = scipy.interpolate.CubicHermiteSpline(self.t, np.concatenate([[0.0], np.cumsum(self.masses)]), self.density)
        t = np.arcsinh((x - self.centre) / self.scale)
        return np.clip(spline(np.clip(t, self.t[0], self.t[-1])), 0.0, 1.0)

    def mean(self, f: Callable[[np.ndarray], np.ndarray]) -> float:
        """The expectation of f."""
        return float(self.weights @ f(self.nodes))


def line(log_f: Callable[[np.ndarray], np.ndarray], centre: float, scale: float, half: bool = False, seen: np.ndarray | None = None) -> Line:
    """Adaptive quadrature of exp(log_f) over the line, or over x > centre; panels also end at the points `seen`, where mass is known
    to be, however narrow.

    Panels whose two halves disagree by more than 1e-13 of the whole are halved, at most 24 times: kinks cost little.
    """

    def panels(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        t = (a + b)[:, None] / 2 + (b - a)[:, None] / 2 * NODES
        x = centre + scale * np.sinh(t)
        logs = log_f(x.ravel()).reshape(x.shape) + np.log(scale * np.cosh(t))
        logs = np.where(np.isnan(logs), -np.inf, logs)  # inf - inf far out
        return x, logs, np.log((b - a)[:, None] / 2 * WEIGHTS)

    t = _ends(half, np.empty(0) if seen is None else np.arcsinh((seen - centre) / scale))
    a, b = t[:-1], t[1:]
    kept: list[tuple[np.ndarray, ...]] = []
    top, error = -np.inf, 0.0
    for round_ in range(25):
        x, logs, w = panels(a, b)
        middle = (a + b) / 2
        left, right = panels(a, middle), panels(middle, b)
        if round_ == 0:
            top = float(np.max(logs))
            whole = float(np.exp(logs + w - top).sum())
            if not np.isfinite(top) or whole <= 0:
                raise Unsupported("the density has no finite mass where it was looked for")
        higher = max(float(np.max(part[1])) for part in (left, right))
        if higher > top + 1.0:  # a peak that the coarser nodes missed
            shrink = math.exp(top - higher)
            kept = [(lo, hi, mass * shrink, nodes, weights * shrink) for lo, hi, mass, nodes, weights in kept]
            error, whole, top = error * shrink, whole * shrink, higher
        sums = [np.exp(part[1] + part[2] - top).sum(1) for part in (left, right)]
        whole = max(whole, float(sums[0].sum() + sums[1].sum()))
        off = np.abs(sums[0] + sums[1] - np.exp(logs + w - top).sum(1))
        good = (off <= 1e-13 * whole) | (round_ == 24)
        error += float(off[good].sum())
        for part, lo, hi, mass in ((left, a, middle, sums[0]), (right, middle, b, sums[1])):
            kept.append((lo[good], hi[good], mass[good], part[0][good], np.exp(part[1] + part[2] - top)[good]))
        a, b = np.concatenate([a[~good], middle[~good]]), np.concatenate([middle[~good], b[~good]])
        if not len(a):
            break
    lo, hi, mass, nodes, weights = (np.concatenate([k[i] for k in kept]) for i in range(5))
    order = np.argsort(lo)
    lo, hi, mass, nodes, weights = lo[order], hi[order], mass[order], nodes[order].ravel(), weights[order].ravel()
    total = float(mass.sum())
    if not (np.isfinite(total) and total > 0):
        raise Unsupported("the density has no finite mass where it was looked for")
    if max(0.0 if half else mass[0], mass[-1]) > 1e-6 * total:
        raise Unsupported("the density does not decay: mass is still coming in at 1e130 scales")
    t = np.append(lo, hi[-1])
    x = centre + scale * np.sinh(t)
    with np.errstate(over="ignore"):
        density = np.nan_to_num(np.exp(log_f(x) + np.log(scale * np.cosh(t)) - top)) / total
    # a density that is off at an edge (a kink, a pole) must not bend the distribution function: within a factor of two of the panel's
    mean_density = mass / total / np.diff(t)
    density = np.minimum(density, 2.0 * np.minimum(np.append(mean_density, np.inf), np.append(np.inf, mean_density)))
    return Line(x, mass / total, density, t, top + float(np.log(total)), error / total + 1e-14, nodes, weights / total, centre, scale)


def _ends(half: bool, seen: np.ndarray) -> np.ndarray:
    """Ends of the first panels in t: equally spaced near the mass, geometrically beyond, and at what was `seen`."""
    far = np.geomspace(NEAR, REACH, 60)[1:]
    t = np.unique(np.concatenate([np.linspace(0.0 if half else -NEAR, NEAR, 401), far, far[:0] if half else -far]))
    if not len(seen):
        return t
    t = np.unique(np.concatenate([t, np.clip(seen, t[0], t[-1])]))
    t = np.concatenate([t[:1], t[1:][np.diff(t) > 1e-13]])
    for _ in range(60):  # no panel more than four times its neighbours: a wide one beside a peak would look past its flank
        width = np.diff(t)
        wide = np.flatnonzero(width > 4.0 * np.minimum(np.append(width[1:], np.inf), np.append(np.inf, width[:-1])))
        if not len(wide):
            break
        t = np.insert(t, wide + 1, (t[wide] + t[wide + 1]) / 2)
    return t


@lru_cache(maxsize=128)
def line_of(target: Target) -> Line:
    """The quadrature of a 1-D target. Where the mass lies is looked up in the declared moments, the box and the draws, which only
    place the panels, and then looked at again."""

    def log_f(x: np.ndarray) -> np.ndarray:
        return -target.potential(torch.as_tensor(x[:, None])).numpy()

    place = (0.0, 1.0)
    if target.moments is not None:
        place = float(target.moments[0][0]), float(target.moments[1][0, 0]) ** 0.5
    else:
        with contextlib.suppress(Unsupported):
            lo, hi = (float(end[0]) for end in target.extent())
            place = (lo + hi) / 2, (hi - lo) / 10
    seen = target.sample(300, Stream("panels"))[:, 0].numpy() if "sample" in target.capabilities else None
    rough = line(log_f, *place, seen=seen)
    low, high = np.interp([0.16, 0.84], np.cumsum(rough.weights), rough.nodes)
    return line(log_f, float(low + high) / 2, max(float(high - low) / 2, 1e-12), seen=seen)


@lru_cache(maxsize=128)
def radius_of(target: Target) -> Line:
    """The law of |x| for a spherically symmetric target, with the Jacobian r^(d-1) and the area of the sphere."""
    d = target.dim
    area = np.log(2.0) + d / 2 * np.log(np.pi) - special.gammaln(d / 2)

    def log_f(r: np.ndarray) -> np.ndarray:
        x = torch.zeros((len(r), d), dtype=torch.float64)
        x[:, 0] = torch.as_tensor(r)
        with np.errstate(divide="ignore"):
            return area + (d - 1) * np.log(r) - target.potential(x).numpy()

    return line(log_f, 0.0, 1.0, half=True)


@dataclass(frozen=True, eq=False)
class Plane:
    """A density in the plane on a tensor grid of Gauss-Legendre panels.

    Arguments:
        edges: panel ends per axis.
        nodes: node positions per axis.
        weights: probability of each node, shape (n, n).
        potential: V at the nodes, shape (n, n).
        log_z, error: log of the integral, and what twice as many panels moved.
    """

    edges: tuple[np.ndarray, np.ndarray]
    nodes: tuple[np.ndarray, np.ndarray]
    weights: np.ndarray
    potential: np.ndarray
    log_z: float
    error: float

    def marginal_cdf(self, axis: int, x: np.ndarray) -> np.ndarray:
        """The distribution function of one coordinate: exact at panel ends and at nodes, monotone in between."""
        mass = self.weights.sum(1 - axis).reshape(-1, len(NODES))
        inside = (mass / WEIGHTS) @ PARTIAL.T  # from the panel's start to each of its nodes
        before = np.concatenate([[0.0], np.cumsum(mass.sum(1))])
        at_nodes = before[:-1, None] + inside
        places = np.concatenate([self.edges[axis][:-1, None], self.nodes[axis].reshape(mass.shape)], axis=1).ravel()
        heights = np.concatenate([before[:-1, None], at_nodes], axis=1).ravel()
        places, heights = np.append(places, self.edges[axis][-1]), np.append(heights, before[-1])
        cdf = scipy.interpolate.PchipInterpolator(places, np.maximum.accumulate(heights))
        return np.asarray(np.clip(cdf(np.clip(x, places[0], places[-1])), 0, 1))

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance."""
        x = np.stack([g.ravel() for g in np.meshgrid(*self.nodes, indexing="ij")], axis=1)
        w = self.weights.ravel()
        mean = w @ x
        return mean, (x - mean).T @ ((x - mean) * w[:, None])


@lru_cache(maxsize=16)
def plane_of(target: Target, centre: tuple[float, float], scale: tuple[float, float]) -> Plane:
    """The quadrature of a 2-D target: on its box where it declares one, else on sinh-mapped axes; refined until two agree to 1e-9.

    Half of the panel ends are equally spaced, half are quantiles of the marginals that the round before found.

    Errors: `Unsupported` where the finest two differ by more than 1e-6: a density too thin for a tensor grid.
    """
    try:
        ends = target.extent()
        boxed = bool(np.isfinite(ends).all())
    except Unsupported:
        boxed = False
    if not boxed:
        ends = (np.full(2, -NEAR / 2), np.full(2, NEAR / 2))
    cuts = [np.linspace(a, b, 25) for a, b in zip(*ends, strict=True)]
    before, error = np.nan, np.inf
    for panels in (30, 60, 90, 130):
        inside = [((t[:-1] + t[1:])[:, None] / 2 + np.diff(t)[:, None] / 2 * NODES).ravel() for t in cuts]
        width = [(np.diff(t)[:, None] / 2 * WEIGHTS).ravel() for t in cuts]
        nodes, logs = inside, [np.log(w) for w in width]
        if not boxed:
            nodes = [centre[axis] + scale[axis] * np.sinh(inside[axis]) for axis in range(2)]
            logs = [logs[axis] + np.log(scale[axis] * np.cosh(inside[axis])) for axis in range(2)]
        v = np.concatenate([_row(target, part, nodes[1]) for part in np.array_split(nodes[0], max(1, len(nodes[0]) // 200))])
        density = -v + logs[0][:, None] + logs[1][None, :]
        density = np.where(np.isnan(density), -np.inf, density)
        log_z = float(special.logsumexp(density))
        weights = np.exp(density - log_z)
        error, before = abs(log_z - before), log_z
        if error < 1e-9:
            break
        edges = cuts
        cuts = [_finer(inside[axis], weights.sum(1 - axis), ends[0][axis], ends[1][axis], panels) for axis in range(2)]
    else:
        cuts = edges  # those of the last round
        if not error < 1e-6:
            raise Unsupported(f"the density is too thin for a tensor grid: the last refinement moved log Z by {error:.2g}")
    ends_x = cuts if boxed else [centre[axis] + scale[axis] * np.sinh(cuts[axis]) for axis in range(2)]
    return Plane((ends_x[0], ends_x[1]), (nodes[0], nodes[1]), weights, v, log_z, error + 1e-13)


def _finer(nodes: np.ndarray, mass: np.ndarray, lo: float, hi: float, panels: int) -> np.ndarray:
    """Panel ends: half of them equally spaced, half at quantiles."""
    total = np.cumsum(mass) - mass / 2
    quantiles = np.interp(np.linspace(0.0, 1.0, panels // 2 + 1)[1:-1], total, nodes)
    cuts = np.unique(np.concatenate([np.linspace(lo, hi, panels // 2 + 1), quantiles]))
    return np.concatenate([cuts[:1], cuts[1:][np.diff(cuts) > 1e-9 * (hi - lo)]])


def _row(target: Target, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """V on the product of two node sets, shape (len(x), len(y))."""
    points = np.stack([g.ravel() for g in np.meshgrid(x, y, indexing="ij")], axis=1)
    return target.potential(torch.as_tensor(points)).numpy().reshape(len(x), len(y))
