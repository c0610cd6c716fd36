"""The certificate of a target: every check, one after the other."""

from __future__ import annotations

import dataclasses
import math
import time
from functools import lru_cache

from ...errors import Unsupported
from ...targets.base import Target
from . import curvature, draws, gradients, inequalities, moments, normaliser, smoothing
from .base import ENTRY, FULL, Certificate, Check, Effort, Finding, Subject

#: In the order of the page.
CHECKS: tuple[Check, ...] = (
    gradients.score,
    gradients.one_pass,
    gradients.precision,
    normaliser.log_normalizer,
    draws.distribution,
    draws.potential_values,
    draws.stein,
    draws.ratio,
    moments.moments,
    curvature.curvature,
    inequalities.constants,
    smoothing.smoothing,
)

#: What every target passes before a theorem is checked on it: seconds would be too long, a fraction of one is not.
AT_ENTRY: tuple[Check, ...] = (
    gradients.score,
    gradients.one_pass,
    normaliser.log_normalizer,
    draws.stein,
    draws.ratio,
    moments.moments,
    curvature.curvature,
)


def certify(target: Target, name: str = "", effort: Effort = FULL, checks: tuple[Check, ...] = CHECKS) -> Certificate:
    """The certificate of a target.

    Arguments:
        name: as a YAML spells it; default: the target's.
        effort: how much to spend on each check; FULL takes seconds.
        checks: which to make.

    A check that cannot be made where it should be (`Unsupported`) is an `open` finding; one that does not apply leaves none.
    """
    subject = Subject(target, effort)
    findings: list[Finding] = []
    for check in checks:
        began = time.perf_counter()
        try:
            found = list(check(subject))
        except Unsupported as error:
            found = [Finding(check.__name__.replace("_", " "), "could not be made", "open", note=str(error))]
        except Exception as error:  # a target's own code may do anything: that is a finding, never a lost certificate
            found = [
                Finding(
                    check.__name__.replace("_", " "), "the target's code", "failed", note=f"{type(error).__name__}: {' '.join(str(error).split())}"
                )
            ]
        seconds = (time.perf_counter() - began) / max(1, len(found))
        findings += [dataclasses.replace(f, seconds=seconds) for f in found]
    return Certificate(name or target.name, target.id, target.dim, tuple(findings))


@lru_cache(maxsize=512)
def objections(target: Target) -> tuple[str, ...]:
    """What a short certificate finds wrong with a target, in words; empty where it may enter a theorem check."""
    certificate = certify(target, effort=ENTRY, checks=AT_ENTRY)
    return tuple(
        f"{f.what}: {f.note or f.how}{'' if math.isnan(f.found) else f' (declared {f.declared:.6g}, found {f.found:.6g})'}"
        for f in certificate.of("failed")
    )
