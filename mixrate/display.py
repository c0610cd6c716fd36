"""What the command line prints."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from .experiments.compare import Difference
    from .experiments.result import Result
    from .experiments.schema import Experiment

COLOUR = {"holds": "green", "violated": "bold red", "inconclusive": "yellow", "not applicable": "dim"}
INSTRUMENT = {"A": "affine", "G": "grid", "P": "particles", "C": "coupling", "Q": "closed form"}
#: Rows of a table of plain metrics that a terminal is asked to show.
MOST_ROWS = 40

#: Order of the ledger, by the first word of an id; others follow.
PARTS = (
    "ld",
    "ineq",
    "ula",
    "rate",
    "mh",
    "mala",
    "prox",
    "gap",
    "recipe",
    "irreversible",
    "cld",
    "psld",
    "klmc",
    "baoab",
    "sm",
    "tweedie",
    "ddpm",
    "reverse",
    "ou",
    "em",
    "error",
    "sscs",
    "phase",
    "annealed",
    "rdmc",
)
ORDER = ("violated", "inconclusive", "holds", "not applicable")


class Speed:
    """Particle-steps (or another unit) per second since it was made, told to a progress bar; called from any thread.

    Arguments:
        show: gets the text.
    """

    def __init__(self, show: Callable[[str], None], unit: str = "particle-steps") -> None:
        self.show, self.unit, self.done, self.began = show, unit, 0, time.perf_counter()
        self._lock = threading.Lock()

    def __call__(self, steps: int) -> None:
        with self._lock:
            self.done += steps
            if self.done:
                self.show(f"{self.done / (time.perf_counter() - self.began):.2g} {self.unit}/s")


@contextmanager
def bar(total: int, unit: str = "particle-steps") -> Iterator[Callable[[int], None]]:
    """A progress bar over `total` particle-steps, on stderr; yields what is told of those done."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn(), TextColumn("{task.fields[speed]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, speed="")
        speed = Speed(lambda text: progress.update(task, completed=speed.done, speed=text), unit)
        yield speed


def terminal() -> Console:
    import sys

    # a pipe has no width of its own: wide enough that no column wraps
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def number(value: float, digits: int = 4) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.{digits}g}"


def _exponent(row: dict[str, Any]) -> str:
    if math.isnan(row["exponent"]):
        return ""
    return f"{row['exponent']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _instruments(letters: str) -> str:
    return ", ".join(INSTRUMENT.get(letter, letter) for letter in letters)


