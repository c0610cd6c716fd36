"""The exact sampler against the density, and both against the declared moments."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy import special

from ...samplers.mala import MALA
from ...targets.base import Target
from .base import FALSE_ALARM, SIGMAS, Finding, Subject, two_sample, uniform, word_of
from .normaliser import plane_for, round_
from .quadrature import Plane, line_of, radius_of
from .reference import Reference


def distribution(subject: Subject) -> Iterator[Finding]:
    """Exact tests (Kolmogorov-Smirnov and chi-square): distribution functions by quadrature on the line, along the radius, in the
    plane, and of each factor; of a Gaussian every coordinate, and V, whose law is that of a chi-square."""
    if not subject.exact:
        return
    target = subject.target
    if target.is_gaussian and target.moments is not None:
        yield from _gaussian(subject, *(m.numpy() for m in target.moments))
    if target.dim == 1:
        yield _p("draws", "against quadrature", uniform(line_of(target).cdf(subject.x[:, 0].numpy())))
    elif subject.effort.deep and round_(subject):
        yield from _radial(subject)
    elif target.split is not None and max(f.dim for f in target.split.factors) < target.dim:
        yield from _factors(subject)
    elif subject.effort.deep and (plane := plane_for(subject)) is not None:
        yield from _plane(plane, subject.x.numpy())


def _p(what: str, how: str, p: float, note: str = "") -> Finding:
    """A finding from an exact test: the p-value against the stated false alarm."""
    return Finding(what, how, word_of(p > FALSE_ALARM), found=p, error=FALSE_ALARM, note=note or "p-value")


def _gaussian(subject: Subject, mean: np.ndarray, cov: np.ndarray) -> Iterator[Finding]:
    """Coordinates against normal laws, and ``2 (V - V(mean))`` against chi-square; mean and covariance are checked elsewhere."""
    x, v = subject.x.numpy(), subject.target.potential(subject.x) - subject.target.potential(torch.as_tensor(mean)[None])
    worst = min(uniform(special.ndtr((x[:, j] - mean[j]) / math.sqrt(cov[j, j]))) for j in range(len(mean)))
    yield _p("draws: coordinates", "against normal laws", min(1.0, worst * len(mean)), f"smallest p-value times {len(mean)}")
    yield _p("draws: V", "against the chi-square law", uniform(special.chdtr(len(mean), 2 * v.numpy())))


def _radial(subject: Subject) -> Iterator[Finding]:
    """The radius by quadrature; the direction's first coordinate u has (1 + u)/2 of the law Beta((d-1)/2, (d-1)/2)."""
    x, d = subject.x.numpy(), subject.target.dim
    r = np.linalg.norm(x, axis=1)
    yield _p("draws: radius", "against radial quadrature", uniform(radius_of(subject.target).cdf(r)))
    u = (1 + (x @ np.ones(d)) / (r * math.sqrt(d))) / 2
    yield _p("draws: direction", "against the beta law", uniform(special.betainc((d - 1) / 2, (d - 1) / 2, np.clip(u, 0, 1))))


def _factors(subject: Subject) -> Iterator[Finding]:
    """Every factor by itself, and the correlation of ranks between groups."""
    split = subject.target.split
    assert split is not None
    y = (subject.x if split.basis is None else subject.x @ split.basis).numpy()
    groups: dict[Target, list[np.ndarray]] = {}
    at = 0
    for factor in split.factors:
        groups.setdefault(factor, []).append(y[:, at : at + factor.dim])
        at += factor.dim
    p: list[float] = []
    for factor, parts in groups.items():
        if factor.dim == 1:
            p += [uniform(line_of(factor).cdf(part[:, 0])) for part in parts]
        elif subject.effort.deep and (plane := plane_for(Subject(factor, subject.effort, subject.key))) is not None:
            p += [f.found for part in parts for f in _plane(plane, part)]
    if p:
        yield _p("draws", "every factor against quadrature", min(1.0, min(p) * len(p)), f"smallest p-value times {len(p)}")
    ranks = np.argsort(np.argsort(y, axis=0), axis=0) / len(y) - 0.5
    correlation = np.asarray(np.corrcoef(ranks[:, :256], rowvar=False))
    owner = np.repeat(np.arange(len(split.factors)), [f.dim for f in split.factors])[: len(correlation)]
    apart = owner[:, None] != owner[None, :]
    largest = float(np.abs(correlation[apart]).max()) * math.sqrt(len(y))
    limit = float(-special.ndtri(FALSE_ALARM / max(1, apart.sum())))
    yield Finding(
        "draws: independence",
        "rank correlations between factors",
        word_of(largest < limit),
        0.0,
        largest,
        limit,
        "largest, in standard errors",
    )


def _plane(plane: Plane, x: np.ndarray) -> Iterator[Finding]:
    """Both coordinates, the joint law by a chi-square test over cells, and the values of the potential."""
    for axis in range(2):
        yield _p(f"draws: coordinate {axis + 1}", "against quadrature", uniform(plane.marginal_cdf(axis, x[:, axis])))
    cuts = []
    for axis in range(2):
        mass = plane.marginal_cdf(axis, plane.edges[axis])
        chosen = np.unique(np.clip(np.searchsorted(mass, np.linspace(0, 1, 13)[1:-1]), 1, len(mass) - 2))
        cuts.append(plane.edges[axis][chosen])  # at ends of panels: the probability of a cell is a sum of whole panels
    index = [np.searchsorted(cuts[axis], plane.nodes[axis]) for axis in range(2)]
    cells = (len(cuts[0]) + 1, len(cuts[1]) + 1)
    probability = np.zeros(cells)
    np.add.at(probability, (index[0][:, None], index[1][None, :]), plane.weights)
    seen = np.zeros(cells)
    np.add.at(seen, tuple(np.searchsorted(cuts[axis], x[:, axis]) for axis in range(2)), 1.0)
    expected = probability.ravel() * len(x)
    many = expected >= 10
    pooled_e = np.append(expected[many], max(expected[~many].sum(), 1e-300))
    pooled_s = np.append(seen.ravel()[many], seen.ravel()[~many].sum())
    use = pooled_e > 5
    statistic = float((((pooled_s - pooled_e) ** 2) / pooled_e)[use].sum())
    yield _p(
        "draws: cells",
        "chi-square against quadrature",
        float(special.chdtrc(max(int(use.sum()) - 1, 1), statistic)),
        f"p-value over {int(use.sum())} cells",
    )


