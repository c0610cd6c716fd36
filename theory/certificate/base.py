"""What a certificate is: findings, each with its method, its error and a word."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import scipy  # its parts are loaded where they are used
import torch

from ...samplers.noise import Stream
from ...targets.base import Batch, Target

#: certified: the declaration agrees with the finding; failed: it does not; open: declared and not decided; measured: nothing
#: is declared, and this is what was found.
Word = Literal["certified", "failed", "open", "measured"]

#: Deviations of a normal test statistic at which it fails, two-sided: false alarm 1e-6 a test.
SIGMAS = 4.89
#: p-value at which an exact test fails.
FALSE_ALARM = 1e-6


@dataclass(frozen=True)
class Finding:
    """One line of a certificate.

    Arguments:
        what: the quantity: ``score``, ``log Z``, ``m``, ...
        how: the independent route.
        word: what came of it.
        declared: the declared value; NaN where there is none, or where it is no number.
        found: the value found: of an error, a statistic or the quantity itself, as `how` says.
        error: its error (numerical, or standard deviations times 4.89).
        note: in words.
        known: of a constant, how the target knows it: exact, bound or numeric.
        seconds: what it took.
    """

    what: str
    how: str
    word: Word
    declared: float = math.nan
    found: float = math.nan
    error: float = math.nan
    note: str = ""
    known: str = ""
    seconds: float = 0.0


def word_of(passed: bool, decided: bool = True) -> Word:
    """certified, failed, or open where a test that is passed decides nothing."""
    return "failed" if not passed else "certified" if decided else "open"


@dataclass(frozen=True)
class Certificate:
    """All findings on one target.

    Arguments:
        target: its name as a YAML spells it.
        id: its canonical identity.
        dim: dimension.
        findings: in the order of the checks.
    """

    target: str
    id: str
    dim: int
    findings: tuple[Finding, ...]

    def of(self, word: Word) -> tuple[Finding, ...]:
        """The findings with one word."""
        return tuple(f for f in self.findings if f.word == word)

    @property
    def word(self) -> Word:
        """The worst: failed, else open, else certified."""
        return "failed" if self.of("failed") else "open" if self.of("open") else "certified"


@dataclass(frozen=True)
class Effort:
    """How much a certificate may spend.

    Arguments:
        draws: size of a sample.
        starts: points from which the curvature search climbs.
        climb: its steps.
        times: noising times at which the smoothed law is checked.
        deep: whether quadrature in the plane, spectral gaps and annealing are worth their seconds.
    """

    draws: int
    starts: int
    climb: int
    times: tuple[float, ...]
    deep: bool


FULL = Effort(draws=20_000, starts=192, climb=120, times=(0.05, 0.2, 0.7, 2.0), deep=True)
#: What every target passes before a theorem is checked on it.
ENTRY = Effort(draws=2_000, starts=24, climb=25, times=(), deep=False)


@dataclass(frozen=True)
class Subject:
    """A target under examination, with the sample that several checks use.

    Arguments:
        target: the target.
        effort: how much to spend.
        key: keys the noise.
        kept: what is expensive and used by several checks.
    """

    target: Target
    effort: Effort
    key: str = "certificate"
    kept: dict[str, object] = field(default_factory=dict, repr=False)

    def noise(self, purpose: str) -> Stream:
        """Independent noise for a purpose: a function of the purpose alone."""
        return Stream(self.key, purpose)

    @property
    def exact(self) -> bool:
        """Whether there is an exact sampler."""
        return "sample" in self.target.capabilities

    @cached_property
    def x(self) -> Batch:
        """Points where the density lives: exact draws, or a chain's end that is only used to look at."""
        if self.exact:
            return self.target.sample(self.effort.draws, self.noise("draws"))
        from .places import settled

        return settled(self.target, self.effort, self.noise)

    @cached_property
    def centre(self) -> torch.Tensor:
        """Median of each coordinate."""
        return self.x.median(0).values

    @cached_property
    def scale(self) -> torch.Tensor:
        """Half the distance between the 16 % and 84 % quantiles of each coordinate: a deviation that heavy tails do not move."""
        low, high = torch.quantile(self.x[:16_000], torch.tensor([0.16, 0.84], dtype=self.x.dtype), dim=0)
        return ((high - low) / 2).clamp(min=1e-12)

    @cached_property
    def spread(self) -> Batch:
        """Points at and around the mass: draws, draws moved by a deviation, midpoints of pairs, and far out."""
        n = min(96, len(self.x) // 4)
        a, b, c = self.x[:n], self.x[n : 2 * n], self.x[2 * n : 3 * n]
        z = self.noise("spread").normal((n, self.target.dim))
        return torch.cat([a, b + z * self.scale, (a + c) / 2, self.centre + 4.0 * self.scale * z])


#: A check: nothing where it does not apply.
Check = Callable[[Subject], Iterator[Finding]]


def z_test(values: np.ndarray) -> tuple[float, float]:
    """(mean, standard error) of independent numbers that should have mean 0."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def kolmogorov(u: np.ndarray) -> float:
    """p-value of the Kolmogorov-Smirnov test that `u` is uniform on (0, 1)."""
    u, n = np.sort(u), len(u)
    d = float(max((np.arange(1, n + 1) / n - u).max(), (u - np.arange(n) / n).max()))
    return float(scipy.special.kolmogorov(d * (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n))))


def uniform(u: np.ndarray) -> float:
    """p-value, ten tests taken together, that `u` is uniform on (0, 1): Kolmogorov-Smirnov, which sees shifts, a chi-square over
    bins of at least 50, which sees slices, and the numbers beyond both 1 % and 0.1 % quantiles, which see cut and heavy tails."""
    n = len(u)
    bins = min(100, n // 50)
    seen = np.bincount(np.minimum((u * bins).astype(int), bins - 1), minlength=bins)
    statistic = float(((seen - n / bins) ** 2).sum() * bins / n)
    p = [kolmogorov(u), float(scipy.special.chdtrc(bins - 1, statistic))]
    for tail in (0.01, 0.001):
        for count in (int((u < tail).sum()), int((u > 1 - tail).sum())):
            p += [float(scipy.special.bdtr(count, n, tail)), float(scipy.special.bdtrc(count - 1, n, tail)) if count else 1.0]
    return min(1.0, len(p) * min(p))


def two_sample(a: np.ndarray, b: np.ndarray) -> float:
    """p-value of the two-sample Kolmogorov-Smirnov test, from its limit law."""
    a, b = np.sort(a), np.sort(b)
    both = np.concatenate([a, b])
    d = float(np.abs(np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)).max())
    return float(scipy.special.kolmogorov(d * math.sqrt(len(a) * len(b) / (len(a) + len(b)))))
