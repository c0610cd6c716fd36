"""The score of the noised target as an expectation over the posterior: the identities that reverse diffusion Monte Carlo rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidInput
from ..metrics.base import Estimate
from ..samplers.noise import Stream
from ..samplers.rdmc import RDMC
from ..targets.base import Batch, Target
from .base import Case, Identity, Source
from .sm_quadrature import average, interval, normal_rule, on_the_line_or_plane, target_rule
from .tweedie import NARROW, NODES, deviation, posterior
from .verdict import Row

#: Gauss-Legendre nodes of the integral of a score, and of the rule that tells its error.
LEGENDRE = (24, 16)


@dataclass(frozen=True)
class RDMCScore(Identity):
    """With ``a = e^-t``, ``v = 1 - e^-2t`` and ``q ~ exp(-V(x_0) - |x - a x_0|^2/(2 v))``:

    ``grad log p_t(x) = E_q[(a x_0 - x)/v] = E_q[-grad V(x_0)]/a``.

    The first differentiates the kernel under the integral; the second moves the derivative to the target by parts. Both are quadratures over
    x_0, set beside the closed form where there is one. On the line ``int_x^y grad log p_t = log p_t(y) - log p_t(x)`` is checked too, p_t
    being a quadrature of its own in which nothing is differentiated: so it can be on any density. The points are exact draws of x_t.
    Differences are relative to the score of the kernel, 1/sqrt(v).

    `factor` multiplies the expectations.

    Arguments:
        points: at least 2, at each of
        instants: at least 1, evenly chosen among the sampler's times t > 0.
    """

    statement: ClassVar[str] = "grad log p_t(x) = E_q[(exp(-t) x_0 - x)/(1 - exp(-2t))] = exp(t) E_q[-grad V(x_0)]"
    source: ClassVar = Source(
        "Reverse diffusion Monte Carlo",
        "Huang, Dong, Hao, Ma, Zhang",
        2024,
        "Lemma 1",
        "https://arxiv.org/abs/2307.02037",
        "De Bortoli, Hutchinson, Wirnsberger, Doucet (2024), https://arxiv.org/abs/2402.08667, for the second form",
    )
    samplers: ClassVar[tuple[str, ...]] = ("rdmc",)
    instruments: ClassVar[str] = "AGP"
    quantity: ClassVar[str] = "relative difference"

    points: int = 6
    instants: int = 4

    def __post_init__(self) -> None:
        if self.points < 2 or self.instants < 1:
            raise InvalidInput(f"points must be at least 2 and instants at least 1, got {self.points} and {self.instants}")

    def hypotheses(self, case: Case) -> list[str]:
        target = case.target
        unmet = on_the_line_or_plane(target) if "diffused" not in target.capabilities or target.dim > 2 else []
        if "sample" not in target.capabilities:
            unmet.append(f"exact draws, which {target.name} does not have")
        if target.dim == 2 and "diffused" not in target.capabilities:
            unmet.append(f"d = 1 or a closed form after noising, which {target.name} does not have")
        return unmet

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        sampler, target, found = case.sampler, case.target, []
        assert isinstance(sampler, RDMC)
        times = sorted({t for t in sampler.times if t > 0})
        unit = deviation(target)
        for t in sorted({times[round(i * (len(times) - 1) / max(1, self.instants - 1))] for i in range(self.instants)}):
            a, v = sampler.forward.kernel(t)
            noise = Stream("rdmc score", target.id, t)
            x = a * target.sample(self.points, noise) + v**0.5 * noise.normal((self.points, target.dim))
            parts: dict[str, list[Estimate]] = {}
            if "diffused" in target.capabilities:
                stated = sampler.forward.noised(target, t).score(x)
                for what, pair in zip(("kernel", "target"), zip(*(expectations(target, y, a, v, unit) for y in x), strict=True), strict=True):
                    parts[f"{what} at the points"] = [
                        Estimate.within(v**0.5 * abs(factor * e.value - s), v**0.5 * factor * (e.upper - e.value))
                        for es, row in zip(pair, stated.tolist(), strict=True)
                        for e, s in zip(es, row, strict=True)
                    ]
            if target.dim == 1:
                parts |= _integrals(target, x[:, 0].sort().values, a, v, unit, factor)
            for what, es in parts.items():
                worst = Estimate.within(max(e.value for e in es), max(e.upper - e.value for e in es))
                found.append(Row.of(worst, 0.0, time=t, tolerance=1e-9, label=f"{what}, t = {t:.4g}"))
        return found

    @property
    def instrument(self) -> str:
        """Quadratures over the posterior: no chain is involved."""
        return "Q"


def expectations(target: Target, x: Tensor, a: float, v: float, unit: float) -> tuple[list[Estimate], list[Estimate]]:
    """Both expectations at one x, coordinate by coordinate."""
    rule, d = posterior(target, x, a, v, unit), len(x)
    es = average(rule, lambda y: torch.cat(((a * y - x) / v, target.score(y) / a), 1))
    return es[:d], es[d:]


def _integrals(target: Target, x: Tensor, a: float, v: float, unit: float, factor: float) -> dict[str, list[Estimate]]:
    """Differences of ``int grad log p_t`` and ``log p_t`` between neighbouring points on the line, over the length and 1/sqrt(v)."""
    logs = log_density(target, x, a, v, unit)
    found: dict[str, list[Estimate]] = {"kernel, integrated": [], "target, integrated": []}
    for i in range(len(x) - 1):
        length = float(x[i + 1] - x[i])
        sums = np.array([_integral(target, float(x[i]), length, a, v, unit, nodes) for nodes in LEGENDRE])  # (rule, identity, value or error)
        rise, wobble = logs[i + 1].value - logs[i].value, sum(logs[j].upper - logs[j].value for j in (i, i + 1))
        scale = v**0.5 / length
        for j, name in enumerate(found):
            error = sums[0, j, 1] + abs(sums[0, j, 0] - sums[1, j, 0])
            found[name].append(Estimate.within(scale * abs(factor * sums[0, j, 0] - rise), scale * (factor * error + wobble)))
    return found


def _integral(target: Target, lo: float, length: float, a: float, v: float, unit: float, nodes: int) -> list[list[float]]:
    u, w = np.polynomial.legendre.leggauss(nodes)
    total = np.zeros((2, 2))
    for node, weight in zip(lo + length * (u + 1) / 2, w * length / 2, strict=True):
        es = expectations(target, torch.tensor([node], dtype=torch.float64), a, v, unit)
        total += weight * np.array([[e[0].value, e[0].upper - e[0].value] for e in es])
    return [list(map(float, row)) for row in total]


def log_density(target: Target, x: Tensor, a: float, v: float, unit: float) -> list[Estimate]:
    """log p_t on the line, up to a constant: the mean of the kernel over the target, or of the target over a narrow kernel."""
    width = v**0.5 / a
    if width < NARROW * unit:
        rule = normal_rule(1, NODES[1])
        top = float(target.potential(x[:, None] / a).min())

        def integrand(y: Batch) -> Tensor:
            points = x / a + width * y
            return torch.exp(top - target.potential(points.reshape(-1, 1)).reshape(points.shape))
    else:
        rule = target_rule(target, NODES[1])

        def integrand(y: Batch) -> Tensor:
            return torch.exp(-((x - a * y) ** 2) / (2 * v))

    return [interval(math.log(e.value), (e.upper - e.value) / e.value) for e in average(rule, integrand)]
