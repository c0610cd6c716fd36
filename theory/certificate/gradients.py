"""The score against differentiation, one pass against two, float32 against float64."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ...targets.base import Batch, Target, Values
from .base import Finding, Subject, word_of

#: Relative disagreement that rounding explains, with room for cancellation in V.
TOLERANCE = 1e-9


def score(subject: Subject) -> Iterator[Finding]:
    """-score against reverse-mode differentiation of the potential (against differences of it, where that is the score)."""
    target, x = subject.target, torch.cat([subject.spread, _rays(subject)])
    x = x[torch.isfinite(target.potential(x)) & torch.isfinite(target.score(x)).all(1) | (torch.arange(len(x)) < len(subject.spread))]
    found = target.score(x)
    own = type(target).score is not Target.score or type(target).potential_and_score is not Target.potential_and_score
    if own:
        with torch.enable_grad():
            y = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(target.potential(y).sum(), y)
        how, tolerance = "reverse-mode differentiation of V", TOLERANCE
    else:
        how, tolerance, h = "central differences of V", 1e-5, 1e-5
        step = h * (1.0 + x.abs())
        columns = []
        for j in range(target.dim):
            move = torch.zeros_like(x)
            move[:, j] = step[:, j]
            columns.append((target.potential(x + move) - target.potential(x - move)) / (2 * step[:, j]))
        gradient = torch.stack(columns, 1)
    # per row, against the row's own size: a point far out must not excuse one near by
    size = 1.0 + gradient.abs().amax(1, keepdim=True)
    off = float(((found + gradient) / size).abs().max())
    finite = bool(torch.isfinite(found).all())
    word = word_of(finite and off <= tolerance)
    yield Finding("score", how, word, 0.0, off, tolerance, f"largest relative difference over {len(x)} points" if finite else "not finite")


def cancelled(subject: Subject, x: Batch) -> Values:
    """What may cancel in V at most: M |x - c|^2, of which an ill-conditioned quadratic form keeps a small part."""
    big = subject.target.constants.get("M")
    return torch.zeros_like(x[:, 0]) if big is None else big.value * (x - subject.centre).square().sum(1)


def _rays(subject: Subject) -> torch.Tensor:
    """Points far out, 3 to 1,000 deviations: where V overflows there is nothing to compare, and those are left out."""
    z = subject.noise("rays").normal((64, subject.target.dim))
    return subject.centre + subject.scale * z * torch.logspace(0.5, 3, 64, dtype=z.dtype)[:, None]


def one_pass(subject: Subject) -> Iterator[Finding]:
    """`potential_and_score` and each row alone give what `potential` and `score` give on the batch."""
    target, x = subject.target, subject.spread
    v, s = target.potential_and_score(x)
    alone = torch.cat([target.potential(row[None]) for row in x[:8]])
    size_v, size_s = 1.0 + v.abs() + cancelled(subject, x), 1.0 + s.abs().amax(1, keepdim=True)
    off = max(
        float(((target.potential(x) - v) / size_v).abs().max()),
        float(((target.score(x) - s) / size_s).abs().max()),
        float(((alone - v[:8]) / size_v[:8]).abs().max()),
    )
    word = word_of(off <= TOLERANCE)
    yield Finding("one pass", "V and score apart, and row by row", word, 0.0, off, TOLERANCE, "largest relative difference")


def precision(subject: Subject) -> Iterator[Finding]:
    """In float32 the answers are float32 and differ from those in float64 by rounding of V and of the point."""
    target, x = subject.target, subject.x[: 4 * 64]
    v, s = target.potential_and_score(x.float())
    if v.dtype != torch.float32 or s.dtype != torch.float32:
        yield Finding("float32", "dtype of the answer", "failed", note=f"V is {v.dtype}, the score {s.dtype}")
        return
    exact, score = target.potential_and_score(x)
    # rounding x moves V by |score . x| eps; the score by what its condition number makes of that
    size = 1.0 + exact.abs() + (score * x).abs().sum(1) + cancelled(subject, x)
    off = float(((v.double() - exact) / size).abs().max())
    word = word_of(off <= 1e-4)
    yield Finding("float32", "V against float64", word, 0.0, off, 1e-4, "relative to 1 + |V| + |score . x|")
