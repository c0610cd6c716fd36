"""Where a density without an exact sampler lives, well enough to look at its score and curvature there."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...samplers.mala import MALA
from ...samplers.noise import Stream
from ...targets.base import Batch, Target
from .base import Effort


def settled(target: Target, effort: Effort, noise: Callable[[str], Stream]) -> Batch:
    """Points that descended from N(0, 4 I) to where V is low and then moved by MALA: typical places, not independent draws.

    The step is halved or doubled until about half of the proposals are accepted; 200 steps (30 at entry).
    """
    n, steps = (512, 200) if effort.deep else (128, 30)
    x = 2.0 * noise("settle start").normal((n, target.dim))
    rate = torch.full((n, 1), 0.1, dtype=x.dtype)
    v, s = target.potential_and_score(x)
    for _ in range(300):  # descent whose step adapts row by row: down or half as far
        y = x + rate * s / (1.0 + rate * torch.linalg.vector_norm(s, dim=1, keepdim=True))
        w, t = target.potential_and_score(y)
        better = (w < v).unsqueeze(1)
        x, v, s = torch.where(better, y, x), torch.where(better[:, 0], w, v), torch.where(better, t, s)
        rate = (rate * torch.where(better, 1.2, 0.5)).clamp(1e-8, 1e2)
    h = 0.5 / target.dim ** (1 / 3)
    for k in range(steps):
        sampler = MALA(h)
        state = sampler.init(target, x, noise("settle").at(k))
        moved = sampler.step(target, state, noise("settle").at(k)).x
        accepted = float((moved != x).any(1).double().mean())
        x = moved
        h *= 1.1 if accepted > 0.55 else 0.8
    return x
