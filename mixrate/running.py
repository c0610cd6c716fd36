"""What the commands that run things share: reading, running side by side with a bar, and the exit code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InvalidInput

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .experiments.result import Result
    from .experiments.schema import Experiment


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_plugins(plugins: list[Path]) -> None:
    if plugins:
        from .experiments.components import load_plugin

        for path in plugins:
            load_plugin(path)


def read_all(files: list[Path], overrides: list[str], plugins: list[Path]) -> list[Experiment]:
    """All experiments, every one validated before any runs."""
    from .experiments.schema import load
    from .experiments.schema import validate as check

    load_plugins(plugins)
    experiments = [e for file in files for e in load(file, overrides)]
    names = [e.name for e in experiments]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"two experiments are called {name!r}; their results would share a folder")
    for experiment in experiments:
        check(experiment)
    return experiments


def shipped(smoke_only: bool) -> list[Experiment]:
    """The experiments that ship with mixrate: smoke alone, or all."""
    from . import experiments
    from .experiments.schema import load

    found = load(Path(next(iter(experiments.__path__))))
    return [e for e in found if not smoke_only or e.tier == "smoke"]


def run_all(experiments: list[Experiment], out: Path, jobs: int, plugins: list[Path], png: bool = True) -> list[Result]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from .display import Speed
    from .experiments.plots import save
    from .experiments.runner import pool
    from .experiments.runner import run as run_one

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[speed]}"))
    total = sum(len(e.points()) for e in experiments) + len(experiments)  # cells, and the figures of each experiment
    results: list[Result] = []
    drawn: list[Future[object]] = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar, pool(jobs, plugins) as executor:
        task, before = bar.add_task("", total=total, speed=""), 0
        speed = Speed(lambda text: bar.update(task, speed=text))
        for experiment in experiments:

            def advance(name: str, done: int, _: int, before: int = before) -> None:
                bar.update(task, completed=before + done, description=name)

            results.append(run_one(experiment, out, advance, executor, speed))
            if executor is None:
                save(results[-1], png)
            else:
                drawn.append(executor.submit(save, results[-1], png))
            before += len(experiment.points()) + 1
            bar.update(task, completed=before - sum(not d.done() for d in drawn))
        for figures in drawn:
            figures.result()
            bar.update(task, advance=1, description="figures")
    return results


def exit_code(results: list[Result], strict: bool, only: set[str] | None = None) -> int:
    """0 as expected, 1 not, 3 inconclusive under strict."""
    from .experiments.result import records

    rows = [row for r in results for row in records(r.verdicts) if not only or row["theorem"] in only]
    wrong = [row for row in rows if not row["as_expected"] and row["word"] != "inconclusive"]
    open_ = [row for row in rows if not row["as_expected"] and row["word"] == "inconclusive"]
    # a control that should have failed and did not decide is a failed control, not an open question
    if wrong or any(row["expect"] == "violated" for row in open_):
        return 1
    return 3 if strict and open_ else 0
