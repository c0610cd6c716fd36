"""Mixing of MALA from a warm start: steps to a fixed total variation, exactly, through what the chain depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import scipy  # its parts are loaded where they are used
from scipy import special

from ..errors import InvalidInput, Unsupported
from ..metrics.base import Estimate
from .base import Case, Rate, Source

#: Steps after which a chain is given up.
HORIZON = 100_000


def mixing_steps(kernel: np.ndarray, pi: np.ndarray, warm: np.ndarray, eps: float) -> float:
    """Steps until the total variation to pi is eps, from pi restricted to the nodes `warm`; between two steps log-linear.

    Arguments:
        kernel: K[i, j], probability of a move from node i to node j, rows summing to 1.
        pi: stationary probabilities.
        warm: nodes of the start, of which pi has about half.
    """
    p = np.where(warm, pi, 0.0)
    p /= p.sum()
    before = 0.5 * float(np.abs(p - pi).sum())
    moved = np.ascontiguousarray(kernel.T)
    for k in range(HORIZON):
        if before <= eps:
            return float(k)
        p = moved @ p
        now = 0.5 * float(np.abs(p - pi).sum())
        if now <= eps:
            return k + float(np.log(before / eps) / np.log(before / now))
        before = now
    raise Unsupported(f"total variation {eps} was not reached in {HORIZON} steps")


def _metropolis(log_move: np.ndarray, log_pi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(kernel, pi) from the log densities of the moves (per node) and of pi: accept or reject, rejections on the diagonal."""
    pi = np.exp(log_pi - special.logsumexp(log_pi))
    with np.errstate(invalid="ignore"):
        ratio = log_pi[None, :] + log_move.T - log_pi[:, None] - log_move
        kernel = np.exp(log_move + np.minimum(0.0, np.where(np.isfinite(ratio), ratio, 0.0)))
    np.fill_diagonal(kernel, 0.0)
    stay = 1.0 - kernel.sum(1)
    if stay.min() < -1e-3:
        raise Unsupported(f"the moves fall between the nodes: a row moves {1 - stay.min():.4g}")
    np.fill_diagonal(kernel, np.maximum(stay, 0.0))
    return kernel, pi


def radial(d: int, h: float, nodes: int = 301) -> tuple[np.ndarray, np.ndarray]:
    """(kernel, pi) of the radius of MALA on N(0, I_d), which is a Markov chain of its own.

    ``|y|^2 / (2 h)`` is noncentral chi-square with d degrees of freedom and noncentrality ``(1 - h)^2 |x|^2 / (2 h)``, and
    the acceptance depends on the two radii only. The density of the radius after a proposal, with r = |x|, t = |y|,
    ``z = |1 - h| r t / (2 h)``: ``(t / 2h) (t / (|1 - h| r))^(d/2 - 1) exp(-(t - |1 - h| r)^2 / (4 h)) e^(-z) I_(d/2-1)(z)``.
    """
    deviation = np.sqrt(0.5)
    lo, hi = max(0.0, np.sqrt(d) - 7 * deviation), np.sqrt(d) + 7 * deviation
    t = lo + (np.arange(nodes) + 0.5) * (hi - lo) / nodes
    pull, order = abs(1 - h) * t[:, None], d / 2 - 1
    with np.errstate(divide="ignore"):
        log_move = np.log(t / (2 * h)) + order * np.log(t / pull) - (t - pull) ** 2 / (4 * h) + np.log(special.ive(order, pull * t / (2 * h)))
    cell = (hi - lo) / nodes
    return _metropolis(log_move + np.log(cell), (d - 1) * np.log(t) - 0.5 * t * t)


