"""The runner and the store: cells are resume points, failures are rows, and tables do not depend on workers."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixrate.errors import InvalidInput, MixrateError
from mixrate.experiments import runner
from mixrate.experiments.cell import run_point
from mixrate.experiments.compare import compare
from mixrate.experiments.runner import cell_path, load_result, pool, run
from mixrate.experiments.schema import Experiment, read, validate
from mixrate.experiments.store import Store, atomically

YAML = """
title: a small run
target: {name: gaussian.isotropic, dim: 2}
sampler: {name: ula, step_size: 0.1}
start: {mean: 1.0, cov: 0.5}
law: normal
steps: [1, 10]
metrics: [w2, {name: renyi, order: 3}]
theorems: [ula-w2-dk, {id: ula-w2-dmm, factor: 0.01, expect: violated}, {id: ld-kl, expect: not applicable}]
sweep:
  matrix: {sampler.step_size: [0.05, 0.1, 0.2], target.dim: [1, 2]}
"""


def experiment(folder: Path, text: str = YAML, name: str = "small", valid: bool = True) -> Experiment:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    found = read(path)
    if valid:
        validate(found)
    return found


def digest(table: pd.DataFrame) -> int:
    """One number for the content of a table, whatever the time it took."""
    return int(pd.util.hash_pandas_object(table.drop(columns="seconds"), index=False).sum())


def test_a_run_has_a_row_for_everything_and_its_verdicts(tmp_path: Path) -> None:
    result = run(experiment(tmp_path), tmp_path / "runs")
    table = result.table
    assert table["cell"].nunique() == 6 and set(table["index"]) == set(range(6))
    metrics = table[table["kind"] == "metric"]
    assert len(metrics) == 6 * 2 * 3 and set(metrics["quantity"]) == {"w2", "renyi(order=3)"}
    assert set(table["sampler.step_size"]) == {0.05, 0.1, 0.2} and set(table["target.dim"]) == {1, 2}
    assert list(result.verdicts["word"]) == ["holds", "violated", "not applicable"] and result.verdicts["as_expected"].all()
    again = load_result(tmp_path / "runs" / "small")
    pd.testing.assert_frame_equal(again.table, table)
    pd.testing.assert_frame_equal(again.verdicts, result.verdicts)
    assert not [p for p in (tmp_path / "runs").rglob("*") if p.name.startswith(".")]


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the third cell: the three are on disk, and only the other three are computed by the next run."""
    done: list[int] = []

    def dying(point, ticks=None):  # type: ignore[no-untyped-def]
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(point.index)
        return run_point(point)

    monkeypatch.setattr(runner, "run_point", dying)
    one = experiment(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(one, tmp_path / "runs")
    kept = [p for p in one.points() if cell_path(one, p, tmp_path / "runs").exists()]
    assert [p.index for p in kept] == done == [0, 1, 2]
    later: list[int] = []

    def counting(point, ticks=None):  # type: ignore[no-untyped-def]
        later.append(point.index)
        return run_point(point)

    monkeypatch.setattr(runner, "run_point", counting)
    resumed = run(one, tmp_path / "runs")
    assert later == [3, 4, 5]
    monkeypatch.setattr(runner, "run_point", run_point)
    assert digest(resumed.table) == digest(run(one, tmp_path / "fresh").table)


def test_a_damaged_cell_is_computed_again(tmp_path: Path) -> None:
    one = experiment(tmp_path)
    first = run(one, tmp_path / "runs")
    cell_path(one, one.points()[2], tmp_path / "runs").write_bytes(b"not parquet")
    assert digest(run(one, tmp_path / "runs").table) == digest(first.table)


PARTICLES = """
title: chains, compiled and step by step
target: double_well
sampler: {name: ula, step_size: 0.02}
start: {mean: 0.5, cov: 0.5}
law: {kind: particles, n: 3000}
steps: [1, 10]
metrics: [w2]
sweep:
  matrix:
    target: [double_well, {name: gaussian_mixture.two_modes, separation: 3, dim: 1}]
    sampler: [{name: ula, step_size: 0.02}, {name: mala, step_size: 0.1}, {name: random_walk, scale: 0.5}]
seeds: [0, 1]
"""


class Shuffled(Executor):
    """Runs its cells, once all are there, in an order of its own."""

    def __init__(self, cells: int) -> None:
        self.cells, self.waiting = cells, []  # type: ignore[var-annotated]

    def submit(self, function, /, *arguments):  # type: ignore[no-untyped-def, override]
        future: Future[object] = Future()
        self.waiting.append((future, function, arguments))
        if len(self.waiting) == self.cells:
            for i in np.random.default_rng(7).permutation(self.cells):
                done, call, given = self.waiting[i]
                done.set_result(call(*given))
        return future


def test_one_table_hash_over_orders_and_resumptions(tmp_path: Path) -> None:
    one = experiment(tmp_path, PARTICLES)
    alone = run(one, tmp_path / "alone")
    assert alone.table["measured"].notna().all()
    assert run(one, tmp_path / "shuffled", executor=Shuffled(12)).digest == alone.digest
    for point in one.points()[::2]:
        cell_path(one, point, tmp_path / "alone").unlink()
    resumed = run(one, tmp_path / "alone", executor=Shuffled(6))
    assert resumed.digest == alone.digest == load_result(tmp_path / "alone" / "small").digest
    changed = alone.table.assign(measured=alone.table["measured"] * (1 + 1e-15))
    assert dataclasses.replace(alone, table=changed).digest != alone.digest
    assert dataclasses.replace(alone, table=alone.table.assign(seconds=0.0)).digest == alone.digest


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.full), pytest.param(8, marks=pytest.mark.full)])
def test_one_table_hash_over_numbers_of_workers(workers: int, tmp_path: Path) -> None:
    one = experiment(tmp_path, PARTICLES)
    told: list[int] = []
    alone = run(one, tmp_path / "alone", ticks=told.append)
    assert sum(told) == 12 * 3000 * 10
    told.clear()
    with pool(workers) as executor:
        together = run(one, tmp_path / "together", executor=executor, ticks=told.append)
    assert together.digest == alone.digest and sum(told) == 12 * 3000 * 10


