"""Training of score networks: deterministic, resumed to the bit, towards the oracle; checkpoints that are refused; the command."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import mixrate
from mixrate.cli import app
from mixrate.errors import InvalidInput, MixrateError, Unsupported
from mixrate.laws.grid import Grid
from mixrate.laws.propagate import mesh_for, propagate
from mixrate.learning import read_spec, train
from mixrate.metrics.tv import TV
from mixrate.samplers.diffusion import training
from mixrate.samplers.diffusion.checkpoint import read, read_tensors, write, write_tensors
from mixrate.samplers.diffusion.forward import ou, vp
from mixrate.samplers.diffusion.network import Architecture, ScoreNetwork, load
from mixrate.samplers.diffusion.noising import Process
from mixrate.samplers.diffusion.parameterization import Moments
from mixrate.samplers.diffusion.score_error import score_error
from mixrate.samplers.diffusion.training import Run, Training, batches, loss_of

TARGET = mixrate.target("gaussian_mixture.two_modes", separation=3.0, weight=0.3)
OU = Process("vp", 3.0)
SMALL = Architecture(16, 2, 1)
SHORT = Training(steps=40, batch=64)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(process: Process = OU, settings: Training = SHORT, shape: Architecture = SMALL) -> ScoreNetwork:
    run = Run(TARGET, process, shape, settings)
    run.advance(settings.steps)
    return run.trained()


def weights(score: ScoreNetwork) -> torch.Tensor:
    return torch.cat([w.flatten() for w in score.network.parameters()])


# Determinism.


def test_the_same_seed_gives_the_same_weights_to_the_bit() -> None:
    before = torch.get_rng_state()
    first, second = trained(), trained()
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(trained(settings=dataclasses.replace(SHORT, seed=1))))
    assert torch.equal(torch.get_rng_state(), before), "training must not touch torch's own generator"


@pytest.mark.parametrize("stop", [1, 17, 39])
def test_a_resumed_training_is_the_uninterrupted_one(tmp_path: Path, stop: int) -> None:
    run = Run(TARGET, OU, SMALL, SHORT)
    run.advance(stop)
    run.save(tmp_path / "state.safetensors")
    again = Run(TARGET, OU, SMALL, SHORT)
    again.resume(tmp_path / "state.safetensors")
    assert again.step == stop
    again.advance(SHORT.steps)
    assert torch.equal(weights(again.trained()), weights(trained()))


@pytest.mark.parametrize("part", ["average", "weight", "exp_avg", "exp_avg_sq", "step"])
def test_every_part_of_the_state_matters(tmp_path: Path, part: str) -> None:
    """The check above fails where one kind of tensor is left out of the state (here: replaced by zeros, a step by 1)."""
    path = tmp_path / "state.safetensors"
    run = Run(TARGET, OU, SMALL, SHORT)
    run.advance(17)
    run.save(path)
    tensors, described, _ = read_tensors(path)
    lost = {k: (torch.ones_like(v) if part == "step" else torch.zeros_like(v)) if k.split(".")[0] == part else v for k, v in tensors.items()}
    write_tensors(path, lost, described)
    again = Run(TARGET, OU, SMALL, SHORT)
    again.resume(path)
    again.advance(SHORT.steps)
    assert not torch.equal(weights(again.trained()), weights(trained()))


def test_the_state_of_another_training_is_refused(tmp_path: Path) -> None:
    run = Run(TARGET, OU, SMALL, SHORT)
    run.save(tmp_path / "state.safetensors")
    with pytest.raises(InvalidInput, match=r"^resume needs the state of this very training"):
        Run(TARGET, OU, SMALL, dataclasses.replace(SHORT, rate=1e-3)).resume(tmp_path / "state.safetensors")


def test_draws_are_paired_stratified_and_those_of_the_target() -> None:
    settings = Training(steps=64, batch=512)
    drawn = list(batches(TARGET, OU, settings, 0))
    later = list(batches(TARGET, OU, settings, 50))
    assert len(drawn) == 64 and len(later) == 14
    for whole, part in zip(drawn[50:], later, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(whole[:2], part[:2], strict=True))
    for x0, eps, level, importance, _ in drawn[:3]:
        assert torch.equal(x0[:256], x0[256:]) and torch.equal(eps[:256], -eps[256:])
        # one row per stratum: the average of the importance weights is int dt / T = 1 - least/T, to the width of a stratum
        assert float(importance.mean()) == pytest.approx(1.0 - OU.least / OU.horizon, abs=2.0 / 256)
        assert float((importance * level.t).mean()) == pytest.approx(1.5, abs=3 * 2.0 / 256)
    x = torch.cat([batch[0][:256] for batch in drawn]).double()
    mean, cov = TARGET.moments
    assert abs(float(x.mean() - mean[0])) < 5 * float(cov[0, 0] / len(x)) ** 0.5  # false alarm 6e-7


# What is learned.

PAIR = mixrate.target("gaussian_mixture.two_modes", separation=5.0, weight=0.3, dim=2)
VE = Process("ve", 1.0, 0.05, 5.0)
#: What is left of the error after 150 steps, at most: measured 0.37 to 0.46 of that of a Gaussian's score, with which `mixed` begins on
#: positions, and 0.08 to 0.23 elsewhere.
LEARNING = [
    (OU, "denoising", "mixed", 0.6),
    (OU, "denoising", "epsilon", 0.25),
    (OU, "denoising", "x0", 0.25),
    (OU, "denoising", "score", 0.25),
    (OU, "ddpm", "v", 0.25),
    (OU, "implicit", "mixed", 0.6),
    (OU, "sliced", "mixed", 0.6),
    (Process("sub_vp", 3.0), "denoising", "mixed", 0.6),
    (VE, "denoising", "mixed", 0.6),
    (VE, "denoising", "epsilon", 0.4),
    (Process("sigma", 5.0, least=0.05), "denoising", "mixed", 0.6),
    (Process("cld", 1.0), "hybrid", "mixed", 0.3),
    (Process("psld", 1.0), "two_term", "epsilon", 0.25),
]


def left(process: Process, loss: str, kind: str, weight: str = "variance") -> float:
    """The share of its error that a short training leaves."""
    settings = Training(loss, weight, kind, steps=150, batch=256, rate=1e-2, average=0.95)
    run = Run(PAIR, process, Architecture(32, 2, 1), settings)
    begun = score_error(run.trained(), PAIR, n=300, count=8).total
    run.advance(150)
    return score_error(run.trained(), PAIR, n=300, count=8).total / begun


@pytest.mark.parametrize("process, loss, kind, share", LEARNING)
def test_training_approaches_the_oracle(process: Process, loss: str, kind: str, share: float) -> None:
    assert left(process, loss, kind) < share


#: The two terms of PSLD weigh small t like 1/t, where the noise of the draws is: slow where `least` is small (0.70 left at 1e-3).
LIKELIHOOD = [(OU, "denoising", 0.25), (Process("cld", 1.0), "hybrid", 0.25), (Process("psld", 1.0, least=0.03), "two_term", 0.6)]


@pytest.mark.parametrize("process, loss, share", LIKELIHOOD)
def test_the_likelihood_weight_approaches_the_oracle_too(process: Process, loss: str, share: float) -> None:
    assert left(process, loss, "epsilon", "likelihood") < share


@pytest.mark.parametrize("name", ["sigma is missing", "the sign"])
def test_a_wrong_loss_does_not_approach_the_oracle(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(score: Any, x0: torch.Tensor, eps: torch.Tensor, level: Any, weight: torch.Tensor) -> torch.Tensor:
        target = eps if name == "sigma is missing" else -eps / level.variance.sqrt()
        return (weight * (score(level.noised(x0, eps), level) + target) ** 2).mean()

    monkeypatch.setattr(training, "denoising_in_time", wrong)
    assert left(VE, "denoising", "epsilon") > 1.0  # on the Ornstein-Uhlenbeck process sigma is near 1 at most times


def test_the_error_of_a_gaussian_score_in_closed_form() -> None:
    """A network that gives zero on ``mixed`` has the score of a Gaussian: with a wrong spread the error is a known integral."""
    target = mixrate.target("gaussian.isotropic", dim=1, variance=1.0)
    score = ScoreNetwork(1, OU, "mixed", SMALL, Moments.of(torch.zeros(1, dtype=torch.float64), 4.0 * torch.eye(1, dtype=torch.float64)))
    found = score_error(score, target, n=4000, count=24)
    # x_t ~ N(0, 1), s* = -x, s = -x/(4 a^2 + v): the ratio at t is 3 a^2/(4 a^2 + v), the draws cancel
    a2 = np.exp(-2 * np.array(found.times))
    np.testing.assert_allclose(found.at, 3 * a2 / (1 + 3 * a2), rtol=1e-9)
    t = OU.least + (OU.horizon - OU.least) * (np.arange(20000) + 0.5) / 20000
    a2, v = np.exp(-2 * t), -np.expm1(-2 * t)
    exact = (v * (3 * a2 / (1 + 3 * a2)) ** 2).mean() / v.mean()
    # the midpoint rule at 24 times is off by 0.1 %; E x^2 at 4000 draws by 5 x 2.2 % per time, averaged over 24
    assert found.total == pytest.approx(exact**0.5, rel=0.03)


def test_ddpm_and_denoising_have_one_gradient() -> None:
    batch = next(batches(TARGET, OU, SHORT, 0))
    run = Run(TARGET, OU, SMALL, SHORT)
    with torch.no_grad():
        run.score.network.last.bias.fill_(0.3)
    one, two = (loss_of(run.score, Training(loss), *batch) for loss in ("denoising", "ddpm"))
    assert two.item() == pytest.approx(2.0 * one.item(), rel=1e-5)  # float32


# Checkpoints.


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "two.safetensors"
    write(path, trained(), {"seed": 0})
    return path


def test_a_checkpoint_gives_the_same_score(checkpoint: Path) -> None:
    score, found = trained(), load(str(checkpoint), 1)
    assert found is load(checkpoint, 1), "a checkpoint is loaded once"
    x = torch.linspace(-4, 4, 33, dtype=torch.float64)[:, None]
    for t in (0.0, 0.3, 3.0):
        assert torch.equal(found.score(x, t), score.score(x, t))
        torch.testing.assert_close(found.score(x.float(), t).double(), score.score(x, t), rtol=1e-4, atol=1e-4)
    assert found.score(x, 0.3).dtype == torch.float64 and not found.score(x, 0.3).requires_grad
    assert torch.equal(found.score(x, 0.0), found.score(x, OU.least)), "before the earliest time the network is asked there"
    assert read(checkpoint).about == {"seed": 0}


def test_what_is_no_checkpoint_is_refused_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    text, other = tmp_path / "text.safetensors", tmp_path / "other.safetensors"
    text.write_text("not a checkpoint")
    save_file({"x": torch.zeros(2)}, other)
    whole = checkpoint.read_bytes()
    cut, flipped = tmp_path / "cut.safetensors", tmp_path / "flipped.safetensors"
    cut.write_bytes(whole[:-8])
    flipped.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    retold = tmp_path / "retold.safetensors"
    retold.write_bytes(whole.replace(b'\\"seed\\": 0', b'\\"seed\\": 1'))
    tensors, described, _ = read_tensors(checkpoint)
    narrow, lacking, newer = (tmp_path / f"{name}.safetensors" for name in ("narrow", "lacking", "newer"))
    write_tensors(narrow, tensors | {"weights.last.weight": torch.zeros((1, 15))}, described)
    write_tensors(lacking, tensors, {k: v for k, v in described.items() if k != "process"})
    write_tensors(newer, tensors, described | {"format": 2})
    for path, pattern in {
        tmp_path / "none.safetensors": "score must be oracle or the path of a checkpoint, got .*: No such file",
        text: "score must be a checkpoint, got .*text",
        other: "score must be a checkpoint of mixrate, got .*other.safetensors, a safetensors file of something else",
        cut: "score must be a checkpoint, got .*cut",
        flipped: "the checkpoint .*flipped.safetensors was altered: its SHA-256 must be [0-9a-f]{16}..., got",
        retold: "the checkpoint .*retold.safetensors was altered",
        narrow: r"last.weight must have the shape \(1, 16\) in the checkpoint .*narrow.safetensors, got \(1, 15\)",
        lacking: "score must be a checkpoint, got .*lacking.safetensors, which lacks or misnames 'process'",
        newer: "score must be a checkpoint of format 1, got .*newer.safetensors of format 2",
    }.items():
        with pytest.raises(InvalidInput, match=f"^{pattern}") as caught:
            load(path, 1)
        assert "\n" not in str(caught.value)


def test_a_checkpoint_of_something_else_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"^score must be a checkpoint of dimension 2, that of the target, got .* of dimension 1$"):
        load(checkpoint, 2)
    assert load(checkpoint, 1, ou(3.0)) is load(checkpoint, 1, ou(2.0)), "a shorter run of the same process"
    with pytest.raises(InvalidInput, match=r"own process.*: it was trained up to the time 3, and is asked for 4"):
        load(checkpoint, 1, ou(4.0))
    with pytest.raises(InvalidInput, match=r"own process.*: the coefficients of its kernel at the time 0.03 are"):
        load(checkpoint, 1, vp(3.0, 1.0, 1.0))
    cld = Process("cld", 1.0)
    with pytest.raises(InvalidInput, match=r"own process.*: it was trained on vp, a process of x$"):
        load(checkpoint, 1, cld.sde)
    score = ScoreNetwork(1, cld, "mixed", SMALL, Moments.of(*TARGET.moments))
    write(tmp_path / "cld.safetensors", score, {})
    assert load(tmp_path / "cld.safetensors", 1, cld.sde).process == cld
    with pytest.raises(InvalidInput, match=r"own process.*: it was trained on cld, a process of \(x, p\)$"):
        load(tmp_path / "cld.safetensors", 1, ou(1.0))
    with pytest.raises(InvalidInput, match=r"own process.*: the coefficients of its kernel"):
        load(tmp_path / "cld.safetensors", 1, Process("cld", 1.0, mass=0.5).sde)
    with pytest.raises(InvalidInput, match=r"^x must have rows of 1 numbers, those of vp in dimension 1, got 2$"):
        load(checkpoint, 1).score(torch.zeros((1, 2)), 0.5)
    with pytest.raises(InvalidInput, match=r"^time must lie in \[0, 3\], the span of the process that was trained, got 3.5$"):
        load(checkpoint, 1).score(torch.zeros((1, 1)), 3.5)


def test_a_sampler_takes_a_checkpoint_for_its_score(tmp_path: Path) -> None:
    """The law at the end, on a grid: off by about the error of the score, and far nearer than with the Gaussian it began from."""
    settings = Training(steps=300, batch=256, rate=1e-2, average=0.98)
    run = Run(TARGET, OU, Architecture(32, 2, 1), settings)
    write(tmp_path / "gauss.safetensors", run.trained(), {})
    run.advance(300)
    write(tmp_path / "learned.safetensors", run.trained(), {})
    distance = {}
    for score in ("oracle", str(tmp_path / "gauss.safetensors"), str(tmp_path / "learned.safetensors")):
        sampler = mixrate.sampler("reverse_exponential", steps=40, horizon=3.0, stop=0.02, score=score)
        mesh = mesh_for(TARGET, sampler, None, nodes=401)
        law = propagate(Grid.of_target(OU.noised(TARGET, 3.0), mesh), sampler, TARGET, [40])[0]
        distance[Path(score).stem] = TV()(law, TARGET).value
    assert distance["learned"] - distance["oracle"] < 0.3 * (distance["gauss"] - distance["oracle"]), distance


# The command.

SPEC = """\
title: two modes
target: {name: gaussian_mixture.two_modes, separation: 3.0, weight: 0.3}
process: {name: vp, horizon: 3.0}
network: {width: 16, depth: 2, frequencies: 1}
steps: 30
batch: 64
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "two.yaml"
    path.write_text(SPEC)
    return path


