"""Distances between samples beside POT, in turn, one thread, CPU time: ``python benchmarks/peers/transport.py [--quick]``.

One JSON object per line: work, figure, ours_s, peer_s, ratio, goal, met, note. Times are medians in seconds; a ratio is the
median of peer / ours over neighbouring calls. Rows of memory give what a process of its own had at its peak above what it
had after a small warm-up; there `ours_s` and `peer_s` are null and the megabytes are in the note. Both sides get the same
two arrays and must return the same number, or the row says that they do not.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["NUMBA_NUM_THREADS"] = "1"

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from mixrate.laws.particles import Particles
from mixrate.metrics.sliced_w2 import directions, sliced
from mixrate.metrics.transport import plug_in

torch.set_num_threads(1)

PROJECTIONS = 1000

#: Pivots allowed to POT: more than it needs anywhere here.
PIVOTS = 10**9


@dataclass(frozen=True)
class Work:
    """One comparison.

    Arguments:
        kind: ``w2`` or ``sliced``.
        n, d: points per sample, dimension.
        gap: relative gap of our certificate, 0 for exact.
        repeats: calls of each side.
        goal: least ratio of CPU times asked for, or None.
    """

    kind: str
    n: int
    d: int
    gap: float
    repeats: int
    goal: float | None

    @property
    def name(self) -> str:
        """As printed."""
        if self.kind == "sliced":
            return f"sliced W2, {PROJECTIONS} projections, n = {self.n}, d = {self.d}"
        return f"W2, n = {self.n}, d = {self.d}" + (f", gap {self.gap:g}" if self.gap else "")


TIMES = (
    Work("w2", 1000, 2, 0.0, 5, None),
    Work("w2", 5000, 2, 0.0, 3, 2.0),
    Work("w2", 5000, 20, 0.0, 3, 5.0),
    Work("w2", 10_000, 2, 0.0, 2, 2.5),
    Work("w2", 10_000, 2, 1e-3, 2, 15.0),
    Work("sliced", 1000, 5, 0.0, 5, 15.0),
    Work("sliced", 10_000, 2, 0.0, 3, 15.0),
)
QUICK = (Work("w2", 600, 2, 0.0, 2, None), Work("sliced", 600, 5, 0.0, 2, None))

Result = tuple[float, float, float]


def points(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws of N(0, I), and of a normal law shifted by e_1 with deviations from 0.7 to 1.5."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, n, d))
    y *= np.linspace(0.7, 1.5, d)
    y[:, 0] += 1
    return x, y


def ours(work: Work, x: np.ndarray, y: np.ndarray) -> Result:
    """(value, ends of the interval in which the other side's value must lie), squared lengths."""
    if work.kind == "sliced":
        value = float(sliced(x, y, directions(PROJECTIONS, work.d, 0)).mean())
        return value, value * (1 - 1e-5), value * (1 + 1e-5)  # single precision
    found = plug_in(Particles(torch.from_numpy(x)), Particles(torch.from_numpy(y)), work.gap)
    return found.value**2, found.bound**2 * (1 - 1e-9), found.value**2 * (1 + 1e-9)


def peer(work: Work, x: np.ndarray, y: np.ndarray) -> Result:
    """The same by POT."""
    import ot

    if work.kind == "sliced":
        theta = directions(PROJECTIONS, work.d, 0).T
        value = float(ot.sliced_wasserstein_distance(x, y, n_projections=PROJECTIONS, projections=theta)) ** 2
    else:
        value = float(ot.emd2([], [], ot.dist(x, y), numItermax=PIVOTS))
    return value, value, value


def clocked(side: Callable[[Work, np.ndarray, np.ndarray], Result], work: Work, x: np.ndarray, y: np.ndarray) -> tuple[float, Result]:
    began = time.process_time()
    result = side(work, x, y)
    return time.process_time() - began, result


def row(work: str, figure: str, ratio: float | None, goal: float | str | None, times: tuple[float, float] | None = None, note: str = "") -> None:
    """Print one object."""
    met = None
    if goal is not None:
        met = ratio is not None and (ratio <= float(goal.split()[1]) if isinstance(goal, str) else ratio >= goal)
    ours_s, peer_s = times or (None, None)
    print(json.dumps(dict(work=work, figure=figure, ours_s=ours_s, peer_s=peer_s, ratio=ratio, goal=goal, met=met, note=note)), flush=True)


def timed(work: Work) -> None:
    """One row of CPU times."""
    for side in (ours, peer):  # compiles, imports
        side(work, *points(600, work.d))
    x, y = points(work.n, work.d)
    pairs = []
    for _ in range(work.repeats):
        (mine, (_, low, high)), (theirs, (other, _, _)) = clocked(ours, work, x, y), clocked(peer, work, x, y)
        if not low <= other <= high:
            row(work.name, "CPU time, POT / ours", None, work.goal, note=f"the two disagree: {other} is not in [{low}, {high}]")
            return
        pairs.append((mine, theirs))
    ratios = [theirs / mine for mine, theirs in pairs]
    times = median(mine for mine, _ in pairs), median(theirs for _, theirs in pairs)
    note = f"{min(ratios):.3g} to {max(ratios):.3g} over {len(ratios)} pairs"
    row(work.name, "CPU time, POT / ours", median(ratios), work.goal, times, note)


def peak(side: str, work: Work) -> float:
    """Megabytes at the peak of a process that does the work once."""
    command = [sys.executable, __file__, "--child", side, work.kind, str(work.n), str(work.d), str(work.gap)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def child(side: str, kind: str, n: str, d: str, gap: str) -> None:
    """Print that figure of this process."""
    work = Work(kind, int(n), int(d), float(gap), 1, None)
    run = {"ours": ours, "peer": peer}[side]
    run(work, *points(600, work.d))
    x, y = points(work.n, work.d)
    before = resident("VmRSS")
    run(work, x, y)
    print((resident("VmHWM") - before) / 1024)


def resident(what: str) -> int:
    """Kilobytes now (VmRSS) or at the peak (VmHWM). `getrusage` will not do: a child's peak there begins at its parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1])
    raise OSError(f"no {what} in /proc/self/status")


def memory(work: Work, goal: float) -> None:
    """One row of memory, POT / ours."""
    mine, theirs = peak("ours", work), peak("peer", work)
    row(work.name, "memory, POT / ours", theirs / max(mine, 1.0), goal, note=f"{mine:.0f} MB against {theirs:.0f} MB")


def main() -> None:
    """All rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds: that it runs, not how fast")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    for work in QUICK if options.quick else TIMES:
        timed(work)
    if options.quick:
        memory(Work("w2", 2000, 2, 0.0, 1, None), 1.0)
        return
    for d in (2, 20):
        memory(Work("w2", 10_000, d, 0.0, 1, None), 20.0)
    memory(Work("sliced", 20_000, 2, 0.0, 1, None), 50.0)
    large = Work("w2", 20_000, 2, 0.0, 1, None)
    row(large.name, "GB at the peak", peak("ours", large) / 1000, "<= 0.5", note="ours alone")


if __name__ == "__main__":
    main()