def test_single_precision_is_a_choice_of_the_run(tmp_path: Path) -> None:
    text = PARTICLES.replace("n: 3000", "n: 400").split("sweep:")[0] + "sweep: {matrix: {law.dtype: [float64, float32]}}\n"
    table = run(experiment(tmp_path, text), tmp_path / "runs").table
    double, single = (table[(table["law.dtype"] == kind) & (table["k"] == 10)]["measured"].iloc[0] for kind in ("float64", "float32"))
    assert double != single and abs(double / single - 1) < 0.5


def test_a_sweep_that_grows_keeps_its_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(experiment(tmp_path), tmp_path / "runs")
    computed: list[float] = []

    def counting(point, ticks=None):  # type: ignore[no-untyped-def]
        computed.append(point.sweep["sampler.step_size"])
        return run_point(point)

    monkeypatch.setattr(runner, "run_point", counting)
    run(experiment(tmp_path, YAML.replace("a small run", "retitled").replace("[0.05, 0.1, 0.2]", "[0.05, 0.1, 0.2, 0.3]")), tmp_path / "runs")
    assert computed == [0.3, 0.3]


def test_what_has_no_route_is_a_row_with_its_reason(tmp_path: Path) -> None:
    text = YAML.replace("{name: gaussian.isotropic, dim: 2}", "double_well").replace("ula, step_size: 0.1", "ula, step_size: 0.01")
    one = experiment(tmp_path, text.split("sweep:")[0], valid=False)
    result = run(one, tmp_path / "runs")
    metrics, theorems = result.table[result.table["kind"] == "metric"], result.table[result.table["kind"] != "metric"]
    assert set(metrics["status"]) == {"unsupported"} and metrics["note"].str.contains("not affine").all()
    assert set(theorems["status"]) == {"not applicable"} and theorems["note"].iloc[0].startswith("strongly log-concave")
    assert result.table["measured"].isna().all() and list(result.verdicts["as_expected"]) == [False, False, True]


