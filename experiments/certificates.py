"""Certificates of many targets: run side by side, as a table, and as a page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from ..theory.certificate.base import Certificate, Finding
from .report import number
from .typeset import typeset
from .zoo import Instance, sections

#: Sign (legible without colour) and class of a word.
WORDS = {"certified": ("✓", "holds"), "failed": ("✗", "violated"), "open": ("?", "unclear"), "measured": ("–", "outside")}


def certificate_of(instance: Instance) -> Certificate:
    """The full certificate of an instance; here so that a worker process can be handed it."""
    from ..theory.certificate.certify import certify

    try:
        return certify(instance.build(), str(instance))
    except Exception as error:  # one target's broken code must not lose the certificates of the others
        note = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Certificate(str(instance), "none", 0, (Finding("target", "the target's code", "failed", note=note),))


def certify_all(
    instances: Sequence[Instance], executor: Executor | None = None, advance: Callable[[str], None] = lambda name: None
) -> list[Certificate]:
    """The certificates, in the order of the instances; `advance` is told of each as it is done."""
    if executor is None:
        found = []
        for instance in instances:
            found.append(certificate_of(instance))
            advance(str(instance))
        return found
    running = {executor.submit(certificate_of, instance): i for i, instance in enumerate(instances)}
    done: dict[int, Certificate] = {}
    for future in as_completed(running):
        done[running[future]] = future.result()
        advance(str(instances[running[future]]))
    return [done[i] for i in range(len(instances))]


def table(certificates: Sequence[Certificate]) -> pd.DataFrame:
    """One row per finding."""
    rows = [{"target": c.target, "id": c.id, "dim": c.dim, **asdict(f)} for c in certificates for f in c.findings]
    return pd.DataFrame(rows, columns=["target", "id", "dim", "what", "how", "word", "declared", "found", "error", "known", "note", "seconds"])


def write(certificates: Sequence[Certificate], instances: Sequence[Instance], path: Path, pictures: bool = True) -> Path:
    """The page of some certificates: what was found of each target, with its formula and its picture; returns its path."""
    from .components import find

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    shown = []
    for certificate, instance in zip(certificates, instances, strict=True):
        about = sections(find("target", instance.name.partition(".")[0]))[""]
        shown.append(
            {
                "name": certificate.target,
                "id": certificate.id,
                "formula": Markup(typeset(_plain(about).split("\n\n")[0])),
                "word": _word(certificate.word),
                "counts": ", ".join(f"{n} {word}" for word, n in Counter(f.word for f in certificate.findings).items()),
                "seconds": f"{sum(f.seconds for f in certificate.findings):.3g}",
                "picture": Markup(_picture(certificate, instance)) if pictures else "",
                "findings": [_finding(f) for f in certificate.findings],
            }
        )
    title = "Certificates" if len(shown) > 1 else f"Certificate of {shown[0]['name']}"
    page = environment.get_template("certificates.html.jinja").render(title=title, summary=summary(certificates), targets=shown)
    path.write_text(page, encoding="utf-8")
    return path


def summary(certificates: Sequence[Certificate]) -> str:
    """The count of every word, in a sentence."""
    whole: Counter[str] = Counter(c.word for c in certificates)
    parts = [f"{n} {word}" for word in WORDS if (n := whole[word])]
    findings = sum(len(c.findings) for c in certificates)
    return f"{len(certificates)} target{'s' * (len(certificates) != 1)}: {', '.join(parts)}; {findings} findings."


def _picture(certificate: Certificate, instance: Instance) -> str:
    from .density import svg

    try:
        drawn = svg(instance.build(), certificate.id)
    except Exception as error:  # a target whose certificate fails may be unable to be drawn: the page comes all the same
        return f"<p class='note'>no picture: {escape(' '.join(str(error).split()))}</p>"
    return drawn.replace("<svg ", f'<svg aria-label="density of {escape(certificate.target)}" ', 1)


def _word(word: str) -> dict[str, str]:
    sign, kind = WORDS[word]
    return {"text": word, "sign": sign, "kind": kind}


def _finding(finding: Any) -> dict[str, Any]:
    error = "" if math.isnan(finding.error) else number(finding.error)
    return {
        "what": finding.what,
        "how": finding.how,
        "word": _word(finding.word),
        "declared": number(finding.declared),
        "found": number(finding.found),
        "error": error,
        "known": finding.known,
        "note": finding.note,
        "seconds": f"{finding.seconds:.2f}",
    }


def _plain(text: str) -> str:
    return text.replace("``", "")
