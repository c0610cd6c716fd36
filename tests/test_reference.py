"""Verdicts, tightness and exponents against the reference table that is kept with the code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mixrate.experiments as experiments_package
from mixrate.experiments.result import ledger_table
from mixrate.experiments.runner import run
from mixrate.experiments.schema import load

REFERENCE = Path(__file__).parent.parent / "results" / "verify-smoke.csv"
SHIPPED = {e.name: e for e in load(Path(next(iter(experiments_package.__path__)))) if e.tier == "smoke"}
QUICK = ("first-look", "ld-shifted-gaussian", "ula-bias-gauss", "prox-kl")


def check(names: list[str], out: Path) -> None:
    """Same words; numbers within 1e-3, which leaves room for another platform's rounding and none for another law."""
    kept = pd.read_csv(REFERENCE, keep_default_na=False, na_values=[""])
    order = ["experiment", "check"]
    kept = kept[kept["experiment"].isin(names)].sort_values(order, ignore_index=True)
    found = ledger_table([run(SHIPPED[name], out) for name in names]).sort_values(order, ignore_index=True)
    assert len(kept) > 0
    assert found[["experiment", "check", "theorem", "expect", "word", "instrument"]].equals(
        kept[["experiment", "check", "theorem", "expect", "word", "instrument"]]
    )
    for column in ("tightness", "stated", "exponent", "low", "high"):
        assert np.allclose(found[column], kept[column].astype(float), rtol=1e-3, atol=1e-3, equal_nan=True), column


def test_the_reference_covers_every_smoke_experiment() -> None:
    judged = {name for name, e in SHIPPED.items() if any(p.theorems for p in e.points())}
    assert set(pd.read_csv(REFERENCE)["experiment"]) == judged


def test_quick_experiments_agree_with_the_reference(tmp_path: Path) -> None:
    check(list(QUICK), tmp_path)


@pytest.mark.full
def test_all_smoke_experiments_agree_with_the_reference(tmp_path: Path) -> None:
    check(list(SHIPPED), tmp_path)