def test_a_divergence_is_a_row_with_step_and_never_a_number(tmp_path: Path) -> None:
    text = """
title: explodes
target: quartic
sampler: {name: ula, step_size: 0.1}
start: {mean: 30, cov: 1}
law: {kind: particles, n: 100}
steps: [20]
metrics: [w2]
theorems: [ula-transient]
"""
    result = run(experiment(tmp_path, text), tmp_path / "runs")
    gone = result.table[(result.table["kind"] == "metric") & (result.table["k"] > 0)]
    assert set(gone["status"]) == {"diverged"} and gone["measured"].isna().all() and "100.00% of the particles diverged" in gone["note"].iloc[0]
    assert result.verdicts["word"].iloc[0] == "holds"


def test_writes_are_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "kept.txt"
    target.write_text("old")

    def broken(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        atomically(target, broken)
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    with pytest.raises(InvalidInput, match="cannot be written"):
        Store(target)
    with pytest.raises(MixrateError, match="not a finished run"):
        load_result(tmp_path)


def test_comparing_runs_finds_what_moved_and_what_got_worse(tmp_path: Path) -> None:
    one = experiment(tmp_path)
    first = run(one, tmp_path / "runs")
    same = compare(first, run(one, tmp_path / "other"))
    assert same.shared == len(first.table) and not same.moved and not same.verdicts and not same.worse
    moved = first.table.copy()
    at = moved.index[(moved["quantity"] == "w2") & (moved["k"] == 10)][0]
    moved.loc[at, ["measured", "lower", "upper"]] *= 1.001
    verdicts = first.verdicts.copy()
    verdicts.loc[0, ["word", "as_expected"]] = ["violated", False]
    changed = type(first)(first.name, first.title, first.claim, first.yaml, first.folder, moved, verdicts, first.seconds)
    difference = compare(first, changed)
    assert len(difference.moved) == 1 and difference.moved[0][:2] == ("", "w2") and difference.worse
    assert difference.verdicts[0][:3] == ("ula-w2-dk", "holds", "violated")


def test_rates_are_fitted_per_series(tmp_path: Path) -> None:
    """Two dimensions swept beside the step size: one fit each, and the exponent is 1 in both."""
    text = """
title: series
target: {name: gaussian.isotropic, dim: 2}
sampler: {name: ula, step_size: 0.1}
start: target
law: normal
steps: [1]
theorems: [rate-ula-bias-h, rate-ula-bias-d]
sweep:
  matrix: {sampler.step_size: {geometric: [1e-3, 1e-2], count: 4}, target.dim: [1, 10, 100]}
"""
    result = run(experiment(tmp_path, text), tmp_path / "runs")
    assert list(result.verdicts["word"]) == ["holds", "holds"]
    assert "3 series" in result.verdicts["why"].iloc[0] and "4 series" in result.verdicts["why"].iloc[1]
    assert np.allclose(result.verdicts["exponent"], [1.0, 0.5], atol=0.02)


def test_a_mistake_in_a_component_costs_its_rows_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric that fails is a row with the reason, one line; the other rows are there."""
    from mixrate.metrics.w2 import W2

    def broken(self: W2, p: object, q: object) -> None:
        raise np.linalg.LinAlgError("SVD did not\nconverge")

    monkeypatch.setattr(W2, "normal", broken)
    table = run_point(experiment(tmp_path).points()[0])
    failed = table[table["quantity"] == "w2"]
    assert set(failed["status"]) == {"unsupported"} and failed["note"].iloc[0] == "LinAlgError: SVD did not converge"
    assert (table.loc[table["quantity"] == "renyi(order=3)", "status"] == "ok").all()


def test_a_changed_source_does_not_meet_old_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = experiment(tmp_path)
    before = cell_path(one, one.points()[0], tmp_path)
    monkeypatch.setattr(runner, "fingerprint", lambda: "another")
    assert cell_path(one, one.points()[0], tmp_path) != before


def test_rates_with_seeds_are_fitted_per_seed(tmp_path: Path) -> None:
    text = """
title: seeds
target: {name: gaussian.isotropic, dim: 2}
sampler: {name: ula, step_size: 0.1}
start: target
law: normal
steps: [1]
theorems: [rate-ula-bias-h]
sweep: {matrix: {sampler.step_size: {geometric: [1e-3, 1e-2], count: 4}}}
seeds: [0, 1]
"""
    assert run(experiment(tmp_path, text), tmp_path / "runs").verdicts["word"].tolist() == ["holds"]
