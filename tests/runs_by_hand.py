"""Runs written by hand: what figures and the report are tested on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixrate.experiments.result import COLUMNS, Result
from mixrate.theory.verdict import Row, Verdict, judge_bound, judge_identity, judge_rate

YAML = "title: written by hand\nclaim: <b>nothing</b> is claimed\ntarget: {name: gaussian.isotropic, dim: 10}\nsampler: {name: ula, step_size: 0.1}\n"
CLAIM = "Along ULA on a Gaussian, W2 contracts to a ball whose radius is <of order> sqrt(h)."
SOURCE = "Chewi, “Log-concave sampling” (2024), Theorem 4.1.1, https://chewisinho.github.io/main.pdf"


class Frame:
    """Rows and verdicts of a run that is written by hand."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.verdicts: list[dict[str, Any]] = []

    def add(self, rows: list[Row], swept: dict[str, Any], index: int, kind: str, theorem: str = "", instrument: str = "A") -> None:
        """Rows of one cell; theorems are numbered by `verdict`, which comes after."""
        check = -1 if kind == "metric" else len(self.verdicts)
        for row in rows:
            values = asdict(row)
            del values["cell"]  # the frame has its own
            head = {"cell": f"c{index}", "index": index, "seed": 0, "kind": kind, "check": check, "theorem": theorem, "quantity": values.pop("label")}
            cost = {"scores": float(values["k"]), "potentials": 0.0}
            self.rows.append({**head, **values, **cost, "instrument": instrument, "status": "ok", "note": "", "seconds": 0.1, **swept})

    def missing(
        self, status: str, note: str, swept: dict[str, Any], index: int, kind: str = "bound", theorem: str = "", quantity: str = "w2"
    ) -> None:
        self.add([Row(0, 0.0, np.nan, *[np.nan] * 4, "exact", np.nan, 0.0, quantity)], swept, index, kind, theorem, "")
        self.rows[-1] |= {"status": status, "note": note}

    def verdict(self, verdict: Any, theorem: str, kind: str, statement: str, **more: Any) -> None:
        values = asdict(verdict)
        values["figures"] = json.dumps(values["figures"])
        head = {"check": len(self.verdicts), "theorem": theorem, "parameters": "", "kind": kind, "expect": "holds", "statement": statement}
        tail = {"source": SOURCE, "factor": 1.0, "abscissa": "", "quantity": "", "instrument": "A"}
        record = {**head, **values, **tail, **more}
        self.verdicts.append({**record, "as_expected": record["word"] == record["expect"]})

    def result(self, folder: Path, name: str, title: str) -> Result:
        table = pd.DataFrame(self.rows)
        assert set(COLUMNS) <= set(table.columns)
        return Result(name, title, CLAIM, YAML, folder / name, table, pd.DataFrame(self.verdicts), 12.34)


def exact(value: float, bound: float = np.nan, error: float = 1e-15, **more: Any) -> Row:
    """A row of an exact route with its numerical error."""
    interval = {"measured": value, "lower": max(0.0, value - error), "upper": value + error}
    return Row(**{"k": 0, "time": 0.0, "x": np.nan, "floor": 0.0, "side": "exact", "bound": bound, **interval, **more})


def ula(folder: Path) -> Result:
    """Bounds over a sweep of step sizes, a control, a metric without a theorem, cells that diverged or are out of scope."""
    frame, steps = Frame(), np.unique(np.geomspace(1, 3000, 24).astype(int))
    sizes = np.geomspace(0.003, 0.3, 9)

    def rows(h: float, factor: float) -> list[Row]:
        w2 = np.sqrt((3 * (1 - h) ** steps) ** 2 + (0.6 * h) ** 2)
        bound = factor * (3 * np.exp(-steps * h / 2) + 1.65 * np.sqrt(10 * h))
        return [exact(w, b, k=int(k), time=float(k * h), label=f"w2; C_dmm={h:.3g}") for w, b, k in zip(w2, bound, steps, strict=True)]

    for factor, expect in ((1.0, "holds"), (0.2, "violated")):
        judged = []
        for i, h in enumerate(sizes):
            frame.add(rows(h, factor), {"sampler.step_size": h}, i, "bound", "ula-w2")
            judged += rows(h, factor)
        frame.missing("not applicable", "step_size at most m/M^2 = 0.3, got 0.5", {"sampler.step_size": 0.5}, 9, "bound", "ula-w2")
        frame.missing("diverged", "100.00% of the particles diverged, the first at step 31", {"sampler.step_size": 3.0}, 10, "bound", "ula-w2")
        verdict = judge_bound(judged)
        verdict.figures["smallest C"] = 0.1897
        statement = "W2(mu_k) <= exp(-m k h/2) W2(mu_0) + C M sqrt(d h)/m, C universal"
        frame.verdict(verdict, "ula-w2", "bound", statement, factor=factor, expect=expect)
    for i, h in enumerate(sizes[::4]):
        metric = [exact(np.exp(-2 * k * h) + h / 9, k=int(k), time=float(k * h), label="kl") for k in (0, *steps)]
        frame.add(metric, {"sampler.step_size": h}, 4 * i, "metric")
    frame.missing("diverged", "100.00% of the particles diverged, the first at step 31", {"sampler.step_size": 3.0}, 10, "metric", quantity="kl")
    return frame.result(folder, "ula-by-hand", "ULA's W2 bound over three decades of step size")


