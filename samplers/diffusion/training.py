"""Training of a score network on draws of a target: deterministic, and resumed where it was left."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import InvalidInput, Unsupported
from ...targets.base import Batch, Target
from ..base import positive
from ..noise import Stream
from .checkpoint import read_tensors, write_tensors
from .losses import ddpm, denoising_in_time, directions, hybrid, implicit, in_noise_units, sliced, two_term
from .network import Architecture, ScoreNetwork
from .noising import WEIGHTS, PhaseLevel, Process
from .parameterization import KINDS, PHASE_KINDS, Moments

LOSSES, PHASE_LOSSES = ("denoising", "ddpm", "implicit", "sliced"), ("hybrid", "two_term")
#: Times in the table that rows are drawn from: as good as a continuum to a network that varies slowly in log-noise.
LEVELS = 4096
#: Batches that are drawn at once.
CHUNK = 64
#: Draws that the moments are taken from, where the target declares none.
MOMENT_DRAWS = 100_000


@dataclass(frozen=True)
class Training:
    """How a score network is trained: AdamW on a loss of `losses.py`, weights averaged along the way.

    The rate rises over the first 2 % of the steps and falls like a cosine to 0. Draws come in pairs (x_0, +-eps): the part of a
    gradient that is odd in eps, which has the most noise at small t, cancels. Times have the density of
    ``t = (sqrt least + u (sqrt T - sqrt least))^2``, u uniform and stratified within each batch.

    Arguments:
        loss: on positions ``denoising``, ``ddpm`` (on ``vp``), ``implicit`` or ``sliced``; ``hybrid`` on cld, ``two_term`` on psld.
        weight: of the times, ``variance`` (every time alike, in units of its noise; for ``two_term`` the loss is then
            `in_noise_units`), ``likelihood`` (g^2, G G^T; more on small t) or ``uniform``.
        parameterization: ``epsilon``, ``x0``, ``score``, ``v`` or ``mixed``.
        steps, batch: of the optimiser; the batch is even.
        rate: the largest learning rate.
        average: decay of the averaged weights per step, in [0, 1); early on it is less, ``(1 + k)/(10 + k)`` at step k.
        seed: of the weights and of all draws.
    """

    loss: str = "denoising"
    weight: str = "variance"
    parameterization: str = "mixed"
    steps: int = 3000
    batch: int = 1024
    rate: float = 4e-3
    average: float = 0.998
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES + PHASE_LOSSES:
            raise InvalidInput(f"loss must be one of {', '.join(LOSSES + PHASE_LOSSES)}, got {self.loss!r}")
        if self.weight not in WEIGHTS:
            raise InvalidInput(f"weight must be one of {', '.join(WEIGHTS)}, got {self.weight!r}")
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch % 2:
            raise InvalidInput(f"batch must be even, draws come in pairs, got {self.batch}")
        positive(self.rate, "rate")
        if not 0 <= self.average < 1:
            raise InvalidInput(f"average must lie in [0, 1), got {self.average}")

    def check(self, process: Process, target: Target) -> None:
        """Raise one line where this is no training on the process, or the target has no draws to train on."""
        if "sample" not in target.capabilities:
            raise Unsupported(f"target must have an exact sampler, a score is trained on draws, got {target.name}")
        known = {"cld": ("hybrid",), "psld": ("two_term",), "vp": LOSSES}.get(process.name, tuple(x for x in LOSSES if x != "ddpm"))
        if self.loss not in known:
            raise InvalidInput(f"loss must be one of {', '.join(known)} on {process.name}, got {self.loss!r}")
        if process.phase and self.weight == "uniform":
            raise InvalidInput(f"weight must be variance or likelihood on {process.name}, got 'uniform'")
        kinds = PHASE_KINDS if process.phase else KINDS
        if self.parameterization not in kinds:
            raise InvalidInput(f"parameterization must be one of {', '.join(kinds)} on {process.name}, got {self.parameterization!r}")
        if self.loss == "ddpm" and self.weight != "variance":
            raise InvalidInput(f"weight must be variance for the loss ddpm, got {self.weight!r}")


def moments_of(target: Target) -> Moments:
    """Mean and covariance: declared, or of exact draws."""
    if target.moments is not None:
        return Moments.of(*target.moments)
    x = target.sample(MOMENT_DRAWS, Stream("moments", target.id))
    return Moments.of(x.mean(0), torch.atleast_2d(torch.cov(x.T)))


def batches(target: Target, process: Process, settings: Training, first: int) -> Iterator[tuple[Batch, Batch, Any, Tensor, Stream]]:
    """(x_0, eps, levels, importance weights of the times, noise) of every step from `first` on: functions of the seed and the step."""
    half, d = settings.batch // 2, target.dim * (2 if process.phase else 1)
    u = (torch.arange(LEVELS, dtype=torch.float64) + 0.5) / LEVELS
    root, end = process.least**0.5, process.horizon**0.5
    times = (root + u * (end - root)) ** 2
    table = process.levels(times).to(torch.empty(0, dtype=torch.float32))
    # dt/du, in units of the horizon: what makes the sum over rows an average over t
    importance = (2.0 * times.sqrt() * (end - root) / process.horizon).float()[:, None]
    key = ("train", settings.seed, target.id)
    x0 = eps = place = torch.empty(0)
    chunk = -1
    for k in range(first, settings.steps):
        if k // CHUNK != chunk:
            chunk = k // CHUNK
            x0 = target.sample(CHUNK * half, Stream(*key, "x0", step=chunk)).float().reshape(CHUNK, half, -1)
            eps = Stream(*key, "eps", step=chunk, dtype=torch.float32).normal((CHUNK * half, d)).reshape(CHUNK, half, d)
            strata = Stream(*key, "t", step=chunk).uniform((CHUNK * half,)).reshape(CHUNK, half)
            place = ((torch.arange(half) + strata) * (LEVELS / half)).long().clamp(max=LEVELS - 1)
        i = k % CHUNK
        index = place[i].repeat(2)
        yield x0[i].repeat(2, 1), torch.cat((eps[i], -eps[i])), table.rows(index), importance[index], Stream(*key, "w", step=k, dtype=torch.float32)


def loss_of(score: ScoreNetwork, settings: Training, x0: Batch, eps: Batch, level: Any, importance: Tensor, noise: Stream) -> Tensor:
    """The loss of one batch; its expectation is an average over t in [least, horizon], times a constant."""
    even = settings.weight == "variance"
    if isinstance(level, PhaseLevel):
        if settings.loss == "hybrid":
            return hybrid(score.at, x0, eps, level, importance * (level.pp**2 if even else level.rate_p))
        return (in_noise_units if even else two_term)(score.at, x0, eps, level, importance)
    weight = importance * level.weights(settings.weight)
    if settings.loss == "denoising":
        return denoising_in_time(score.at, x0, eps, level, weight)
    if settings.loss == "ddpm":
        return ddpm(lambda x, at: -at.variance.sqrt() * score.at(x, at), x0, eps, level, importance)
    x = level.noised(x0, eps)
    if settings.loss == "implicit":
        return implicit(lambda y: score.at(y, level), x, weight)
    return sliced(lambda y: score.at(y, level), x, directions("rademacher", 1, x.shape[0], x.shape[1], noise), weight)


class Run:
    """A training under way: the network, the averaged weights, the optimiser and the step.

    Arguments: target, process, shape, settings: as they are called. On the same machine and number of threads the weights are the
        same to the last bit, in one go or resumed.
    """

    def __init__(self, target: Target, process: Process, shape: Architecture, settings: Training) -> None:
        settings.check(process, target)
        self.target, self.process, self.settings, self.step = target, process, settings, 0
        self.score = ScoreNetwork(target.dim, process, settings.parameterization, shape, moments_of(target), settings.seed)
        self.weights = list(self.score.network.parameters())
        self.average = [w.detach().clone() for w in self.weights]
        self.optimizer = torch.optim.AdamW(self.weights, lr=settings.rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)

    @property
    def recipe(self) -> str:
        """What determines the weights, as text."""
        shape, settings, process = (dataclasses.asdict(part) for part in (self.score.shape, self.settings, self.process))
        return json.dumps({"target": self.target.id, "process": process, "shape": shape, "settings": settings}, sort_keys=True)

    def rate(self, k: int) -> float:
        """The learning rate of step k."""
        n = self.settings.steps
        rise = max(1, n // 50)
        return self.settings.rate * min(1.0, (k + 1) / rise) * 0.5 * (1.0 + math.cos(math.pi * k / n))

    def advance(self, until: int, told: Callable[[int], None] = lambda steps: None) -> float:
        """Go on to the step `until`; returns the mean loss of the last hundred steps."""
        losses: list[Tensor] = []
        for batch in batches(self.target, self.process, self.settings, self.step):
            if self.step >= until:
                break
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(self.step)
            self.optimizer.zero_grad(set_to_none=True)
            loss = loss_of(self.score, self.settings, *batch)
            loss.backward()
            self.optimizer.step()
            self.step += 1
            torch._foreach_lerp_(self.average, [w.detach() for w in self.weights], 1.0 - min(self.settings.average, self.step / (9.0 + self.step)))
            losses = [*losses[-99:], loss.detach()]
            told(1)
        return float(torch.stack(losses).mean()) if losses else math.nan

    def trained(self) -> ScoreNetwork:
        """The network with the averaged weights."""
        score = self.score
        found = ScoreNetwork(score.dim, score.process, score.parameterization, score.shape, score.moments)
        found.network.load_state_dict(dict(zip(score.network.state_dict(), self.average, strict=True)))
        found.network.requires_grad_(False)
        return found

    def save(self, path: Path) -> None:
        """Write all that the next step depends on."""
        tensors = {f"average.{i}": w for i, w in enumerate(self.average)} | {f"weight.{i}": w for i, w in enumerate(self.weights)}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{i}": value for name, value in state.items()}
        write_tensors(path, tensors, {"recipe": self.recipe, "step": self.step})

    def resume(self, path: Path) -> None:
        """Go back to where `save` was called.

        Errors: `InvalidInput` for a file of another training, or one that was altered.
        """
        tensors, described, _ = read_tensors(path)
        if described.get("recipe") != self.recipe:
            raise InvalidInput(f"resume needs the state of this very training, and {path} is of another: remove it or train elsewhere")
        with torch.no_grad():
            for i, (weight, average) in enumerate(zip(self.weights, self.average, strict=True)):
                weight.copy_(tensors[f"weight.{i}"])
                average.copy_(tensors[f"average.{i}"])
        whole = self.optimizer.state_dict()
        names = ("step", "exp_avg", "exp_avg_sq")
        whole["state"] = {i: {name: tensors[f"{name}.{i}"] for name in names} for i in range(len(self.weights)) if f"step.{i}" in tensors}
        self.optimizer.load_state_dict(whole)
        self.step = int(described["step"])
