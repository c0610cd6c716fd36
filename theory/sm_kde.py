"""Score matching on n draws: what it finds is the score of a kernel density estimate, and how far that is from the target's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..metrics.base import Estimate
from ..samplers.noise import Stream
from ..targets.base import Batch, Target
from .base import Case, Identity, Source
from .sm_quadrature import Rule, average, networks, normal_rule, on_the_line_or_plane
from .verdict import Row, Verdict, judge_identity

#: Nodes of the noise, and nodes per bandwidth of the estimate: between two draws its score turns over h^2 / distance.
NODES, FINENESS = 129, 8
#: Relative to the larger side.
TOLERANCE = 1e-9
#: Samples up to this size are compared in the losses, too: the score of the estimate at all x_i + h z costs n^2 operations a node.
COMPARED = 200
DIVERGENCE, MINIMISER = "J(q_h | pi)", "J_DSM(s) - J_DSM(s_h)"


class KernelEstimate:
    """``q_h(x) = 1/n sum_i N(x; x_i, h^2)`` on the line; its score ``s_h(x) = sum_i r_i(x) (x_i - x)/h^2`` is the attention of x to the draws."""

    def __init__(self, draws: Batch, bandwidth: float) -> None:
        self.draws, self.h = draws, bandwidth

    def _logs(self, x: Batch) -> Tensor:
        return -0.5 * ((x - self.draws[:, 0]) / self.h) ** 2

    def score(self, x: Batch) -> Batch:
        """s_h, shape (N, 1)."""
        return (torch.softmax(self._logs(x), 1) @ self.draws - x) / self.h**2

    def rule(self) -> Rule:
        """The trapezoid rule of q_h, nine bandwidths beyond the outermost draws."""
        lo, hi = float(self.draws.min()) - 9 * self.h, float(self.draws.max()) + 9 * self.h
        count = 4 * int((hi - lo) / self.h * FINENESS / 4 + 1) + 1
        i, x = torch.arange(count), torch.linspace(lo, hi, count, dtype=torch.float64)[:, None]
        w = torch.cat([torch.logsumexp(self._logs(part), 1) for part in x.split(4096)]).exp()
        return Rule(x, w, (i % 2 == 0).long() + (i % 4 == 0).long())

    def joint(self) -> Rule:
        """(x_i, z), all draws and the rule of the noise: x = x_i + h z has the law q_h."""
        n = len(self.draws)
        return Rule(self.draws, torch.ones(n, dtype=torch.float64), torch.full((n,), 2)).times(normal_rule(1, NODES))


def fisher_from(estimate: KernelEstimate, target: Target) -> tuple[Estimate, Estimate, Estimate]:
    """``J(q_h | pi)`` as it is defined; ``J(q_h)``; and ``E_{q_h} [2 Lap log pi + |grad log pi|^2]``, a mean over the draws."""

    def on_mesh(x: Batch) -> Tensor:
        s = estimate.score(x)
        return torch.cat(((s - target.score(x)) ** 2, s**2), 1)

    def at_draws(xz: Batch) -> Tensor:
        x = xz[:, :1] + estimate.h * xz[:, 1:]
        return (target.score(x) ** 2).sum(1) - 2.0 * torch.diagonal(target.hessian(x), dim1=1, dim2=2).sum(1)

    divergence, fisher = average(estimate.rule(), on_mesh, chunk=4096)
    return divergence, fisher, average(estimate.joint(), at_draws)[0]


@dataclass(frozen=True)
class SMKDE(Identity):
    """Explicit score matching against the kernel estimate q_h of n draws, and denoising score matching on the draws themselves,
    have one minimiser, the estimate's score s_h; its error against the target is known but for one number, J(q_h)::

        J_DSM(s) - J_DSM(s_h) = 1/2 E_{q_h} |s - s_h|^2 = J_ESM(s),    J_DSM(s) = 1/2 1/n sum_i E |s(x_i + h z) + z/h|^2
        J(q_h | pi) = E_{q_h} |s_h - grad log pi|^2 = J(q_h) + 1/n sum_i E g(x_i + h z),    g = 2 Lap log pi + |grad log pi|^2

    The first is Vincent's identity (`sm-dsm`) with the empirical law in the place of the data; the second is Hyvarinen's (`sm-ism`)
    with q_h in the place of pi and grad log pi in that of s. Its last term is a mean over the draws: it does not overfit. Over
    draws of pi, and with pi_h the target noised by h, it follows that ``E J(q_h | pi) = J(pi_h | pi) + E J(q_h | pi_h)``: a bias that
    grows with h and a variance ``E J(q_h) - J(pi_h) >= 0``. For h far below the distances of the draws ``J(q_h) = d/h^2``: a
    network that minimises J_DSM on finitely many draws has learned where they are.

    Left sides: quadratures over (x_i, z) (n up to 200), and over q_h on a mesh. The figures give J(q_h | pi) at the best of the bandwidths
    and, in the row's place, at all of them.

    `factor` multiplies the stated sides.

    Arguments:
        draws: n, sizes of the samples (of one keyed stream: a smaller sample begins a larger one), each at least 1.
        bandwidths: h, positive.
        networks: how many random s, at least 1.
        minimiser: ``kernel``, s_h; or ``target``, as if grad log pi were the minimiser: a negative control.
    """

    statement: ClassVar[str] = "J_DSM on n draws is 1/2 E|s - s_h|^2 + const; E|s_h - grad log pi|^2 = J(q_h) + mean of g at the draws"
    source: ClassVar = Source(
        "A connection between score matching and denoising autoencoders",
        "Vincent",
        2011,
        "section 4.1, matching the score of a nonparametric estimator",
        "https://doi.org/10.1162/NECO_a_00142",
    )
    instruments: ClassVar[str] = "AGP"
    quantity: ClassVar[str] = DIVERGENCE

    draws: tuple[int, ...] = (10, 100, 1000)
    bandwidths: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.8)
    networks: int = 2
    minimiser: str = "kernel"

    def __post_init__(self) -> None:
        for name in ("draws", "bandwidths"):
            values = getattr(self, name)
            if not values or not all(0 < v < float("inf") for v in values):
                raise InvalidInput(f"{name} must be positive finite numbers, got {list(values)}")
        if self.networks < 1:
            raise InvalidInput(f"networks must be at least 1, got {self.networks}")
        if self.minimiser not in ("kernel", "target"):
            raise InvalidInput(f"minimiser must be kernel or target, got {self.minimiser!r}")

    def hypotheses(self, case: Case) -> list[str]:
        if case.dim != 1:
            return [f"d = 1, where the estimate is carried on a mesh, got d = {case.dim}"]
        unmet = on_the_line_or_plane(case.target)
        return unmet if "sample" in case.target.capabilities else [*unmet, f"exact draws, and {case.target.name} has none"]

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        target = case.target
        sample = target.sample(max(self.draws), Stream("sm-kde", target.id))
        found = []
        for n in self.draws:
            for h in self.bandwidths:
                estimate = KernelEstimate(sample[:n], h)
                divergence, fisher, linear = fisher_from(estimate, target)
                stated = factor * (fisher.value + linear.value)
                slack = (fisher.upper - fisher.value) + (linear.upper - linear.value) + TOLERANCE * (fisher.value + abs(linear.value))
                found.append(Row.of(divergence, stated, k=n, x=h, tolerance=slack, label=f"{DIVERGENCE}, n = {n}, h = {h:g}"))
                found += self._minimiser(estimate, target, factor) if n <= COMPARED else []
        return found

    def _minimiser(self, estimate: KernelEstimate, target: Target, factor: float) -> list[Row]:
        """J_DSM over (x_i, z) beside the distance to the minimiser over the mesh, for each network."""
        n, h, nets = len(estimate.draws), estimate.h, networks(self.networks, "sm-kde", inputs=1, outputs=1)
        best: Callable[[Batch], Batch] = estimate.score if self.minimiser == "kernel" else target.score

        def denoising(xz: Batch) -> Tensor:
            x, aim = xz[:, :1] + h * xz[:, 1:], -xz[:, 1:] / h
            # the square of the aim is common to all: it would only add rounding, of the size of 1/h^2
            least, *losses = [0.5 * s**2 - s * aim for s in (best(x), *(net(x) for net in nets))]
            return torch.cat([loss - least for loss in losses], 1)

        def explicit(x: Batch) -> Tensor:
            centre = best(x)
            return torch.cat([0.5 * (s(x) - centre) ** 2 for s in nets], 1)

        gaps, distances = average(estimate.joint(), denoising, chunk=4096), average(estimate.rule(), explicit, chunk=4096)
        return [
            Row.of(a, factor * b.value, k=n, x=h, tolerance=(b.upper - b.value) + TOLERANCE * max(abs(a.value), b.value),
                   label=f"{MINIMISER}, n = {n}, h = {h:g}, network {i}")
            for i, (a, b) in enumerate(zip(gaps, distances, strict=True))
        ]  # fmt: skip

    def judge(self, rows: Sequence[Row]) -> Verdict:
        verdict = judge_identity(rows)
        figures, errors = dict(verdict.figures), [r for r in rows if r.label.startswith(DIVERGENCE)]
        for n in sorted({r.k for r in errors}):
            best = min((r for r in errors if r.k == n), key=lambda r: r.measured)
            figures |= {f"least {DIVERGENCE} at n = {n}": best.measured, f"its h at n = {n}": best.x}
        return replace(verdict, figures=figures)

    @property
    def instrument(self) -> str:
        """Quadratures over keyed draws: no chain is involved."""
        return "Q"
