"""Hutchinson's estimate of the trace, as sliced score matching uses it: unbiased, and its variance in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from ..errors import InvalidInput
from ..samplers.noise import Stream
from .base import Case, Identity, Source
from .sm_quadrature import ROUNDING, Rule, hermite, interval, networks, signs
from .verdict import Row, Verdict, judge_identity

#: The expectations run over 3^d and 2^d vectors.
LARGEST = 8
LAWS = {"gaussian": hermite, "rademacher": signs}


@dataclass(frozen=True)
class SMSliced(Identity):
    """``E w^T B w = tr B`` for ``E w w^T = I``, with variance ``2 |S|_F^2`` for w ~ N(0, I) and ``2 (|S|_F^2 - sum_i S_ii^2)`` for
    random signs, ``S = (B + B^T)/2``.

    For B the Jacobian of s at a point this is the term ``tr grad s`` of the implicit loss (the form with the exact norm, SSM-VR); for
    ``B = grad s + 1/2 s s^T`` the whole of it, ``w^T grad s w + 1/2 (w^T s)^2`` (SSM). Its antisymmetric part does not enter
    ``w^T B w`` and must not enter the variance. For signs the diagonal adds no variance, so that on a line they are exact.

    Checked on random networks at points of the target, with no sampling error: over all 2^d signs, and over the 3^d nodes of Gauss
    and Hermite, which are exact for the fourth moments that a variance needs. The figures give the variance of signs as a part of
    the Gaussian's.

    `factor` multiplies the stated mean and variance.

    Arguments:
        networks: how many random s, at least 1.
        points: at each of how many points, at least 1.
        spread: standard deviation of the coordinates of w. Not 1, it is a negative control.
        symmetrised: off, B stands in the place of S. A negative control.
    """

    statement: ClassVar[str] = "E w^T B w = tr B; Var = 2 |S|^2 (Gaussian), 2 (|S|^2 - sum S_ii^2) (signs), S = (B + B^T)/2"
    source: ClassVar = Source(
        "Sliced score matching: a scalable approach to density and score estimation",
        "Song, Garg, Shi, Ermon",
        2019,
        "eqs. 7 and 8",
        "https://arxiv.org/abs/1905.07088",
        also="Hutchinson 1990, https://doi.org/10.1080/03610919008812866",
    )
    instruments: ClassVar[str] = "AGP"
    quantity: ClassVar[str] = "w^T B w"

    networks: int = 4
    points: int = 4
    spread: float = 1.0
    symmetrised: bool = True

    def __post_init__(self) -> None:
        for name in ("networks", "points"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.spread < float("inf"):
            raise InvalidInput(f"spread must be a positive finite number, got {self.spread}")

    def hypotheses(self, case: Case) -> list[str]:
        return [] if case.dim <= LARGEST else [f"d at most {LARGEST}, where all 3^d directions are taken, got d = {case.dim}"]

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        d, noise = case.dim, Stream("sm-sliced", case.target.id)
        x = case.target.sample(self.points, noise) if "sample" in case.target.capabilities else 2.0 * noise.normal((self.points, d))
        found = []
        for i, net in enumerate(networks(self.networks, "sm-sliced", d, inputs=d, outputs=d)):
            jacobian, s = net.jacobian(x), net(x)
            for form, b in (("trace", jacobian), ("loss", jacobian + 0.5 * s[:, :, None] * s[:, None, :])):
                for law, directions in LAWS.items():
                    mean, variance = self._moments(b, directions(d))
                    stated = torch.diagonal(b, dim1=1, dim2=2).sum(1), self._variance(b, law)
                    for what, measured, claimed in (("mean", mean, stated[0]), ("variance", variance, stated[1])):
                        scale = (b**2).sum((1, 2)) if what == "variance" else b.abs().sum((1, 2))
                        label = f"{what} of the {form}, {law}, network {i}"
                        found += [
                            Row.of(interval(m, 100 * ROUNDING * r), factor * c, k=k, tolerance=1e-12 * r, label=label)
                            for k, (m, c, r) in enumerate(zip(measured.tolist(), claimed.tolist(), scale.tolist(), strict=True))
                        ]
        return found

    def _moments(self, b: torch.Tensor, rule: Rule) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of ``w^T B w`` over the rule, one per matrix."""
        w = self.spread * rule.x
        values, p = torch.einsum("vi,nij,vj->nv", w, b, w), rule.w / rule.w.sum()
        mean = values @ p
        return mean, ((values - mean[:, None]) ** 2) @ p

    def _variance(self, b: torch.Tensor, law: str) -> torch.Tensor:
        s = 0.5 * (b + b.mT) if self.symmetrised else b
        total = (s**2).sum((1, 2))
        return 2.0 * (total if law == "gaussian" else total - (torch.diagonal(s, dim1=1, dim2=2) ** 2).sum(1))

    def judge(self, rows: Sequence[Row]) -> Verdict:
        verdict = judge_identity(rows)
        figures = dict(verdict.figures)
        for form in ("trace", "loss"):
            total = {law: sum(r.measured for r in rows if r.label.startswith(f"variance of the {form}, {law}")) for law in LAWS}
            figures[f"variance of the {form}, signs / Gaussian"] = total["rademacher"] / total["gaussian"]
        return replace(verdict, figures=figures)

    @property
    def instrument(self) -> str:
        """Finite sums at points: no chain is involved."""
        return "Q"
