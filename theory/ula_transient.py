"""Where ULA explodes and MALA does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import special

from ..laws.particles import Particles
from ..metrics.base import Estimate
from .base import Case, Identity, Source
from .verdict import Row


@dataclass(frozen=True)
class ULATransient(Identity):
    """On ``V = x^4/4`` a ULA chain with ``|x| >= 2/sqrt(h)`` triples its distance in a step and explodes; MALA stays.

    ``|x - h x^3| = |x| (h x^2 - 1) >= 3 |x|``, and the noise cannot make up for it. Compared: the fraction of chains
    that leave the ball of radius 1e8, with its exact (Clopper-Pearson) 99.9999 % interval, against 1 for ULA and 0 for
    MALA. The divergence is reported as such; no distance is computed from it.
    """

    statement: ClassVar[str] = "on V = x^4/4, from |x_0| >= 2/sqrt(h): ULA explodes, MALA does not"
    source: ClassVar = Source(
        "Exponential convergence of Langevin distributions and their discrete approximations",
        "Roberts, Tweedie",
        1996,
        "section 3.2",
        "https://doi.org/10.2307/3318418",
    )
    samplers: ClassVar[tuple[str, ...]] = ("ula", "mala")
    instruments: ClassVar[str] = "P"
    quantity: ClassVar[str] = "fraction diverged"
    useless: ClassVar[float] = 0.2  # a fraction: the interval of 100 particles is 0.13 wide

    def hypotheses(self, case: Case) -> list[str]:
        if case.target.name != "quartic":
            return [f"V = x^4/4, got {case.target.name}"]
        assert isinstance(case.start, Particles)
        nearest, reach = float(case.start.x.abs().min()), 2 / np.sqrt(case.h)
        return [] if nearest >= reach else [f"|x_0| >= 2/sqrt(h) = {reach:.4g} for every particle, got {nearest:.4g}"]

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        last = case.laws[-1]
        assert isinstance(last, Particles)
        stated = factor * (1.0 if case.sampler.name == "ula" else 0.0)
        gone = round(last.diverged * last.n)
        low = float(special.betaincinv(gone, last.n - gone + 1, 5e-7)) if gone else 0.0
        high = float(special.betaincinv(gone + 1, last.n - gone, 1 - 5e-7)) if gone < last.n else 1.0
        return [
            Row.of(
                Estimate(last.diverged, low, high), stated, k=case.steps[-1], time=float(case.t[-1]), label=f"{case.sampler.name}: {self.quantity}"
            )
        ]
