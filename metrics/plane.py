"""Upper and lower ends for the distance between densities in the plane."""

from __future__ import annotations

import numpy as np
import scipy  # its parts are loaded where they are used
from scipy import special

from ..laws.grid import Grid
from .quantiles import between_quantiles, logits, quantiles
from .transport import transport

#: Cells per axis of the mesh on which laws are pooled for exact transport.
POOLED = 30

#: The corners of a cell.
SHIFTS = ((0, 0), (0, 1), (1, 0), (1, 1))


def knothe(x: np.ndarray, y: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
    """Root cost of the Knothe-Rosenblatt coupling: monotone in x, then monotone in y given x. An upper end for W2."""
    one, two = (quantiles(x, f.sum(1)) for f in (p, q))
    inside = (one.z >= two.z[0]) & (one.z <= two.z[-1])
    rows = np.searchsorted(x, one.x[inside])
    image = two(one.z[inside])[0]
    weight = p[rows].sum(1) / p.sum()
    given_p = logits(y, np.maximum(p[rows], 0.0))
    given_q = scipy.interpolate.make_interp_spline(two.x, logits(y, np.maximum(q[np.searchsorted(x, two.x)], 0.0)), k=3, axis=0)(image)
    level = np.linspace(-30.0, 30.0, 121)
    w = special.expit(level) * special.expit(-level) * 0.5

    def quantile(z: np.ndarray) -> np.ndarray:
        rising = np.concatenate([[True], np.diff(np.maximum.accumulate(z)) > 0])
        return np.asarray(scipy.interpolate.PchipInterpolator(z[rising], y[rising])(np.clip(level, z[rising][0], z[rising][-1])))

    inner = np.array([w @ (quantile(a) - quantile(b)) ** 2 for a, b in zip(given_p, given_q, strict=True)])
    outer, _, tail = between_quantiles(one, two, 0.0)
    return float(np.sqrt(outer**2 + tail**2 + weight @ inner))


def pooled_transport(p: Grid, q: Grid) -> tuple[float, float, float]:
    """(W2 estimated, W2 between the laws pooled into cells, how far pooling displaces both together).

    Every node's mass is shared among the four nearest cells and gathered at their centres of mass. The cells of q are
    those of p seen through the optimal map of the moments, so that most masses agree and only what is not affine is
    left to the solver; the estimate adds what that map does within the cells.
    """
    nodes, (a, b) = p.mesh.nodes, (law.moments.factor for law in (p, q))
    mean, to_p = p.moments.mean, a @ np.linalg.solve(b.T, polar(b.T @ a)).T  # L_p U^T L_q^-1
    seen = nodes[p.density > 1e-9 * p.density.max()]
    low, width = seen.min(0), np.ptp(seen, 0) / POOLED
    points, masses, displaced, within = [], [], 0.0, 0.0
    for law, places in ((p, nodes), (q, mean + (nodes - q.moments.mean) @ to_p.T)):
        place = np.clip((places - low) / width, 0, POOLED - 1e-9)
        corner = place.astype(int)
        part = place - corner
        cells = np.concatenate([(corner + shift) @ [POOLED + 1, 1] for shift in SHIFTS])
        shares = np.concatenate([np.where(np.array(shift) == 1, part, 1 - part).prod(1) for shift in SHIFTS])
        x, w = np.tile(nodes, (4, 1)), shares * np.tile(law.density / law.density.sum(), 4)
        mass = np.bincount(cells, w, (POOLED + 1) ** 2)
        centre = np.stack([np.bincount(cells, w * x[:, i], (POOLED + 1) ** 2) for i in (0, 1)], 1) / np.maximum(mass, 1e-300)[:, None]
        rest = x - centre[cells]
        displaced += float(np.sqrt(w @ (rest**2).sum(1) + (p.mesh.spacing**2).sum() / 12))
        within = float(w @ ((rest - rest @ to_p.T) ** 2).sum(1))  # as seen from q, which comes last
        used = mass > 1e-15
        points.append(centre[used])
        masses.append(mass[used] / mass[used].sum())
    pooled = transport(points[0], points[1], masses[0], masses[1])[0]
    return float(np.hypot(pooled, np.sqrt(within))), pooled, displaced


def polar(a: np.ndarray) -> np.ndarray:
    """The orthogonal U that maximises tr(U^T a)."""
    u, _, vt = np.linalg.svd(a)
    return np.asarray(u @ vt)
