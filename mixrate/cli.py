"""The command line: ``mixrate run | verify | certify | train | list | validate | plan | compare | report | cite | schema``.

Exit codes: 0 everything came out as expected, 1 something did not, 2 bad input, 3 something is inconclusive under
``--strict``. Heavy modules are imported inside the commands, so that ``mixrate --help`` answers at once.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import InvalidInput, MixrateError
from .learning import command as train_command
from .running import cores, exit_code, load_plugins, read_all, run_all, shipped

if TYPE_CHECKING:
    pass

app = typer.Typer(
    name="mixrate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Does this sampler converge at the rate its theorem says?",
)


class Tier(StrEnum):
    """How much to run."""

    smoke = "smoke"
    full = "full"


class What(StrEnum):
    """What to list."""

    targets = "targets"
    samplers = "samplers"
    metrics = "metrics"
    theorems = "theorems"
    experiments = "experiments"


Files = Annotated[list[Path], typer.Argument(help="Experiment YAMLs, or folders of them.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Worker processes.")]
Set = Annotated[list[str], typer.Option("--set", help="Override a value: sampler.step_size=0.1. Repeatable.")]
Out = Annotated[Path, typer.Option(help="Folder of all runs; finished cells found there are not computed again.")]
Plugins = Annotated[list[Path], typer.Option("--plugin", help="Python file with further targets, samplers, metrics or theorems. Repeatable.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 3 where something is inconclusive.")]
RUNS = Path("results/runs")


@app.command()
def run(files: Files, set_: Set = [], out: Out = RUNS, jobs: Jobs = 1, plugin: Plugins = [], strict: Strict = False) -> None:
    """Run experiments, print their verdicts, and write tables, plots and a report."""
    from . import display
    from .experiments.report import write

    results = run_all(read_all(files, set_, plugin), out, jobs, plugin)
    display.verdicts(results)
    for result in results:
        path = write([result], result.folder / "report.html", result.title)
        typer.echo(f"table: {result.folder / 'table.parquet'}, hash {result.digest}")
        typer.echo(f"report: {path}")
    raise typer.Exit(exit_code(results, strict))


@app.command()
def verify(
    ids: Annotated[list[str], typer.Argument(help="Theorem ids; all by default.")] = [],
    tier: Annotated[Tier, typer.Option(help="smoke: seconds; full: every experiment.")] = Tier.smoke,
    out: Out = RUNS,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=0, help="Worker processes; 0: one per core.")] = 0,
    strict: Strict = False,
) -> None:
    """Check the theorem ledger: one line per theorem, from the experiments that ship with mixrate."""
    from . import display
    from .experiments.report import write
    from .experiments.result import ledger_table

    known = _theorem_ids()
    for name in ids:
        if name not in known:
            from .experiments.wording import suggest

            raise InvalidInput(f"unknown theorem {name!r}, known: {', '.join(known)}{suggest(name, known)}")
    chosen = [e for e in shipped(tier is Tier.smoke) if not ids or any(t.id in ids for p in e.points() for t in p.theorems)]
    # workers take seconds to start: a handful of cells is done sooner without them
    workers = jobs or (cores() if sum(len(e.points()) for e in chosen) > 40 else 1)
    results = run_all(chosen, out, workers, [], png=False)  # the page needs no PNGs
    display.ledger(results, ids or known)
    path = write(results, out / f"verify-{tier.value}.html", f"The theorem ledger, tier {tier.value}")
    table = out / f"verify-{tier.value}.csv"
    ledger_table(results).to_csv(table, index=False, float_format="%.6g")
    typer.echo(f"table: {table}")
    typer.echo(f"report: {path}")
    raise typer.Exit(exit_code(results, strict, set(ids)))


@app.command()
def certify(
    targets: Annotated[list[str], typer.Argument(help="Targets by their YAML names; each name's examples, or one name with --set.")] = [],
    all_: Annotated[bool, typer.Option("--all", help="Every example of every target.")] = False,
    set_: Annotated[list[str], typer.Option("--set", help="Parameter of the one target: dim=10. Repeatable.")] = [],
    out: Annotated[Path, typer.Option(help="Folder of the table and the page.")] = RUNS,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=0, help="Worker processes; 0: one per core.")] = 0,
    plugin: Plugins = [],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 where something declared could not be decided.")] = False,
) -> None:
    """Certify targets: what each declares, checked by independent routes; a table and a page."""
    from . import display_targets
    from .experiments.certificates import certify_all, table, write
    from .experiments.document import Document
    from .experiments.runner import pool
    from .experiments.zoo import chosen, everything

    load_plugins(plugin)
    if all_ == bool(targets):
        raise InvalidInput(f"certify needs target names or --all, got {'both' if all_ else 'neither'}")
    params = {}
    for item in set_:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise InvalidInput(f"--set {item}: must be parameter=value")
        params[key] = Document.parse(text, f"--set {item}").data
    if all_ and params:
        raise InvalidInput("--set is for one target, got --all")
    instances = everything() if all_ else chosen(targets, params)
    if params:
        instances[0].build()  # bad parameters get their line before anything runs
    out.mkdir(parents=True, exist_ok=True)
    with display_targets.counted(len(instances)) as advance, pool((jobs or cores()) if len(instances) > 3 else 1, plugin) as executor:
        certificates = certify_all(instances, executor, advance)
    display_targets.certificates(certificates)
    name = "certify" if all_ or len(targets) > 1 else f"certify-{targets[0]}"
    table(certificates).to_csv(out / f"{name}.csv", index=False, float_format="%.10g")
    typer.echo(f"table: {out / f'{name}.csv'}")
    typer.echo(f"page: {write(certificates, instances, out / f'{name}.html')}")
    words = [c.word for c in certificates]
    raise typer.Exit(1 if "failed" in words else 3 if strict and "open" in words else 0)


app.command("train")(train_command)


@app.command("list")
def list_(what: Annotated[What, typer.Argument(help="What to list; all counts by default.")] = What.theorems, plugin: Plugins = []) -> None:
    """List targets, samplers, metrics, theorems or the experiments that ship with mixrate."""
    from . import display

    load_plugins(plugin)
    if what is What.experiments:
        display.experiments(shipped(False))
    elif what is What.targets:
        from . import display_targets

        display_targets.targets()
    else:
        display.components(what.value)


@app.command()
def validate(files: Files, set_: Set = [], plugin: Plugins = []) -> None:
    """Check experiment YAMLs without running them."""
    for experiment in read_all(files, set_, plugin):
        typer.echo(f"{experiment.path}: ok, {len(experiment.points())} cells")


@app.command()
def plan(files: Files, set_: Set = [], out: Out = RUNS, plugin: Plugins = []) -> None:
    """Show the cells of experiments and which are finished already."""
    from . import display

    display.plan(read_all(files, set_, plugin), out)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Folder of a run.")],
    second: Annotated[Path, typer.Argument(help="Folder of another run of the same experiment.")],
) -> None:
    """Compare two runs: verdicts that changed, values that moved beyond their intervals."""
    from . import display
    from .experiments.compare import compare as compare_runs
    from .experiments.runner import load_result

    difference = compare_runs(load_result(first), load_result(second))
    display.comparison(difference)
    raise typer.Exit(1 if difference.worse else 0)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("results/report.html"),
) -> None:
    """Write one report page from finished runs."""
    from .experiments.report import write
    from .experiments.runner import load_result

    results = [load_result(folder) for folder in runs]
    out.parent.mkdir(parents=True, exist_ok=True)
    typer.echo(f"report: {write(results, out, 'mixrate report' if len(results) > 1 else results[0].title)}")


@app.command()
def cite(ids: Annotated[list[str], typer.Argument(help="Theorem ids; all by default.")] = []) -> None:
    """Print the source of each theorem."""
    from .experiments.components import find

    for name in ids or _theorem_ids():
        typer.echo(f"{name}: {find('theorem', name).source}")  # type: ignore[attr-defined]


@app.command()
def schema() -> None:
    """Print the JSON Schema of an experiment YAML, for editors."""
    import json

    from .experiments.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        from . import __version__

        typer.echo(__version__)
        raise typer.Exit


def _theorem_ids() -> tuple[str, ...]:
    from .experiments.components import names

    return names("theorem")


def main() -> None:
    """Entry point: every error that a user can mend is one line on stderr and exit code 2."""
    try:
        app()
    except MixrateError as error:
        typer.echo(f"mixrate: {error}", err=True)
        sys.exit(2)
    except (OSError, MemoryError) as error:
        what = getattr(error, "filename", None) or "memory"
        typer.echo(f"mixrate: {what}: {getattr(error, 'strerror', None) or 'not enough of it for this run'}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("mixrate: stopped; finished cells are kept, the same command goes on from there", err=True)
        sys.exit(130)