def test_the_command_trains_once_and_says_how_far_it_is(spec: Path, tmp_path: Path) -> None:
    call = ["train", str(spec), "--out", str(tmp_path / "scores"), "--set", "steps=20"]
    first, second = CliRunner().invoke(app, call), CliRunner().invoke(app, call)
    assert first.exit_code == second.exit_code == 0, first.output
    percent = re.search(r"relative score error over all times: ([\d.]+) %", first.output)
    assert percent and percent.group(0) in second.output
    assert "seconds:" in first.output and "finished before: not trained again" in second.output
    path = tmp_path / "scores" / "two.safetensors"
    assert f"checkpoint: {path}, hash {read(path).digest[:16]}" in first.output
    assert float(percent.group(1)) == pytest.approx(100 * score_error(read(path).score, TARGET).total, abs=0.006)
    assert [p.name for p in path.parent.iterdir()] == ["two.safetensors"], "the state is removed once it is finished"
    assert read(path).about["steps"] == 20


def test_a_stopped_training_goes_on(spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(spec, out=tmp_path / "whole")
    advance = Run.advance

    def stopped(self: Run, until: int, *rest: object) -> float:
        advance(self, 11)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "advance", stopped)
    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        train(spec, out=tmp_path / "parts")
    assert torch.get_num_threads() == threads
    monkeypatch.setattr(Run, "advance", advance)
    parts = mixrate.train(spec, out=tmp_path / "parts")
    assert parts.digest == whole.digest
    assert torch.equal(weights(parts.score), weights(whole.score))


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("steps: 30", "stps: 30", r":5:1: stps: unknown key, a training has title, target, .*; did you mean 'steps'\?"),
        ("steps: 30", "steps: many", r":5:8: steps: must be a whole number, got the text 'many'"),
        ("batch: 64", "batch: 63", r":6:8: batch: must be even, draws come in pairs, got 63"),
        ("batch: 64", "loss: hybrid", r":6:7: loss: must be one of denoising, ddpm, implicit, sliced on vp, got 'hybrid'"),
        ("batch: 64", "parameterization: w", r":6:19: parameterization: must be one of epsilon, x0, score, v, mixed on vp, got 'w'"),
        ("width: 16", "widht: 16", r":4:11: network.widht: unknown parameter 'widht', a network accepts width.*did you mean 'width'\?"),
        ("horizon: 3.0", "horizon: -3", r":3:30: process.horizon: must be a positive finite number, got -3.0"),
        ("name: vp", "name: vpp", r":3:17: process.name: must be one of vp, sub_vp, ve, sigma, cld, psld, got 'vpp'"),
        ("name: vp,", "name: vp, mass: 1,", r":3:27: process.mass: must be left out where the process is vp, got 1.0"),
        ("name: gaussian_mixture.two_modes", "name: gausian", r":2:16: target: unknown target 'gausian', known: .*did you mean 'gaussian'\?"),
        ("process: {name: vp, horizon: 3.0}", "process: 3", r":3:10: process: must be a word or a mapping, got 3"),
        (SPEC, "", ":1:1: a training is a mapping with a target, got an empty file"),
        (SPEC, "steps: 3\n", ":1:1: missing key 'target'"),
        (SPEC, "target: bayesian_logistic_regression\n", ":1:9: target: "),
    ],
)
def test_a_wrong_spec_is_refused_at_its_place(spec: Path, old: str, new: str, message: str) -> None:
    spec.write_text(SPEC.replace(old, new))
    with pytest.raises(MixrateError, match=f"^{re.escape(str(spec))}{message}") as caught:
        read_spec(spec)
    assert "\n" not in str(caught.value)


