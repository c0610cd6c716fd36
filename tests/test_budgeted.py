"""Samplers at equal cost: what competes, the intervals over seeds, who wins in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mixrate.experiments.budgeted import Comparison, comparisons, tables
from mixrate.experiments.components import build
from mixrate.experiments.plots import figures
from mixrate.experiments.report import write
from mixrate.experiments.result import Result
from mixrate.experiments.runner import run
from mixrate.experiments.schema import read

CONTEST = """
title: samplers at equal cost
target: {name: gaussian_mixture.two_modes, separation: 2}
sampler: {name: ula, step_size: 0.2}
start: {mean: 0.0, cov: 1.0}
law: {kind: particles, n: 400}
steps: [1]
seeds: [0, 1, 2]
metrics: [w2, mode_weight_error]
sweep:
  zip:
    sampler:
      - {name: rdmc, steps: 2, horizon: 2, inner: importance, inner_chains: 40, least_ess: 1}
      - {name: rdmc, steps: 10, horizon: 2, inner: importance, inner_chains: 80, least_ess: 1}
      - {name: rdmc, steps: 5, horizon: 2, inner: rejection, inner_chains: 30, inner_steps: 1, least_ess: 30}
      - {name: rdmc, steps: 5, horizon: 1, inner: ula, inner_chains: 5, inner_steps: 4}
      - {name: ula, step_size: 0.1}
      - {name: ula, step_size: 1.9}
    steps: [[1, 2], [10], [5], [5], [1, 30, 300], [1, 30, 300]]
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("contest")
    (folder / "contest.yaml").write_text(CONTEST, encoding="utf-8")
    return run(read(folder / "contest.yaml"), folder / "runs")


@pytest.fixture(scope="module")
def w2(result: Result) -> Comparison:
    found = {c.metric: c for c in comparisons(result)}
    assert list(found) == ["w2", "mode_weight_error"]
    return found["w2"]


def test_words_set_contestants_apart_and_numbers_tune_them(w2: Comparison) -> None:
    assert set(w2.runs["contestant"]) == {"rdmc, inner = importance", "rdmc, inner = ula", "ula"}
    assert set(w2.lost["contestant"]) == {"rdmc, inner = rejection"}
    assert w2.runs.loc[w2.runs["contestant"] == "ula", "spec"].nunique() == 2


def test_of_a_schedule_only_the_end_counts_of_a_chain_every_step(w2: Comparison) -> None:
    costs = {name: sorted(rows["evaluations"]) for name, rows in w2.runs.groupby("contestant")}
    assert costs["rdmc, inner = importance"] == [80.0, 800.0], "2 steps of 40 potentials, not the first of the two"
    assert costs["rdmc, inner = ula"] == [100.0]
    assert costs["ula"] == [1.0, 1.0, 30.0, 30.0, 300.0, 300.0]


def test_the_interval_is_students_over_the_seeds(result: Result, w2: Comparison) -> None:
    row = w2.runs[w2.runs["evaluations"] == 800.0].iloc[0]
    raw = result.table[(result.table["quantity"] == "w2") & (result.table["potentials"] == 800.0)]["measured"]
    assert len(raw) == row["seeds"] == 3
    low, high = stats.t.interval(0.95, 2, raw.mean(), raw.std() / 3**0.5)
    assert (row["measured"], row["lower"], row["upper"]) == pytest.approx((raw.mean(), low, high), rel=1e-12)
    # planted: taken over the particles of one seed the interval would be much narrower than the seeds differ
    assert high - low > np.ptp(raw)


def test_the_best_within_a_budget_is_the_least_mean(w2: Comparison) -> None:
    for budget in (1.0, 30.0, 100.0, 1e9):
        best = w2.best(budget)
        for name, rows in w2.runs[w2.runs["evaluations"] <= budget].groupby("contestant"):
            assert best.set_index("contestant").loc[name, "measured"] == rows["measured"].min()
        assert best["measured"].is_monotonic_increasing
    assert list(w2.envelope("ula")["measured"]) == sorted(w2.envelope("ula")["measured"], reverse=True)


