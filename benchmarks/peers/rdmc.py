"""Score estimates of reverse diffusion Monte Carlo beside those of the public code of ZOD-MC, at equal inner budget, in turn.

``git clone https://github.com/KevinRojas1499/ZOD-MC .venv-peers/ZOD-MC``, then ``.venv/bin/python benchmarks/peers/rdmc.py``.
Each side is a process of its own on one core (`worker.py`) and says its own CPU time; what both return is compared with the closed
form. A complete run is kept in results/bench-rdmc.csv and shown in docs/performance.md.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from opponents import OURS, ROOT, Opponent, OpponentFailed, cores, in_turn
from rows import short

CSV, PAGE, CLONE = ROOT / "results" / "bench-rdmc.csv", ROOT / "docs" / "performance.md", ROOT / ".venv-peers" / "ZOD-MC"
MARKS = ("<!-- bench-rdmc: begin -->", "<!-- bench-rdmc: end -->")
COLUMNS = ("target", "t", "identity", "dtype", "ours ms", "theirs ms", "ratio", "low", "high", "goal", "rms ours", "rms theirs", "met", "note")

#: How much larger our error may be: that of either has a standard error of 1 to 2 % over 1,000 particles.
ROOM = 1.05


@dataclass(frozen=True)
class Contest:
    """One estimate at every particle.

    Arguments:
        target: a name that `mixture` knows.
        time: t of the noised law that the particles are drawn from.
        step_size: of the inner Langevin chains, in units of time, on both sides.
        goal: least ratio of their time to ours.
        identity: ours; theirs is always Tweedie's.
        particles, chains, steps: the inner budget is the product of the last two, in scores per particle.
    """

    target: str
    time: float
    step_size: float
    goal: float
    identity: str = "tweedie"
    particles: int = 1000
    chains: int = 128
    steps: int = 20
    dtype: str = "float32"


CONTESTS = tuple(
    Contest(target, time, step_size, goal, identity)
    for target, step_size, goal, identities in (
        ("zod_mc", 0.02, 12.0, ("tweedie", "both")),
        ("eight", 0.05, 25.0, ("tweedie",)),
        ("forty", 0.05, 25.0, ("tweedie",)),
    )
    for time in (0.5, 0.1)
    for identity in identities
)


def mixture(target: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and covariances: four tilted modes, 8 round ones in d = 10, 40 round ones in [-40, 40]^2."""
    if target == "zod_mc":
        covs = [[[1, 0.5], [0.5, 1]], [[0.3, -0.2], [-0.2, 0.3]], [[1, 0.3], [0.3, 1]], [[1.2, -1], [-1, 1.2]]]
        return np.array([0.1, 0.2, 0.3, 0.4]), np.array([[0.0, 0], [0, 11], [9, 9], [11, 0]]), np.array(covs)
    random = np.random.Generator(np.random.PCG64(0))
    means = 1.5 * random.standard_normal((8, 10)) if target == "eight" else random.uniform(-40, 40, (40, 2))
    return np.full(len(means), 1 / len(means)), means, np.stack([np.eye(means.shape[1])] * len(means))


def arrays(contest: Contest) -> dict[str, np.ndarray]:
    """The mixture, exact draws x of its noised law, and as `start` the score there in closed form, what an estimate should be."""
    weights, means, covs = mixture(contest.target)
    a, v = np.exp(-contest.time), -np.expm1(-2 * contest.time)
    centres, spread = a * means, a * a * covs + v * np.eye(means.shape[1])
    random = np.random.Generator(np.random.PCG64(1))
    which = random.choice(len(weights), contest.particles, p=weights)
    x = centres[which] + np.einsum("nij,nj->ni", np.linalg.cholesky(spread)[which], random.standard_normal((contest.particles, means.shape[1])))
    away = centres - x[:, None]
    pull = np.einsum("kij,nkj->nki", np.linalg.inv(spread), away)
    logs = np.log(weights) - 0.5 * (np.linalg.slogdet(spread)[1] + (away * pull).sum(2))
    share = np.exp(logs - logs.max(1, keepdims=True))
    score = (share[:, :, None] * pull).sum(1) / share.sum(1, keepdims=True)
    return {"weights": weights, "means": means, "covs": covs, "x": x, "start": score}