def potential_values(subject: Subject) -> Iterator[Finding]:
    """The law of V, and of four projections, under draws is left alone by a kernel that leaves the target alone.

    One half of the sample makes Metropolis steps, the other stays: the two have one law if the draws are exact, in any
    dimension. A sampler of another density is pulled towards the target by the steps.
    """
    if not subject.exact or not subject.effort.deep:
        return
    target, x = subject.target, subject.x
    half = len(x) // 2
    still, moving = x[:half], x[half:]
    h = 0.5 * float(subject.scale.min()) ** 2 / target.dim ** (1 / 3)
    rate = 0.0
    for k in range(24):
        sampler, noise = MALA(h), subject.noise("moved").at(k)
        moved = sampler.step(target, sampler.init(target, moving, noise), noise).x
        rate = float((moved != moving).any(1).double().mean())
        if k < 8:  # the step is tuned on steps that do not count
            h *= 1.5 if rate > 0.7 else 0.5
        else:
            moving = moved
    onto = subject.noise("projections").normal((4, target.dim)).T
    pairs = [(target.potential(still), target.potential(moving)), *zip((still @ onto).T, (moving @ onto).T, strict=True)]
    p = min(1.0, len(pairs) * min(two_sample(a.numpy(), b.numpy()) for a, b in pairs))
    note = f"p-value after 16 steps of size {h:.2g}, {rate:.0%} accepted"
    yield _p("draws: values of V", "V and projections, moved by MALA against not", p, note)


def stein(subject: Subject) -> Iterator[Finding]:
    """``E[score . w f + w . grad f] = 0`` for bounded f = tanh(w . (x - c) / s + b) along 64 directions w, and
    ``E[score . (x - c)] = -d``.

    References: Stein, "A bound for the error in the normal approximation" (1972); Gorham, Mackey, "Measuring sample quality
        with Stein's method" (2015), section 2, https://arxiv.org/abs/1506.03039
    """
    if not subject.exact:
        return
    target, x = subject.target, subject.x
    noise = subject.noise("stein")
    count = 64
    w = noise.normal((count, target.dim)) * subject.scale
    axes = min(count // 2, target.dim)
    w[:axes] = torch.eye(target.dim, dtype=x.dtype)[:axes] * subject.scale
    inverse = w / (subject.scale**2 * (w / subject.scale).square().sum(1, keepdim=True))
    b = noise.normal((count, 1))[:, 0]
    f = torch.tanh((x - subject.centre) @ inverse.T + b)
    s = target.score(x)
    field = (s @ w.T) * f + (w * inverse).sum(1) * (1 - f * f)
    # and the unbounded field x - c, which sees a change of scale in many dimensions
    field = torch.cat([field, (s * (x - subject.centre)).sum(1, keepdim=True) + target.dim], 1)
    t = (field.mean(0) / (field.std(0) / math.sqrt(len(x)))).abs()
    largest, limit = float(t.max()), float(-special.ndtri(FALSE_ALARM / (2 * count + 2)))
    yield Finding(
        "draws: score identity",
        f"Stein's identity along {count} directions",
        word_of(largest < limit),
        0.0,
        largest,
        limit,
        "largest, in standard errors",
    )


def ratio(subject: Subject) -> Iterator[Finding]:
    """With a fitted normalised q and the declared Z, ``E_p[q / (p + q)] = E_q[p / (p + q)]``: draws, potential and Z at once.

    Where p and q hardly overlap the identity says nothing, and there is no finding; nor for a product of more than a few factors,
    whose factors are tested one by one.
    """
    target = subject.target
    product = target.dim > 4 and not target.is_gaussian and target.split is not None and max(f.dim for f in target.split.factors) <= 2
    if not subject.exact or target.log_normalizer is None or product or (not subject.effort.deep and target.dim > 20):
        return
    x, half = subject.x.numpy(), len(subject.x) // 2
    reference = Reference.fitted(x[:half])
    y = reference.sample(half, subject.noise("ratio"))

    def log_ratio(points: np.ndarray) -> np.ndarray:
        value = -target.potential(torch.as_tensor(points)).numpy() - target.log_normalizer - reference.log_density(points)
        return np.where(np.isnan(value), -np.inf, value)

    at_p, at_q = special.expit(-log_ratio(x[half:])), special.expit(log_ratio(y))
    if at_q.mean() < 1e-3:
        return
    deviation = math.sqrt(at_p.var(ddof=1) / len(at_p) + at_q.var(ddof=1) / len(at_q)) + 1e-12
    off = (at_p.mean() - at_q.mean()) / deviation
    word = word_of(bool(abs(off) < SIGMAS))
    yield Finding(
        "draws: density ratio",
        "q/(p+q) under p against p/(p+q) under q",
        word,
        0.0,
        float(off),
        SIGMAS,
        f"in standard errors; both near {at_q.mean():.3g}",
    )
