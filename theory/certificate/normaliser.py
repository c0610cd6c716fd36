"""log Z by a route that does not use the declared one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ...errors import Unsupported
from ...samplers.hmc import HMC
from ...samplers.noise import Stream
from ...targets.base import Batch, Target, Values
from .base import SIGMAS, Finding, Subject, word_of
from .gradients import cancelled
from .quadrature import Plane, line_of, plane_of, radius_of
from .reference import Reference

#: An interval wider than this does not certify a declared value.
USELESS = 0.1


def log_normalizer(subject: Subject) -> Iterator[Finding]:
    """Quadrature on the line, along the radius or in the plane; the product structure; bridge sampling; annealing."""
    target = subject.target
    declared = target.log_normalizer
    route = independent(subject)
    if route is None:
        if declared is not None and subject.effort.deep:
            yield Finding("log Z", "no independent route", "open", declared)
        return
    how, found, error, note = route
    if not math.isfinite(found) or (declared is not None and not math.isfinite(declared)):
        finite = note or "log Z must be finite: exp(-V) has no integral, or what is declared is no number"
        yield Finding("log Z", how, "failed", math.nan if declared is None else declared, found, error, finite)
        return
    if declared is None:
        yield Finding("log Z", how, "measured", found=found, error=error, note=note)
        return
    off = abs(found - declared)
    tolerance = error + 1e-9 * (1 + abs(declared))
    word = word_of(off <= tolerance, error <= USELESS)
    yield Finding("log Z", how, word, declared, found, error, note)


def independent(subject: Subject) -> tuple[str, float, float, str] | None:
    """(route, log Z, error, note), or None where none is affordable."""
    target, deep = subject.target, subject.effort.deep
    if target.dim == 1:
        found = line_of(target)
        return "adaptive Gauss-Legendre on the line", found.log_z, found.error, ""
    if not deep:  # at entry the density ratio stands in for it
        return None
    if round_(subject):
        along = radius_of(target)
        return "radial quadrature", along.log_z, along.error, "V checked to depend on |x| only"
    if target.split is not None and max(f.dim for f in target.split.factors) < target.dim:
        return _product(subject)
    if (plane := plane_for(subject)) is not None:
        return "Gauss-Legendre in the plane", plane.log_z, plane.error, ""
    return _bridge(subject) if subject.exact else _by_annealing(subject)


def round_(subject: Subject) -> bool:
    """Whether V depends on |x| alone: it is compared at points of equal radius."""
    x = subject.spread
    if x.shape[1] == 1:
        return False
    turned = torch.zeros_like(x)
    turned[:, 0] = torch.linalg.vector_norm(x, dim=1)
    v = subject.target.potential(x)
    return float(((subject.target.potential(turned) - v) / (1 + v.abs())).abs().max()) < 1e-9


def plane_for(subject: Subject) -> Plane | None:
    """The quadrature of a 2-D target, or None where it has another dimension or is too thin for a tensor grid."""
    if subject.target.dim != 2:
        return None
    c, s = subject.centre, subject.scale
    try:
        return plane_of(subject.target, (float(c[0]), float(c[1])), (float(s[0]), float(s[1])))
    except Unsupported:
        return None


def additivity(subject: Subject) -> tuple[float, float]:
    """(c, spread) of V(x) minus the sum of the factors' V: a constant c where the split is right."""
    split = subject.target.split
    assert split is not None
    x = subject.spread
    y = x if split.basis is None else x @ split.basis
    parts = torch.zeros(len(y), dtype=y.dtype)
    at = 0
    for factor in split.factors:
        parts += factor.potential(y[:, at : at + factor.dim].contiguous())
        at += factor.dim
    v = subject.target.potential(x)
    c = float((v - parts).median())
    return c, float(((v - parts - c) / (1 + v.abs() + cancelled(subject, x))).abs().max())


def _product(subject: Subject) -> tuple[str, float, float, str]:
    split = subject.target.split
    assert split is not None
    c, off = additivity(subject)
    if off > 1e-9:
        return "product of factors", math.nan, 0.0, f"V is not the sum of the factors': it is off by {off:.2g}"
    known: dict[Target, tuple[float, float]] = {}
    for factor in split.factors:
        if factor not in known:
            part = independent(Subject(factor, subject.effort, subject.key))
            if part is None:
                raise Unsupported(f"no route to log Z of the factor {factor.name}")
            known[factor] = part[1], part[2]
    total = sum(known[f][0] for f in split.factors) - c
    return "product of factors", total, sum(known[f][1] for f in split.factors) + 1e-12, "V checked to be the sum of the factors'"


def _bridge(subject: Subject) -> tuple[str, float, float, str]:
    """Meng and Wong's optimal bridge between draws of the target and of a fitted reference; the half it is fitted to is not used.

    References: Meng, Wong, "Simulating ratios of normalizing constants via a simple identity" (1996), equation 4.1,
        https://www3.stat.sinica.edu.tw/statistica/j6n4/j6n43/j6n43.htm
    """
    log_z, error = bridge(subject.target, subject.x, subject.noise("bridge"))
    return "bridge sampling from a fitted reference", log_z, error, f"{len(subject.x) // 2} draws each"


