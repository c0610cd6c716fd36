"""The page on reverse diffusion Monte Carlo: its text, its kept numbers, and the comparisons that it is made of."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mixrate.experiments import drawing, rdmc_contests, rdmc_pictures, rdmc_tables
from mixrate.experiments.budgeted import KEPT, comparisons, kept, recalled, tabled
from mixrate.experiments.rdmc_contests import ALIKE, beside, finished, ours, picture_of, refreshed, shown
from mixrate.experiments.rdmc_tables import INNER, PLANS, SUBJECTS, WAYS, chosen, cost_rows
from mixrate.experiments.result import Result
from mixrate.experiments.runner import load_result, one_thread, run
from mixrate.experiments.schema import read
from mixrate.samplers.diffusion.diagnosis import log_concave_until
from mixrate.targets.gaussian_mixture import GaussianMixture

ROOT = Path(__file__).resolve().parents[1]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_rdmc", ROOT / "docs" / "build_rdmc.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = generator()
FOUND = pd.read_csv(BUILD.FIGURES)


# The page.


def test_the_page_is_what_the_builder_writes() -> None:
    assert BUILD.page() == BUILD.PAGE.read_text(encoding="utf-8"), "run: make rdmc-page ARGS=--kept"


def test_every_picture_is_there_and_every_line_short() -> None:
    text = BUILD.PAGE.read_text(encoding="utf-8")
    linked = re.findall(r"!\[[^\]]+\]\((images/rdmc/[^)]+)\)", text)
    assert {str(p.relative_to(ROOT / "docs")) for p in BUILD.PICTURES.iterdir()} == set(linked)
    assert all((ROOT / "docs" / name).read_bytes().startswith(b"\x89PNG") for name in linked)
    assert not [line for line in text.splitlines() if len(line) > 120 and not line.startswith(("|", "!"))]


def test_linked_findings_are_there() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "findings.md").read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
    linked = re.findall(r"\(findings\.md#([^)]+)\)", BUILD.PAGE.read_text(encoding="utf-8"))
    assert len(linked) >= 3 and set(linked) <= anchors


# Its numbers. They are kept with six digits; another order of sums changes the seventh, and inner chains double it a few times.


def check_kept(rows: list[dict[str, Any]], rtol: float = 1e-3) -> None:
    fresh = pd.DataFrame(rows, columns=rdmc_tables.COLUMNS)
    keys = ["part", "target", "case", "quantity"]
    both = fresh.assign(x=fresh["x"].astype(float).round(5)).merge(FOUND.assign(x=FOUND["x"].round(5)), on=[*keys, "x"], suffixes=("", "_kept"))
    assert len(both) == len(fresh) > 0
    np.testing.assert_allclose(both["measured"], both["measured_kept"], rtol=rtol, atol=1e-6)


def test_kept_costs_are_those_of_the_runs() -> None:
    with one_thread():
        check_kept([row for row in cost_rows("two modes", ("importance",)) if row["quantity"] != "rel"])
        check_kept(rdmc_tables.weight_rows("importance", rdmc_tables.POINTS[:2]))


@pytest.mark.full
@pytest.mark.parametrize("name", list(SUBJECTS))
def test_all_kept_errors_are_those_of_the_runs(name: str) -> None:
    """Thousands of estimates: rounding may turn a single acceptance, of weight 1e-3."""
    with one_thread():
        check_kept(cost_rows(name, tuple(WAYS)), rtol=0.01)
        for case in INNER:
            check_kept([row for row in rdmc_tables.inner_rows(name, case) if row["quantity"] not in ("bias", "least_ess")], rtol=0.01)
        check_kept([row for case in PLANS for row in rdmc_tables.budget_rows(name, case)], rtol=0.05)


@pytest.mark.full
def test_all_kept_runs_are_those_of_the_experiments(tmp_path: Path) -> None:
    start, *apart = (run(read(BUILD.EXPERIMENTS / f"{n}.yaml"), tmp_path) for n in ("rdmc-start-horizon", "rdmc-vs-ld", "rdmc-vs-ld-inner"))
    check_kept([*rdmc_tables.start_rows(start), *rdmc_tables.apart_rows(apart)])


def test_the_table_is_whole() -> None:
    for name in SUBJECTS:
        assert set(chosen(FOUND, "cost", "kl", target=name)["case"]) == set(WAYS)
        assert set(chosen(FOUND, "inner", "error", target=name)["case"]) == set(INNER)
        for case in PLANS:  # a budget is spent, and no more: chains from resampled draws cost steps + 1, and one more with both identities
            chains, steps = (chosen(FOUND, "budget", q, target=name, case=case)["measured"].to_numpy() for q in ("chains", "steps"))
            spent = float((chains * (steps + 1 + case.endswith("both"))).mean())
            assert len(chains) == 25 and 0.99 * rdmc_tables.EVALUATIONS < spent <= rdmc_tables.EVALUATIONS
    assert (chosen(FOUND, "cost", "rel", case="plain")["measured"] == 1).all()
    assert (FOUND["measured"].isna() == ((FOUND["quantity"] == "acceptance") & (FOUND["case"] != "rejection"))).all()


# What the page says.


def test_inner_samplers_are_as_the_page_says() -> None:
    error = chosen(FOUND, "inner", "error").set_index(["target", "case", "x"])["measured"]
    for name in SUBJECTS:
        table = error[name].unstack()
        low, high = BUILD.least(table, "importance")
        best = table.idxmin()
        assert all(best[t] == "importance" for t in table.columns if low <= t <= high), "one stretch of times"
        assert all("both" in best[t] for t in table.columns if not low <= t <= high), "and both identities at both ends"
    bias = chosen(FOUND, "inner", "bias", target="two modes", case="ULA, kernel draws").set_index("x")["measured"]
    assert all(bias[t] > 0.9 * error["two modes", "ULA, kernel draws", t] for t in bias.index if t > 0.5)


def test_costs_are_as_the_page_says() -> None:
    kl = chosen(FOUND, "cost", "kl").set_index(["target", "case"])["measured"]
    for name in SUBJECTS:
        assert kl[name].idxmin() == "importance" and kl[name, "warm"] > kl[name, "plain"]
        assert kl[name, "budget, resampled"] < 0.2 * kl[name, "plain"]
    assert kl["zod_mc", "budget"] > 0.95 * kl["zod_mc", "plain"]
    assert kl["zod_mc", "budget, resampled, both"] > kl["zod_mc", "budget, resampled"]


def test_starts_and_separations_are_as_the_page_says() -> None:
    kl = chosen(FOUND, "start", "kl").set_index(["case", "x"])["measured"]
    assert kl["Langevin", 1.0] < kl["N(0, I)", 2.0] < kl["N(0, I)", 1.0] * math.exp(-2) < kl["N(0, I)", 0.5] * math.exp(-3)
    exponent = chosen(FOUND, "apart", "exponent").set_index("case")
    assert exponent["lower"]["ULA"] < 1 < exponent["upper"]["ULA"]
    assert (exponent.drop("ULA")["upper"] <= 0.2).all()
    share = chosen(FOUND, "weights", "share")
    assert (share[share["case"] == "kernel draws"]["lower"] > 0.4).all()
    assert share[share["case"] == "resampled draws"].sort_values("x")["measured"].is_monotonic_decreasing


# The pictures.


def test_certified_curvature_is_attained_on_the_line_and_ends_where_it_is_said_to() -> None:
    until = log_concave_until(rdmc_pictures.MODES)
    certified, actual = rdmc_pictures.curvatures(rdmc_pictures.MODES, np.array([0.5 * until, until, 2 * until]))
    np.testing.assert_allclose(actual, certified, atol=1e-3)  # of a grid of 4,001 nodes
    assert certified[0] > 0 > certified[2] and abs(certified[1]) < 1e-9
    assert np.isnan(rdmc_pictures.curvatures(SUBJECTS["zod_mc"].target, np.array([0.1]))[0]).all()


def test_the_posterior_is_that_of_bayes() -> None:
    """For one Gaussian N(m, 1) the posterior is N(v m + a x, v)."""
    t, x, points = 0.4, 1.3, np.linspace(-3, 4, 57)
    a, v = math.exp(-t), -math.expm1(-2 * t)
    target = GaussianMixture([1.0], [[0.7]], [[[1.0]]])
    log = -((points - v * 0.7 - a * x) ** 2) / (2 * v)
    np.testing.assert_allclose(rdmc_pictures.density(target, [x], t, points[:, None]), np.exp(log - log.max()), rtol=1e-10)


def test_curves_are_drawn_as_kept() -> None:
    with drawing.style():
        figure = rdmc_pictures.inner_samplers(FOUND)
        rows = chosen(FOUND, "inner", "error", target="zod_mc", case="rejection")
        assert figure.axes[1].lines[list(INNER).index("rejection")].get_ydata().tolist() == rows["measured"].tolist()
        chains = rdmc_pictures.budgets(FOUND).axes[0].lines[0]
        assert chains.get_ydata().tolist() == chosen(FOUND, "budget", "chains", target="two modes", case=PLANS[0])["measured"].tolist()
        ula = rdmc_pictures.apart(FOUND).axes[0].lines[0]
        assert ula.get_ydata().tolist() == chosen(FOUND, "apart", "evaluations", case="ULA")["measured"].tolist()


# Comparisons at equal cost, on a small contest.

CONTEST = """
title: a small contest
target: {name: gaussian_mixture.two_modes, separation: 2}
sampler: {name: ula, step_size: 0.2}
start: {mean: 0.0, cov: 1.0}
law: {kind: particles, n: 200}
steps: [1]
seeds: [0, 1, 2]
metrics: [w2, mode_weight_error]
sweep:
  include:
    - {sampler: {name: rdmc, steps: 2, horizon: 2, inner: importance, inner_chains: 40, least_ess: 1}, steps: [2]}
    - {sampler: {name: rdmc, steps: 10, horizon: 2, inner: importance, inner_chains: 80, least_ess: 1}, steps: [10]}
    - {sampler: {name: rdmc, steps: 5, horizon: 2, inner: rejection, inner_chains: 30, inner_steps: 1, least_ess: 30}, steps: [5]}
    - {sampler: {name: ula, step_size: 0.1}, steps: [1, 30, 300]}
