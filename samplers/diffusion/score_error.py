"""How far a score network is from the score of the noised target, where that is known."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import Unsupported
from ...targets.base import Batch, Target
from ..noise import Stream
from .network import ScoreNetwork
from .noising import Level, PhaseLevel


class ScoreError(NamedTuple):
    """The relative error over all times, and at each of `times` (K,)."""

    total: float
    times: tuple[float, ...]
    at: tuple[float, ...]


def score_error(score: ScoreNetwork, target: Target, n: int = 2000, count: int = 24, seed: int = 0) -> ScoreError:
    """``sqrt(int E|L^T (s - s*)|^2 dt / int E|L^T s*|^2 dt)`` over t in [least, T], s* the score of the noised target.

    L L^T is the covariance of the noise in x_t: on positions the weight is v(t), and the error is that of the network as an estimate of
    eps. For ``cld`` it is the score in p alone. By the midpoint rule in sqrt t with `count` times, at `n` exact draws of x_t each,
    the same for every network: a standard error of about ``1/sqrt(n count)`` of the value.

    Cost: n count evaluations of the network and of the score.

    Errors: `Unsupported` where the target has no closed form after noising.
    """
    process = score.process
    if "diffused" not in target.capabilities:
        raise Unsupported(f"{target.name} has no closed form after noising, so the error of a score is not known")
    root, end = process.least**0.5, process.horizon**0.5
    times = ((root + (torch.arange(count, dtype=torch.float64) + 0.5) / count * (end - root)) ** 2).tolist()
    wrong, right = [], []
    for k, t in enumerate(times):
        noised = process.noised(target, t)
        x = noised.sample(n, Stream("score error", seed, target.id, step=k))
        truth, level = noised.score(x), process.levels(torch.tensor([t]))
        wrong.append(_size(score.score(x, t) - truth, level, process.name))
        right.append(_size(truth, level, process.name))
    dt = torch.tensor(times).sqrt()  # times a constant
    e, s = torch.stack(wrong), torch.stack(right)
    total = float(((dt * e).sum() / (dt * s).sum()).sqrt())
    return ScoreError(total, tuple(times), tuple((e / s).sqrt().tolist()))


def _size(rows: Batch, level: Level | PhaseLevel, name: str) -> Tensor:
    """E|L^T rows|^2."""
    if isinstance(level, Level):
        return (level.variance * rows**2).sum(1).mean()
    s_x, s_p = rows.chunk(2, 1)
    in_p = ((level.pp * s_p) ** 2).sum(1)
    return in_p.mean() if name == "cld" else (((level.xx * s_x + level.px * s_p) ** 2).sum(1) + in_p).mean()
