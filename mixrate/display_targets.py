"""What the command line prints of targets and their certificates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from .display import components, number, table_of, terminal

if TYPE_CHECKING:
    from .targets.base import Target
    from .theory.certificate.base import Certificate

COLOUR = {"certified": "green", "failed": "bold red", "open": "yellow", "measured": "dim"}


@contextmanager
def counted(total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar over `total` things, on stderr; yields what is told the name of each that is done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda name: progress.update(task, advance=1, description=name)


def certificates(found: Sequence[Certificate]) -> None:
    """Every finding of one certificate, or a line per certificate and what is not certified."""
    console = terminal()
    for certificate in found if len(found) <= 3 else ():
        table = table_of("what", "how", "", "declared", "known", "found", "error", "note", title=escape(f"{certificate.target}: {certificate.id}"))
        for f in certificate.findings:
            numbers = number(f.declared, 7), f.known, number(f.found, 7), number(f.error, 2)
            table.add_row(f.what, escape(f.how), f"[{COLOUR[f.word]}]{f.word}[/]", *numbers, escape(f.note))
        console.print(table)
    if len(found) <= 3:
        return
    table = table_of("target", "certificate", "findings", "seconds", "not certified", title="Certificates")
    for certificate in found:
        missing = "; ".join(f"{f.what} ({f.word}): {f.note or f.how}" for f in certificate.findings if f.word in ("failed", "open"))
        seconds = f"{sum(f.seconds for f in certificate.findings):.2g}"
        word = f"[{COLOUR[certificate.word]}]{certificate.word}[/]"
        table.add_row(escape(certificate.target), word, str(len(certificate.findings)), seconds, escape(missing))
    console.print(table)


def targets() -> None:
    """Every target with its parameters, then its examples with what each declares and how it is known."""
    from .experiments.components import names
    from .experiments.zoo import instances

    components("targets")
    table = table_of("example", "d", "has", "constants, and how each is known", title="\nexamples, which `mixrate certify --all` certifies")
    for name in names("target"):
        for instance in instances(name):
            try:
                target = instance.build()
                row = str(target.dim), has(target), constants(target)
            except Exception as error:  # a plugin's own code: the others are listed all the same
                row = "", "[bold red]broken[/]", escape(f"{type(error).__name__}: {' '.join(str(error).split())}")
            table.add_row(escape(str(instance)), *row)
    terminal().print(table)


def has(target: Target) -> str:
    """The capabilities of a target in words."""
    words = {"log_normalizer": "log Z", "sample": "draws", "restricted_gaussian": "restricted draws", "diffused": "noised law"}
    return ", ".join(words.get(c, c) for c in target.capabilities)


def constants(target: Target) -> str:
    """The constants of a target, each with how it is known."""
    from .experiments.zoo import constants as known

    return ", ".join(f"{name} {'' if math.isnan(value) else f'= {value:.4g} '}({how})" for name, (value, how) in known(target).items())
