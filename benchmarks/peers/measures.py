"""What is measured: a function per part of the table, each yielding rows; a side that fails gives a row that says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from opponents import HERE, ONE_THREAD, OURS, PATIENCE, ROOT, Opponent, OpponentFailed, in_turn, last_line
from rows import Row, at_least, compared, foreign
from works import BLOCK, HELP, NORMALS, SCALING, STARTUP, N, Work, parameters


@dataclass(frozen=True)
class Setting:
    """How one run of the table is made.

    Arguments:
        core: the core that everything timed is pinned to.
        repeats: timed calls of each side.
        quick: small sizes, for development; nothing is kept.
        folder: for the arrays that are handed over.
    """

    core: int
    repeats: int
    quick: bool
    folder: Path

    def sized(self, work: Work) -> Work:
        """The work, or a small one of its kind."""
        if not self.quick:
            return work
        return Work(work.target, work.sampler, min(work.steps, 5), work.goals, work.dtype, work.n // 10)


def chains(setting: Setting, opponents: dict[str, Opponent], works: Sequence[Work]) -> Iterator[Row]:
    """Each work against each of its peers, and against its own noise."""
    for full in works:
        work = setting.sized(full)
        arrays = parameters(work.target, work.n)
        path = setting.folder / f"{work.target}-{work.n}.npz"
        np.savez(path, **arrays)  # type: ignore[arg-type]
        per = 1e9 / (work.steps * arrays["start"].size)
        ours, task = opponents["mixrate"], work.task()
        try:
            ours.ask("prepare", name=work.name, task=task, arrays=str(path))
            expected = ours.ask("check", name=work.name, seed=1)
        except OpponentFailed as failure:
            yield from (Row(work.name, figure_name(peer), goal=at_least(goal), note=str(failure)) for peer, goal in work.goals.items())
            continue
        for peer, goal in work.goals.items():
            try:
                if peer == "floor":
                    block = min(work.n, BLOCK)
                    shape, calls = [block, arrays["start"].shape[1]], work.steps * work.n // block
                    noise = {"generator": "mixrate", "shape": shape, "dtype": work.dtype, "calls": calls}
                    opponents["normals"].ask("prepare", name=work.name, task=noise, arrays="")
                    seconds = in_turn({"ours": (ours, work.name), "peer": (opponents["normals"], work.name)}, setting.repeats)
                    note = ""
                else:
                    other = opponents[peer if work.dtype == "float64" else f"{peer} f32"]
                    other.ask("prepare", name=work.name, task=task, arrays=str(path))
                    note = disagreement(expected, other.ask("check", name=work.name, seed=1), work.n)
                    if note:
                        raise OpponentFailed(f"{peer}: {note}")
                    seconds = in_turn({"ours": (ours, work.name), "peer": (other, work.name)}, setting.repeats)
            except OpponentFailed as failure:
                yield Row(work.name, figure_name(peer), goal=at_least(goal), note=str(failure))
            else:
                yield compared(work.name, figure_name(peer), seconds["peer"], seconds["ours"], at_least(goal), "below", per, "ns/pd-step", note)


def figure_name(peer: str) -> str:
    """How a row calls the figure."""
    return {"floor": "noise alone / ours", "jax": "hand-written JAX / ours"}.get(peer, f"{peer} / ours")


def disagreement(ours: dict[str, Any], peer: dict[str, Any], n: int) -> str:
    """Why two chains are not the same chain, or nothing.

    At N = 1e4 acceptance must agree within 0.02, second moments and squared displacements within 5 %, as the mean over the
    coordinates of their ratios, whose standard error is then at most 1.5 %; fewer particles get as much more. A step of
    the wrong size shows in the displacement, also where the moments are those of the modes.
    """
    found, room = [], max(1.0, (N / n) ** 0.5)
    if (ours["acceptance"] is None) != (peer["acceptance"] is None) or (
        ours["acceptance"] is not None and not abs(ours["acceptance"] - peer["acceptance"]) <= 0.02 * room
    ):
        found.append(f"acceptance {ours['acceptance']} here and {peer['acceptance']} there")
    for what in ("second_moment", "displacement"):
        ratio = float(np.mean(np.asarray(peer[what]) / np.asarray(ours[what])))
        if not abs(ratio - 1) <= 0.05 * room:
            found.append(f"{what.replace('_', ' ')} there {ratio:.3g} times that here")
    return "; ".join(found)


def generators(setting: Setting, opponents: dict[str, Opponent]) -> Iterator[Row]:
    """Our normals against torch's and the faster of numpy's."""
    shape, calls = [BLOCK, 50], 4 if setting.quick else 80
    scale = 1e9 / (shape[0] * shape[1] * calls)
    opponent = opponents["normals"]
    try:
        for name in ("mixrate", "torch", "SFC64", "PCG64DXSM"):
            opponent.ask("prepare", name=name, task={"generator": name, "shape": shape, "dtype": "float64", "calls": calls}, arrays="")
        seconds = in_turn({name: (opponent, name) for name in ("mixrate", "torch", "SFC64", "PCG64DXSM")}, setting.repeats)
    except OpponentFailed as failure:
        yield from (Row("normals", f"{peer} / ours", goal=at_least(goal), note=str(failure)) for peer, goal in NORMALS.items())
        return
    best = min("SFC64", "PCG64DXSM", key=lambda name: median(seconds[name]))
    yield compared("normals", "torch / ours", seconds["torch"], seconds["mixrate"], at_least(NORMALS["torch"]), "below", scale, "ns/normal")
    yield compared("normals", "numpy / ours", seconds[best], seconds["mixrate"], at_least(NORMALS["numpy"]), "below", scale, "ns/normal", best)


def scaling(setting: Setting, opponents: dict[str, Opponent]) -> Iterator[Row]:
    """What a step of a particle costs when there are many, against when there are few."""
    few, many, limit = setting.sized(SCALING[0]), setting.sized(SCALING[1]), SCALING[2]
    figure, goal, ours = f"N={many.n:.0e} / N={few.n:.0e}".replace("e+0", "e"), f"<= {limit:g}", opponents["mixrate"]
    try:
        for work in (few, many):
            path = setting.folder / f"{work.target}-{work.n}.npz"
            np.savez(path, **parameters(work.target, work.n))  # type: ignore[arg-type]
            ours.ask("prepare", name=f"{work.n}", task=work.task(), arrays=str(path))
        seconds = in_turn({"few": (ours, f"{few.n}"), "many": (ours, f"{many.n}")}, setting.repeats)
    except OpponentFailed as failure:
        yield Row("ULA gauss50", figure, goal=goal, note=str(failure))
        return
    each = {name: [s * 1e9 / (50 * w.n * w.steps) for s in seconds[name]] for name, w in (("few", few), ("many", many))}
    yield compared("ULA gauss50", figure, each["many"], each["few"], goal, "above", 1.0, "ns/pd-step", "both are ours")


def transport(setting: Setting) -> Iterator[Row]:
    """The rows of transport.py beside this file, a line of JSON each."""
    script = HERE / "transport.py"
    if not script.exists():
        return
    command = [str(OURS), str(script), *(["--quick"] if setting.quick else [])]
    pin = None if sys.platform != "linux" else lambda: os.sched_setaffinity(0, {setting.core})
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ) | ONE_THREAD, timeout=3600, preexec_fn=pin)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Row("transport", "all", note=f"transport.py: {type(error).__name__}")
        return
    yield from foreign(done.stdout)
    if done.returncode != 0:
        yield Row("transport", "all", note=f"transport.py failed: {last_line(done.stderr) or f'code {done.returncode}'}")


def startup(setting: Setting) -> Iterator[Row]:
    """What a small experiment waits for, in wall time: the answer of ``--help``, and a run less the seconds of its own cells."""
    mixrate = str(ROOT / ".venv" / "bin" / "mixrate")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}  # a user's caches are kept, so are these
    fresh = iter(range(10**6))

    def clocked(*arguments: str) -> float:
        began = time.perf_counter()
        subprocess.run([mixrate, *arguments], check=True, capture_output=True, text=True, env=environment, cwd=setting.folder, timeout=PATIENCE)
        return time.perf_counter() - began

    def around(experiment: str) -> float:
        out = setting.folder / f"runs-{next(fresh)}"
        wall = clocked("run", str(ROOT / "experiments" / f"{experiment}.yaml"), "--out", str(out))
        return wall - float(json.loads((out / experiment / "run.json").read_text(encoding="utf-8"))["seconds"])

    yield waited("mixrate --help", HELP, lambda: clocked("--help"), 2 if setting.quick else 7)
    for experiment, limit in STARTUP.items():
        yield waited(f"{experiment}, start-up", limit, lambda name=experiment: around(name), 1 if setting.quick else 5)  # type: ignore[misc]


def waited(work: str, limit: float, call: Callable[[], float], calls: int) -> Row:
    """A row of seconds, median of `calls` after a first one that fills the caches."""
    goal = f"<= {limit:g}"
    try:
        seconds = [call() for _ in range(1 + calls)][1:]
    except subprocess.CalledProcessError as error:
        return Row(work, "wall time", goal=goal, note=f"exit code {error.returncode}: {last_line(error.stderr)}")
    except (OSError, subprocess.TimeoutExpired, KeyError, ValueError) as error:
        return Row(work, "wall time", goal=goal, note=type(error).__name__)
    return Row(work, "wall time", median(seconds), None, "s", median(seconds), min(seconds), max(seconds), goal)