def plane(kappa: float, h: float, spacing: float = 0.4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(kernel, pi, |x_1|) of MALA on N(0, diag(kappa, 1)), folded onto |x_1|, |x_2|: pi, proposals and acceptance do not see
    the signs together, and a start that does not either stays folded."""
    axes, halves = [], []
    for variance in (kappa, 1.0):
        x = (np.arange(int(np.ceil(5.5 * np.sqrt(variance) / spacing))) + 0.5) * spacing
        mean = (1 - h / variance) * x[:, None]
        axes.append(x)
        halves.append(np.logaddexp(-((x - mean) ** 2) / (4 * h), -((x + mean) ** 2) / (4 * h)) - 0.5 * np.log(4 * np.pi * h) + np.log(spacing))
    x, y = (g.ravel() for g in np.meshgrid(*axes, indexing="ij"))
    size = len(x)
    log_move = (halves[0][:, None, :, None] + halves[1][None, :, None, :]).reshape(size, size)
    return (*_metropolis(log_move, -0.5 * (x * x / kappa + y * y)), x)


def _lower_half(pi: np.ndarray, what: np.ndarray) -> np.ndarray:
    """Nodes whose `what` lies below its median under pi."""
    order = np.argsort(what, kind="stable")
    values, mass = what[order], np.cumsum(pi[order])
    return np.asarray(what <= values[int(np.searchsorted(mass, 0.5))])


@dataclass(frozen=True)
class _Mixing(Rate):
    """Steps of MALA to total variation `eps` from a 2-warm start: the target restricted to half of its mass, so that the
    density ratio is 2 at any dimension. The densities live on a mesh of what the chain depends on: no sampling error.

    Arguments:
        eps: total variation to reach, between 0 and 1/2, where the start is.
        power: None: the step of the theorem. Else a step that shrinks faster, a negative control.
    """

    source: ClassVar = Source(
        "Minimax mixing time of the Metropolis-adjusted Langevin algorithm for log-concave sampling",
        "Wu, Schmidler, Chen",
        2022,
        "abstract: upper bound from a warm start",
        "https://arxiv.org/abs/2109.13055",
        "Chewi et al., “Optimal dimension dependence of the Metropolis-adjusted Langevin algorithm” (2021), https://arxiv.org/abs/2012.12810",
    )
    samplers: ClassVar[tuple[str, ...]] = ("mala",)
    instruments: ClassVar[str] = "GP"
    quantity: ClassVar[str] = "steps to the total variation"

    eps: float = 0.02
    power: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.eps < 0.5:
            raise InvalidInput(f"eps must lie between 0 and 1/2, where the start is, got {self.eps}")

    @property
    def instrument(self) -> str:
        """A density on a mesh, whatever law the case carries."""
        return "G"


@dataclass(frozen=True)
class RateMALAMixingDim(_Mixing):
    """In the dimension, kappa = 1, at the best step for each d: at most ``d^(1/2)``.

    Isotropic Gaussians; the start is the half of the target nearest to the origin, a function of the radius, and so the
    radius is all there is (`radial`). On these targets the exponent tends to 1/3. With `power` p the step is ``d^-p``.
    """

    id: ClassVar[str] = "rate-mala-mixing-d"
    statement: ClassVar[str] = "steps of MALA to a fixed TV from a warm start grow at most like d^(1/2)"
    stated: ClassVar[float] = 0.5
    sense: ClassVar[Literal["equal", "at most", "at least"]] = "at most"
    abscissa: ClassVar[str] = "dimension d"

    def hypotheses(self, case: Case) -> list[str]:
        return [] if _condition(case) == 1.0 and case.dim >= 2 else [f"an isotropic Gaussian in d >= 2, got {case.target.name} in d = {case.dim}"]

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        d = case.dim

        def steps(log_h: float, nodes: int = 301) -> float:
            kernel, pi = radial(d, float(np.exp(log_h)), nodes)
            return mixing_steps(kernel, pi, np.arange(nodes) <= int(np.searchsorted(np.cumsum(pi), 0.5)), self.eps)

        if self.power is not None:
            best = -self.power * float(np.log(d))
        else:
            tried = np.linspace(-1.5, 1.2, 13) - np.log(d) / 3  # around d^(-1/3)
            i = int(np.argmin([steps(u) for u in tried]))
            around = float(tried[max(i - 1, 0)]), float(tried[min(i + 1, 12)])
            best = float(scipy.optimize.minimize_scalar(steps, bounds=around, method="bounded", options={"xatol": 0.003}).x)
        return [(float(d), _between(steps(best, 601), steps(best, 301)))]


@dataclass(frozen=True)
class RateMALAMixingKappa(_Mixing):
    """In the condition number, d = 2, at the step ``h = 0.7 / M``, of the theorem's order: ``kappa^1``.

    N(0, diag(1/m, 1/M)); the start is the half of the target in which ``|x_1|``, along the wide axis, is below its median.
    The theorem bounds the exponent by 1; Gaussians attain it, since along the wide axis the chain forgets at the rate m h,
    with terms of relative order 1/kappa. With `power` p the step is ``0.7 kappa^-p / M``.
    """

    id: ClassVar[str] = "rate-mala-mixing-kappa"
    statement: ClassVar[str] = "steps of MALA to a fixed TV from a warm start grow like kappa on Gaussians"
    stated: ClassVar[float] = 1.0
    correction: ClassVar[float | None] = 1.0
    abscissa: ClassVar[str] = "condition number kappa"

    def hypotheses(self, case: Case) -> list[str]:
        return [] if _condition(case) is not None and case.dim == 2 else [f"a Gaussian in the plane, got {case.target.name} in d = {case.dim}"]

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        kappa = _condition(case)
        assert kappa is not None
        h = 0.7 * kappa ** -(self.power or 0.0)

        def steps(spacing: float) -> float:
            kernel, pi, wide = plane(kappa, h, spacing * np.sqrt(h / 0.7))
            return mixing_steps(kernel, pi, _lower_half(pi, wide), self.eps)

        return [(kappa, _between(steps(0.4), steps(0.55)))]


def _between(fine: float, coarse: float) -> Estimate:
    """A value with what halving the mesh moved."""
    return Estimate(fine, fine - abs(fine - coarse), fine + abs(fine - coarse))


def _condition(case: Case) -> float | None:
    """M/m of a Gaussian target, else None."""
    return case.constant("M") / case.constant("m") if case.target.is_gaussian else None
