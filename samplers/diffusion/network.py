"""A score as a network: a small perceptron that knows the time, scaled so that it sees and gives numbers of order 1."""

from __future__ import annotations

import copy
import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ...errors import InvalidInput
from ...targets.base import Batch
from .forward import Forward
from .noising import Level, PhaseLevel, Process
from .parameterization import (
    Moments,
    momentum_score_of,
    phase_scaled,
    phase_score_of,
    scaled,
    score_of,
)
from .phase_space import PhaseSpaceSDE

#: Frequencies of the features of the age, ``sin(pi k age / 2)``: the coefficients of a process vary slowly in log-noise.
TIME_FREQUENCIES = 8


@dataclass(frozen=True)
class Architecture:
    """A perceptron: `depth` hidden layers of `width` SiLU units; the age enters every layer through its Fourier features.

    Arguments:
        width, depth: at least 1.
        frequencies: the inputs z come with ``sin(2^j z), cos(2^j z)``, j = 0, ..., frequencies - 1; 0 for none.
    """

    width: int = 128
    depth: int = 3
    frequencies: int = 4

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("depth", 1), ("frequencies", 0)):
            if not getattr(self, name) >= least:
                raise InvalidInput(f"{name} must be at least {least}, got {getattr(self, name)}")


class Perceptron(nn.Module):
    """R^inputs x [-1, 1] to R^outputs. The last layer starts at zero."""

    def __init__(self, inputs: int, outputs: int, shape: Architecture, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [inputs * (1 + 2 * shape.frequencies), *[shape.width] * shape.depth]
        self.frequencies = shape.frequencies
        # skip_init: torch's own start would draw from its global generator
        self.layers = nn.ModuleList(skip_init(nn.Linear, a, b) for a, b in pairwise(sizes))
        self.times = nn.ModuleList(skip_init(nn.Linear, 2 * TIME_FREQUENCIES + 1, b, bias=False) for b in sizes[1:])
        self.last = skip_init(nn.Linear, sizes[-1], outputs)
        with torch.no_grad():
            for layer in [*self.layers, *self.times]:
                bound = math.sqrt(3.0 / layer.in_features)  # variance 1/inputs
                layer.weight.uniform_(-bound, bound, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
            self.last.weight.zero_()
            self.last.bias.zero_()

    def forward(self, z: Tensor, age: Tensor) -> Tensor:
        waves = 0.5 * math.pi * age * torch.arange(1, TIME_FREQUENCIES + 1, dtype=age.dtype)
        time = torch.cat((age, torch.sin(waves), torch.cos(waves)), 1)
        if self.frequencies:
            turns = torch.cat([2.0**j * z for j in range(self.frequencies)], 1)
            z = torch.cat((z, torch.sin(turns), torch.cos(turns)), 1)
        for layer, by_time in zip(self.layers, self.times, strict=True):
            z = nn.functional.silu(layer(z) + by_time(time))
        return self.last(z)


class ScoreNetwork:
    """The score of x_t as a network; on (x, p) that of (x_t, p_t).

    Arguments:
        dim: d, of the target.
        process: what it is trained on.
        parameterization: see `parameterization.py`.
        shape: of the perceptron.
        moments: of x_0.
        seed: of the weights it starts from.
    """

    def __init__(self, dim: int, process: Process, parameterization: str, shape: Architecture, moments: Moments, seed: int = 0) -> None:
        self.dim, self.process, self.parameterization, self.shape = dim, process, parameterization, shape
        self.moments = moments
        inputs, outputs = (2 * dim if process.phase else dim), (2 * dim if process.name == "psld" else dim)
        self.network = Perceptron(inputs, outputs, shape, torch.Generator().manual_seed(seed))
        self._in_double: Perceptron | None = None

    def at(self, x: Batch, level: Any, network: nn.Module | None = None) -> Batch:
        """The score at rows that stand at `level` (`Level`, or `PhaseLevel`), in the dtype of the weights: (N, d), or (N, 2d)
        for ``psld``; for ``cld`` the score in p alone."""
        net, moments = network or self.network, self.moments.to(x)
        if isinstance(level, Level):
            z, _ = scaled(x, level, moments)
            return score_of(self.parameterization, net(z, level.age), x, level, moments)
        y, z = phase_scaled(x, level, moments)
        give = momentum_score_of if self.process.name == "cld" else phase_score_of
        return give(self.parameterization, net(z, level.age), y, level, moments)

    def score(self, x: Batch, t: float) -> Batch:
        """The score at the time t at rows of shape (N, d), in the dtype of x: a smooth function of x in float64 too.

        On (x, p) the rows are (N, 2d), and so is the answer; for ``cld``, whose reverse process needs the score in p alone, its
        first half is zero.

        Errors: `InvalidInput` for a time outside [0, horizon], and for rows of another width.
        """
        width = self.dim * (2 if self.process.phase else 1)
        if x.shape[1] != width:
            raise InvalidInput(f"x must have rows of {width} numbers, those of {self.process.name} in dimension {self.dim}, got {x.shape[1]}")
        level = _level(self.process, float(t)).to(x)
        with torch.no_grad():  # else a chain of steps would keep the graph of all of them
            found = self.at(x, level, self._evaluated(x))
        return torch.cat((torch.zeros_like(found), found), 1) if isinstance(level, PhaseLevel) and self.process.name == "cld" else found

    def _evaluated(self, x: Batch) -> nn.Module:
        """The network in the dtype of x, without gradients of its weights."""
        if x.dtype != torch.float64:
            return self.network
        if self._in_double is None:
            self._in_double = copy.deepcopy(self.network).double().requires_grad_(False)
        return self._in_double


@lru_cache(maxsize=4096)
def _level(process: Process, t: float) -> Level | PhaseLevel:
    if not 0.0 <= t <= process.horizon * (1 + 1e-12):
        raise InvalidInput(f"time must lie in [0, {process.horizon:g}], the span of the process that was trained, got {t}")
    return process.levels(torch.tensor([min(t, process.horizon)], dtype=torch.float64))


def _found(path: Path) -> Path:
    """The file itself, or where there is none the one of this name that comes with the experiments."""
    shipped = Path(__file__).parents[2] / "experiments" / path
    return shipped if not path.is_absolute() and not path.exists() and shipped.exists() else path


def fingerprint_of(path: str | Path) -> str:
    """Hash of the content of a checkpoint's file; empty where there is none."""
    found = _found(Path(path))
    return hashlib.sha256(found.read_bytes()).hexdigest()[:16] if found.is_file() else ""


def load(path: str | Path, dim: int, forward: Forward | PhaseSpaceSDE | None = None) -> ScoreNetwork:
    """The score network in a checkpoint, for a target of dimension `dim` and, where it is given, a process; kept for the next call.

    Errors: `InvalidInput`, one line, for a file that is no checkpoint or was altered, and for another dimension or process.
    """
    from .checkpoint import read

    found = read(_found(Path(path))).score
    if found.dim != dim:
        raise InvalidInput(f"score must be a checkpoint of dimension {dim}, that of the target, got {path} of dimension {found.dim}")
    if forward is not None and (reason := found.process.admits(forward)):
        raise InvalidInput(f"score must be a checkpoint of the sampler's own process, got {path}: {reason}")
    return found
