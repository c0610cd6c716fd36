"""One figure of the table: the arithmetic of paired times, and whether a goal is met."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Row:
    """One figure and what was asked of it.

    Arguments:
        work: what was run.
        figure: what the value is.
        ours: our time (ns per normal or per particle, coordinate and step; or seconds), or None.
        peer: the other side's time in the same unit, or None.
        unit: of the times.
        value: the figure, median over the repeats; None where it could not be measured.
        low: its smallest value over the repeats.
        high: its largest.
        goal: what is asked of the value, like ``>= 6`` or ``<= 1.5``, or nothing.
        note: what a reader must know, such as why a row failed.
    """

    work: str
    figure: str
    ours: float | None = None
    peer: float | None = None
    unit: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    goal: str = ""
    note: str = ""

    @property
    def met(self) -> str:
        """Whether the goal is met: yes, no, failed, or nothing where there is no goal."""
        if self.value is None:
            return "failed"
        if not self.goal:
            return ""
        sense, limit = self.goal.split()[0], float(self.goal.split()[1])
        return "yes" if (self.value >= limit if sense == ">=" else self.value <= limit) else "no"

    def cells(self) -> list[str]:
        """The row as text, in the order of `COLUMNS`."""
        times, figures = map(short, (self.ours, self.peer)), map(short, (self.value, self.low, self.high))
        return [self.work, self.figure, *times, self.unit, *figures, self.goal, self.met, self.note]


COLUMNS = ("work", "figure", "ours", "peer", "unit", "value", "low", "high", "goal", "met", "note")


def short(number: float | None) -> str:
    """Three digits, and nothing for None."""
    return "" if number is None else f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"


def compared(
    work: str, figure: str, above: Sequence[float], below: Sequence[float], goal: str, ours: str, scale: float, unit: str, note: str = ""
) -> Row:
    """A row from paired times: value = median of above / below, neighbour by neighbour.

    Arguments:
        above, below: seconds of each repeat.
        ours: which of the two is ours, "above" or "below".
        scale: times `scale` turns seconds into `unit`.
    """
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    first, second = (above, below) if ours == "above" else (below, above)
    return Row(work, figure, scale * median(first), scale * median(second), unit, median(ratios), min(ratios), max(ratios), goal, note)


def at_least(limit: float | None) -> str:
    """The goal as text."""
    return "" if limit is None else f">= {limit:g}"


def foreign(text: str) -> Iterator[Row]:
    """Rows from lines of JSON with work, figure, ours_s, peer_s, ratio and goal; other lines are not ours to read."""
    for line in text.splitlines():
        with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
            found = json.loads(line)
            goal = found["goal"]
            goal = "" if goal is None else goal if isinstance(goal, str) else at_least(goal)
            ours, peer = found.get("ours_s"), found.get("peer_s")
            unit = "" if ours is None else "s"  # a row of memory has no times
            yield Row(found["work"], found["figure"], ours, peer, unit, found["ratio"], goal=goal, note=found.get("note", ""))
