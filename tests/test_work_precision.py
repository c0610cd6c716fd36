"""Costs in tables, the work-precision diagram, and the page on kinetic Langevin."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from mixrate.errors import InvalidInput
from mixrate.experiments import phase_portrait
from mixrate.experiments.cell import run_point
from mixrate.experiments.components import build
from mixrate.experiments.curves import swept
from mixrate.experiments.plots import figures, pictures
from mixrate.experiments.report import write
from mixrate.experiments.result import Result
from mixrate.experiments.runner import run
from mixrate.experiments.schema import read
from mixrate.experiments.work_precision import contests, envelope, needed, resolved
from mixrate.laws.normal import Normal
from mixrate.targets.double_well import DoubleWell

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "experiments"

CONTEST = """
title: samplers side by side
target: {name: gaussian.isotropic, dim: 1}
sampler: {name: ula, step_size: 0.1}
start: {mean: 2.0, cov: 0.5}
law: normal
steps: {first: 1, last: 300, count: 9}
metrics: [w2, kl]
sweep:
  include:
    - {sampler.step_size: 0.1}
    - {sampler.step_size: 0.4}
    - {sampler: {name: baoab, step_size: 0.2}}
    - {sampler: {name: baoab, step_size: 1.0}}
    - {sampler: {name: baoab, step_size: 1.0, friction: 5.0}}
    - {sampler: {name: hmc, step_size: 0.3, leapfrog_steps: 3}, law: {kind: particles, n: 400}}
