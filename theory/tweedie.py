"""The mean and the covariance of x_0 given x_t from the score of x_t, and from it every quantity that a network is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import InvalidInput, Unsupported
from ..metrics.base import Estimate
from ..samplers.diffusion.noising import Level
from ..samplers.diffusion.parameterization import from_score, to_score
from ..samplers.diffusion.reverse import Reverse
from ..samplers.noise import Stream
from ..targets.base import Batch, Target
from .base import Case, Identity, Source
from .sm_quadrature import Rule, average, normal_rule, target_rule
from .verdict import Row

#: Nodes per axis of the posterior's quadrature.
NODES = {1: 4001, 2: 401}
#: A kernel narrower than this part of the target's deviation has nodes of its own.
NARROW = 0.25
KINDS = ("x0", "epsilon", "v")


def level(t: float, a: float, v: float) -> Level:
    """Where one row stands."""
    time, scale, variance = (torch.tensor([[number]], dtype=torch.float64) for number in (t, a, v))
    return Level(time, 0.0 * time, scale, variance, 0.0 * time)


def posterior(target: Target, x: Tensor, a: float, v: float, unit: float) -> Rule:
    """x_0 given x_t = x, ``pi(x_0) N(x; a x_0, v I)``: on the target's box, or where sqrt(v)/a is narrow, around x/a in its units."""
    width = v**0.5 / a
    if width < NARROW * unit:
        rule = normal_rule(len(x), NODES[len(x)])
        y = x / a + width * rule.x
        logs = -target.potential(y) + rule.w.clamp(min=1e-300).log()
    else:
        rule = target_rule(target, NODES[len(x)])
        y = rule.x
        logs = -((x - a * y) ** 2).sum(1) / (2 * v) + rule.w.clamp(min=1e-300).log()
    return Rule(y, torch.exp(logs - logs.max()), rule.level)


def deviation(target: Target) -> float:
    """The root of the trace of the covariance."""
    rule = target_rule(target, NODES[target.dim])
    mean = (rule.w @ rule.x) / rule.w.sum()
    return float(average(rule, lambda y: ((y - mean) ** 2).sum(1))[0].value) ** 0.5


