"""The library in a notebook: components by name, laws along a chain, experiments as tables."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from .errors import InvalidInput, Unsupported
from .experiments.components import find, load_plugin
from .experiments.result import Result
from .experiments.runner import load_result, pool
from .experiments.runner import run as run_experiment
from .experiments.schema import read, validate
from .experiments.wording import suggest
from .laws.coupling import Coupled
from .laws.coupling import Coupling as CouplingKind
from .laws.grid import Grid
from .laws.normal import Normal
from .laws.particles import Particles
from .laws.propagate import Law, mesh_for
from .laws.propagate import propagate as propagate_law
from .laws.propagate import stationary as stationary_law
from .learning import train
from .metrics.base import Metric
from .samplers.base import Sampler
from .targets.base import Target
from .targets.user_potential import user_potential as potential
from .theory.base import Theorem

__all__ = [
    "certify",
    "load_plugin",
    "load_result",
    "metric",
    "normal",
    "potential",
    "propagate",
    "run",
    "sampler",
    "stationary",
    "target",
    "theorem",
    "train",
]

Start = Law | Literal["target", "forward"]


def target(name: str, /, **params: Any) -> Target:
    """A target by its YAML name: ``target("gaussian.ar1", dim=10, rho=0.9)``; arrays and tensors are welcome here."""
    return cast(Target, _make("target", name, params))


def sampler(name: str, /, **params: Any) -> Sampler:
    """A sampler by its YAML name: ``sampler("ula", step_size=0.1)``."""
    return cast(Sampler, _make("sampler", name, params))


def metric(name: str, /, **params: Any) -> Metric:
    """A metric by its YAML name: ``metric("renyi", order=2)``. Call it on (law, target)."""
    return cast(Metric, _make("metric", name, params))


def theorem(name: str, /, **params: Any) -> Theorem:
    """A theorem by its id: ``theorem("ld-kl")``, with `statement`, `source`, `hypotheses`."""
    return cast(Theorem, _make("theorem", name, params))


def _make(kind: Any, name: str, params: dict[str, Any]) -> Any:
    make = find(kind, name)
    accepted = inspect.signature(make).parameters
    for key in params:
        if key not in accepted:
            raise InvalidInput(f"unknown parameter {key!r}, {name} accepts {', '.join(accepted) or 'none'}{suggest(key, accepted)}")
    try:
        return make(**params)
    except InvalidInput:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name}: {' '.join(str(error).split()).split('__init__() ')[-1]}") from None


def certify(target: Target) -> Any:
    """The certificate of a target as a DataFrame: one row per finding; `attrs` has its word (certified, failed or open)."""
    from .experiments.certificates import table
    from .theory.certificate.certify import certify as certificate_of

    if not isinstance(target, Target):
        raise InvalidInput(f"the target must be a Target, got a {type(target).__name__}")
    found = certificate_of(target)
    frame = table([found])
    frame.attrs["word"] = found.word
    return frame


def normal(mean: Any, cov: Any, dim: int | None = None) -> Normal:
    """The Gaussian law N(mean, cov).

    Arguments:
        mean: shape (d,), or a number that stands for mean * ones(dim).
        cov: shape (d, d), a diagonal of shape (d,), or a number that stands for cov * I.
        dim: d; needed only where both others are numbers and d > 1.
    """
    mean, cov = np.asarray(mean, float), np.asarray(cov, float)
    d = dim or max(mean.size, len(cov) if cov.ndim else 1)
    full_mean = np.full(d, float(mean)) if mean.ndim == 0 else mean
    full_cov = cov * np.eye(d) if cov.ndim == 0 else np.diag(cov) if cov.ndim == 1 else cov
    law = Normal(full_mean, full_cov)
    smallest = float(np.linalg.eigvalsh(law.cov)[0])
    if smallest < -1e-12 * float(np.abs(law.cov).max()):
        raise InvalidInput(f"cov must be positive semidefinite, its smallest eigenvalue is {smallest:.6g}")
    return law


def propagate(
    start: Start,
    sampler: Sampler,
    target: Target,
    steps: int,
    checkpoints: Sequence[int] | None = None,
    law: Literal["auto", "normal", "grid", "particles", "coupled"] = "auto",
    n: int = 1000,
    seed: int = 0,
    nodes: int | None = None,
    box: tuple[Sequence[float], Sequence[float]] | None = None,
    progress: bool = False,
    coupling: CouplingKind = "synchronous",
    lag: int = 0,
) -> Any:
    """The law after `steps` steps, or the laws at the `checkpoints`.

    Arguments:
        start: a law; ``"target"`` for a stationary start; ``"forward"``, for a reverse process, the forward law at its horizon.
        law: kind of law to carry; ``auto`` takes a normal law where the step is affine, a grid in one and two
            dimensions, particles elsewhere. A start that is already a grid, a sample or a coupling keeps its kind.
        n, seed: size and key of the sample, for particles and for pairs (``law="coupled"``).
        coupling, lag: of pairs, ``synchronous`` or ``reflection``; see `Coupled`.
        nodes, box: mesh of the grid; chosen from the target, the start and the step by default.
        progress: show a bar with particle-steps per second, where the law is a sample.

    Errors: `Unsupported` where the chosen law has no route, with the reason.
    """
    _check(start, sampler, target, law)
    ks = list(checkpoints) if checkpoints is not None else [steps]
    if not ks or not all(isinstance(k, (int, np.integer)) and 0 <= k <= steps for k in [steps, *ks]):
        raise InvalidInput(f"steps and checkpoints must be whole numbers from 0 to steps, got steps = {steps}, checkpoints = {checkpoints}")
    if law == "coupled" and not isinstance(start, (Grid, Particles, Coupled)):
        if start == "forward":
            raise Unsupported("start: forward is for normal, grid and particle laws, got coupled")
        pairs = Coupled.starting(start, target, n, seed, coupling, lag)
        laws = propagate_law(pairs, sampler, target, ks)
    elif law != "auto" or isinstance(start, (Grid, Particles, Coupled)):
        first = _as(start, law, sampler, target, n, seed, nodes, box)
        laws = _with_bar(first, sampler, target, ks) if progress and isinstance(first, Particles) else propagate_law(first, sampler, target, ks)
    else:
        laws = _first_route(start, sampler, target, ks, n, seed, nodes, box)
    return laws if checkpoints is not None else laws[0]


def stationary(sampler: Sampler, target: Target, law: Literal["auto", "normal", "grid"] = "auto", nodes: int | None = None) -> Law:
    """The sampler's own stationary law: a Lyapunov equation, or a fixed density on a grid."""
    _check("target", sampler, target, law)
    if str(law) in ("particles", "coupled"):
        raise InvalidInput(f"the stationary law of {law} is not known; law must be auto, normal or grid")
    if law == "normal" or (law == "auto" and target.is_gaussian):
        return stationary_law(_as("target", "normal", sampler, target, 0, 0, None, None), sampler, target)
    return stationary_law(_as("target", "grid", sampler, target, 0, 0, nodes, None), sampler, target)