"""


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Result]:
    """Folder of experiments, folder of runs, the run."""
    folder = tmp_path_factory.mktemp("contest")
    (folder / "compare-small.yaml").write_text(CONTEST, encoding="utf-8")
    return folder, folder / "runs", run(read(folder / "compare-small.yaml"), folder / "runs")


def read_back(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    table.to_csv(path, index=False, lineterminator="\n", float_format="%.9g")
    return rdmc_contests.table_at(path)


def test_what_is_kept_says_the_same_as_the_run(contest: tuple[Path, Path, Result], tmp_path: Path) -> None:
    result = contest[2]
    table = read_back(kept(result), tmp_path / "kept.csv")
    assert list(table.columns) == KEPT
    back, found = recalled(table), list(comparisons(result))
    assert [(name, c.metric, c.setting) for name, c in back] == [("compare-small", c.metric, c.setting) for c in found]
    for (_, again), c in zip(back, found, strict=True):
        assert again.words() == c.words() and any("no value in 1 of 1" in sentence for sentence in c.words())
        assert [row["cells"] for row in tabled(again)["rows"]] == [row["cells"] for row in tabled(c)["rows"]]
    with pytest.raises(AssertionError):  # planted: without the rows of what was lost
        assert recalled(table[table["measured"].notna()])[0][1].words() == found[0].words()


def test_a_finished_run_refreshes_the_table_and_others_stay(contest: tuple[Path, Path, Result], tmp_path: Path) -> None:
    folder, runs, result = contest
    before = kept(result).assign(measured=7.0)
    gone = before.assign(experiment="compare-gone")
    both = pd.concat([before, gone])
    pd.testing.assert_frame_equal(refreshed(both, folder, runs), kept(result), check_dtype=False)
    assert (refreshed(both, folder, tmp_path / "none")["measured"] == 7.0).all(), "nothing is run unless it is asked for"
    assert set(refreshed(both, folder, tmp_path / "none")["experiment"]) == {"compare-small"}
    assert not len(refreshed(both, tmp_path, runs)) and list(refreshed(both, tmp_path, runs).columns) == KEPT


def test_a_run_of_another_text_or_of_fewer_cells_is_not_taken(contest: tuple[Path, Path, Result], tmp_path: Path) -> None:
    folder, runs, _ = contest
    experiment = read(folder / "compare-small.yaml")
    assert finished(experiment, runs) is not None and finished(experiment, tmp_path) is None
    (tmp_path / "compare-small.yaml").write_text(CONTEST.replace("n: 200", "n: 300"), encoding="utf-8")
    assert finished(read(tmp_path / "compare-small.yaml"), runs) is None
    assert finished(read(folder / "compare-small.yaml", ["law.n=150"]), runs) is None, "the same text, other cells"


def test_the_section_is_made_of_the_kept_table_alone(contest: tuple[Path, Path, Result], tmp_path: Path) -> None:
    table = read_back(kept(contest[2]).assign(experiment="compare-multimodal"), tmp_path / "kept.csv")
    text = BUILD.page(comparisons=table)
    assert "## At equal cost" in text and "W2 as published" in text
    [(name, c)] = shown(table)
    assert f"images/rdmc/{picture_of(name, c)}.png" in text and " ".join(c.words()[0].split()) in " ".join(text.split())
    with drawing.style():
        assert picture_of(name, c) in BUILD.pictures(FOUND, table)
    assert "## At equal cost" not in BUILD.page(comparisons=table.iloc[:0])


def test_published_values_are_set_beside_ours(contest: tuple[Path, Path, Result]) -> None:
    [c] = [c for c in comparisons(contest[2]) if c.metric == "w2"]
    last = c.runs[c.runs["evaluations"] == 300]["measured"].min()
    assert ours(c, {"name": "ula"}, 12) == last, "300 evaluations are 25 times 12"
    assert math.isnan(ours(c, {"name": "ula"}, 1000)), "nothing was spent beyond half of it"
    assert math.isnan(ours(c, {"name": "rdmc", "inner": "rejection"}, 12)), "which was lost"
    published = pd.read_csv(BUILD.PUBLISHED).query("target == 'gaussian_mixture.zod_mc' and metric == 'W2' and budget == budget")
    assert set(ALIKE) == set(published["sampler"]) and not published.duplicated(["sampler", "budget"]).any()
    row = next(line for line in beside(published, c).splitlines() if line.startswith("| ZOD-MC"))
    assert row == "| ZOD-MC | 6.72 (-) | 4.71 (-) | 4.22 (-) | 4.34 (-) |"


def test_kept_comparisons_are_those_of_the_finished_runs() -> None:
    table = rdmc_contests.table_at(BUILD.COMPARISONS)
    assert list(table.columns) == KEPT
    for name in table["experiment"].unique():
        assert (BUILD.EXPERIMENTS / f"{name}.yaml").exists()
        if (result := finished(read(BUILD.EXPERIMENTS / f"{name}.yaml"), BUILD.RUNS)) is not None:
            again = kept(load_result(result.folder))
            np.testing.assert_allclose(table[table["experiment"] == name]["measured"], again["measured"], rtol=1e-6)