def made(rows: list[tuple[str, float, float, float, float]], lost: tuple[str, ...] = (), floor: float = 0.1) -> Comparison:
    names = ["contestant", "evaluations", "measured", "lower", "upper"]
    runs = pd.DataFrame(rows, columns=names).assign(floor=floor, side="exact", seconds=1.0, seeds=4, index=0)
    runs["spec"] = [f"{r[0]} {i}" for i, r in enumerate(rows)]
    return Comparison("w2", "", runs, pd.DataFrame({"contestant": lost, "spec": [f"lost {i}" for i in range(len(lost))], "note": "too few: 3 of 40"}))


def test_who_wins_is_said_in_words() -> None:
    c = made(
        [
            ("a", 10, 1.0, 0.9, 1.1), ("a", 1000, 0.12, 0.08, 0.16), ("b", 10, 1.05, 0.95, 1.15), ("b", 1000, 0.3, 0.2, 0.4),
            ("c", 10, 2.0, 1.9, 2.1), ("c", 1000, 1.8, 1.7, 1.9),
        ],
        ("a", "d"),
    )  # fmt: skip
    assert c.levels() == [10.0, 30.0, 100.0, 300.0, 1000.0]
    assert made([("a", 10, 1.0, 0.9, 1.1), ("b", 35, 0.3, 0.2, 0.4)]).levels() == [10.0, 35.0], "30 would say the same as 35"
    words = c.words()
    assert len(words) == 5, "30, 100 and 300 evaluations buy what 10 do"
    assert words[0].startswith("With at most 10 evaluations a particle a is nearest, 1 [0.9, 1.1]; not told from it: b 1.05; then c 2.")
    assert words[-4] == "With at most 1,000 evaluations a particle a is nearest, 0.12 [0.08, 0.16]; then b 0.3, c 1.8."
    assert words[-3] == "Exact draws of this number score 0.1. As near come a (from 1,000 on). Not: b, c."
    assert words[-2:] == ["a: no value in 1 of 3 settings (too few).", "d: no value in 1 of 1 settings (too few)."]


def test_a_worse_setting_of_wide_interval_is_not_as_near_as_exact_draws() -> None:
    c = made([("a", 10, 1.0, 0.9, 1.1), ("a", 20, 1.2, 0.05, 2.4), ("b", 40, 0.3, 0.2, 0.4)])
    assert c.words()[-1] == "Exact draws of this number score 0.1. None comes as near."


def test_without_a_floor_nothing_is_said_of_exact_draws() -> None:
    c = made([("a", 10, 1.0, 0.9, 1.1), ("b", 40, 0.3, 0.2, 0.4)], floor=float("nan"))
    assert not any("xact draws" in sentence for sentence in c.words())
    assert made([("a", 10, 1.0, 0.9, 1.1), ("b", 40, 0.3, 0.2, 0.4)]).words()[-1] == "Exact draws of this number score 0.1. None comes as near."


def test_a_setting_of_which_a_seed_is_lost_does_not_compete(result: Result) -> None:
    table = result.table.copy()
    one = table[(table["quantity"] == "w2") & (table["potentials"] == 800.0)].index[0]
    table.loc[one, "status"] = "diverged"
    changed = Result(**{**result.__dict__, "table": table})
    [w2] = [c for c in comparisons(changed) if c.metric == "w2"]
    assert 800.0 not in set(w2.runs["evaluations"]), "the mean over the seeds that survived would be"
    assert set(w2.lost["contestant"]) == {"rdmc, inner = rejection", "rdmc, inner = importance"}


def test_figure_report_and_words(result: Result, tmp_path: Path) -> None:
    drawn = figures(result)
    assert list(drawn) == ["equal-cost-w2", "equal-cost-mode-weight-error"]
    entries = [text.get_text() for text in drawn["equal-cost-w2"].legends[0].get_texts()]
    assert set(entries[:3]) == {"rdmc, inner = importance", "rdmc, inner = ula", "ula"}
    assert any("below the floor" in entry for entry in entries)
    found = tables(result)
    assert [t["title"] for t in found] == ["w2", "mode_weight_error"]
    assert all(len(row["cells"]) == len(found[0]["levels"]) for row in found[0]["rows"])
    text = write([result], tmp_path / "report.html", result.title).read_text(encoding="utf-8")
    assert found[0]["words"][0] in text
    assert "Last recorded values" not in text


