"""The page on reverse diffusions: its text, its kept numbers, and the code that draws it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

import mixrate
from mixrate.experiments import diffusion_pictures
from mixrate.experiments.cell import run_point
from mixrate.experiments.components import build
from mixrate.experiments.diffusion_tables import COLUMNS, LAWS, TIMES, chosen, crossings, rows_of, slope
from mixrate.experiments.result import Result
from mixrate.experiments.schema import read
from mixrate.learning import read_spec, train
from mixrate.samplers.diffusion.checkpoint import read as checkpoint

ROOT = Path(__file__).resolve().parents[1]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_diffusion", ROOT / "docs" / "build_diffusion.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = generator()
KEPT, PLANE = pd.read_csv(BUILD.FIGURES), pd.read_csv(BUILD.LEARNED)


# The page.


def test_the_page_is_what_the_builder_writes() -> None:
    assert BUILD.page() == BUILD.PAGE.read_text(encoding="utf-8"), "run: make diffusion-page"


def test_the_pages_pictures_are_there_and_its_lines_are_short() -> None:
    text = BUILD.PAGE.read_text(encoding="utf-8")
    linked = re.findall(r"!\[[^\]]+\]\((images/diffusion/[^)]+)\)", text)
    assert {str(p.relative_to(ROOT / "docs")) for p in BUILD.PICTURES.iterdir()} == set(linked)
    assert all((ROOT / "docs" / name).read_bytes().startswith(b"\x89PNG") for name in linked)
    assert not [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")]


def test_a_slope_is_that_of_a_power() -> None:
    rows = pd.DataFrame({"steps": [40, 10, 20], "measured": [2.0 * 40**-1.5, 10**-1.0, 2.0 * 20**-1.5]})
    assert slope(rows, last=True) == pytest.approx(1.5, abs=1e-12)
    assert slope(rows, last=False) == pytest.approx(np.log2(10**-1.0 / (2.0 * 20**-1.5)), abs=1e-12)


# Its numbers. They are kept with six digits; laws on a mesh are the same to rounding, hence the relative 1e-4.


def fresh(name: str, keep: list[int]) -> pd.DataFrame:
    """Rows of some points of an experiment, as `results/diffusion.csv` has them."""
    points = [p for p in BUILD.points(name) if p.index in keep]
    table = pd.concat([run_point(p) for p in points], ignore_index=True)
    result = Result(name, "", "", "", ROOT, table, pd.DataFrame(), 0.0)
    return pd.DataFrame(rows_of(result, points), columns=COLUMNS)


def check_kept(rows: pd.DataFrame) -> None:
    keys = ["experiment", "case", "steps", "quantity"]
    both = rows.merge(KEPT, on=keys, suffixes=("", "_kept"))
    assert len(both) == len(rows) > 0
    np.testing.assert_allclose(both["measured"], both["measured_kept"], rtol=1e-4)
    np.testing.assert_allclose(both["stated"], both["stated_kept"], rtol=1e-4)


def test_kept_errors_are_those_of_the_runs() -> None:
    names = [(p.index, p.sampler.name) for p in BUILD.points("reverse-orders") if p.steps[-1] == 25]
    check_kept(fresh("reverse-orders", [i for i, name in names if name in ("reverse_euler", "ddim", "flow_heun")]))
    check_kept(fresh("learned-score", [0]))


@pytest.mark.full
@pytest.mark.parametrize("name", ["annealed-weights", "error-split", "learned-score", "reverse-orders", "reverse-orders-phase"])
def test_all_kept_errors_are_those_of_the_runs(name: str) -> None:
    rows = fresh(name, [p.index for p in BUILD.points(name)])
    check_kept(rows)
    assert len(rows) == len(chosen(KEPT, name))


def test_kept_gaps_are_those_of_the_laws() -> None:
    [law] = [law for law in LAWS if law.friction is None and "0.3" in law.label]
    rows = pd.DataFrame(crossings(law)).merge(KEPT, on=["experiment", "case", "quantity"], suffixes=("", "_kept"))
    assert len(rows) == len(TIMES) + 1
    np.testing.assert_allclose(rows["measured"], rows["measured_kept"], rtol=1e-4)  # six digits; the crossing is bisected to 1e-5
    t = diffusion_pictures.crossing(law)
    assert t is not None
    before, after = diffusion_pictures.ratios(law, [0.999 * t, 1.001 * t])
    assert before < 1 < after


# What the page says.


def test_orders_are_as_the_page_says() -> None:
    last = {str(case): slope(part, True) for case, part in chosen(KEPT, "reverse-orders").groupby("case") if len(part) > 1}
    last |= {str(case): slope(part, True) for case, part in chosen(KEPT, "reverse-orders-phase").groupby("case")}
    first = ("`reverse_euler`", "`reverse_exponential`", "`ddpm`, quadratic", "`ddim`, quadratic", "`phase_euler`", "`sscs`, euler")
    assert all(abs(last[name] - 1) < 0.06 for name in first)  # local slopes at 200 to 400 steps are that near their limit
    assert last["`ddpm`"] < 0.9 and last["`ddim`"] < 0.9
    assert abs(last["`flow_heun`"] - 2) < 0.02 and last["`sscs`, midpoint"] > 1.8
    assert chosen(KEPT, "reverse-orders")["measured"].min() < 1e-6


def test_parts_add_up_to_at_least_the_whole_and_the_bound_of_kl_holds() -> None:
    for name in ("error-split", "learned-score"):
        whole = chosen(KEPT, name)[chosen(KEPT, name)["quantity"].isin(["w2", "kl"])]
        assert len(whole) == 10 and (whole["measured"] < whole["stated"]).all()


def test_learned_scores_are_within_twice_the_floor() -> None:
    assert len(PLANE) == 6
    assert (PLANE["learned"] < 2 * PLANE["floor"]).all()
    assert (PLANE["score_error"] < 0.1).all() and (PLANE["seconds"] > 0).all()


# The learned scores.


def test_shipped_networks_are_of_their_trainings(tmp_path: Path) -> None:
    for name, error in zip(PLANE["score"], PLANE["score_error"], strict=True):
        spec = ROOT / "experiments" / "training" / f"{Path(name).stem}.yaml"
        found = train(spec, out=BUILD.SCORES)
        assert found.seconds == 0.0, "trained by another specification"
        assert found.error is not None
        assert found.error.total == pytest.approx(error, rel=1e-4)
        assert checkpoint(ROOT / "experiments" / name).about["target"] == read_spec(spec).target.id


@pytest.mark.full
def test_kept_distances_of_learned_scores_are_those_of_the_runs() -> None:
    """Chains of 200 steps in double precision; another order of sums moves few particles, and W2 by far less than its floor."""
    points = [p for p in BUILD.points("learned-2d") if p.target.name == "gaussian_mixture.circle" and p.sampler.params["score"] != "oracle"]
    values = [run_point(p).query("k > 0")["measured"].iloc[0] for p in points]
    kept = PLANE.set_index("target")["learned"]["gaussian_mixture.circle"]
    assert np.mean(values) == pytest.approx(kept, rel=0.02)


# The pictures.


def test_particles_of_a_point_are_those_of_the_run() -> None:
    [point] = [p for p in read(ROOT / "experiments" / "annealed-weights.yaml", ["law.n=200"]).points() if p.sampler.name == "ula"]
    target, x = diffusion_pictures.drawn(point)
    law = mixrate.propagate(mixrate.normal(0, 21.33, dim=2), build("sampler", "ula", point.sampler.params), target, 1000, law="particles", n=200)
    assert torch.equal(x, law.x)
    figure = diffusion_pictures.panels([("one", target, x), ("exact", target, diffusion_pictures.exact(target, 50))], "both")
    assert [len(axes.lines[0].get_xdata()) for axes in figure.axes] == [200, 50]


def test_orders_are_drawn_as_kept() -> None:
    figure = BUILD.contest(KEPT)
    names = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert len(names[0]) == 8 and names[1] == ["phase euler", "sscs, euler", "sscs, midpoint"]
    heun = figure.axes[0].lines[names[0].index("flow heun")]
    of = chosen(KEPT, "reverse-orders").query("case == '`flow_heun`'").sort_values("scores")
    assert heun.get_xdata().tolist() == of["scores"].tolist() and heun.get_ydata().tolist() == of["measured"].tolist()
