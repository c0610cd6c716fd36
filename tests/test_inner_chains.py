"""Compiled Langevin chains on many posteriors, the compiled mixture, and the contest with ZOD-MC: steps, noise, blocks, planted bugs."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from mixrate.samplers import philox
from mixrate.samplers.diffusion import estimators, inner_chains
from mixrate.samplers.diffusion.estimators import Plan
from mixrate.samplers.diffusion.posterior import Posterior, stacked
from mixrate.samplers.noise import Stream
from mixrate.targets import mixture_kernel
from mixrate.targets.base import Target
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks" / "peers"))
import rdmc as contest  # noqa: E402

ALARM = 1e-6
TIME = 0.6
RANDOM = np.random.Generator(np.random.PCG64(7))
EIGHT = GaussianMixture(np.ones(8), 1.5 * RANDOM.standard_normal((8, 10)), 1.0)
#: Far apart in units of their width: shares below the smallest single-precision number.
APART = GaussianMixture([0.2, 0.3, 0.5], 12.0 * np.eye(3, 7), 0.5)
TARGETS = {
    "tilted": GaussianMixture.zod_mc(),
    "forty": GaussianMixture.fab_forty(),
    "eight": EIGHT,
    "apart": APART,
    "diagonal": GaussianMixture([1, 2], [[-2.0, 0, 1], [2, 1, 0]], [[1.0, 2.0, 0.5], [0.7, 1.0, 1.5]]),
    "gaussian": Gaussian.ill_conditioned(3, 5.0, rotation=2, mean=0.7),
}


def posterior(target: Target, n: int, chains: int, dtype: torch.dtype = torch.float64) -> Posterior:
    x = target.noised(TIME).sample(n, Stream("x", n)).to(dtype)
    return Posterior(target, x, float(np.exp(-TIME)), float(-np.expm1(-2 * TIME)), chains)


def ends(q: Posterior, steps: int, compiled: bool, first: int = 11) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the chains ended, and the number that is drawn after them."""
    noise = Stream("chains", step=3, first=first, dtype=q.x.dtype)
    y = estimators.ula(q, Plan(steps, 0.02, compiled=compiled), noise).y
    return y, noise.normal((len(q.x), 1))


# The loop.


def check_one_step() -> None:
    """``y + h (score + (a/v)(x - a y)) + sqrt(2 h) z`` by hand, z in the order in which a stream gives a particle its numbers."""
    for dtype, room in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        n, chains = 70, 12
        q = posterior(EIGHT, n, chains, dtype)
        h, noise = 0.02, Stream("step", dtype=dtype)
        y = q.by_kernel(noise)
        out = stacked(inner_chains.run(EIGHT, q.x, y, q.scale, q.variance, h, 1, noise), n)
        again = Stream("step", dtype=dtype)
        again.normal((n, 10 * chains))
        z = again.normal((n, 10 * chains)).T.reshape(10, chains, n)
        drift = EIGHT.reference(y.double())[1] + q.scale / q.variance * (q.centres - q.scale * y).double()
        assert float((out - stacked(y, n) - h * stacked(drift, n) - (2 * h) ** 0.5 * z).abs().max()) < room


def check_against_torch(
    names: tuple[str, ...] = tuple(TARGETS), shapes: tuple[tuple[int, int], ...] = ((1, 1), (37, 100), (70, 6), (130, 9))
) -> None:
    """All steps, on the same noise; and the noise after them is the same. Numbers of chains that fill no counters, blocks that end early."""
    for name in names:
        for n, chains in shapes:
            for dtype in (torch.float64, torch.float32):
                q = posterior(TARGETS[name], n, chains, dtype)
                (mine, after), (torchs, after_torch) = ends(q, 5, True), ends(q, 5, False)
                away = (mine - torchs).abs().double()
                # rounding, stretched by the scores of modes between which chains choose
                assert float(away.max()) < (1e-10 if dtype == torch.float64 else 2e-2)
                assert float(away.median()) < (1e-14 if dtype == torch.float64 else 1e-5)
                assert torch.equal(after, after_torch)


def test_one_step_by_hand() -> None:
    check_one_step()


@pytest.mark.parametrize("name", TARGETS)
def test_chains_are_the_steps_of_torch(name: str) -> None:
    assert inner_chains.serves(TARGETS[name], torch.zeros((1, TARGETS[name].dim)), Stream("any"))
    check_against_torch((name,))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("chains", [7, 12, 128])