def test_overrides_are_checked_too(spec: Path) -> None:
    assert read_spec(spec, ["process=sub_vp", "process.horizon=2"]).process == Process("sub_vp", 2.0)
    for override, message in {
        "steps": "must read path=value, for example steps=1000",
        "stps=3": "unknown path; did you mean 'steps'\\?",
        "steps=x": "steps: must be a whole number, got the text 'x'",
    }.items():
        with pytest.raises(InvalidInput, match=f"^override '{override}': {message}"):
            read_spec(spec, [override])


def test_a_target_without_draws_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"^target must have an exact sampler, a score is trained on draws, got user_potential$"):
        Run(mixrate.potential(lambda x: 0.5 * (x**2).sum(1), dim=2), OU, SMALL, SHORT)


def test_the_shipped_trainings_are_valid() -> None:
    folder = Path(__file__).resolve().parents[1] / "experiments" / "training"
    assert {read_spec(path).name for path in folder.glob("*.yaml")} >= {"nine-modes", "two-modes-cld"}


@pytest.mark.full
def test_nine_modes_to_five_percent(tmp_path: Path) -> None:
    """The default training: 2.4 % in half a minute of one core."""
    found = train(Path(__file__).resolve().parents[1] / "experiments" / "training" / "nine-modes.yaml", out=tmp_path)
    assert found.error is not None and found.error.total < 0.05