def test_a_sweep_of_step_sizes_alone_is_left_to_work_and_precision(tmp_path: Path) -> None:
    samplers = "[{name: ula, step_size: 0.1}, {name: ula, step_size: 0.2}, {name: baoab, step_size: 0.1}]"
    text = CONTEST.split("sweep:")[0] + f"sweep:\n  matrix:\n    sampler: {samplers}\n"
    (tmp_path / "contest.yaml").write_text(text, encoding="utf-8")
    result = run(read(tmp_path / "contest.yaml"), tmp_path / "runs")
    assert not list(comparisons(result))
    assert "work-precision-w2" in figures(result)


def test_a_start_that_comes_with_the_sampler_makes_no_comparison_of_its_own(tmp_path: Path) -> None:
    entries = """sweep:
  include:
    - {sampler: {name: rdmc, steps: 2, horizon: 2, inner: importance, inner_chains: 40, least_ess: 1}, steps: [2]}
    - {sampler: {name: rdmc, steps: 4, horizon: 2, inner: importance, inner_chains: 40, least_ess: 1}, steps: [4]}
    - {sampler: {name: ula, step_size: 0.1}, steps: [10, 100], start: {mean: 0.0, cov: 4.0}}
"""
    (tmp_path / "contest.yaml").write_text(CONTEST.split("sweep:")[0] + entries, encoding="utf-8")
    [w2, _] = comparisons(run(read(tmp_path / "contest.yaml"), tmp_path / "runs"))
    assert set(w2.runs["contestant"]) == {"rdmc", "ula"}
    crossed = entries.replace("sweep:\n", "sweep:\n  matrix: {start: [{mean: 0.0, cov: 1.0}, {mean: 0.0, cov: 4.0}], sampler: [")
    crossed = crossed.split("  include")[0] + ", ".join(
        ["{name: rdmc, steps: 2, horizon: 2, inner: oracle}", "{name: rdmc, steps: 4, horizon: 2, inner: oracle}", "{name: ula, step_size: 0.1}]}\n"]
    )
    (tmp_path / "contest.yaml").write_text(CONTEST.replace("steps: [1]", "steps: [2]").split("sweep:")[0] + crossed, encoding="utf-8")
    found = [c for c in comparisons(run(read(tmp_path / "contest.yaml"), tmp_path / "runs")) if c.metric == "w2"]
    assert [sorted(set(c.runs["contestant"])) for c in found] == [["rdmc", "ula"]] * 2
    assert len({c.setting for c in found}) == 2


FOLDER = Path(__file__).resolve().parents[1] / "experiments"
#: Every family that a comparison is asked to hold.
FAMILIES = {"rdmc", "slips", "annealed_importance", "sequential_monte_carlo", "parallel_tempering", "proximal", "mala", "ula"}


@pytest.mark.parametrize("name", ["multimodal", "mueller-brown", "rings", "five-dimensional", "dimension", "funnel"])
def test_the_comparisons_hold_every_family_within_the_budgets_they_name(name: str) -> None:
    experiment = read(FOLDER / f"compare-{name}.yaml")
    points = experiment.points()
    assert {p.sampler.name for p in points} >= FAMILIES - ({"proximal"} if name == "funnel" else set())  # the least V is -91: no proposal would pass
    assert len({p.seed for p in points}) >= 3
    most = 0.0
    for spec in {p.sampler.model_dump_json() + str(p.steps) + p.target.model_dump_json(): p for p in points}.values():
        sampler = build("sampler", spec.sampler.name, spec.sampler.params)
        target = build("target", spec.target.name, spec.target.params)
        spent = spec.steps[-1] * sum(sampler.evaluations(target))
        most = max(most, spent)
        assert spec.steps[-1] == getattr(sampler, "length", spec.steps[-1]), "a schedule is run to its end"
        assert spent >= 4800
    assert most <= {"multimodal": 257_000, "five-dimensional": 106_000}.get(name, 30_100)