def test_blocks_do_not_change_a_number(dtype: torch.dtype, chains: int, monkeypatch: pytest.MonkeyPatch) -> None:
    q = posterior(EIGHT, 100, chains, dtype)
    whole = ends(q, 3, True)[0]
    for particles, points in ((16, 64), (100, 5000), (33, 400)):
        monkeypatch.setattr(inner_chains, "PARTICLES", particles)
        monkeypatch.setattr(inner_chains, "POINTS", points)
        assert torch.equal(whole, ends(q, 3, True)[0])
    part = Posterior(EIGHT, q.x[40:70], q.scale, q.variance, chains)
    assert torch.equal(stacked(whole, 100)[:, :, 40:70], stacked(ends(part, 3, True, first=51)[0], 30))


def test_where_the_chains_start_is_left_alone() -> None:
    q = posterior(EIGHT, 20, 8)
    y = q.by_kernel(Stream("start"))
    before = y.clone()
    inner_chains.run(EIGHT, q.x, y, q.scale, q.variance, 0.1, 2, Stream("more"))
    assert torch.equal(y, before)


def check_law() -> None:
    """On N(0, 1), from one point: after k steps normal, of mean and variance in closed form. Kolmogorov-Smirnov, false alarm 1e-6."""
    target, chains, h, steps = Gaussian([0.0], [[1.0]]), 40_000, 0.1, 4
    x, start = torch.tensor([[0.8]], dtype=torch.float64), 2.0
    a, v = float(np.exp(-TIME)), float(-np.expm1(-2 * TIME))
    y = inner_chains.run(target, x, torch.full((chains, 1), start, dtype=torch.float64), a, v, h, steps, Stream("law"))
    precision = 1 + a * a / v
    r, mean = 1 - h * precision, a / v * 0.8 / precision
    spread = 2 * h * sum(r ** (2 * k) for k in range(steps))
    assert stats.kstest(y[:, 0].numpy(), stats.norm(mean + r**steps * (start - mean), spread**0.5).cdf).pvalue > ALARM


def test_law_of_the_chains() -> None:
    check_law()


# The compiled mixture.


def check_mixture() -> None:
    """Potential and score against torch in float64, alone and together, in and between the modes and far out."""
    for name in ("tilted", "forty", "eight", "apart", "diagonal"):
        target = TARGETS[name]
        assert isinstance(target, GaussianMixture)
        z = target.sample(300, Stream("points", name))
        for x in (z, 0.5 * (z + z.flip(0)), 3.0 * z):
            for dtype, eps in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
                single = x.to(dtype)
                value, score = target.reference(single.double())
                found, slope = target.potential_and_score(single)
                assert torch.equal(found, target.potential(single)) and torch.equal(slope, target.score(single))
                # the exponents of all components round relative to the largest of them, and the score follows its shares
                room = eps * (1 + float(value.abs().max()))
                assert float((found - value).abs().max()) < room
                assert float(((slope - score).abs().amax(1) / (1 + score.abs().amax(1))).max()) < 30 * room


def test_mixture_is_that_of_torch() -> None:
    check_mixture()