@dataclass(frozen=True)
class Tweedie(Identity):
    """For ``x_t = a x_0 + sqrt(v) eps`` with density p_t: ``E[x_0 | x_t] = (x_t + v grad log p_t(x_t))/a``, and
    ``Cov(x_0 | x_t) = v/a^2 (I + v Hess log p_t(x_t))``.

    ``grad_x log p(x | x_0) = -(x - a x_0)/v`` averaged over the posterior is grad log p_t; once more differentiated it is the second. So
    ``E[eps | x_t] = -sqrt(v) grad log p_t`` and, with ``(cos, sin) = (a, sqrt v)/sqrt(a^2 + v)``, the velocity ``E[cos eps - sin x_0 | x_t]``
    follow: a score, a clean draw, a noise and a velocity are one piece of information (it is their conditional means that are: a single
    x_0 or eps is not the score's function of x_t). The posterior is a quadrature over x_0, the score the oracle's, at exact draws of x_t and
    the recorded times of a reverse sampler. Conversions are those of `samplers/diffusion/parameterization.py`; every round trip
    must come back. Differences are relative to the deviation of the target, of eps (1), of both.

    `factor` multiplies v in the score's term.

    Arguments:
        points: at least 1, at each of
        instants: at least 1, evenly chosen among the sampler's times t > 0.
        claimed: ``variance``; or ``deviation``, sqrt(v) in the place of v: a negative control.
    """

    statement: ClassVar[str] = "E[x_0 | x_t] = (x_t + v grad log p_t(x_t))/a, Cov(x_0 | x_t) = v/a^2 (I + v Hess log p_t(x_t))"
    source: ClassVar = Source("Tweedie's formula and selection bias", "Efron", 2011, "eqs. 1.4 and 2.8", "https://doi.org/10.1198/jasa.2011.tm11181")
    instruments: ClassVar[str] = "AGP"
    quantity: ClassVar[str] = "relative difference"

    points: int = 8
    instants: int = 4
    claimed: str = "variance"

    def __post_init__(self) -> None:
        for name in ("points", "instants"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.claimed not in ("variance", "deviation"):
            raise InvalidInput(f"claimed must be variance or deviation, got {self.claimed!r}")

    def hypotheses(self, case: Case) -> list[str]:
        if not isinstance(case.sampler, Reverse):
            return [f"a sampler that runs a forward process on positions backwards, got {case.sampler.name}"]
        if case.dim > 2:
            return [f"d at most 2, where the posterior is a quadrature, got d = {case.dim}"]
        try:
            case.sampler.forward.noised(case.target, case.sampler.horizon)
        except Unsupported as error:
            return [f"the oracle's score ({error})"]
        return []

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        sampler, target = case.sampler, case.target
        assert isinstance(sampler, Reverse)
        times = [t for t in reversed(sampler.times) if t > 0]
        chosen = sorted({times[round(i * (len(times) - 1) / max(1, self.instants - 1))] for i in range(self.instants)})
        unit, found = deviation(target), []
        for t in chosen:
            a, v = sampler.forward.kernel(t)
            p = sampler.forward.noised(target, t)
            x = p.sample(self.points, Stream("tweedie", target.id, t))
            worst = self._differences(target, unit, p, x, level(t, a, v), factor)
            for what, e in worst.items():
                found.append(Row.of(e, 0.0, time=t, tolerance=1e-9, label=f"{what}, t = {t:.4g}"))
        return found

    def _differences(self, target: Target, unit: float, p: Target, x: Batch, at: Level, factor: float) -> dict[str, Estimate]:
        """The largest differences over the points."""
        a, v = at.scale.item(), at.variance.item()
        claimed = factor * (v if self.claimed == "variance" else v**0.5)
        score, curvature = p.score(x), -p.hessian(x)
        d, eye = x.shape[1], torch.eye(x.shape[1], dtype=torch.float64)
        mean = (x + claimed * score) / a
        stated = {"x0": mean} | {kind: from_score(kind, to_score("x0", mean, x, at), x, at) for kind in ("epsilon", "v")}
        sizes = {"x0": unit, "epsilon": 1.0, "v": 1.0 + unit}
        parts: dict[str, list[tuple[float, float]]] = {what: [] for what in (*(f"E({kind} | x_t)" for kind in KINDS), "Cov(x_0 | x_t)")}
        spread = (claimed / a**2) * (eye + claimed * curvature)
        for i in range(len(x)):
            rule = posterior(target, x[i], a, v, unit)
            means = average(rule, lambda y, i=i: torch.cat([_quantity(kind, y, x[i], a, v) for kind in KINDS], 1))  # type: ignore[misc]
            for k, kind in enumerate(KINDS):
                parts[f"E({kind} | x_t)"] += [
                    (abs(m.value - s) / sizes[kind], (m.upper - m.value) / sizes[kind])
                    for m, s in zip(means[k * d : (k + 1) * d], stated[kind][i].tolist(), strict=True)
                ]
            centre = torch.tensor([m.value for m in means[:d]], dtype=torch.float64)
            cov = average(rule, lambda y, c=centre: ((y - c)[:, :, None] * (y - c)[:, None, :]).flatten(1))  # type: ignore[misc]
            parts["Cov(x_0 | x_t)"] += [
                (abs(m.value - s) / unit**2, (m.upper - m.value) / unit**2) for m, s in zip(cov, spread[i].flatten().tolist(), strict=True)
            ]
        found = {what: Estimate.within(max(e for e, _ in pairs), max(r for _, r in pairs)) for what, pairs in parts.items()}
        trips = (to_score(kind, from_score(kind, score, x, at), x, at) for kind in KINDS)
        size = float((score.abs() + (1 + x.abs()) / v**0.5 * max(1.0, v**-0.5)).max())
        return found | {"round trips": Estimate.within(max(float((back - score).abs().max()) for back in trips) / size, 1e-15)}

    @property
    def instrument(self) -> str:
        """Quadratures over the posterior: no chain is involved."""
        return "Q"


def _quantity(kind: str, x0: Batch, x: Tensor, a: float, v: float) -> Batch:
    """x_0, eps or the velocity, as functions of x_0 at a given x_t."""
    eps = (x - a * x0) / v**0.5
    return {"x0": x0, "epsilon": eps, "v": (a * eps - v**0.5 * x0) / (a * a + v) ** 0.5}[kind]
