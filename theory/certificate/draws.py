"""The exact sampler against the density, and both against the declared moments."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy import special

from ...samplers.mala import MALA
from ...targets.base import Target
from .base import FALSE_ALARM, SIGMAS, Finding, Subject, kolmogorov, two_sample, word_of
from .normaliser import annealed, plane_for, round_
from .quadrature import Line, Plane, line_of, radius_of
from .reference import Reference


def distribution(subject: Subject) -> Iterator[Finding]:
    """Exact tests: distribution functions by quadrature on the line, along the radius, in the plane, and of each factor."""
    if not subject.exact:
        return
    target = subject.target
    if target.dim == 1:
        yield _p("draws", "Kolmogorov-Smirnov against quadrature", kolmogorov(line_of(target).cdf(subject.x[:, 0].numpy())))
    elif subject.effort.deep and round_(subject):
        yield from _radial(subject)
    elif target.split is not None and max(f.dim for f in target.split.factors) < target.dim:
        yield from _factors(subject)
    elif subject.effort.deep and (plane := plane_for(subject)) is not None:
        yield from _plane(plane, subject.x.numpy())


def _p(what: str, how: str, p: float, note: str = "") -> Finding:
    """A finding from an exact test: the p-value against the stated false alarm."""
    return Finding(what, how, word_of(p > FALSE_ALARM), found=p, error=FALSE_ALARM, note=note or "p-value")


def _radial(subject: Subject) -> Iterator[Finding]:
    """The radius by quadrature; the direction's first coordinate u has (1 + u)/2 of the law Beta((d-1)/2, (d-1)/2)."""
    x, d = subject.x.numpy(), subject.target.dim
    r = np.linalg.norm(x, axis=1)
    yield _p("draws: radius", "Kolmogorov-Smirnov against radial quadrature", kolmogorov(radius_of(subject.target).cdf(r)))
    u = (1 + (x @ np.ones(d)) / (r * math.sqrt(d))) / 2
    yield _p("draws: direction", "Kolmogorov-Smirnov against the beta law", kolmogorov(special.betainc((d - 1) / 2, (d - 1) / 2, np.clip(u, 0, 1))))


