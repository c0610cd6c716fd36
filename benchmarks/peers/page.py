"""What is kept of a complete run, and how the page shows it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from opponents import ROOT
from rows import COLUMNS, Row

CSV, JSON, PAGE = ROOT / "results" / "bench-peers.csv", ROOT / "results" / "bench-peers.json", ROOT / "docs" / "performance.md"
MARKS = ("<!-- bench-peers: begin -->", "<!-- bench-peers: end -->")


def keep(rows: Sequence[Row], about: dict[str, str], table: Path = CSV, sidecar: Path = JSON, page: Path = PAGE) -> None:
    """Write the table, what it was measured with, and the page that shows both."""
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *(row.cells() for row in rows)])
    sidecar.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    page.write_text(shown(page.read_text(encoding="utf-8"), table, sidecar), encoding="utf-8")


def shown(page: str, table: Path = CSV, sidecar: Path = JSON) -> str:
    """The page with the kept table between its marks, or a line that says that there is none."""
    head, rest = page.split(MARKS[0])
    tail = rest.split(MARKS[1])[1]
    middle = "No figures are kept yet: `make bench-peers` makes them."
    if table.exists():
        with table.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        about = json.loads(sidecar.read_text(encoding="utf-8"))
        middle = markdown(rows) + "\n\n" + "Measured with " + ", ".join(f"{k} {v}" for k, v in about.items()) + "."
    return f"{head}{MARKS[0]}\n{middle}\n{MARKS[1]}{tail}"


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """The rows of the csv as a table of the page; the spread stands beside the value."""
    lines = ["| work | figure | ours | peer | unit | value (min to max) | goal | met |", "|---|---|---|---|---|---|---|---|"]
    for r in rows:
        spread = f"{r['value']} ({r['low']} to {r['high']})" if r["low"] else r["value"] or r["note"]
        figure = r["figure"] + (f" ({r['note']})" if r["note"] and r["value"] else "")
        cells = (r["work"], figure, r["ours"], r["peer"], r["unit"], spread, r["goal"], r["met"])
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


def plain(rows: Sequence[Row]) -> str:
    """The rows in columns of equal width."""
    lines = [list(COLUMNS), *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