def _check(start: Start, sampler: Sampler, target: Target, law: str) -> None:
    """One line for arguments of the wrong kind or in the wrong order."""
    for value, kind, name in ((sampler, Sampler, "sampler"), (target, Target, "target")):
        if not isinstance(value, kind):
            raise InvalidInput(f"the {name} must be a {kind.__name__}, got a {type(value).__name__}; the order is start, sampler, target")
    if not (isinstance(start, (Normal, Grid, Particles, Coupled)) or start in ("target", "forward")):
        raise InvalidInput(f"the start must be a law, 'target' or 'forward', got {start!r}")
    if law not in ("auto", "normal", "grid", "particles", "coupled"):
        raise InvalidInput(f"law must be auto, normal, grid, particles or coupled, got {law!r}")


def _first_route(start: Start, sampler: Sampler, target: Target, ks: list[int], n: int, seed: int, nodes: Any, box: Any) -> list[Law]:
    reasons = []
    for kind in ("normal", "grid", "particles"):
        if kind == "grid" and target.dim > 2:
            continue
        try:
            return propagate_law(_as(start, kind, sampler, target, n, seed, nodes, box), sampler, target, ks)
        except Unsupported as error:
            reasons.append(f"{kind}: {error}")
    raise Unsupported("; ".join(reasons))


def _with_bar(start: Particles, sampler: Sampler, target: Target, ks: list[int]) -> list[Law]:
    from .display import bar

    with bar(start.n * ks[-1]) as told:
        return propagate_law(start, sampler, target, ks, told)


def _as(start: Start, kind: str, sampler: Sampler, target: Target, n: int, seed: int, nodes: Any, box: Any) -> Law:
    """The start as a law of a kind."""
    if isinstance(start, (Grid, Particles, Coupled)):
        wanted = "grid" if isinstance(start, Grid) else "particles" if isinstance(start, Particles) else "coupled"
        if kind not in ("auto", wanted):
            raise Unsupported(f"a start that is a {wanted} law cannot be carried as {kind}")
        return start
    if start == "forward":
        return _forward(kind, sampler, target, n, seed, nodes, box)
    if kind == "particles":
        return Particles.of_target(target, n, seed) if isinstance(start, str) else Particles.of_normal(start, n, seed)
    if kind == "grid":
        mesh = mesh_for(target, sampler, None if isinstance(start, str) else start, nodes, box)
        return Grid.of_target(target, mesh) if isinstance(start, str) else Grid.of_normal(start, mesh)
    if not isinstance(start, str):
        return start
    if not target.is_gaussian or target.moments is None:
        raise Unsupported(f"{target.name} is not Gaussian, so a normal law cannot start from it")
    return Normal(*(m.numpy() for m in target.moments))


def _forward(kind: str, sampler: Sampler, target: Target, n: int, seed: int, nodes: Any, box: Any) -> Law:
    """The forward law at the horizon of a reverse process, as a law of a kind."""
    from .laws.origin import grid_origin, normal_origin, particles_origin

    if kind == "particles":
        return particles_origin(sampler, target, n, seed)
    return grid_origin(sampler, target, nodes, box) if kind == "grid" else normal_origin(sampler, target)


def run(path: str | Path, overrides: Sequence[str] = (), out: str | Path = "results/runs", jobs: int = 1) -> Result:
    """Run an experiment YAML; `.table` and `.verdicts` of the result are DataFrames.

    Arguments:
        overrides: ``["sampler.step_size=0.1"]``, as on the command line.
        out: folder of all runs; finished cells found there are not computed again.
        jobs: worker processes.
    """
    experiment = read(path, overrides)
    validate(experiment)
    with pool(jobs) as executor:
        return run_experiment(experiment, Path(out), executor=executor)
