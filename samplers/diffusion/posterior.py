"""The law of the clean point given the noised one: the inner problem of reverse diffusion Monte Carlo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch

from ...targets.base import Batch, Constant, Target, Values
from ..noise import Noise


@dataclass(frozen=True, eq=False)
class Posterior(Target):
    """``q_t(x_0 | x) ~ exp(-V(x_0) - |x - a x_0|^2/(2 v))``, one density per row of `x`, each with `chains` points of its own.

    Points are tensors (chains n, d) whose row ``c n + i`` is the c-th point of the density of ``x_i``: laid out coordinate by
    coordinate, the numbers of one particle stand n apart, as the noise of a stream does. So any sampler runs on all of them at once.

    Arguments:
        prior: the target, of potential V.
        x: noised points, shape (n, d).
        scale, variance: a > 0 and v > 0 of ``x_t | x_0 ~ N(a x_0, v I)``.
        chains: points per row of x.
    """

    prior: Target
    x: Batch
    scale: float
    variance: float
    chains: int

    @property
    def dim(self) -> int:
        return self.prior.dim

    @property
    def precision(self) -> float:
        """a^2/v, what the noised point adds to the curvature."""
        return self.scale**2 / self.variance

    @cached_property
    def centres(self) -> Batch:
        """x, once per point."""
        return flat(self.x.T.unsqueeze(1).expand(self.dim, self.chains, len(self.x)))

    def potential(self, x: Batch) -> Values:
        return self.prior.potential(x) + ((self.centres - self.scale * x) ** 2).sum(1) / (2 * self.variance)

    def score(self, x: Batch) -> Batch:
        return self.prior.score(x) + self._pull(x)

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        value, score = self.prior.potential_and_score(x)
        return value + ((self.centres - self.scale * x) ** 2).sum(1) / (2 * self.variance), score + self._pull(x)

    def _pull(self, x: Batch) -> Batch:
        return (self.scale / self.variance) * (self.centres - self.scale * x)

    @property
    def constants(self) -> Mapping[str, Constant]:
        """m + a^2/v and M + a^2/v, where the target has m and M: strongly log-concave from the first time at which the former is positive."""
        why = "that of the target plus a^2/v"
        found = {name: self.prior.constants.get(name) for name in ("m", "M")}
        return {name: Constant(c.value + self.precision, c.how, why) for name, c in found.items() if c is not None}

    def by_kernel(self, noise: Noise) -> Batch:
        """Independent draws of N(x/a, v/a^2 I), the density without the target's factor."""
        z = Paired(noise, len(self.x)).normal((self.chains * len(self.x), self.dim))
        return cast(Batch, (self.centres + self.variance**0.5 * z) / self.scale)

    def by_normal(self, noise: Noise) -> Batch:
        """Independent draws of N(a x, v I), the density of a target N(0, I)."""
        z = Paired(noise, len(self.x)).normal((self.chains * len(self.x), self.dim))
        return cast(Batch, self.scale * self.centres + self.variance**0.5 * z)


@dataclass(frozen=True)
class Paired(Noise):
    """The noise of n particles as that of `chains` points each, in the layout of `Posterior`: a point's numbers are its particle's,
    whatever the block that asks for them."""

    source: Noise
    n: int

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return flat(self.source.normal((self.n, shape[0] // self.n * shape[1])).T.reshape(shape[1], -1))

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        return self.source.uniform((self.n, shape[0] // self.n)).T.reshape(-1)


def flat(z: torch.Tensor) -> Batch:
    """(d, chains, n) to (chains n, d), along the points in memory."""
    return z.reshape(z.shape[0], -1).T


def stacked(y: Batch, n: int) -> torch.Tensor:
    """(chains n, d) to (d, chains, n)."""
    return y.T.reshape(y.shape[1], -1, n)
