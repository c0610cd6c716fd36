"""Total variation distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded where they are used
from scipy import special

from ..errors import Unsupported
from ..laws.coupling import Coupled
from ..laws.grid import Grid
from ..laws.normal import Normal
from ..laws.particles import Particles
from ..targets.base import Target
from ..targets.mesh import Mesh
from .base import Estimate, Metric
from .numerics import EPS, Whitened, refinement, whiten
from .renyi import log_affinity
from .sampling import common, energies, frequencies, interval_of_counts, line_quantiles, points


@dataclass(frozen=True)
class TV(Metric):
    """Total variation distance between the law and the target, in [0, 1].

    ``TV(p, q) = 1/2 int |p - q| dx = sup_A |p(A) - q(A)|``

    Normal, any d: Fourier inversion of the log likelihood ratio, ``1 - TV = int min(p, q)`` by Parseval:
    ``TV = 1/pi Re int_0^inf [1 - psi(s)] / (s^2 + 1/4) ds``, ``psi(s) = int p^(1/2+is) q^(1/2-is) dx`` (`log_affinity`),
    along a ray ``s = exp(x +- i pi/8)`` on which psi does not oscillate, by the trapezoid rule in x. It keeps relative
    accuracy as p tends to q. 1 where one of the covariances is singular.
    Grid, 1-D: a quintic spline of ``p - q`` and its antiderivative between its roots; 2-D: both densities on a mesh three
    times finer (Fourier), trapezoid rule with the cells that ``p - q = 0`` crosses corrected.
    Particles: ``1/2 sum_b |share_b - q_b|`` over ``ceil(2 n^(1/3))`` bins, equally likely under q: of the line (d = 1), of
    ``V(x)`` against exact draws of the target (d > 1). Binned laws are no farther apart than the laws: a lower value. The
    noise adds about the floor, which is the exact mean under equality (two samples: its normal approximation). Interval,
    99 % at any n: `frequencies`.
    Pairs of chains: an upper value, ``P(X != Y)``, or with a lag ``E max(0, ceil((tau - L - k) / L))``; 1 where some pairs never
    met. Interval: the mean plus and minus three standard errors, its upper end never below the Clopper-Pearson end for the
    probability that a pair is still apart times what it then counts.

    Cost: O(d^3 + 2000 d); O(nodes); O(n log n); O(n).
    Errors: `Unsupported` where both covariances are singular, for samples in d > 1 where the target has no exact draws, and
        between two samples in d > 1.
    References: Gil-Pelaez, "Note on the inversion theorem" (1951), https://doi.org/10.1093/biomet/38.3-4.481
        Lewis, "A simple option formula for general jump-diffusion and other exponential Levy processes" (2001), for the
        inversion at 1/2 + is, https://doi.org/10.2139/ssrn.282110
    """

    def normal(self, p: Normal, q: Normal) -> Estimate:
        w = whiten(p, q)
        if w is None:
            return Estimate(1.0, 1.0, 1.0)
        value, error = _inversion(w)
        # moving q's factor or p's mean and variances moves TV by at most half the relative change
        error += 0.5 * float(np.linalg.norm(w.error / w.variances)) + 0.5 * w.relative * float(np.linalg.norm(w.delta))
        return _clipped(value, error)

    def grid(self, p: Grid, q: Grid) -> Estimate:
        difference = (p.density - q.density).reshape(p.mesh.shape)
        if p.dim == 1:
            values = [_between_roots(p.mesh.axes[0][::k], difference[::k]) for k in (1, 2, 4)]
            return _clipped(values[0], refinement(*values) + p.error + q.error)
        fine = Mesh(p.mesh.lo, p.mesh.hi, 3 * p.mesh.n)
        coarse, _ = _corrected(difference, p.mesh.cell)
        close, spread = _corrected((p.interpolate(fine).density - q.interpolate(fine).density).reshape(fine.shape), fine.cell)
        # the error falls erratically, at least like the cell: 9 times from one mesh to the other
        return _clipped(close, 2 * spread + abs(close - coarse) + p.error + q.error)

    def sampled(self, p: Particles, target: Target) -> Estimate:
        if target.dim == 1:
            bins = _bins(p.n)
            edges, error = line_quantiles(target, np.arange(1, bins) / bins)
            inside, counts = _counts(edges, points(p, dim=1)[:, 0])
            # equal quantiles (a hole in the density) close bins
            return frequencies(counts, np.diff(np.concatenate([[0.0], np.arange(1, bins)[inside] / bins, [1.0]])), len(counts) * error)
        if "sample" not in target.capabilities:
            raise Unsupported(f"tv of a sample in d = {target.dim} needs exact draws of its target, which {target.name} does not provide")
        draws = (Particles.of_target(target, p.n, p.seed, key) for key in ("reference", "floor"))
        return _two_samples(*(energies(points(law, dim=target.dim), target) for law in (p, *draws)))

    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        if p.dim > 1:
            raise Unsupported(f"tv between two samples is a histogram on the line, got d = {p.dim}; use classifier_tv")
        x, y = common(p, q)
        return _two_samples(x[:, 0], y[:, 0], points(floor)[:, 0])

    def coupled(self, p: Coupled, target: Target) -> Estimate:
        counts = p.excess
        apart = counts > 0
        k, mean = int(apart.sum()), float(counts.mean())
        if not np.isfinite(mean):
            return Estimate(1.0, 0.0, 1.0, side="upper")
        # what a pair that is apart counts: where none is left, what those that were apart at the start did
        at_start = counts if p.lag == 0 else p.excess_at(0)
        each = float(counts[apart].mean()) if k else max(1.0, float(at_start.sum()) / max(1, int((at_start > 0).sum())))
        tail = 0.5 * special.erfc(3 / 2**0.5)  # three standard deviations, on one side
        highest = each * (float(special.betaincinv(k + 1, p.n - k, 1 - tail)) if k < p.n else 1.0)
        s = 3 * float(counts.std()) / p.n**0.5 if p.n > 1 else np.inf
        value, upper = min(1.0, mean), min(1.0, max(mean + s, highest))
        return Estimate(value, max(0.0, min(value, mean - s)), max(value, upper), side="upper")


def _bins(n: int) -> int:
    return int(np.ceil(2 * np.cbrt(n)))


def _counts(edges: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(which edges stay, counts between them): of equal edges the last stays."""
    stay = np.append(np.diff(edges) > 0, True) if len(edges) else np.zeros(0, bool)
    return stay, np.bincount(np.searchsorted(edges[stay], x, side="left"), minlength=int(stay.sum()) + 1)


