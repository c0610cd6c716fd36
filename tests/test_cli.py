"""The command line: exit codes, one clear line on bad input, and what each command prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import call

import mixrate
from mixrate.experiments.components import names

YAML = """
title: small
target: {name: gaussian.isotropic, dim: 2}
sampler: {name: ula, step_size: 0.1}
start: {mean: 1.0, cov: 0.5}
law: normal
steps: [1, 10]
theorems: [ula-w2-dk]
"""


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    return lambda *arguments: call(monkeypatch, capsys, *arguments)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(YAML)
    return path


def test_run_prints_the_verdict_and_writes_a_report(command, small: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = command("run", small, "--out", tmp_path / "runs")
    assert code == 0 and "ula-w2-dk" in out and "holds" in out
    report = tmp_path / "runs" / "small" / "report.html"
    assert f"report: {report}" in out and report.stat().st_size > 10_000


def test_exit_codes_follow_the_verdicts(command, small: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "runs"
    assert command("run", small, "--out", out, "--set", "theorems=[{id: ula-w2-dk, factor: 0.001}]")[0] == 1
    assert command("run", small, "--out", out, "--set", "theorems=[{id: ula-w2-dk, factor: 0.001, expect: violated}]")[0] == 0
    assert command("run", small, "--out", out, "--set", "theorems=[{id: ula-w2-dk, expect: violated}]")[0] == 1
    assert command("run", small, "--out", out, "--set", "theorems=[ld-kl]")[0] == 1  # expected to hold, and does not apply
    particles = ("--set", "law={kind: particles, n: 50}", "--set", "theorems=[{id: ula-w2-dk, factor: 0.75}]", "--set", "steps=[100]")
    assert command("run", small, "--out", out, *particles)[0] == 0
    assert command("run", small, "--out", out, *particles, "--strict")[0] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (YAML.replace("step_size", "step_sise"), "did you mean 'step_size'?"),
        (YAML.replace("title: small", "titel: small"), "did you mean 'title'?"),
        (YAML.replace("step_size: 0.1", "step_size: fast"), "must be a number, got the text 'fast'"),
        (YAML.replace("step_size: 0.1", "step_size: -1"), "must be a positive finite number"),
        (YAML.replace("step_size: 0.1", "step_size: 2.5"), "must be below 2/M"),
        (YAML.replace("ula-w2-dk", "ula-w2-kd"), "did you mean 'ula-w2-dk'?"),
        (YAML.replace("{name: gaussian.isotropic, dim: 2}", "{name: gaussian, mean: [0, 0], cov: [[1, 2], [2, 1]]}"), "smallest eigenvalue is -1"),
        (YAML.replace("law: normal", "law: gird"), "did you mean 'grid'?"),
        (YAML.replace("law: normal", "law: grid").replace("dim: 2", "dim: 3"), "at most 2"),
        ("", "empty"),
    ],
)
def test_bad_input_is_one_line_with_its_place_and_code_2(command, tmp_path: Path, text: str, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    code, _, err = command("run", path, "--out", tmp_path / "runs")
    assert code == 2 and message in err and err.startswith(f"mixrate: {path}:") and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_other_bad_input(command, small: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for arguments, message in (
        (("verify", "ula-w3"), "did you mean 'ula-w2'?"),
        (("run", tmp_path / "missing.yaml"), "cannot be read"),
        (("run", small, "--set", "sampler.step_sise=1"), "did you mean 'step_size'?"),
        (("run", small, small), "share a folder"),
        (("compare", tmp_path, tmp_path), "not a finished run"),
        (("report", tmp_path), "not a finished run"),
        (("cite", "nobody"), "unknown theorem"),
        (("run", small, "--plugin", tmp_path / "none.py"), "not a Python file"),
    ):
        code, _, err = command(*arguments)
        assert code == 2 and message in err and err.count("\n") == 1, (arguments, err)


def test_a_law_that_is_not_admitted_says_why(command, small: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    settings = ("--set", "target=double_well", "--set", "sampler.step_size=0.01")
    code, _, err = command("run", small, "--out", tmp_path / "runs", *settings)
    assert code == 2 and "law: ula on double_well is not affine" in err and err.count("\n") == 1
    code, _, err = command("run", small, "--out", tmp_path / "runs", "--set", "sampler={name: mala, step_size: 0.1}")
    assert code == 2 and "law: the step draws uniform numbers" in err
    code, _, err = command("run", small, "--out", tmp_path / "runs", "--set", "law=grid", "--set", "start={mean: 0, cov: 0}")
    assert code == 2 and "law: a start without a density" in err


def test_plain_metrics_get_a_line_per_cell(command, small: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    settings = ("--set", "theorems=[]", "--set", "metrics=[w2, kl]", "--set", "sweep={matrix: {sampler.step_size: [0.1, 0.2]}}")
    code, out, _ = command("run", small, "--out", tmp_path / "runs", *settings)
    lines = [line.split() for line in out.splitlines() if line.startswith(("0.1 ", "0.2 "))]
    assert code == 0 and [line[:3] for line in lines] == [[h, m, "10"] for h in ("0.1", "0.2") for m in ("w2", "kl")]


def test_verify_prints_one_line_per_theorem(command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = command("verify", "ula-kl-avg", "ula-transient", "mh-stationary", "--out", tmp_path / "runs")
    assert code == 0
    for name, by in (("ula-kl-avg", "grid"), ("ula-transient", "particles"), ("mh-stationary", "grid")):
        assert sum(line.startswith(f"{name} ") and "holds" in line and by in line for line in out.splitlines()) == 1
    assert "Controls" in out and "NOT AS EXPECTED" not in out
    assert (tmp_path / "runs" / "verify-smoke.html").exists()


def test_list_validate_plan_cite_schema(command, small: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for what, kind in (("targets", "target"), ("samplers", "sampler"), ("metrics", "metric"), ("theorems", "theorem")):
        code, out, _ = command("list", what)
        assert code == 0 and all(name in out for name in names(kind))  # type: ignore[arg-type]
    assert "first-look" in command("list", "experiments")[1]
    assert "ok, 1 cells" in command("validate", small)[1]
    before = command("plan", small, "--out", tmp_path / "runs")[1]
    command("run", small, "--out", tmp_path / "runs")
    after = command("plan", small, "--out", tmp_path / "runs")[1]
    assert "yes" not in before and "yes" in after
    assert "Vempala" in command("cite", "ula-kl")[1] and len(command("cite")[1].splitlines()) == len(names("theorem"))
    assert json.loads(command("schema")[1])["properties"]["tier"]


def test_compare_and_report(command, small: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    command("run", small, "--out", tmp_path / "a")
    command("run", small, "--out", tmp_path / "b")
    code, out, _ = command("compare", tmp_path / "a" / "small", tmp_path / "b" / "small")
    assert code == 0 and "no verdict changed" in out
    command("run", small, "--out", tmp_path / "c", "--set", "theorems=[{id: ula-w2-dk, factor: 0.01}]")
    code, out, _ = command("compare", tmp_path / "a" / "small", tmp_path / "c" / "small")
    assert code == 1 and "violated" in out
    code, out, _ = command("report", tmp_path / "a" / "small", "--out", tmp_path / "page.html")
    assert code == 0 and (tmp_path / "page.html").exists()


def test_help_and_import_are_light() -> None:
    """`mixrate --help` and `import mixrate` pull in neither torch nor pandas nor matplotlib."""
    probe = "import sys, mixrate.cli; print([m for m in ('torch', 'pandas', 'matplotlib', 'scipy', 'ot') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_facade_is_pleasant() -> None:
    target = mixrate.target("gaussian.ill_conditioned", dim=5, condition=10)
    ula = mixrate.sampler("ula", step_size=0.01)
    laws = mixrate.propagate(mixrate.normal(3.0, 1.0, dim=5), ula, target, steps=100, checkpoints=[10, 100])
    values = [mixrate.metric("w2")(law, target).value for law in laws]
    assert values[0] > values[1] > 0
    sample = mixrate.propagate(mixrate.normal(3.0, 1.0, dim=5), ula, target, steps=10, law="particles", n=50)
    assert sample.x.shape == (50, 5)
    grid = mixrate.propagate("target", mixrate.sampler("mala", step_size=0.1), mixrate.target("double_well"), steps=3)
    assert mixrate.metric("tv")(grid, mixrate.target("double_well")).value < 1e-10
    fixed = mixrate.stationary(mixrate.sampler("ula", step_size=0.1), mixrate.target("skew_logistic"))
    assert 1e-3 < mixrate.metric("tv")(fixed, mixrate.target("skew_logistic")).value < 0.1
    assert "Vempala" in str(mixrate.theorem("ld-kl").source)
    with pytest.raises(mixrate.InvalidInput, match="did you mean 'ula'"):
        mixrate.sampler("ulla", step_size=0.1)
    with pytest.raises(mixrate.InvalidInput, match="step_size"):
        mixrate.sampler("ula")
    with pytest.raises(mixrate.Unsupported, match="normal:"):
        mixrate.propagate(
            mixrate.normal(0.0, 1.0, dim=3),
            mixrate.sampler("langevin_diffusion"),
            mixrate.target("gaussian_mixture.two_modes", separation=3.0, dim=3),
            steps=1,
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g, u: mixrate.propagate("targt", u, g, steps=1), "a law, 'target' or 'forward'"),
        (lambda g, u: mixrate.propagate("target", g, u, steps=1), "the order is start, sampler, target"),
        (lambda g, u: mixrate.propagate("target", u, g, steps=1, law="gird"), "law must be auto"),
        (lambda g, u: mixrate.propagate("target", u, g, steps=3.7), "whole numbers"),
        (lambda g, u: mixrate.propagate("target", u, g, steps=3, checkpoints=[]), "whole numbers"),
        (lambda g, u: mixrate.propagate(mixrate.normal(0.0, 0.0), u, g, steps=1, law="grid"), "without a density"),
        (lambda g, u: mixrate.normal(0.0, -1.0), "positive semidefinite"),
        (lambda g, u: mixrate.stationary(u, g, law="particles"), "not known"),
        (lambda g, u: mixrate.sampler("ula", stepsize=0.1), "did you mean 'step_size'"),
        (lambda g, u: mixrate.target("gaussian", mean=[0, 0], cov=[[1, 0], [0]]), "gaussian:"),
        (lambda g, u: mixrate.load_result("nowhere"), "not a finished run"),
    ],
)
def test_misuse_of_the_facade_is_one_line(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(mixrate.MixrateError) as caught:
        call(mixrate.target("gaussian.isotropic", dim=1), mixrate.sampler("ula", step_size=0.1))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_run_from_python(small: Path, tmp_path: Path) -> None:
    result = mixrate.run(small, out=tmp_path / "runs")
    assert result.verdicts["word"].tolist() == ["holds"] and {"measured", "bound", "k"} <= set(result.table.columns)
    assert mixrate.load_result(tmp_path / "runs" / "small").title == "small"
