"""Densities without a Poincare or a log-Sobolev inequality: their tails show it."""

from __future__ import annotations

import math

import numpy as np
import torch

from ...samplers.noise import Stream
from .base import Finding, Subject


def no_inequality(subject: Subject, what: str, power: int) -> Finding:
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