def _two_samples(x: np.ndarray, y: np.ndarray, other: np.ndarray) -> Estimate:
    """Bins between quantiles of `other`, a sample of y's law independent of both."""
    n, m, bins = len(x), len(y), _bins(min(len(x), len(y)))
    edges = np.quantile(other, np.arange(1, bins) / bins)
    (_, a), (_, b) = _counts(edges, x), _counts(edges, y)
    value, share = 0.5 * float(np.abs(a / n - b / m).sum()), b / m
    # E|N(0, s^2)| = s sqrt(2/pi), s^2 = p (1-p) (1/n + 1/m); and sum sqrt(p (1-p)) <= sqrt(B - 1)
    floor = 0.5 * float(np.sqrt(2 / np.pi * share * (1 - share) * (1 / n + 1 / m)).sum())
    return interval_of_counts(value, floor, 0.5 * np.sqrt(len(a) - 1) * (n**-0.5 + m**-0.5), 1 / n + 1 / m)


def _clipped(value: float, error: float) -> Estimate:
    value = min(1.0, max(0.0, value))
    return Estimate(value, max(0.0, value - error), min(1.0, value + error))


def _inversion(laws: Whitened, spacing: float = 0.05) -> tuple[float, float]:
    """(TV, its numerical error) by the integral in the docstring of `TV`.

    In x the integrand falls like exp(-|x|) and is analytic and bounded for |Im x| < pi/8, so the trapezoid rule errs by
    exp(-2 pi (pi/8) / spacing) = 1e-21; sums on every 2nd and 4th node confirm it. On one of the two rays psi grows where
    it decays on the other: the smaller sum of moduli shows which. |psi| falls along the real axis; once it is 1e-30
    there and on the ray, the contour goes back to the axis and psi is dropped.
    """
    distance = -float(np.expm1(log_affinity(np.asarray(0.5), laws)))  # squared Hellinger distance
    if distance <= 0:
        return 0.0, 0.0
    x = spacing * np.arange(-40 / spacing, (42 - 0.5 * np.log(distance)) / spacing)  # exact steps: they set the relative error

    def integrand(ray: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        s = np.exp(x[::step] + ray * 0.125j * np.pi)
        power, on_axis = log_affinity(0.5 + 1j * s, laws), log_affinity(0.5 + 1j * np.abs(s), laws)
        with np.errstate(all="ignore"):
            power[np.maximum.accumulate(np.maximum(power.real, on_axis.real) < -69)] = -np.inf
            kernel = s / (s * s + 0.25) / np.pi
            g = -np.expm1(power) * kernel
            rounding = np.abs(g) + np.abs(kernel * np.exp(power)) * np.where(np.isfinite(power), np.abs(power), 0.0)
        return g.real, np.where(np.isfinite(rounding), rounding, np.inf)

    ray = min((1, -1), key=lambda r: float(integrand(r, 8)[1].sum()))
    g, rounding = integrand(ray, 1)
    if not np.isfinite(rounding).all():
        low, high = distance, np.sqrt(distance * (2 - distance))  # Le Cam's bounds; not met in 10,000 random pairs
        return 0.5 * (low + high), 0.5 * (high - low)
    sums = [float(g[::k].sum()) * spacing * k for k in (1, 2, 4)]
    last, before = abs(sums[0] - sums[1]), abs(sums[1] - sums[2])
    error = 2 * last * min(1.0, last / before if before > 0 else 0.0) + 8 * EPS * float(rounding.sum()) * spacing
    return sums[0], error


def _between_roots(x: np.ndarray, f: np.ndarray) -> float:
    """1/2 int |f| of the quintic spline of `f`, exactly."""
    spline = scipy.interpolate.make_interp_spline(x, f, k=5)
    roots = scipy.interpolate.PPoly.from_spline((spline.t, spline.c, spline.k)).roots(extrapolate=False)
    cuts = np.concatenate([[x[0]], np.sort(roots[np.isfinite(roots)]), [x[-1]]])
    return 0.5 * float(np.abs(np.diff(spline.antiderivative()(cuts))).sum())


def _corrected(f: np.ndarray, cell: float) -> tuple[float, float]:
    """(1/2 int |f| on a mesh, its spread): the trapezoid rule corrected, along either axis, where f changes sign.

    A kink between values -a and b moves the trapezoid rule by ``h [a b/(a + b) - (a + b)/6]``, the Bernoulli polynomial of
    degree 2 of its place in the cell, which averages to zero. Spread: between the axes, and a third of the correction.
    """
    moved = []
    for axis in (0, 1):
        a, b = f.take(range(f.shape[axis] - 1), axis), f.take(range(1, f.shape[axis]), axis)
        a, b = np.abs(np.stack([a, b])[:, a * b < 0])
        moved.append(0.5 * cell * float((a * b / (a + b) - (a + b) / 6).sum()))
    mean = 0.5 * (moved[0] + moved[1])
    return 0.5 * cell * float(np.abs(f).sum()) - mean, abs(moved[0] - moved[1]) + abs(mean) / 3