def _factors(subject: Subject) -> Iterator[Finding]:
    """Each kind of factor on all its coordinates together, and the correlation of ranks between neighbouring groups."""
    split = subject.target.split
    assert split is not None
    y = (subject.x if split.basis is None else subject.x @ split.basis).numpy()
    groups: dict[Target, list[np.ndarray]] = {}
    at = 0
    for factor in split.factors:
        groups.setdefault(factor, []).append(y[:, at : at + factor.dim])
        at += factor.dim
    worst = 1.0
    for factor, parts in groups.items():
        # rows of different coordinates: independent of each other, and no more than the sample's size
        rows = np.concatenate([part[k :: len(parts)] for k, part in enumerate(parts)])
        if factor.dim == 1:
            worst = min(worst, kolmogorov(line_of(factor).cdf(rows[:, 0])))
        elif subject.effort.deep and (plane := plane_for(Subject(factor, subject.effort, subject.key))) is not None:
            worst = min(worst, *[f.found for f in _plane(plane, rows)])
    yield _p("draws", "every factor against quadrature", worst, f"smallest p-value of {len(groups)} kinds of factor")
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
        yield _p(f"draws: coordinate {axis + 1}", "Kolmogorov-Smirnov against quadrature", kolmogorov(plane.marginal_cdf(axis, x[:, axis])))
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
    """The law of V under draws: exact where quadrature gives it, and left alone by a kernel that leaves the target alone.

    One half of the sample makes Metropolis steps, the other stays: V and projections of the two have one law if the draws
    are exact, in any dimension. A sampler of another density is pulled towards the target by the steps.
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
    a, b = target.potential(still).numpy(), target.potential(moving).numpy()
    p = two_sample(a, b)
    yield _p("draws: values of V", "two-sample test, moved by MALA against not", p, f"p-value after 16 steps of size {h:.2g}, {rate:.0%} accepted")


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
    largest, limit = float(t.max()), float(-special.ndtri(FALSE_ALARM / (2 * count)))
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


def moments(subject: Subject) -> Iterator[Finding]:
    """Declared mean and covariance against quadrature on the line or in the plane, factor by factor, else against draws."""
    target = subject.target
    if target.moments is None:
        return
    mean, cov = (m.numpy() for m in target.moments)
    known = _by_quadrature(subject)
    if known is not None:
        scale = np.sqrt(np.diag(cov))
        off = max(float((np.abs(known[0] - mean) / scale).max()), float((np.abs(known[1] - cov) / np.outer(scale, scale)).max()))
        yield Finding("moments", known[2], word_of(off < 1e-6), 0.0, off, 1e-6, "largest difference, in standard deviations")
        return
    if not subject.exact:
        if subject.effort.deep:
            yield _annealed_moments(subject, mean, cov)
        return
    x = subject.x.numpy()
    y = x - mean
    kurtosis = float(((y / y.std(0)) ** 4).mean(0).max())
    weight, how = np.ones(len(y)), f"{len(y)} draws"
    heavy = kurtosis > 0.002 * len(y) ** 0.75
    if heavy and not subject.effort.deep:
        return
    if heavy and target.log_normalizer is not None:
        # fourth moments that a few draws decide have no normal interval: half of the points come from a wider reference q,
        # and p / (p/2 + q/2) weighs both halves
        half = len(x) // 2
        reference = Reference.fitted(x[:half], 1.25)
        points = np.concatenate([x[half:], reference.sample(len(x) - half, subject.noise("moments"))])
        log_p = -target.potential(torch.as_tensor(points)).numpy() - target.log_normalizer
        weight = np.exp(log_p - np.logaddexp(log_p, reference.log_density(points)) + math.log(2.0))
        y, how = points - mean, f"{len(points)} weighted draws, half of a wider reference"
    n = len(y)
    scale = np.sqrt(np.diag(cov))
    z = y / scale
    rotation = np.linalg.qr(subject.noise("moments basis").normal((target.dim, target.dim)).numpy())[0]
    t = np.linalg.solve(_root(cov), y.T).T @ rotation
    terms = weight[:, None] * np.concatenate([z, z**2 - 1.0, t**2 - 1.0], axis=1)
    off = np.abs(terms.mean(0)) / (terms.std(0) / math.sqrt(n) + 1e-12)
    largest, limit = float(off.max()), max(5.0, float(-special.ndtri(FALSE_ALARM / (6 * target.dim))))
    # a sum that a few terms decide is not normal: it refutes nothing
    few = float((terms[:, off.argmax()] ** 4).sum() / (terms[:, off.argmax()] ** 2).sum() ** 2) > 0.05
    note = "largest difference, in standard errors" + (", of a sum that a few draws decide" if few else "")
    yield Finding("moments", how, word_of(largest < limit or few, largest < limit), 0.0, largest, limit, note)


def _annealed_moments(subject: Subject, mean: np.ndarray, cov: np.ndarray) -> Finding:
    """Mean and variances against weighted particles of annealed importance sampling."""
    found = annealed(subject)
    if found is None:
        return Finding("moments", "no independent route", "open")
    w = np.exp(found.log_w - found.log_w.max())
    w /= w.sum()
    z = (found.x.numpy() - mean) / np.sqrt(np.diag(cov))
    values = np.concatenate([z, z**2 - 1.0], axis=1)
    at = w @ values
    largest = float((np.abs(at) / np.sqrt((w**2) @ (values - at) ** 2)).max())
    limit = max(5.0, float(-special.ndtri(FALSE_ALARM / (4 * len(mean)))))
    word = word_of(largest < limit)
    return Finding(
        "moments", f"{len(w)} particles of annealed importance sampling", word, 0.0, largest, limit, "largest difference, in standard errors"
    )


def _root(cov: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(cov)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 1e-300)) @ vectors.T)


def _by_quadrature(subject: Subject) -> tuple[np.ndarray, np.ndarray, str] | None:
    target = subject.target
    if target.dim == 1:
        centre, variance = _line_moments(line_of(target))
        return np.array([centre]), np.array([[variance]]), "quadrature"
    if subject.effort.deep and round_(subject):
        second = radius_of(target).mean(lambda r: r * r) / target.dim
        return np.zeros(target.dim), second * np.eye(target.dim), "radial quadrature"
    split = target.split
    if split is not None and all(f.dim == 1 for f in split.factors):
        parts = [_line_moments(line_of(f)) for f in split.factors]
        mean, cov = np.array([p[0] for p in parts]), np.diag([p[1] for p in parts])
        if split.basis is not None:
            q = split.basis.numpy()
            mean, cov = q @ mean, q @ cov @ q.T
        return mean, cov, "quadrature of every factor"
    if subject.effort.deep and (plane := plane_for(subject)) is not None and plane.error < 1e-8:
        return *plane.moments, "quadrature in the plane"
    return None


def _line_moments(law: Line) -> tuple[float, float]:
    mean = law.mean(lambda x: x)
    return mean, law.mean(lambda x: (x - mean) ** 2)