@pytest.mark.parametrize("components", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("dim", [1, 3, 4, 5, 6])
def test_round_components_in_any_number(components: int, dim: int) -> None:
    """Loops of four, and what is left of them."""
    random = np.random.Generator(np.random.PCG64(dim))
    target = GaussianMixture(random.uniform(1, 2, components), random.standard_normal((components, dim)), list(random.uniform(0.5, 2, components)))
    x = torch.as_tensor(2 * random.standard_normal((50, dim)))
    for mine, torchs in zip(target.potential_and_score(x), target.reference(x), strict=True):
        assert torch.allclose(mine, torchs, atol=1e-12)


# Planted bugs: each is seen by the check named beside it.


def wrong_counters(dtype: type, n: int, count: int) -> tuple[int, int, int]:
    """Two numbers a counter, as in double precision: chains of single precision get those of others."""
    return (*BLOCKS(dtype, n, count)[:2], 2)


def uneven(dtype: type, n: int, count: int) -> tuple[int, int, int]:
    """Blocks of chains that begin within a counter."""
    particles, _, per = BLOCKS(dtype, n, count)
    return particles, 3, per


def frozen(dtype: type, numbers: int) -> int:
    """Every step at the positions of the first."""
    return 0


def shifted(target: Any, x: Any, y: Any, scale: float, variance: float, *rest: Any) -> Any:
    """v for a/v."""
    return RUN(target, x, y, scale, scale / variance, *rest)


def root(target: Any, x: Any, y: Any, scale: float, variance: float, step_size: float, *rest: Any) -> Any:
    """The noise of half a step."""
    return RUN(target, x, y, scale, variance, step_size / 2, *rest)


BLOCKS, RUN = inner_chains.blocks, inner_chains.run
MUTANTS: list[tuple[Any, str, Any, Callable[[], None]]] = [
    (inner_chains, "blocks", wrong_counters, lambda: check_against_torch(("eight",), ((70, 12),))),
    (inner_chains, "blocks", uneven, lambda: check_against_torch(("eight",), ((70, 12),))),
    (philox, "counters", frozen, check_law),
    (inner_chains, "run", shifted, check_one_step),
    (inner_chains, "run", root, check_one_step),
    (inner_chains, "run", root, check_law),
]


@pytest.mark.parametrize(("owner", "name", "bug", "check"), MUTANTS, ids=[f"{i}-{m[2].__name__}" for i, m in enumerate(MUTANTS)])
def test_planted_bugs_are_seen(owner: Any, name: str, bug: Any, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    check()
    monkeypatch.setattr(owner, name, bug)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("half", ["log_weights", "means", "precisions"])
def test_a_wrong_mixture_is_seen(half: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters that are off by 1 %: the kernel that a mixture builds is no longer the density of its torch expression."""
    right = mixture_kernel.mixture

    def off(*arguments: Any) -> Any:
        given = dict(zip(("log_weights", "means", "kind", "precisions"), arguments, strict=True))
        return right(**given | {half: given[half] * 1.01})

    check_mixture()
    monkeypatch.setattr(mixture_kernel, "mixture", off)
    for target in TARGETS.values():
        target.__dict__.pop("kernel", None)
    try:
        with pytest.raises(AssertionError):
            check_mixture()
    finally:
        for target in TARGETS.values():
            target.__dict__.pop("kernel", None)


# The contest.


@pytest.mark.parametrize("target", ["zod_mc", "eight", "forty"])
def test_the_contest_knows_the_score(target: str) -> None:
    """What both sides are compared with is the closed form of the target that ours builds from the same arrays."""
    arrays = contest.arrays(contest.Contest(target, 0.5, 0.01, 1.0, particles=40))
    mixture = GaussianMixture(arrays["weights"], arrays["means"], list(arrays["covs"]))
    assert np.allclose(mixture.noised(0.5).score(torch.as_tensor(arrays["x"])).numpy(), arrays["start"], atol=1e-11)


def test_zod_mc_is_the_target_of_that_name() -> None:
    weights, means, covs = contest.mixture("zod_mc")
    target = GaussianMixture.zod_mc()
    for mine, other in ((target.weights, weights), (target.means, means), (target.covs, covs)):
        assert np.array_equal(mine.numpy(), other)


def test_the_contest_is_won_by_time_and_error() -> None:
    seconds = {"ours": [0.1, 0.2, 0.1], "theirs": [2.0, 2.0, 3.0]}
    row = contest.compared(seconds, {"ours": 0.5, "theirs": 0.5}, 12.0)
    assert (row["ratio"], row["low"], row["high"], row["ours ms"], row["met"]) == ("20", "10", "30", "100", "yes")
    assert contest.compared(seconds, {"ours": 0.5, "theirs": 0.5}, 21.0)["met"] == "no"
    assert contest.compared(seconds, {"ours": 0.6, "theirs": 0.5}, 12.0)["met"] == "no"


def test_the_page_shows_the_kept_contest() -> None:
    with contest.CSV.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == contest.COLUMNS and len(rows) == len(contest.CONTESTS)
    page = contest.PAGE.read_text(encoding="utf-8")
    assert contest.shown(page) == page


def test_without_a_clone_one_line_says_where_it_is() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "peers" / "rdmc.py"), "--peer", str(ROOT / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("peer must be a clone of https://github.com/") and len(done.stderr.splitlines()) == 1


# Published values.


def test_published_values_are_numbers_with_a_source() -> None:
    with (ROOT / "results" / "published.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == ("target", "setting", "sampler", "metric", "budget", "value", "uncertainty", "source")
    assert len(rows) > 300
    for row in rows:
        assert row["target"] and row["setting"] and row["sampler"] and row["metric"] and "https://" in row["source"]
        assert np.isfinite(float(row["value"])) and (not row["uncertainty"] or float(row["uncertainty"]) >= 0)
        assert not row["budget"] or int(row["budget"]) > 0
    found = {(r["target"], r["sampler"], r["metric"], r["budget"]): float(r["value"]) for r in rows}
    assert found["gaussian_mixture.zod_mc", "ZOD-MC", "W2", "10200"] == pytest.approx(4.3403, abs=1e-3)
    assert found["gaussian_mixture.zod_mc", "RDMC", "W2", "200"] == pytest.approx(12.1435, abs=1e-3)