def bridge(target: Target, x: Batch, noise: Stream) -> tuple[float, float]:
    """(log Z, 4.89 standard errors): the fixed point r of ``r = mean_q[w / (w + r)] / mean_p[1 / (w + r)]``, w = exp(-V)/q."""
    half = len(x) // 2
    reference = Reference.fitted(x[:half].numpy())
    y = reference.sample(half, noise)
    at_p = -target.potential(x[half:]).numpy() - reference.log_density(x[half:].numpy())
    at_q = -target.potential(torch.as_tensor(y)).numpy() - reference.log_density(y)
    at_q = np.where(np.isnan(at_q), -np.inf, at_q)
    log_r = float(np.median(at_p))
    for _ in range(200):
        up = np.exp(-np.logaddexp(0.0, log_r - at_q))  # w / (w + r)
        down = np.exp(-np.logaddexp(at_p - log_r, 0.0))  # r / (w + r)
        change = float(np.log(up.mean() / down.mean()))
        log_r += change
        if abs(change) < 1e-13:
            break
    variance = up.var() / up.mean() ** 2 / len(up) + down.var() / down.mean() ** 2 / len(down)
    return log_r, SIGMAS * math.sqrt(variance) + 1e-12


@dataclass(frozen=True, eq=False)
class _Tempered(Target):
    """``(1 - b) |x - c|^2 / (2 s^2) + b V(x)``."""

    target: Target
    centre: torch.Tensor
    scale: torch.Tensor
    b: float

    @property
    def dim(self) -> int:
        return self.target.dim

    def potential(self, x: Batch) -> Values:
        return self.potential_and_score(x)[0]

    def score(self, x: Batch) -> Batch:
        return self.potential_and_score(x)[1]

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        z = (x - self.centre) / self.scale
        v, s = self.target.potential_and_score(x)
        return (1 - self.b) * 0.5 * (z * z).sum(1) + self.b * v, self.b * s - (1 - self.b) * z / self.scale


class Annealed(NamedTuple):
    """The end of annealed importance sampling.

    x: particles, shape (N, d).
    log_w: logarithms of their weights; the mean weight estimates Z.
    effective: effective sample size.
    """

    x: Batch
    log_w: np.ndarray
    effective: float

    def resampled(self, noise: Stream) -> Batch:
        """As many particles again, drawn by weight."""
        w = np.exp(self.log_w - self.log_w.max())
        u = np.sort(noise.uniform((len(w),)).numpy())
        return self.x[torch.as_tensor(np.minimum(np.searchsorted(np.cumsum(w) / w.sum(), u), len(w) - 1))]


def annealed(subject: Subject) -> Annealed | None:
    """Annealed importance sampling from a Gaussian around the mass, three HMC steps per temperature, step tuned on the way;
    None where the weights are not finite or fewer than 20 particles count.

    References: Neal, "Annealed importance sampling" (2001), section 2, https://arxiv.org/abs/physics/9803008
    """
    if "annealed" not in subject.kept:
        subject.kept["annealed"] = _anneal(subject)
    found = subject.kept["annealed"]
    assert found is None or isinstance(found, Annealed)
    return found


def _anneal(subject: Subject) -> Annealed | None:
    target, n, temperatures = subject.target, 512, 160
    c, s = subject.x.mean(0), 1.5 * subject.x.std(0)
    x = c + s * subject.noise("anneal start").normal((n, target.dim))
    log_w = torch.full((n,), 0.5 * target.dim * math.log(2 * math.pi) + float(torch.log(s).sum()), dtype=x.dtype)
    h, before = 0.3 * float(s.min()) / target.dim**0.25, 0.0
    for k in range(1, temperatures + 1):
        b = (k / temperatures) ** 3  # close to the Gaussian the energies are wild
        z = (x - c) / s
        log_w += (b - before) * (0.5 * (z * z).sum(1) - target.potential(x))
        before = b
        tempered = _Tempered(target, c, s, b)
        for j in range(3):
            noise = subject.noise("anneal").at(3 * k + j)
            hmc = HMC(h, 5)
            moved = hmc.step(tempered, hmc.init(tempered, x, noise), noise).x
            rate = float((moved != x).any(1).double().mean())
            x = moved
            h *= 1.08 if rate > 0.75 else 0.85
    w = torch.exp(log_w - log_w.max()).numpy()
    effective = float(w.sum() ** 2 / (w**2).sum()) if np.isfinite(w).all() and w.sum() > 0 else 0.0
    return Annealed(x, log_w.numpy(), effective) if effective > 20 else None


def _by_annealing(subject: Subject) -> tuple[str, float, float, str] | None:
    found = annealed(subject)
    if found is None:
        return None
    w = np.exp(found.log_w - found.log_w.max())
    log_z = float(found.log_w.max()) + math.log(w.mean())
    error = SIGMAS * float(w.std(ddof=1) / w.mean() / math.sqrt(len(w)))
    return "annealed importance sampling", log_z, error, f"{len(w)} chains, 160 temperatures, effective {found.effective:.0f}"
