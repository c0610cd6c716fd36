"""Is the velocity's score nearer to a Gaussian's than the position's? When it is, when it is not, and a bound from below."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from ..errors import InvalidInput
from ..metrics.base import Estimate
from ..samplers.diffusion.phase_space import CLD
from ..targets.base import Batch
from ..targets.gaussian_mixture import GaussianMixture
from .base import Case, Source, Theorem
from .phase_mixture import admit_times, coordinates, process, single_mode, standardised
from .sm_quadrature import average, interval, mixture_rule
from .verdict import Row, Verdict, judge_bound, judge_identity

#: Nodes per axis: of a density on the line, and of one in the plane of (x_t, v_t).
LINE, PLANE = 257, 161


def position_gap(data: GaussianMixture, noise: float, scale: float = 1.0) -> Estimate:
    """``F(noise) = Var(y) E (grad log p(y) - grad log g(y))^2`` for y = scale x_0 + sqrt(noise) z, g the Gaussian of its moments."""
    y = data.diffused(scale, noise)
    mean, cov = y.moments

    def gap(x: Batch) -> torch.Tensor:
        return cov[0, 0] * (y.score(x) + (x - mean) / cov[0, 0])[:, 0] ** 2

    return average(mixture_rule(y, LINE), gap)[0]


class Gaps:
    """How far one coordinate's scores at a time are from Gaussian ones; both without unit, and 0 where x_0 is Gaussian.

    velocity: ``Var_g(v|x) E (grad_v log p(v_t|x_t) - grad_v log g(v_t|x_t))^2``, g the Gaussian with the moments of (x_t, v_t).
    position: ``Var(x_t) E (grad log p(x_t) - grad log g(x_t))^2``.
    noise_joint: ``1/(r^T S^-1 r)``, the variance of the best estimate of x_0 that is linear in u_t = r x_0 + N(0, S); noise_position:
        ``S_xx/r_x^2``, of the best from x_t alone. overlap: ``(c + noise_joint)/(c + noise_position)``, c = Var x_0; it is the squared
        correlation of that estimate with x_t, 1 at t = 0.
    """

    def __init__(self, sde: CLD, t: float, data: GaussianMixture) -> None:
        self.sde, self.t, self.data = sde, t, data
        kernel, chol = sde.kernel(t), sde.cholesky(t)
        rx, rv = kernel.transition[:, 0].tolist()
        (xx, xv), (_, vv) = kernel.cov.tolist()
        det = float(chol[0, 0] * chol[1, 1]) ** 2
        c = float(data.moments[1][0, 0])
        self.noise_joint = det / (vv * rx * rx - 2 * xv * rx * rv + xx * rv * rv)
        self.scale, self.spread = abs(rx), xx  # a reflected law has the same gap
        self.overlap = rx * rx * (c + self.noise_joint) / (xx + c * rx * rx)

    def velocity(self) -> Estimate:
        """By quadrature in the plane."""
        u = self.sde.noised(self.data, self.t)
        assert isinstance(u, GaussianMixture)
        mean, cov = u.moments
        slope = cov[0, 1] / cov[0, 0]
        rest = cov[1, 1] - slope * cov[0, 1]

        def gap(y: Batch) -> torch.Tensor:
            away = y - mean
            return rest * (u.score(y)[:, 1] + (away[:, 1] - slope * away[:, 0]) / rest) ** 2

        return average(mixture_rule(u, PLANE), gap)[0]

    def position(self) -> Estimate:
        """By quadrature on the line."""
        return position_gap(self.data, self.spread, self.scale)

    def formula(self) -> Estimate:
        """``F(noise_joint) (1 - overlap)``: of the velocity, from the line."""
        f, rest = position_gap(self.data, self.noise_joint), 1.0 - self.overlap
        return interval(rest * f.value, rest * (f.upper - f.value))

    def at_equilibrium(self) -> tuple[Estimate, Estimate]:
        """``M E (grad_v log p(v_t|x_t) + v_t/M)^2`` and ``E (grad log p(x_t) + x_t)^2``: against the stationary N(0, M) and N(0, 1)."""
        u, mass = self.sde.noised(self.data, self.t), self.sde.mass
        assert isinstance(u, GaussianMixture)
        x = self.data.diffused(self.scale, self.spread)
        velocity = average(mixture_rule(u, PLANE), lambda y: mass * (u.score(y)[:, 1] + y[:, 1] / mass) ** 2)[0]
        return velocity, average(mixture_rule(x, LINE), lambda y: (x.score(y) + y)[:, 0] ** 2)[0]


def added(values: Sequence[Estimate]) -> Estimate:
    """The sum over coordinates."""
    return interval(sum(v.value for v in values), sum(v.upper - v.value for v in values))


@dataclass(frozen=True)
class _Gap(Theorem):
    """What the three statements share: CLD from x_0 ~ pi, v_0 ~ N(0, gamma M), on independent coordinates of mean 0 and variance 1.

    Arguments:
        mass, friction, momentum, beta: M, Gamma (critical where it is not given), gamma, beta of `CLD`.
        times: t, at least 0, above 0 where gamma = 0.
    """

    source: ClassVar[Source] = Source(
        "Score-based generative modeling with critically-damped Langevin diffusion",
        "Dockhorn, Vahdat, Kreis",
        2022,
        "section 3.2",
        "https://arxiv.org/abs/2112.07068",
    )
    instruments: ClassVar[str] = "AGP"
    quantity: ClassVar[str] = "velocity's gap"

    mass: float = 0.25
    friction: float | None = None
    momentum: float = 0.04
    beta: float = 4.0
    times: tuple[float, ...] = (0.0, 0.01, 0.03, 0.1)

    def __post_init__(self) -> None:
        admit_times(self.times, 0.0 if self.sde.momentum > 0 else 1e-6)

    @property
    def sde(self) -> CLD:
        """The process."""
        return process(self.mass, self.friction, self.momentum, self.beta)

    def hypotheses(self, case: Case) -> list[str]:
        parts = coordinates(case.target)
        if parts is None:
            return [f"independent coordinates that are mixtures of Gaussians, and {case.target.name} has none here"]
        if all(map(single_mode, parts)):
            return ["a density that is no Gaussian: both sides are 0"]
        return self.further(case)

    def further(self, case: Case) -> list[str]:
        """Unmet hypotheses of one statement alone. Hook; default: none."""
        return []

    def gaps(self, case: Case, t: float) -> list[Gaps]:
        """Of each coordinate."""
        return [Gaps(self.sde, t, standardised(part)) for part in coordinates(case.target) or []]

    @abstractmethod
    def sides(self, gaps: list[Gaps]) -> tuple[Estimate, Estimate]:
        """(measured, stated) at one time."""

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        found = []
        for k, t in enumerate(self.times, 1):
            measured, stated = self.sides(self.gaps(case, t))
            slack = (stated.upper - stated.value) + 1e-9 * stated.value if self.kind == "identity" else 0.0
            bound = factor * (stated.value if self.kind == "identity" else stated.upper)
            found.append(Row.of(measured, bound, k=k, time=t, tolerance=slack, label=self.quantity))
        return found

    def judge(self, rows: Sequence[Row]) -> Verdict:
        return judge_bound(rows) if self.kind == "bound" else judge_identity(rows)

    @property
    def instrument(self) -> str:
        """Quadratures over densities in closed form: no chain is involved."""
        return "Q"


@dataclass(frozen=True)
class CLDEasier(_Gap):
    """``velocity(t) <= position(t)`` (`Gaps`): given x_t, the velocity's score is nearer to a Gaussian's than the position's is.

    The paper's claim is for every t. It is true early: at t = 0 the velocity is Gaussian and independent of x_0, and as F below
    falls, it is certain where ``(1 - R) F(0) <= position(t)``. It is false late, for every law of the data that is no Gaussian. By
    `cld-score-gap`, ``velocity/position = (1 - R) F(k_u)/F(k_x)``, R the overlap. F is the gap of a law that is noised; in the end
    only its first cumulant of order j >= 3 is left, and F falls like ``(c + noise)^-j``: late, ``velocity/position -> R^-j (1 - R)``.
    For critical damping ``1/R -> 1 + (w/(1 + w))^2`` with ``w = beta t/sqrt(M)``, so the ratio tends to ``2^(j-1)``: 4 for a skewed law, 8
    for a symmetric one. Late, the claim needs ``s (1 + s)^(j-1) < 1`` with ``s = 1/R - 1 -> (g - sqrt(g^2 - 1))^2``,
    ``g = Gamma/(2 sqrt(M)) >= 1``: more friction than critical, g > 1.074 (j = 3) or g > 1.120 (j = 4). Under-damped, r_x passes
    through 0: there x_t is Gaussian and v_t is not. Where R < 1/2 it is false whatever the law (`cld-harder`), and refused here.

    `factor` multiplies the position's side.

    Arguments: those of all three, and
        reference: ``matched``, the Gaussian with the moments of (x_t, v_t); or ``equilibrium``, N(0, I) and N(0, M I), against which a
            velocity that starts at gamma M is far at t = 0, at ``(1/gamma - 1)^2 gamma``, whatever the data.
    """

    id: ClassVar[str] = "cld-easier"
    kind: ClassVar[Literal["bound"]] = "bound"
    statement: ClassVar[str] = "early, the velocity gap is below the position gap: relative Fisher information to a Gaussian, without units"

    reference: str = "matched"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reference not in ("matched", "equilibrium"):
            raise InvalidInput(f"reference must be matched or equilibrium, got {self.reference!r}")

    def further(self, case: Case) -> list[str]:
        late = [t for t in self.times if min(g.overlap for g in self.gaps(case, t)) < 0.5]
        return [f"R at least 1/2: the squared correlation of x_t with the best linear estimate of x_0 is below it at t = {late[0]:g}"] if late else []

    def sides(self, gaps: list[Gaps]) -> tuple[Estimate, Estimate]:
        if self.reference == "matched":
            return added([g.velocity() for g in gaps]), added([g.position() for g in gaps])
        velocity, position = zip(*(g.at_equilibrium() for g in gaps), strict=True)
        return added(velocity), added(position)


@dataclass(frozen=True)
class CLDScoreGap(_Gap):
    """``velocity(t) = F(k_u) (1 - R)``, ``position(t) = F(k_x)``: one function of the data's law, at two noise levels (`Gaps`).

    Of u_t = r x_0 + N(0, S), ``y = r^T S^-1 u/(r^T S^-1 r) = x_0 + N(0, k_u)`` tells all that u tells of x_0, and what is left of u is
    Gaussian and independent of y. So log p(u)/g(u) is a function of y alone, whose gradient, in coordinates in which g is standard, has the
    squared mean F(k_u) and lies along y. The direction of v given x makes an angle with it whose squared cosine is 1 - R, R the
    squared correlation of y and x_t under g.

    `factor` multiplies the formula. Arguments: those of all three.
    """

    id: ClassVar[str] = "cld-score-gap"
    kind: ClassVar[Literal["identity"]] = "identity"
    statement: ClassVar[str] = "velocity gap = (1 - R) F(k_u), position gap = F(k_x), k the noise left given (x, v) and given x"

    times: tuple[float, ...] = (0.01, 0.1, 0.3, 0.6)

    def sides(self, gaps: list[Gaps]) -> tuple[Estimate, Estimate]:
        return added([g.velocity() for g in gaps]), added([g.formula() for g in gaps])


@dataclass(frozen=True)
class CLDHarder(_Gap):
    """``(1/R - 1) position(t) <= velocity(t)`` for every law of the data and every t: beyond R = 1/2 the velocity's score is the farther.

    F(k) is J(law | N(0, 1)) along the Ornstein-Uhlenbeck flow of the standardised data at the time ``1/2 log(1 + k/c)``, so it falls at
    least like ``1/(c + k)`` (Bakry and Emery): ``F(k_u) >= F(k_x)/R``; with `cld-score-gap` that is the statement.

    `factor` multiplies the velocity's side. Arguments: those of all three.
    """

    id: ClassVar[str] = "cld-harder"
    kind: ClassVar[Literal["bound"]] = "bound"
    statement: ClassVar[str] = "(1/R - 1) position gap <= velocity gap, R = (c + k_u)/(c + k_x)"
    quantity: ClassVar[str] = "(1/R - 1) x position's gap"

    times: tuple[float, ...] = (0.003, 0.01, 0.1, 0.3, 0.6)

    def sides(self, gaps: list[Gaps]) -> tuple[Estimate, Estimate]:
        lower = []
        for g in gaps:
            p, q = g.position(), 1.0 / g.overlap - 1.0
            lower.append(interval(q * p.value, q * (p.upper - p.value)))
        return added(lower), added([g.velocity() for g in gaps])