def row(contest: Contest, sides: dict[str, Opponent], repeats: int, folder: Path) -> dict[str, str]:
    """The contest, run: times in turn, and the root mean square of the length of each side's error."""
    cells = dict.fromkeys(COLUMNS, "") | {"target": contest.target, "t": f"{contest.time:g}", "identity": contest.identity, "dtype": contest.dtype}
    path = folder / "arrays.npz"
    np.savez(path, **arrays(contest))  # type: ignore[arg-type]
    try:
        errors = {}
        for name, side in sides.items():
            side.ask("prepare", name="estimate", task=asdict(contest), arrays=str(path))
            errors[name] = float(sum(side.ask("check", name="estimate", seed=1)["displacement"])) ** 0.5
        seconds = in_turn({name: (side, "estimate") for name, side in sides.items()}, repeats)
    except OpponentFailed as failure:
        return cells | {"met": "failed", "note": str(failure)}
    return cells | compared(seconds, errors, contest.goal)


def compared(seconds: dict[str, list[float]], errors: dict[str, float], goal: float) -> dict[str, str]:
    """Medians, ratios of neighbours, and whether the goal is met without a larger error."""
    ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds["theirs"], strict=True)]
    met = median(ratios) >= goal and errors["ours"] <= ROOM * errors["theirs"]
    numbers: dict[str, Any] = {f"{name} ms": 1e3 * median(seconds[name]) for name in ("ours", "theirs")}
    numbers |= {"ratio": median(ratios), "low": min(ratios), "high": max(ratios)} | {f"rms {name}": error for name, error in errors.items()}
    return {name: short(number) for name, number in numbers.items()} | {"goal": f">= {goal:g}", "met": "yes" if met else "no"}


def keep(rows: Sequence[dict[str, str]], table: Path = CSV, page: Path = PAGE) -> None:
    """Write the table, and the page that shows it."""
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    page.write_text(shown(page.read_text(encoding="utf-8"), table), encoding="utf-8")


def shown(page: str, table: Path = CSV) -> str:
    """The page with the kept ratios and errors between its marks: times are of one machine, and stay in the table."""
    head, rest = page.split(MARKS[0])
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = ["| target | t | identity | theirs / ours (min to max) | goal | met | rms error, ours | theirs |", "|---|---|---|---|---|---|---|---|"]
    for r in rows:
        ratio = f"{r['ratio']} ({r['low']} to {r['high']})" if r["ratio"] else r["note"]
        cells = (r["target"], r["t"], r["identity"], ratio, r["goal"], r["met"], r["rms ours"], r["rms theirs"])
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join([f"{head}{MARKS[0]}", *lines, MARKS[1] + rest.split(MARKS[1])[1]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and keep; the exit code is 2 where there is no clone, else 0 whatever the figures are."""
    parser = argparse.ArgumentParser(description="Score estimates of RDMC beside those of ZOD-MC.")
    parser.add_argument("--peer", type=Path, default=CLONE, help="a clone of https://github.com/KevinRojas1499/ZOD-MC")
    parser.add_argument("--only", default="", help="contests whose target's name contains this; nothing is kept")
    parser.add_argument("--quick", action="store_true", help="few particles and chains: that it runs, not how fast; nothing is kept")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each side; fewer than 3 are not kept")
    chosen = parser.parse_args(arguments)
    if not (chosen.peer / "utils" / "score_estimators.py").exists():
        print(f"peer must be a clone of https://github.com/KevinRojas1499/ZOD-MC, got {chosen.peer}", file=sys.stderr)
        return 2
    core = cores()[-1]  # the first one serves more interrupts
    theirs = Opponent(OURS, "rdmc_zodmc", core, {"ZODMC": str(chosen.peer.resolve())})
    sides, rows = {"ours": Opponent(OURS, "rdmc_mixrate", core), "theirs": theirs}, []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for contest in CONTESTS:
                if chosen.only in contest.target:
                    small = replace(contest, particles=20, chains=16, steps=2) if chosen.quick else contest
                    rows.append(row(small, sides, chosen.repeats, Path(folder)))
                    print("  ".join(cell for cell in rows[-1].values() if cell), flush=True)
    finally:
        for side in sides.values():
            side.close()
    if not chosen.quick and not chosen.only and chosen.repeats >= 3:
        keep(rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
