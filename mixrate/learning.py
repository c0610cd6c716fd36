"""Score networks from a YAML: read, trained (or found finished), measured against the oracle, printed."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import InvalidInput, MixrateError

if TYPE_CHECKING:
    from .experiments.components import Where
    from .experiments.document import Document
    from .samplers.diffusion.network import Architecture, ScoreNetwork
    from .samplers.diffusion.noising import Process
    from .samplers.diffusion.score_error import ScoreError
    from .samplers.diffusion.training import Training
    from .targets.base import Target

#: Where checkpoints lie, unless told otherwise.
SCORES = Path("results/runs/scores")
#: Steps between two savings of the state.
EVERY = 500


@dataclass(frozen=True)
class Spec:
    """A checked training file."""

    name: str
    target: Target
    process: Process
    network: Architecture
    training: Training


@dataclass(frozen=True)
class Trained:
    """A trained score and where it lies.

    Arguments:
        path: the checkpoint: ``score`` of a sampler.
        score: the network; ``score.score(x, t)``.
        error: against the oracle, None where there is none.
        seconds: of training; 0 where the checkpoint was there already.
        digest: SHA-256 of weights and description.
    """

    path: Path
    score: ScoreNetwork
    error: ScoreError | None
    seconds: float
    digest: str


def read_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """The training in a YAML: `target`, `process`, `network` and the fields of `Training`, all but the target with defaults.

    Errors: `InvalidInput`, one line ``file:line:col: path: message``.
    """
    from .experiments.components import build, construct
    from .experiments.document import Document
    from .experiments.wording import came, suggest
    from .samplers.diffusion.network import Architecture
    from .samplers.diffusion.noising import Process
    from .samplers.diffusion.training import Training

    document = Document.read(Path(path))
    if not isinstance(document.data, dict):
        got = "an empty file" if document.data is None else came(document.data)
        raise InvalidInput(f"{document.at(())}: a training is a mapping with a target, got {got}")
    fields = tuple(inspect.signature(Training).parameters)
    known = ("title", "target", "process", "network", *fields)
    for override in overrides:
        document = _override(document, override, known)
    for key in document.data:
        if key not in known:
            raise document.fail((key,), f"unknown key, a training has {', '.join(known)}{suggest(key, known)}", True)
    if "target" not in document.data:
        raise document.fail((), "missing key 'target'")
    if not isinstance(document.data.get("title", ""), str):
        raise document.fail(("title",), f"must be text, got {came(document.data['title'])}")
    target = _section(document, "target", "name")
    if "name" not in target:
        raise document.fail(("target",), "missing key 'name'")
    name = target.pop("name")
    if not isinstance(name, str):
        raise document.fail(("target", "name"), f"must be text, got {came(name)}")
    made = build("target", name, target, _where(document, "target", "name"))
    process = construct(Process, "a process", _section(document, "process", "name"), _where(document, "process", "name"))
    network = construct(Architecture, "a network", _section(document, "network", ""), _where(document, "network"))
    training = construct(Training, "a training", {k: v for k, v in document.data.items() if k in fields}, _where(document, ""))
    try:
        training.check(process, made)
    except MixrateError as error:
        key = next((k for k in ("loss", "weight", "parameterization", "target") if str(error).startswith(f"{k} ")), "")
        raise document.fail((key,) if key else (), str(error).removeprefix(f"{key} ")) from None
    return Spec(Path(path).stem, made, process, network, training)


def train(spec: str | Path | Spec, overrides: Sequence[str] = (), out: str | Path = SCORES, progress: bool = False) -> Trained:
    """Train a score network as a YAML says; what is finished is not trained again, and what was stopped goes on.

    Training takes one thread: the weights do not depend on the number of cores.

    Arguments:
        spec: the file, or what `read_spec` made of it.
        overrides: ``["steps=1000"]``, as on the command line.
        out: folder of the checkpoint ``NAME.safetensors``, and until it is finished of ``NAME.state.safetensors``.
        progress: show a bar.
    """
    import time

    from .samplers.diffusion.checkpoint import read, write
    from .samplers.diffusion.training import Run

    found = spec if isinstance(spec, Spec) else read_spec(spec, overrides)
    path, state = Path(out) / f"{found.name}.safetensors", Path(out) / f"{found.name}.state.safetensors"
    run = Run(found.target, found.process, found.network, found.training)
    done = _finished(path, run.recipe)
    if done is not None:
        return done
    if state.exists() and _recipe(state) == run.recipe:
        run.resume(state)
    began = time.perf_counter()
    with _one_thread(), _bar(found.training, run.step, progress) as told:
        while run.step < found.training.steps:
            try:
                run.advance(min(found.training.steps, (run.step // EVERY + 1) * EVERY), told)
            finally:
                run.save(state)
    seconds = time.perf_counter() - began
    score = run.trained()
    error = _measure(score, found.target)
    about = {"recipe": run.recipe, "target": found.target.id, **dataclasses.asdict(found.training)}
    digest = write(path, score, about | ({} if error is None else {"error": list(error)}))
    state.unlink()
    return Trained(path, read(path).score, error, seconds, digest)


def command(
    spec: Annotated[Path, typer.Argument(help="Training YAML.")],
    out: Annotated[Path, typer.Option(help="Folder of checkpoints; what is finished there is not trained again.")] = SCORES,
    set_: Annotated[list[str], typer.Option("--set", help="Override a value: steps=1000. Repeatable.")] = [],
) -> None:
    """Train a score network and print its error against the score that is known."""
    from .display import number, table_of, terminal

    found = read_spec(spec, set_)
    trained = train(found, (), out, progress=True)
    if trained.error is None:
        typer.echo(f"{found.target.name} has no closed form after noising: the error of the score is not known")
    else:
        table = table_of("time", "relative error", title=f"Score of {found.target.name} on {found.process.name}")
        for t, value in zip(trained.error.times, trained.error.at, strict=True):
            table.add_row(number(t), f"{100 * value:.2f} %")
        terminal().print(table)
        typer.echo(f"relative score error over all times: {100 * trained.error.total:.2f} %")
    typer.echo(f"seconds: {trained.seconds:.1f}" if trained.seconds else "finished before: not trained again")
    typer.echo(f"checkpoint: {trained.path}, hash {trained.digest[:16]}")


def _override(document: Document, text: str, known: Sequence[str]) -> Document:
    from .experiments.document import Document
    from .experiments.wording import suggest

    path, equals, value = text.partition("=")
    name = f"override {text!r}"
    if not equals or not path:
        raise InvalidInput(f"{name}: must read path=value, for example steps=1000")
    if path.split(".")[0] not in known:
        raise InvalidInput(f"{name}: unknown path{suggest(path.split('.')[0], known)}")
    if isinstance(document.data.get("process"), str) and path.startswith("process."):  # the short form of a mapping
        document = document.put(("process",), {"name": document.data["process"]})
    try:
        loc = document.resolve(path)
        kept = {at: mark for at, mark in document.marks.items() if at[: len(loc)] != loc}
        return document.put(loc, Document.parse(value, name).data, kept | {loc: (name, name)})
    except InvalidInput as error:
        raise InvalidInput(str(error) if str(error).startswith(name) else f"{name}: {error}") from None


def _section(document: Document, key: str, short: str) -> dict[str, Any]:
    """A mapping of the file; a word is its `short` key."""
    from .experiments.wording import came

    value = document.data.get(key, {})
    if isinstance(value, str) and short:
        return {short: value}
    if not isinstance(value, dict):
        raise document.fail((key,), f"must be {'a word or ' if short else ''}a mapping, got {came(value)}")
    return dict(value)


def _where(document: Document, section: str, short: str = "") -> Where:
    """Places of a section's parameters; what is about the whole of it stands at its `short` key."""
    from .experiments.document import dotted

    def where(parameter: str, at_key: bool) -> str:
        said = tuple(part for part in (section, parameter) if part)
        at = tuple(part for part in (section, parameter or short) if part)
        return f"{document.at(at, at_key)}: {dotted(said)}" if said else document.at(())

    return where


def _finished(path: Path, recipe: str) -> Trained | None:
    """The checkpoint of this very training, if it is there."""
    from .samplers.diffusion.checkpoint import read
    from .samplers.diffusion.score_error import ScoreError

    if not path.exists():
        return None
    score, about, digest = read(path)
    if about.get("recipe") != recipe:
        return None
    kept = about.get("error")
    error = None if kept is None else ScoreError(kept[0], tuple(kept[1]), tuple(kept[2]))
    return Trained(path, score, error, 0.0, digest)


def _recipe(state: Path) -> Any:
    from .samplers.diffusion.checkpoint import read_tensors

    return read_tensors(state)[1].get("recipe")


def _measure(score: ScoreNetwork, target: Target) -> ScoreError | None:
    from .samplers.diffusion.score_error import score_error

    return score_error(score, target) if "diffused" in target.capabilities else None


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _bar(training: Training, done: int, show: bool) -> Iterator[Callable[[int], None]]:
    """Told of steps; shows draws per second."""
    if not show:
        yield lambda steps: None
        return
    from .display import bar

    with bar((training.steps - done) * training.batch, "draws") as told:
        yield lambda steps: told(steps * training.batch)
