"""The Ornstein-Uhlenbeck-noised law of a target at several times: its density against noised draws, its m and M."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from .base import Effort, Finding, Subject
from .curvature import curvature
from .draws import ratio, stein


def smoothing(subject: Subject) -> Iterator[Finding]:
    """``exp(-t) x + sqrt(1 - exp(-2t)) xi``, x an exact draw, must be a draw of `noised(t)`; and its constants hold."""
    target = subject.target
    if "diffused" not in target.capabilities or not subject.exact:
        return
    for t in subject.effort.times:
        law = target.noised(t)
        effort = Effort(draws=8000, starts=48, climb=40, times=(), deep=False)
        noisy = Subject(law, effort, f"{subject.key} t = {t}")
        x = subject.x[: effort.draws]
        z = subject.noise(f"noise {t}").normal(tuple(x.shape))
        # draws of the forward process take the place of the noised law's own
        vars(noisy)["x"] = math.exp(-t) * x + math.sqrt(-math.expm1(-2 * t)) * z
        for check in (ratio, stein, curvature):
            for finding in check(noisy):
                yield dataclasses.replace(finding, what=f"{finding.what} at t = {t:g}", how=f"noised law: {finding.how}")
