"""The recipes of CONTRIBUTING.md work as they stand: dropped into the folders, and as plugins, with no registration."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mixrate.errors import InvalidInput, Unsupported
from mixrate.experiments import catalogue, components
from mixrate.experiments.runner import run
from mixrate.experiments.schema import read, validate
from mixrate.laws.grid import Grid
from mixrate.laws.normal import Normal, affine_map
from mixrate.laws.propagate import mesh_for, propagate, stationary
from mixrate.metrics.w2 import W2
from mixrate.samplers.base import State
from mixrate.samplers.langevin_diffusion import LangevinDiffusion
from mixrate.samplers.noise import Probe, Stream
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.spectrum import gap_of_density
from mixrate.theory.base import Case

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^`((\w+)/([\w-]+)\.(py|yaml))`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPES = {m[1]: m[5] for m in BLOCK.finditer((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))}
FILES = ("targets/logistic.py", "samplers/tamed_ula.py", "metrics/mean_error.py", "theory/ld_mean.py")
NAMES: dict[components.Kind, str] = {"target": "logistic", "sampler": "tamed_ula", "metric": "mean_error", "theorem": "ld-mean"}


def test_there_is_a_recipe_of_each_kind() -> None:
    assert tuple(RECIPES) == (*FILES, "experiments/ld-mean.yaml")
    for name in FILES:
        assert 20 <= RECIPES[name].count("\n") <= 55, name
        assert not (ROOT / name).exists(), f"{name} exists now: the recipe needs another subject"


@pytest.fixture
def placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The four files in folders that the packages search: as if they lay in the repository, relative imports and all."""
    before = set(sys.modules)
    for name in FILES:
        path = tmp_path / "repository" / name
        path.parent.mkdir(parents=True)
        path.write_text(RECIPES[name], encoding="utf-8")
        package = importlib.import_module(f"mixrate.{path.parent.name}")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(path.parent)])
    monkeypatch.setattr(catalogue, "_plugins", {})
    catalogue._installed.cache_clear()
    importlib.invalidate_caches()
    yield tmp_path
    catalogue._installed.cache_clear()
    for name in FILES:
        module = f"mixrate.{name.removesuffix('.py').replace('/', '.')}"
        if module in sys.modules and module not in before:
            del sys.modules[module]
            delattr(sys.modules[module.rpartition(".")[0]], module.rpartition(".")[2])


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The four files anywhere, imports made absolute as CONTRIBUTING.md says, each loaded as a plugin."""
    monkeypatch.setattr(catalogue, "_plugins", {})
    for name in FILES:
        path = tmp_path / Path(name).name
        path.write_text(absolute(RECIPES[name], name.split("/")[0]), encoding="utf-8")
        kind = next(k for k, (folder, _) in catalogue.FOLDERS.items() if folder == name.split("/")[0])
        assert components.load_plugin(path) == (NAMES[kind],)
    yield tmp_path
    for name in FILES:
        del sys.modules[f"mixrate_plugins.{Path(name).stem}"]


def absolute(source: str, folder: str) -> str:
    """The imports of a file in a folder of mixrate, as a plugin writes them."""
    source = source.replace("from ..metrics.mean_error import", "from mixrate_plugins.mean_error import")
    source = re.sub(r"^from \.\.(\w)", r"from mixrate.\1", source, flags=re.MULTILINE)
    return re.sub(r"^from \.(\w)", rf"from mixrate.{folder}.\1", source, flags=re.MULTILINE)


def check_all_found_and_run(folder: Path) -> None:
    """All four are known by name, and the experiment of CONTRIBUTING.md comes out as it says."""
    for kind, name in NAMES.items():
        assert name in components.names(kind)
    path = folder / "ld-mean.yaml"
    path.write_text(RECIPES["experiments/ld-mean.yaml"], encoding="utf-8")
    experiment = read(path)
    validate(experiment)
    result = run(experiment, folder / "runs")
    assert result.verdicts["word"].tolist() == ["holds", "violated", "holds"]
    assert result.verdicts["as_expected"].all()
    assert result.verdicts["why"][0].endswith("not applicable in 1 of 3 cells")
    assert abs(result.verdicts["tightness"][0] - 1.0) < 1e-9  # an equality on the isotropic Gaussian
    chain = result.table[(result.table["kind"] == "metric") & (result.table["target"].astype(str).str.contains("logistic"))]
    assert len(chain) == 9
    assert set(chain["status"]) == {"ok"}
    assert chain["measured"].iloc[0] == pytest.approx(2.0, abs=1e-6)
    assert chain["measured"].iloc[-1] < 1.0
    assert chain["measured"].is_monotonic_decreasing


def test_files_dropped_into_the_folders_are_found(placed: Path) -> None:
    check_all_found_and_run(placed)
    assert type(components.find("target", "logistic")(1.0)).__module__ == "mixrate.targets.logistic"


def test_the_same_files_work_as_plugins(plugged: Path) -> None:
    check_all_found_and_run(plugged)
    assert components.find("theorem", "ld-mean").__module__ == "mixrate_plugins.ld_mean"  # type: ignore[attr-defined]


def test_without_them_the_experiment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ld-mean.yaml"
    path.write_text(RECIPES["experiments/ld-mean.yaml"], encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"unknown (target|sampler|metric|theorem) "):
        validate(read(path))


def test_the_command_line_takes_them_as_plugins(tmp_path: Path) -> None:
    """`mixrate validate --plugin ...` in a process of its own, in the order of dependence."""
    options = []
    for name in FILES:
        path = tmp_path / Path(name).name
        path.write_text(absolute(RECIPES[name], name.split("/")[0]), encoding="utf-8")
        options += ["--plugin", str(path)]
    (tmp_path / "ld-mean.yaml").write_text(RECIPES["experiments/ld-mean.yaml"], encoding="utf-8")
    code = "from mixrate.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "validate", "ld-mean.yaml", *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "ld-mean.yaml: ok, 3 cells"), done.stderr


# What the recipes say about themselves.


def test_the_logistic_density_is_what_it_says(plugged: Path) -> None:
    target = components.build("target", "logistic", {"scale": 0.7})
    x = (4.0 * Stream("logistic").normal((64, 1))).requires_grad_(True)
    (gradient,) = torch.autograd.grad(target.potential(x).sum(), x)
    assert float((target.score(x.detach()) + gradient).abs().max()) < 1e-13
    far = torch.tensor([[800.0]], dtype=torch.float64)
    assert float(target.potential(far)) == pytest.approx(800 / 0.7 - 2 * np.log(2), rel=1e-12)  # no overflow
    assert target.log_normalizer == pytest.approx(np.log(4 * 0.7), rel=1e-11)
    assert float(target.moments[1]) == pytest.approx(np.pi**2 * 0.49 / 3, rel=1e-10)
    line = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    curvature = -np.diff(target.score(line).numpy()[:, 0]) / np.diff(line.numpy()[:, 0])
    assert curvature.min() > 0
    assert curvature.max() == pytest.approx(target.constant("M"), rel=1e-4)
    assert curvature.max() < target.constant("M")
    assert "lsi" not in target.constants
    with pytest.raises(InvalidInput, match=r"^scale must be positive, got 0\.0$"):
        components.build("target", "logistic", {"scale": 0})


def test_the_poincare_constant_of_the_logistic_density_is_one_quarter(plugged: Path) -> None:
    """On [-L, L] with reflecting ends the gap is ``(1 + (pi/L)^2)/4``, up to exp(-L), from the odd solution
    ``tanh u cos k u + k sin k u``, u = x/2, k = pi/L, of the Poeschl-Teller well: 1/4 as L grows. Finite volumes find it.
    """
    target = components.build("target", "logistic", {})
    assert target.constant("poincare") == 0.25
    for half in (15.0, 30.0, 50.0):
        x = np.linspace(-half, half, 8001)
        gap = gap_of_density(-target.potential(torch.as_tensor(x[:, None])).numpy(), float(x[1] - x[0]))
        assert gap == pytest.approx(0.25 * (1 + (np.pi / half) ** 2), rel=1e-3)


def test_tamed_ula_is_what_it_says(plugged: Path) -> None:
    sampler, quartic = components.build("sampler", "tamed_ula", {"step_size": 0.1}), components.build("target", "quartic", {})
    x = torch.tensor([[0.5], [1e6]], dtype=torch.float64)
    moved = sampler.step(quartic, State(x), Probe(basis=False)).x - x
    assert float(moved[0]) == pytest.approx(-0.1 * 0.125 / 1.0125, rel=1e-12)
    assert float(moved[1]) == pytest.approx(-1.0, rel=1e-9)  # the drift of ULA would be -1e17
    assert float(sampler.step(quartic, State(x), _One()).x[0] - x[0] - moved[0]) == pytest.approx(0.2**0.5, rel=1e-12)
    plane = Gaussian.isotropic(2)
    y = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    assert torch.allclose(sampler.step(plane, State(y), Probe(basis=False)).x, y - 0.1 * y / 1.5)
    with pytest.raises(Unsupported, match="not affine"):
        affine_map(sampler, plane)


class _One(Probe):
    def __init__(self) -> None:
        super().__init__(basis=False)

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return super().normal(shape) + 1.0


def test_the_bias_of_tamed_ula_is_of_first_order(plugged: Path) -> None:
    make, target = components.find("sampler", "tamed_ula"), components.build("target", "skew_logistic", {})
    steps = np.array([0.01, 0.02, 0.04])
    biases = []
    for h in steps:
        mesh = mesh_for(target, make(h), None, nodes=401)
        biases.append(W2()(stationary(Grid.of_target(target, mesh), make(h), target), target).value)
    slope = np.polyfit(np.log(steps), np.log(biases), 1)[0]
    assert abs(slope - make.bias_order) < 0.1  # type: ignore[attr-defined]


def test_the_mean_error_agrees_on_both_kinds_of_law(plugged: Path) -> None:
    metric = components.build("metric", "mean_error", {})
    p, q = Normal([0.3], [[0.5]]), Normal([-0.4], [[0.8]])
    mesh = mesh_for(Gaussian.isotropic(1), components.build("sampler", "ula", {"step_size": 0.1}), p)
    exact, grid = metric.between(p, q), metric.between(Grid.of_normal(p, mesh), Grid.of_normal(q, mesh))
    assert exact.value == pytest.approx(0.7, rel=1e-14)
    assert grid.lower <= 0.7 <= grid.upper
    assert grid.upper - grid.lower < 1e-9


def test_a_doubled_decay_rate_is_caught(plugged: Path) -> None:
    """A planted bug: the theorem with the rate m doubled must be violated."""
    theorem: Any = components.build("theorem", "ld-mean", {})
    target, diffusion = Gaussian.isotropic(3, variance=0.5), LangevinDiffusion(0.05)
    case = Case(target, diffusion, (0, 5, 20), propagate(Normal([2.0, 0.0, 1.0], 0.5 * np.eye(3)), diffusion, target, [0, 5, 20]))

    class TooFast(type(theorem)):  # type: ignore[misc]
        def bound(self, case: Case) -> np.ndarray:
            return np.asarray(super().bound(case) * np.exp(-case.constant("m") * case.t))

    assert theorem.judge(theorem.rows(case)).word == "holds"
    assert theorem.judge(TooFast().rows(case)).word == "violated"


# The other pages.


def component_texts() -> list[str]:
    """Everything that cites."""
    return [
        p.read_text(encoding="utf-8")
        for folder in ("targets", "samplers", "laws", "metrics", "theory")
        for p in sorted((ROOT / folder).rglob("*.py"))
    ]


def test_the_references_are_the_links_that_are_cited() -> None:
    bib = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
    known = {m.lower() for m in re.findall(r"(?:doi|eprint|url) = \{([^}]*)\}", bib)}
    links = {m.rstrip(".,;") for text in component_texts() for m in re.findall(r"https?://[^\s\"'>)]+", text)}
    cited = {re.sub(r"^https?://(doi\.org|arxiv\.org/abs)/", "", link).lower() for link in links}
    assert len(cited) > 30
    assert not cited - known, f"add to docs/references.bib: {sorted(cited - known)}"
    assert not known - cited, f"cited nowhere: {sorted(known - cited)}"


def test_the_references_are_well_formed() -> None:
    bib = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^@(\w+)\{([\w:-]+),\n(.*?)^\}$", bib, re.MULTILINE | re.DOTALL)
    assert len(entries) == bib.count("\n@") + bib.startswith("@")
    keys = [key for _, key, _ in entries]
    assert keys == sorted(set(keys))
    for _, key, body in entries:
        fields = re.findall(r"^  (\w+) = \{(.*)\},$", body, re.MULTILINE)
        assert len(fields) == body.count("\n"), key
        assert {"author", "title", "year"} <= dict(fields).keys(), key
        assert {"doi", "eprint", "url"} & dict(fields).keys(), key
        assert all(value.count("{") == value.count("}") for _, value in fields), key


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CHANGELOG.md", "docs/notation.md", "docs/errata.md"])
def test_pages_are_at_most_120_wide_and_name_files_that_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert not [n for n, line in enumerate(text.splitlines(), start=1) if len(line) > 120]
    for name in re.findall(r"`((?:targets|samplers|laws|metrics|theory|experiments|mixrate|tests|docs)/[\w./-]+\.\w+)(?:::\w+)?`", text):
        assert (ROOT / name).exists() or name in RECIPES, name


@pytest.mark.parametrize("page", ["CHANGELOG.md", "docs/notation.md", "docs/errata.md"])
def test_theorems_that_pages_name_exist(page: str) -> None:
    known = set(components.names("theorem"))
    named = set(
        re.findall(
            r"`((?:ld|ula|ineq|mala|mh|prox|rate|gap|recipe|irreversible|cld|psld|klmc|baoab|sm|ddpm|reverse|ou|em|error|sscs|phase|annealed|rdmc)-[a-z0-9-]+)`",
            (ROOT / page).read_text(encoding="utf-8"),
        )
    )
    assert named <= known, named - known


def test_the_recipes_are_formatted(tmp_path: Path) -> None:
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(RECIPES[name], encoding="utf-8")
        ast.parse(RECIPES[name])
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed beside this Python")
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [ruff, *command, "--no-cache", "--config", ROOT / "pyproject.toml", tmp_path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