def rates(folder: Path) -> Result:
    """A rate with a transient, a rate that falls, two series of one rate, identities, and one theorem out of scope."""
    frame, sizes = Frame(), np.geomspace(1e-4, 0.3, 9)
    bias = [exact(0.7 * h * (1 + 2 * h**1.5), x=float(h), error=1e-9 * h, label="stationary w2") for h in sizes]
    for i, row in enumerate(bias):
        frame.add([row], {"sampler.step_size": row.x, "target.dim": 10}, i, "rate", "rate-ula-bias-h")
    frame.verdict(judge_rate(bias, 1.0, "equal"), "rate-ula-bias-h", "rate", "W2(pi_h, pi) ~ h^1 (ula-w2 guarantees h^(1/2))",
                  abscissa="step size h", quantity="stationary w2")  # fmt: skip
    gaps = [exact(0.6 / x, x=x, error=0.04 / x, label="gap / sqrt(a^2 - 1)") for x in (4.0, 12.0, 40.0, 150.0, 700.0)]
    for i, row in enumerate(gaps):
        frame.add([row], {"sampler.step_size": 0.1, "target.dim": i}, i + 20, "rate", "gap-separation", "G")
    frame.verdict(judge_rate(gaps, -1.0, "equal"), "gap-separation", "rate", "Poincare constant of two unit modes at +-a falls like exp(-a^2/2)",
                  abscissa="exp(a^2/2)", quantity="gap / sqrt(a^2 - 1)", instrument="G")  # fmt: skip
    for d in (10, 1000):
        series = [exact(0.02 * h * np.sqrt(d), x=float(h), error=1e-12, label="stationary w2") for h in sizes]
        for i, row in enumerate(series):
            frame.add([row], {"sampler.step_size": row.x, "target.dim": d}, 30 + i + d, "rate", "rate-two")
    frame.verdict(judge_rate(series, 0.5, "equal"), "rate-two", "rate", "W2(pi_h, pi) ~ h^(1/2)", abscissa="step size h", quantity="stationary w2",
                  expect="violated")  # fmt: skip
    same = [exact(e, 0.0, tolerance=1e-10, label=label) for e, label in ((3e-14, "covariance"), (0.0, "mean"))]
    for i in range(5):
        frame.add(same, {"sampler.step_size": sizes[i], "target.dim": 10}, i, "identity", "ula-bias-gauss")
    frame.verdict(judge_identity(same), "ula-bias-gauss", "identity", "stationary variance on eigenvalue l is 1/(l (1 - l h/2))")
    drop = [exact(np.exp(-k / 9), np.exp(-k / 9) * (1 + 1e-7 * (k > 30)), k=k, time=k / 9, tolerance=1e-9, label="KL drop") for k in range(1, 60, 4)]
    frame.add(drop, {"sampler.step_size": 0.1, "target.dim": 10}, 0, "identity", "ld-de-bruijn")
    frame.verdict(judge_identity(drop), "ld-de-bruijn", "identity", "d/dt KL(mu_t) = -J(mu_t)")
    frame.missing("not applicable", "the target is Gaussian", {"sampler.step_size": 0.1, "target.dim": 1}, 0, "identity", "mala-accept")
    frame.verdict(
        Verdict("not applicable", why="the target is Gaussian"), "mala-accept", "identity", "min{1, exp(-V(z))} is the MH ratio", instrument="Q"
    )
    return frame.result(folder, "rates-by-hand", "Rates and identities")


def decay(folder: Path) -> Result:
    """Two quantities of one theorem in time, one cell; noise from particles; one comparison a cell."""
    frame, rng = Frame(), np.random.default_rng(0)
    times = 0.25 * np.arange(1, 81)
    kl = [exact(2 * np.exp(-2.2 * t), 2 * np.exp(-2 * t), k=i + 1, time=t, error=3e-14, label="kl") for i, t in enumerate(times)]
    w2 = [exact(1.5 * np.exp(-1.1 * t), 2 * np.exp(-t), k=i + 1, time=t, error=1e-10, label="w2") for i, t in enumerate(times)]
    frame.add(kl + w2, {}, 0, "bound", "ld-kl", "G")
    frame.verdict(judge_bound(kl + w2), "ld-kl", "bound", "KL(mu_t) <= exp(-2 alpha t) KL(mu_0); W2(mu_t) <= sqrt(2 KL(mu_0)/alpha) exp(-alpha t)",
                  instrument="G")  # fmt: skip
    noisy = []
    for k in range(1, 61, 3):
        value = 4 * 0.92**k + 0.3 * (1 + 0.1 * rng.standard_normal())
        noisy.append(Row(k, 0.1 * k, np.nan, value, 0.85 * value, 1.2 * value, 0.3, "exact", 4.4 * 0.93**k + 0.35, 0.0, "w2"))
    frame.add(noisy, {}, 0, "bound", "ula-w2-dk", "P")
    frame.verdict(judge_bound(noisy), "ula-w2-dk", "bound", "W2(mu_k) <= (1 - m h)^k W2(mu_0) + 1.65 (M/m) sqrt(h d)", instrument="P")
    return frame.result(folder, "decay-by-hand", "Decay along the Langevin diffusion")


def complexity(folder: Path) -> Result:
    """One comparison a cell: the sweep is the horizontal axis."""
    frame, rows = Frame(), []
    for i, h in enumerate(np.geomspace(1e-3, 0.4, 14)):
        rows.append(exact(0.02 + h / 3, 0.1, k=int(9 / h), time=9.0, label="kl"))
        frame.add(rows[-1:], {"sampler.step_size": h}, i, "bound", "ula-kl-complexity")
    frame.verdict(judge_bound(rows), "ula-kl-complexity", "bound", "h <= alpha/(4 M^2), k >= log(2 KL_0/delta)/(alpha h) give KL(mu_k) < delta",
                  parameters="delta=0.1")  # fmt: skip
    return frame.result(folder, "complexity-by-hand", "Steps to a given accuracy")


#: By the name under which the tests ask for them.
RUNS = {"ula": ula, "rates": rates, "decay": decay, "complexity": complexity}
