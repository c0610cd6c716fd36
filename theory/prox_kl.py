"""The proximal sampler in KL under a log-Sobolev inequality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..metrics.kl import KL
from ..samplers.proximal import Proximal
from .base import Bound, Case, Source, needs


@dataclass(frozen=True)
class ProxKL(Bound):
    """``KL(mu_k) <= KL(mu_0) / (1 + alpha h)^(2 k)``; an equality for a shifted isotropic Gaussian."""

    statement: ClassVar[str] = "KL(mu_k) <= KL(mu_0)/(1 + alpha h)^(2k)"
    source: ClassVar = Source(
        "Improved analysis for a proximal algorithm for sampling",
        "Chen, Chewi, Salim, Wibisono",
        2022,
        "Theorem 3",
        "https://arxiv.org/abs/2202.06386",
    )
    samplers: ClassVar[tuple[str, ...]] = ("proximal",)
    metric: ClassVar = KL()

    def hypotheses(self, case: Case) -> list[str]:
        sampler = case.sampler
        assert isinstance(sampler, Proximal)
        oracle = [] if sampler.rounds is None else [f"an exact draw of the restricted Gaussian (no rounds), got rounds {sampler.rounds}"]
        return oracle + needs(case, lsi="log-Sobolev inequality")

    def bound(self, case: Case) -> np.ndarray:
        return np.asarray((1 + case.constant("lsi") * case.h) ** (-2 * case.k) * case.measure(self.metric)[0].upper)
