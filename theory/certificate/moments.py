"""Declared moments against quadrature, and against draws."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy import special

from .base import FALSE_ALARM, Finding, Subject, word_of
from .normaliser import annealed, plane_for, round_
from .quadrature import Line, line_of, radius_of
from .reference import Reference


def moments(subject: Subject) -> Iterator[Finding]:
    """Declared mean and covariance against quadrature on the line, along the radius, in the plane, factor by factor; and against
    draws, or annealed particles where there is no exact sampler."""
    target = subject.target
    if target.moments is None:
        return
    mean, cov = (m.numpy() for m in target.moments)
    known = _by_quadrature(subject)
    if known is not None:
        scale = np.sqrt(np.diag(cov))
        off = max(float((np.abs(known[0] - mean) / scale).max()), float((np.abs(known[1] - cov) / np.outer(scale, scale)).max()))
        yield Finding("moments", known[2], word_of(off < 1e-6), 0.0, off, 1e-6, "largest difference, in standard deviations")
    if subject.exact:
        yield from _by_draws(subject, mean, cov, known is not None)
    elif known is None and subject.effort.deep:
        yield _annealed_moments(subject, mean, cov)


def _by_draws(subject: Subject, mean: np.ndarray, cov: np.ndarray, known: bool) -> Iterator[Finding]:
    """Means, variances, and variances along the axes of a random basis after whitening, within 5 standard errors; not where
    fourth moments are heavy and the moments are `known` by quadrature: the draws then have better tests."""
    target, x = subject.target, subject.x.numpy()
    y = x - mean
    kurtosis = float(((y / y.std(0)) ** 4).mean(0).max())
    weight, how = np.ones(len(y)), f"{len(y)} draws"
    heavy = kurtosis > 0.002 * len(y) ** 0.75
    if heavy and (known or not subject.effort.deep):
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
    yield Finding("draws: moments", how, word_of(largest < limit or few, largest < limit), 0.0, largest, limit, note)


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