def table_of(*columns: str, title: str = "") -> Table:
    table = Table(title=title or None, box=None, pad_edge=False, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def verdicts(results: Sequence[Result]) -> None:
    """The verdicts of each experiment, one line per entry of its `theorems`."""
    from .experiments import budgeted
    from .experiments.result import COLUMNS, records

    for result in results:
        table = table_of(
            "theorem", "verdict", "expected", "tightness", "stated", "measured exponent", "instrument", "rows", "why", title=result.title
        )
        for row in records(result.verdicts):
            name = row["theorem"] + (f" ({row['parameters']})" if row["parameters"] else "") + (f" x {row['factor']:g}" if row["factor"] != 1 else "")
            word = f"[{COLOUR[row['word']]}]{row['word']}[/]"
            expected = "" if row["as_expected"] else f"[bold red]{row['expect']}[/]"
            table.add_row(
                name,
                word,
                expected,
                number(row["tightness"]),
                number(row["stated"]),
                _exponent(row),
                _instruments(row["instrument"]),
                str(row["judged"]),
                row["why"],
            )
        compared = budgeted.tables(result)
        if result.verdicts.empty and not compared:
            final = result.table.groupby(["index", "quantity"], sort=False).tail(1)
            swept = list(result.table.columns[len(COLUMNS) :])
            table = table_of(*swept, "metric", "at step", "value", "interval", "floor", title=result.title)
            for last in records(final)[:MOST_ROWS]:
                interval = f"[{last['lower']:.4g}, {last['upper']:.4g}]" if last["status"] == "ok" else f"{last['status']}: {last['note']}"
                numbers = last["quantity"], str(last["k"]), number(last["measured"], 6), interval, number(last["floor"])
                table.add_row(*[str(last[path]) for path in swept], *numbers)
            if len(final) > MOST_ROWS:
                table.caption = f"{len(final) - MOST_ROWS} more rows are in the report"
        if compared:
            terminal().print(f"{escape(result.title)}: the best settings of each sampler", style="bold")
        for entry in compared:
            terminal().print(escape("\n".join([f"  {entry['title']}", *(f"    {sentence}" for sentence in entry["words"])])))
        if len(result.verdicts) or not compared:
            terminal().print(table)


def ledger(results: Sequence[Result], ids: Sequence[str]) -> None:
    """One line per theorem over all experiments, then one line per control."""
    from .experiments.result import records

    rows = [{**row, "experiment": r.name} for r in results for row in records(r.verdicts)]
    table = table_of("theorem", "verdict", "tightness", "stated", "measured exponent", "instrument", "rows", "note", title="Theorems")
    for name in sorted(ids, key=lambda name: (PARTS.index(name.split("-")[0]) if name.split("-")[0] in PARTS else len(PARTS), name)):
        mine = [row for row in rows if row["theorem"] == name and row["expect"] == "holds" and row["factor"] == 1]
        if not mine:
            table.add_row(name, "[dim]no experiment in this tier[/]", "", "", "", "", "", "")
            continue
        worst = min(mine, key=lambda row: ORDER.index(row["word"]))
        tight = max((row["tightness"] for row in mine if not math.isnan(row["tightness"])), default=math.nan)
        letters = "".join(sorted({letter for row in mine for letter in row["instrument"]}))
        note = f"{worst['experiment']}: {worst['why']}" if worst["word"] != "holds" else worst["why"]
        table.add_row(
            name,
            f"[{COLOUR[worst['word']]}]{worst['word']}[/]",
            number(tight),
            number(worst["stated"]),
            _exponent(worst),
            _instruments(letters),
            str(sum(row["judged"] for row in mine)),
            note,
        )
    terminal().print(table)
    controls = [row for row in rows if row["theorem"] in ids and (row["expect"] != "holds" or row["factor"] != 1)]
    if controls:
        table = table_of("control", "expected", "came out", "", "experiment", "why", title="\nControls: checks that must not read 'holds'")
        for row in controls:
            name = row["theorem"] + (f" x {row['factor']:g}" if row["factor"] != 1 else "")
            sign = "[green]as expected[/]" if row["as_expected"] else "[bold red]NOT AS EXPECTED[/]"
            table.add_row(name, row["expect"], row["word"], sign, row["experiment"], row["why"])
        terminal().print(table)


def _first_line(found: Any) -> str:
    """The first paragraph of a docstring as plain text."""
    import inspect

    return (inspect.getdoc(found) or "").split("\n\n")[0].replace("\n", " ").replace("``", "")


def components(what: str) -> None:
    """Every component of a kind with the first line of what it is."""
    import inspect

    from .experiments.components import find, names

    kind: Any = {"targets": "target", "samplers": "sampler", "metrics": "metric", "theorems": "theorem"}[what]
    table = table_of("name", "parameters", "what it is", title=what)
    for name in names(kind):
        found: Any = find(kind, name)
        signature = str(inspect.signature(found)).split(" -> ")[0].replace("'", "")
        about = found.statement if kind == "theorem" else _first_line(found)
        table.add_row(name, escape(signature), escape(about))
        if kind == "target":
            for method, make in inspect.getmembers(found, inspect.ismethod):
                if not method.startswith("_"):
                    table.add_row(
                        f"{name}.{method}",
                        escape(str(inspect.signature(make)).split(" -> ")[0].replace("'", "")),
                        escape(_first_line(make)),
                    )
    terminal().print(table)


def experiments(found: Sequence[Experiment]) -> None:
    """The experiments that ship with mixrate."""
    table = table_of("name", "tier", "cells", "theorems", "title", title="experiments")
    for e in found:
        theorems = ", ".join(dict.fromkeys(t.id for t in e.points()[0].theorems))
        table.add_row(e.name, e.tier, str(len(e.points())), theorems, e.title)
    terminal().print(table)


def plan(found: Sequence[Experiment], out: Path) -> None:
    """Cells by experiment, finished ones marked, with the memory that the positions of samples will take."""
    from .experiments.components import build
    from .experiments.runner import cell_path
    from .laws.particles import positions_bytes

    for e in found:
        table = table_of("cell", "sweep", "target", "sampler", "law", "steps", "memory", "finished", title=f"{e.title} ({len(e.points())} cells)")
        for p in e.points():
            sweep = ", ".join(f"{k}={v}" for k, v in p.sweep.items())
            done = "yes" if cell_path(e, p, out).exists() else ""
            n = getattr(p.law, "n", 0) * (2 if p.law.kind == "coupled" else 1)
            size = 4 if getattr(p.law, "dtype", "") == "float32" else 8
            sees = build("sampler", p.sampler.name, p.sampler.params).interacts
            need = positions_bytes(n, build("target", p.target.name, p.target.params).dim, len(p.steps), size, sees) if n else 0
            memory = f"{need / 1e6:.3g} MB" if n else ""
            table.add_row(p.key, sweep, p.target.name, p.sampler.name, p.law.kind, str(p.steps[-1]), memory, done)
        terminal().print(table)


def comparison(difference: Difference) -> None:
    """What changed between two runs."""
    console = terminal()
    console.print(f"{difference.shared} rows in both runs, {difference.only_first} only in the first, {difference.only_second} only in the second")
    if difference.verdicts:
        table = table_of("theorem", "first", "second", "why (second)", title="Verdicts that changed")
        for name, before, after, why in difference.verdicts:
            table.add_row(name, before, after, why)
        console.print(table)
    if difference.moved:
        table = table_of(
            "theorem or metric",
            "quantity",
            "cell",
            "step",
            "first",
            "second",
            title=f"Values that moved beyond both intervals ({len(difference.moved)} in all)",
        )
        for row in difference.moved[:20]:
            table.add_row(*[str(entry) for entry in row])
        console.print(table)
    if not difference.verdicts and not difference.moved:
        console.print("no verdict changed and no value moved beyond its interval")
