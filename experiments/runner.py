"""The one runner: points of a sweep to cells, cells to a table, the table to verdicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from ..errors import MixrateError
from .catalogue import plugin_fingerprint
from .cell import run_point
from .components import find, load_plugin
from .judge import judge
from .result import Result
from .schema import Experiment, Point
from .store import Store, atomically, environment, fingerprint, key_of

#: Called as (experiment name, cells done, cells in all) whenever a cell is finished.
Progress = Callable[[str, int, int], None]

#: Called with the particle-steps done since the last call, from any thread.
Ticks = Callable[[int], None]

#: Bumped whenever the rows of a cell change their meaning.
FORMAT = 2


def run(
    experiment: Experiment,
    out: Path,
    progress: Progress | None = None,
    executor: Executor | None = None,
    ticks: Ticks | None = None,
) -> Result:
    """Run an experiment, or the part of it that is not on disk yet.

    Arguments:
        out: folder of all runs; this one goes to ``out / experiment.name``.
        progress: told of every finished cell.
        executor: runs the cells: `pool(jobs)`, a cluster's, or None for this process.
        ticks: told of particle-steps as they are done; by another process, once its cell is finished.
    """
    store = Store(out / experiment.name)
    points = experiment.points()
    cells: dict[int, pd.DataFrame] = {}
    missing = []
    for point in points:
        found = store.read(_key(point))
        if found is None:
            missing.append(point)
        else:
            cells[point.index] = found.assign(index=point.index)
    if progress:
        progress(experiment.name, len(cells), len(points))
    for point, table in _compute(missing, executor, ticks):
        store.write(_key(point), table)
        cells[point.index] = table
        if progress:
            progress(experiment.name, len(cells), len(points))
    return conclude(experiment, store, cells)


def conclude(experiment: Experiment, store: Store, cells: dict[int, pd.DataFrame]) -> Result:
    """The table, the verdicts and the files of a run whose cells are all there."""
    points = experiment.points()
    swept = list(dict.fromkeys(path for p in points for path in p.sweep))
    frames = []
    for point in points:
        frame = cells[point.index].copy()
        for path in swept:
            value = point.sweep.get(path)
            frame[path] = [json.dumps(value) if isinstance(value, (list, dict)) else value] * len(frame)
        frames.append(frame)
    table = pd.concat(frames, ignore_index=True)
    verdicts = judge(points, table, swept)
    text = experiment.path.read_text(encoding="utf-8")
    seconds = float(table.groupby("cell")["seconds"].first().sum())
    result = Result(experiment.name, experiment.title, experiment.claim, text, store.folder, table, verdicts, seconds)
    atomically(store.folder / "table.parquet", lambda path: table.to_parquet(path, index=False))
    atomically(store.folder / "verdicts.parquet", lambda path: verdicts.to_parquet(path, index=False))
    about = {"name": result.name, "title": result.title, "claim": result.claim, "yaml": text, "seconds": seconds, "environment": environment()}
    atomically(store.folder / "run.json", lambda path: path.write_text(json.dumps(about, indent=1), encoding="utf-8"))
    return result


def _key(point: Point) -> str:
    """Content of the point and of the network it names, the source of mixrate and of the plugins, the versions of the components."""
    parts = [("target", point.target.name), ("sampler", point.sampler.name)]
    parts += [("metric", m.name) for m in point.metrics] + [("theorem", t.id) for t in point.theorems]
    score, network = point.sampler.params.get("score"), ""
    if isinstance(score, str) and score != "oracle":  # a network at this path may be trained anew
        from ..samplers.diffusion.network import fingerprint_of

        network = fingerprint_of(score)
    versions = {name: find(kind, name.split(".")[0]).version for kind, name in parts}  # type: ignore[arg-type, attr-defined]
    return key_of(point.key, FORMAT, fingerprint(), plugin_fingerprint(), versions, network)


def cell_path(experiment: Experiment, point: Point, out: Path) -> Path:
    """Where the cell of a point lies once it is finished."""
    return out / experiment.name / "cells" / f"{_key(point)}.parquet"


def _compute(points: list[Point], executor: Executor | None, ticks: Ticks | None) -> Iterator[tuple[Point, pd.DataFrame]]:
    if executor is None:
        with one_thread():
            for point in points:
                yield point, run_point(point, ticks)
        return
    waiting = {executor.submit(run_point, point): point for point in points}
    failure: BaseException | None = None
    for done in as_completed(waiting):
        failed = done.exception()
        if failed is None:
            if ticks:
                ticks(particle_steps(waiting[done]))
            yield waiting[done], done.result()
        failure = failure or failed
    if failure is not None:  # after the others are stored
        raise failure


def particle_steps(point: Point) -> int:
    """Particles times steps of a cell; 0 where its law has no particles."""
    return int(getattr(point.law, "n", 0)) * point.steps[-1]


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra on one thread: cells are small, and threads that wait for each other cost more than they bring."""
    import threadpoolctl
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def pool(jobs: int, plugins: Sequence[Path] = ()) -> Iterator[Executor | None]:
    """Worker processes for `run`, one thread each; None for one job, which stays in this process.

    They are spawned, not forked: torch and the transforms hold threads that a fork would lose.
    """
    if jobs <= 1:
        yield None
        return
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(list(plugins),)) as workers:
        yield workers


def _start_worker(plugins: list[Path]) -> None:
    import threadpoolctl
    import torch

    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    for path in plugins:
        load_plugin(path)


def load_result(folder: str | Path) -> Result:
    """A finished run read back from its folder."""
    folder = Path(folder)
    try:
        about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        table, verdicts = pd.read_parquet(folder / "table.parquet"), pd.read_parquet(folder / "verdicts.parquet")
        return Result(about["name"], about["title"], about["claim"], about["yaml"], folder, table, verdicts, about["seconds"])
    except (OSError, ValueError, KeyError) as error:
        raise MixrateError(f"{folder}: not a finished run ({getattr(error, 'strerror', None) or error})") from None
