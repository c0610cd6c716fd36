"""KL of what a reverse diffusion returns, with all terms: initialisation, discretisation and the error of the score."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch

from ..laws.grid import Grid
from ..laws.normal import Normal
from ..metrics.base import Estimate
from ..metrics.kl import KL
from ..samplers.diffusion.reverse import Reverse
from ..targets.base import Target
from .base import Bound, Case, Source
from .reverse_sde import as_law

#: Gauss-Hermite nodes of the forward noise; nodes on the line; relative error of the time integral that is asked for.
NOISES, NODES, ACCURACY = 24, 321, 1e-3

#: Gauss-Legendre nodes in time, per step: doubled from the first to the last until the accuracy is met.
FIRST, LAST = 3, 192


def drift_gap(sampler: Reverse, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """``int 1/2 g_t^2 E|s(x_(t_k), t_k) - grad log q_t(x_t)|^2 dt`` over each step, shape (N,), and its error: t_k the start of the
    step, later in forward time, and (x_t, x_(t_k)) from the forward process; s the score that the sampler uses.

    On the line by quadrature, on Gaussian targets with the oracle (and its injected error) in closed form. The error is what
    the last doubling of the nodes in time moved, and what every other node on the line moves.
    """
    expected = _gaussian if target.is_gaussian else _line
    gaps, errors = [], []
    for late, early in pairwise(sampler.times):
        before, nodes = np.inf, FIRST
        while True:
            u, w = np.polynomial.legendre.leggauss(nodes)
            times, weights = early + (late - early) * (u + 1) / 2, w * (late - early) / 2
            found = [expected(sampler, target, float(t), late) for t in times]
            factors = weights * np.array([0.5 * sampler.forward.noise(float(t)) for t in times])
            total, doubt = float(factors @ [value for value, _ in found]), float(factors @ [error for _, error in found])
            moved = abs(total - before)
            if moved <= ACCURACY * total or nodes >= LAST:
                break
            before, nodes = total, 2 * nodes
        gaps.append(total)
        errors.append(moved + doubt)
    return np.asarray(gaps), np.asarray(errors)


def _gaussian(sampler: Reverse, target: Target, t: float, late: float) -> tuple[float, float]:
    """With ``s = -P_k (y - m_k) + e``: ``|e|^2 + tr(P_t) + (1 - 2 r) tr(P_k)``, since ``Cov(y, x) = r P_t^-1``, r the scale from t to t_k."""
    process = sampler.forward
    ratio, _ = process.between(t, late)
    p = [np.linalg.inv(process.noised(target, s).moments[1].numpy()) for s in (t, late)]  # type: ignore[index]
    return float(sampler.error**2 + np.trace(p[0]) + (1.0 - 2.0 * ratio) * np.trace(p[1])), 0.0


def _line(sampler: Reverse, target: Target, t: float, late: float) -> tuple[float, float]:
    process = sampler.forward
    law = process.noised(target, t)
    lo, hi = (float(e[0]) for e in law.extent())
    x = torch.linspace(lo, hi, NODES, dtype=torch.float64)[:, None]
    density = torch.exp(-law.potential(x))
    density = density / density.sum()
    ratio, variance = process.between(t, late)
    z, w = np.polynomial.hermite_e.hermegauss(NOISES)
    y = ratio * x + variance**0.5 * torch.as_tensor(z)[None, :]
    used = sampler.look(target, late, y.reshape(-1, 1)).reshape(y.shape)
    square = ((used - law.score(x)) ** 2) @ torch.as_tensor(w / np.sqrt(2 * np.pi))
    whole = float((density * square).sum())
    coarse = float((density[::2] * square[::2]).sum() / density[::2].sum())
    return whole, abs(whole - coarse)


@dataclass(frozen=True)
class EMGirsanov(Bound):
    """``KL(q_stop || p) <= KL(q_T || start) + sum_k int_(step k) 1/2 g_t^2 E|s(x_(t_k), t_k) - grad log q_t(x_t)|^2 dt``, p the law that
    the exponential integrator returns with any score s; for ``dx = -x dt + sqrt(2) dB`` the constant before the expectation is 1.

    By Girsanov's theorem on paths and the data-processing inequality. All terms are evaluated: the first is the error of the
    initialisation, the second those of the discretisation and of the score.
    """

    id: ClassVar[str] = "em-girsanov"
    statement: ClassVar[str] = "KL(q_stop | p) <= KL(q_T | start) + sum_k int 1/2 g^2 E|s(x_tk, tk) - grad log q_t(x_t)|^2 dt"
    source: ClassVar = Source(
        "Sampling is as easy as learning the score: theory for diffusion models with minimal data assumptions",
        "Chen, Chewi, Li, Li, Salim, Zhang",
        2023,
        "section 5",
        "https://arxiv.org/abs/2209.11215",
        "Benton, De Bortoli, Doucet, Deligiannidis (2024), https://arxiv.org/abs/2308.03686",
    )
    samplers: ClassVar[tuple[str, ...]] = ("reverse_exponential",)
    instruments: ClassVar[str] = "AG"
    quantity: ClassVar[str] = "kl(target | law)"
    metric: ClassVar = KL()

    def hypotheses(self, case: Case) -> list[str]:
        if case.target.is_gaussian:
            oracle = isinstance(case.sampler, Reverse) and case.sampler.score == "oracle"
            return [] if oracle or case.dim == 1 else ["the oracle score beyond the line"]
        return [] if case.dim == 1 else ["a target on the line, or a Gaussian one"]

    def measured(self, case: Case) -> list[Estimate]:
        sampler = case.sampler
        assert isinstance(sampler, Reverse)
        return [
            KL().between(as_law(law, sampler.forward.noised(case.target, sampler.times[k])), law)
            for k, law in zip(case.steps, case.laws, strict=True)
        ]

    def bound(self, case: Case) -> np.ndarray:
        sampler = case.sampler
        assert isinstance(sampler, Reverse) and isinstance(case.start, (Grid, Normal))
        start = KL().between(as_law(case.start, sampler.origin(case.target)), case.start).upper
        gaps, errors = drift_gap(sampler, case.target)
        spent = np.concatenate([[0.0], np.cumsum(gaps + errors)])
        return np.asarray(start + spent[list(case.steps)])