"""


def made(folder: Path, text: str) -> Result:
    (folder / "contest.yaml").write_text(text, encoding="utf-8")
    return run(read(folder / "contest.yaml"), folder / "runs")


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return made(tmp_path_factory.mktemp("contest"), CONTEST)


# Costs.


@pytest.mark.parametrize(
    ("sampler", "law", "per_step"),
    [
        ("{name: ula, step_size: 0.1}", "normal", (1, 0)),
        ("{name: mala, step_size: 0.1}", "grid", (1, 1)),
        ("{name: hmc, step_size: 0.1, leapfrog_steps: 4}", "{kind: particles, n: 50}", (4, 1)),
        ("{name: recipe_diffusion.cld, step_size: 0.1, friction: 2.0}", "normal", (0, 0)),
    ],
)
def test_costs_are_steps_times_what_the_sampler_declares(tmp_path: Path, sampler: str, law: str, per_step: tuple[int, int]) -> None:
    text = "title: costs\ntarget: {name: gaussian.isotropic, dim: 1}\nstart: {mean: 1.0, cov: 0.5}\nsteps: [1, 3, 7]\nmetrics: [w2]\n"
    (tmp_path / "costs.yaml").write_text(f"{text}sampler: {sampler}\nlaw: {law}\n", encoding="utf-8")
    [point] = read(tmp_path / "costs.yaml").points()
    rows = run_point(point)
    declared = build("sampler", point.sampler.name, point.sampler.params)
    assert (declared.score_evaluations, declared.potential_evaluations) == per_step
    assert rows["status"].eq("ok").all()
    assert rows["k"].tolist() == [0, 1, 3, 7]
    assert rows["scores"].tolist() == [0, per_step[0], 3 * per_step[0], 7 * per_step[0]]
    assert rows["potentials"].tolist() == [0, per_step[1], 3 * per_step[1], 7 * per_step[1]]


def test_rows_that_could_not_be_computed_have_a_cost_too(tmp_path: Path) -> None:
    text = "title: costs\ntarget: quartic\nstart: {mean: 9.0, cov: 1.0}\nsteps: [1, 40]\nlaw: {kind: particles, n: 20}\nmetrics: [w2]\n"
    (tmp_path / "costs.yaml").write_text(f"{text}sampler: {{name: ula, step_size: 0.5}}\n", encoding="utf-8")
    rows = run_point(read(tmp_path / "costs.yaml").points()[0])
    assert "diverged" in set(rows["status"])
    assert rows["scores"].tolist() == rows["k"].tolist()


def test_the_report_says_what_a_run_has_cost(contest: Result, tmp_path: Path) -> None:
    text = write([contest], tmp_path / "report.html", contest.title).read_text(encoding="utf-8")
    assert '<th class="n">scores</th>' in text
    assert '<td class="n">900</td>' in text, "300 steps of 3 leapfrogs"
    assert "up to 900 score evaluations a chain" in text


# The envelope.


def brute(rows: pd.DataFrame, budget: float) -> float:
    return min(r.measured for r in rows.itertuples() if r.scores <= budget)


@pytest.mark.parametrize("seed", range(5))
def test_the_envelope_is_the_brute_force_minimum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    runs = [pd.DataFrame({"scores": np.unique(rng.integers(1, 60, 9)) * 1.0}).assign(step=h) for h in (0.1, 0.2, 0.5)]
    rows = pd.concat(runs, ignore_index=True)
    rows["measured"] = rng.integers(1, 12, len(rows)) / 4.0  # with ties
    found = envelope(rows)
    assert found["scores"].tolist() == sorted(set(rows["scores"]))
    assert (np.diff(found["measured"]) <= 0).all()
    for row in found.itertuples():
        assert row.measured == brute(rows, row.scores)
        held = rows[(rows["step"] == row.step) & (rows["scores"] == row.attained)]
        assert held["measured"].tolist() == [row.measured], "the step size is that of the run that did it"
        assert row.attained <= row.scores


def test_what_cannot_be_told_from_zero_does_not_compete() -> None:
    base = {"contestant": "a", "step": 0.1}
    rows = pd.DataFrame([
        {**base, "scores": 1.0, "measured": 1.0, "lower": 0.9, "floor": 0.1},
        {**base, "scores": 2.0, "measured": 0.15, "lower": 0.1, "floor": 0.1},
        {**base, "scores": 3.0, "measured": 0.4, "lower": 0.0, "floor": 0.1},
        {**base, "scores": 4.0, "measured": np.inf, "lower": np.inf, "floor": np.nan},
        {**base, "scores": 5.0, "measured": 0.5, "lower": 0.4, "floor": np.nan},
    ])  # fmt: skip
    assert resolved(rows)["scores"].tolist() == [1.0, 5.0]
    assert needed(rows, 0.45)["scores"].tolist() == [np.inf]
    assert needed(rows, 0.5)[["sampler", "scores", "step"]].to_numpy().tolist() == [["a", 5.0, 0.1]]


# The diagram.


def test_contestants_are_samplers_and_what_sets_them_apart(contest: Result) -> None:
    found = {what: rows for what, _, rows in contests(contest)}
    assert list(found) == ["w2", "kl"]
    assert list(found["w2"]["contestant"].unique()) == ["ula", "baoab", "baoab, friction = 5", "hmc"]
    ula = found["w2"][found["w2"]["contestant"] == "ula"]
    assert sorted(ula["step"].unique()) == [0.1, 0.4]
    assert (found["w2"]["scores"] > 0).all(), "the start has cost nothing, and has no place on a logarithmic axis"


def test_the_diagram_takes_the_place_of_the_metric(contest: Result) -> None:
    drawn = figures(contest)
    assert list(drawn) == ["work-precision-w2", "work-precision-kl"]
    figure = drawn["work-precision-w2"]
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlabel() == "score evaluations of a chain"
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries[:3] == ["ula", "baoab", "baoab, friction = 5"]
    assert entries[3] == "hmc (and 0.333 potential per score)"
    assert "one step size" in entries
    [rows] = [resolved(rows) for what, _, rows in contests(contest) if what == "w2"]
    strong = [line for line in axes.lines if line.get_linewidth() > 1.5]
    for line, (_, part) in zip(strong, rows.groupby("contestant", sort=False), strict=True):
        x, y = line.get_data()
        assert [brute(part, budget) for budget in x] == list(y)
    faint = [line for line in axes.lines if line.get_linewidth() < 1]
    assert len(faint) == rows.groupby(["contestant", "step"]).ngroups


def test_targets_have_a_diagram_each(tmp_path: Path) -> None:
    text = CONTEST.split("sweep:")[0].replace("[w2, kl]", "[w2]")
    both = "sweep:\n  matrix:\n    target.variance: [1.0, 4.0]\n    sampler: [{name: ula, step_size: 0.1}, {name: ula, step_size: 0.2}, "
    result = made(tmp_path, f"{text}{both}{{name: baoab, step_size: 0.2}}]\n")
    assert list(figures(result)) == ["work-precision-w2-variance-1", "work-precision-w2-variance-4"]


@pytest.mark.parametrize("kept", [2, 0])
def test_other_sweeps_have_none(tmp_path: Path, kept: int) -> None:
    samplers = (
        "[{name: ula, step_size: 0.1}, {name: ula, step_size: 0.2}]" if kept else "[{name: ula, step_size: 0.1}, {name: baoab, step_size: 0.1}]"
    )
    text = CONTEST.split("sweep:")[0].replace("[w2, kl]", "[w2]")
    assert list(figures(made(tmp_path, f"{text}sweep:\n  matrix:\n    sampler: {samplers}\n"))) == ["metric-w2"]


def test_a_run_without_metrics_has_none(tmp_path: Path) -> None:
    text = CONTEST.replace("metrics: [w2, kl]", "theorems: [ula-w2-dk]")
    result = made(tmp_path, text)
    assert not list(contests(result))
    assert not any("work" in name for name in figures(result))


def test_samplers_without_a_score_are_left_out(tmp_path: Path) -> None:
    text = CONTEST.replace("[w2, kl]", "[w2]") + "    - {sampler: {name: random_walk, scale: 0.5}, law: {kind: particles, n: 50}}\n"
    [(_, _, rows)] = contests(made(tmp_path, text))
    assert "random walk" not in set(rows["contestant"])


def test_the_experiments_of_the_page_are_drawn(tmp_path: Path) -> None:
    result = run(read(FOLDER / "work-precision-gaussian.yaml", ["steps={first: 1, last: 3000, count: 12}"]), tmp_path)
    assert list(pictures(result)) == ["work-precision-w2"]
    [(_, _, rows)] = contests(result)
    assert rows["contestant"].nunique() == 6
    cost = needed(rows, 0.1).set_index("sampler")["scores"]
    assert cost["baoab"] < cost["obabo"] < cost["ula"]
    damping = run(read(FOLDER / "damping.yaml"), tmp_path)
    figure = figures(damping)["metric-w2"]
    assert figure.axes[0].get_xlabel() == "time $t$"
    assert len(figure.legends[0].get_texts()) == 6, "every cell is shown"
    for name in ("work-precision-double-well", "work-precision-particles"):
        experiment = read(FOLDER / f"{name}.yaml")
        assert len({p.sampler.name for p in experiment.points()}) >= 6
        for point in experiment.points():
            build("sampler", point.sampler.name, point.sampler.params).admit(build("target", point.target.name, point.target.params))


# Friction.


def phi(gamma: float, t: float) -> float:
    """E x_t / E x_0 on N(0, 1) from p at rest."""
    w = np.sqrt(complex(gamma * gamma / 4 - 1))
    return (
        float((1 + t) * np.exp(-t)) if abs(w) < 1e-9 else float((np.exp(-gamma * t / 2) * (np.cosh(w * t) + gamma / (2 * w) * np.sinh(w * t))).real)
    )


@pytest.mark.parametrize("ratio", [0.25, 0.9, 1.0, 4.0])
def test_laws_in_time_have_their_closed_form(ratio: float) -> None:
    start, times = Normal([2.0], [[0.25]]), (0.5, 3.0, 10.0)
    for law, t in zip(phase_portrait.laws(ratio, start, times), times, strict=True):
        f = phi(2 * ratio, t)
        assert law.mean[0] == pytest.approx(2 * f, abs=1e-12)
        assert law.cov[0, 0] == pytest.approx(1 - 0.75 * f * f, abs=1e-12)


@pytest.mark.parametrize("t", [4.0, 7.0, 11.0])
def test_the_best_friction_is_where_the_mean_vanishes(t: float) -> None:
    ratio = phase_portrait.crossing(t)
    assert phi(2 * ratio, t) == pytest.approx(0.0, abs=1e-12)
    assert all(abs(phi(2 * r, t)) > 0 and np.sign(phi(2 * r, t)) == 1 for r in np.linspace(ratio + 1e-6, 1.5, 50)), "the largest such friction"
    found = phase_portrait.best(t, Normal([2.0], [[0.25]]), 0.04)
    assert found.ratio == pytest.approx(ratio, abs=2e-4)
    left = 1 - np.sqrt(1 - 0.96 * np.exp(-2 * ratio * t))  # of the variance, where the mean is 0: psi = exp(-gamma t/2) there
    assert found.least == pytest.approx(left, rel=1e-2 if t < 10 else 0.5)  # rounding of the mean, 1e-16, beside 1e-10
    assert found.least < found.critical / 100
    if t > 4:  # half a turn fits in
        assert found.uniform == pytest.approx(np.sqrt(1 - (np.pi / t) ** 2), abs=1e-3)
    assert found.gain > 1
    assert phase_portrait.crossing(1.5) == 0.0
    assert ratio < phase_portrait.crossing(t + 1) < 1


def test_paths_share_their_noise_and_their_start() -> None:
    one, same, other = (phase_portrait.path(phase_portrait.STANDARD, g, (3.0, 0.0), 1.0, 0.02, 5) for g in (2.0, 2.0, 2.001))
    np.testing.assert_array_equal(one, same)
    assert 0 < np.abs(one - other).max() < 0.01, "a little more friction under the same noise moves a path a little"
    still = phase_portrait.path(phase_portrait.STANDARD, 2.0, (3.0, 0.0), 4.0, 0.02, None)
    t = 0.02 * np.arange(len(still))
    np.testing.assert_allclose(still[:, 0], 3 * (1 + t) * np.exp(-t), atol=1e-3)  # BAOAB is of second order: h^2 = 4e-4
    assert phase_portrait.curvature(DoubleWell(), 1.0) == pytest.approx(8.0, rel=1e-6)


# The page.


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_kinetic", ROOT / "docs" / "build_kinetic.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = generator()


def test_the_page_is_what_the_builder_writes() -> None:
    assert BUILD.page() == BUILD.PAGE.read_text(encoding="utf-8"), "run: make kinetic-page"


def test_the_pages_pictures_are_there_and_its_lines_are_short() -> None:
    text = BUILD.PAGE.read_text(encoding="utf-8")
    linked = re.findall(r"!\[[^\]]+\]\((images/kinetic/[^)]+)\)", text)
    assert {str(p.relative_to(ROOT / "docs")) for p in BUILD.PICTURES.iterdir()} == set(linked)
    assert all((ROOT / "docs" / name).read_bytes().startswith(b"\x89PNG") for name in linked)
    assert not [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")]


def test_kept_costs_are_those_of_the_gaussian_run(tmp_path: Path) -> None:
    fresh = BUILD.costs(run(read(FOLDER / "work-precision-gaussian.yaml"), tmp_path))
    check_kept(fresh)


@pytest.mark.full
@pytest.mark.parametrize("name", ["work-precision-double-well", "work-precision-particles"])
def test_kept_costs_are_those_of_the_run(name: str, tmp_path: Path) -> None:
    check_kept(BUILD.costs(run(read(FOLDER / f"{name}.yaml"), tmp_path)))


def check_kept(fresh: pd.DataFrame) -> None:
    kept = pd.read_csv(BUILD.TABLE)
    kept = kept[kept["experiment"] == fresh["experiment"].iloc[0]]
    pd.testing.assert_frame_equal(kept.reset_index(drop=True), fresh.reset_index(drop=True), check_dtype=False)


def test_a_sweep_is_told_from_its_costs(contest: Result) -> None:
    assert not {"scores", "potentials"} & set(swept(contest.table))


def test_a_friction_of_zero_is_refused() -> None:
    with pytest.raises(InvalidInput, match="friction must be a positive finite number"):
        phase_portrait.path(phase_portrait.STANDARD, 0.0, (3.0, 0.0), 1.0, 0.02, 5)
