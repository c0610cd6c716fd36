"""The zoo: every target has examples that are certified, run at size in both precisions, and have one identity each."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from command_line import call

from mixrate.experiments import catalogue, components
from mixrate.experiments.certificates import certify_all, summary, table
from mixrate.experiments.zoo import Instance, chosen, constants, everything, instances, sections
from mixrate.theory.certificate.base import Certificate, Finding
from mixrate.theory.certificate.certify import certify, objections

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "certify.csv"
ALL = {str(instance): instance for instance in everything()}
each = pytest.mark.parametrize("name", list(ALL))

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return lambda *arguments: call(monkeypatch, capsys, *arguments)


def test_every_target_has_an_example_and_every_example_one_identity() -> None:
    assert {i.name.partition(".")[0] for i in ALL.values()} == set(components.names("target"))
    ids = [i.build().id for i in ALL.values()]
    assert len(set(ids)) == len(ids) >= 50


@each
def test_examples_may_enter_a_theorem_check(name: str) -> None:
    assert objections(ALL[name].build()) == ()


@each
def test_a_hundred_thousand_points_in_both_precisions(name: str) -> None:
    """One call, finite, in the dtype of the argument; float32 agrees where the density lives."""
    target = ALL[name].build()
    n = 100_000 if target.dim <= 10 else 20_000
    x = torch.randn((n, target.dim), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    v, s = target.potential_and_score(x)
    assert v.shape == (n,) and s.shape == (n, target.dim) and v.dtype == s.dtype == torch.float64
    w, t = target.potential_and_score(x[:1000].float())
    assert w.dtype == t.dtype == torch.float32
    size = 1.0 + v[:1000].abs() + (s[:1000] * x[:1000]).abs().sum(1)
    assert float(((w.double() - v[:1000]) / size).abs().nan_to_num(math.inf).max()) < 1e-4


@each
def test_the_docstring_has_a_formula_parameters_and_a_source(name: str) -> None:
    found = sections(components.find("target", ALL[name].name.partition(".")[0]))
    assert "``" in found[""], "a formula"
    assert "References" in found or "Versions" in found
    assert "https://" in found.get("References", "") + found.get("Versions", "")


def reference() -> list[dict[str, str]]:
    with REFERENCE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_reference_table_is_of_these_targets_and_nothing_in_it_failed() -> None:
    rows = reference()
    assert {(r["target"], r["id"]) for r in rows} == {(name, i.build().id) for name, i in ALL.items()}
    assert {r["word"] for r in rows} == {"certified", "measured"}
    assert {r["known"] for r in rows} == {"", "exact", "bound", "numeric"}


@pytest.mark.parametrize("name", ["double_well", "gaussian.isotropic(dim=10)", "gaussian_mixture.song_ermon", "student_t(dim=1, dof=3.0)"])
def test_quick_certificates_agree_with_the_reference(name: str) -> None:
    assert certified(name) == kept(name)


@pytest.mark.full
@each
def test_every_certificate_agrees_with_the_reference(name: str) -> None:
    assert certified(name) == kept(name)


def certified(name: str) -> list[tuple[str, str, str]]:
    """What was looked at, its word, and the declared value to five digits."""
    return [(f.what, f.word, "" if math.isnan(f.declared) else f"{f.declared:.5g}") for f in certify(ALL[name].build(), name).findings]


def kept(name: str) -> list[tuple[str, str, str]]:
    """The same from the reference table."""
    return [(r["what"], r["word"], r["declared"] and f"{float(r['declared']):.5g}") for r in reference() if r["target"] == name]


def test_what_is_asked_for_is_chosen() -> None:
    assert [str(i) for i in instances("gaussian.ar1")] == ["gaussian.ar1(dim=2, rho=0.9)"]
    assert len(instances("gaussian_mixture")) >= 9
    assert [str(i) for i in chosen(["funnel"], {"dim": 3})] == ["funnel(dim=3, variance=9.0)"]
    assert [str(i) for i in chosen(["gaussian.ar1"], {"rho": 0.5})] == ["gaussian.ar1(dim=2, rho=0.5)"]
    assert str(Instance("quartic", {})) == "quartic"


def test_constants_that_take_long_come_from_the_reference() -> None:
    forty = next(i for i in instances("gaussian_mixture") if i.name.endswith("fab_forty")).build()
    value, how = constants(forty)["poincare"]
    assert how == "numeric" and 0.9e-12 < value < 1.1e-12
    other = Instance("gaussian_mixture.fab_forty", {"seed": 1}).build()
    assert math.isnan(constants(other)["poincare"][0]) and constants(other)["poincare"][1] == "when asked"


# The command.


def test_certify_prints_every_finding_and_writes_a_table_and_a_page(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("certify", "quartic", "--out", tmp_path)
    assert code == 0 and "adaptive Gauss-Legendre" in out and "quartic[d=1]v1-" in out
    rows = pd.read_csv(tmp_path / "certify-quartic.csv")
    assert set(rows["word"]) == {"certified"} and set(rows["target"]) == {"quartic"}
    page = (tmp_path / "certify-quartic.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1 and page.count("✓") >= len(rows) and "https://" not in page.split("<svg")[0]


def test_parameters_are_set_and_exit_codes_follow(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = command("certify", "student_t", "--set", "dim=1", "--set", "dof=6", "--out", tmp_path)
    assert code == 0 and "student_t(dim=1, dof=6)" in out
    monkeypatch.setattr(catalogue, "_plugins", {})
    plugin = tmp_path / "wrong.py"
    text = "import mixrate\nt = mixrate.potential(lambda x: (x**2).sum(1) / 2, dim=1, log_normalizer={z}, m=1.0)\n"
    plugin.write_text(text.format(z=0.92))  # log sqrt(2 pi) is 0.9189
    code, out, _ = command("certify", "wrong", "--plugin", plugin, "--out", tmp_path)
    assert code == 1 and "failed" in out
    plugin.write_text("import mixrate\nt = mixrate.potential(lambda x: (x**2).sum(1) / 2, dim=1, m=0.5, how='exact')\n")
    assert command("certify", "wrong", "--plugin", plugin, "--out", tmp_path)[0] == 0
    assert command("certify", "wrong", "--plugin", plugin, "--out", tmp_path, "--strict")[0] == 3


BROKEN = """
from dataclasses import dataclass
from mixrate.targets.base import Target

@dataclass(frozen=True, eq=False)
class Broken(Target):
    @property
    def dim(self):
        raise RuntimeError("no dimension")

    def potential(self, x):
        return x[:, 0]
"""


def test_one_broken_target_loses_nothing_of_the_others(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_plugins", {})
    plugin = tmp_path / "broken.py"
    plugin.write_text(BROKEN)
    code, out, _ = command("certify", "broken", "quartic", "--plugin", plugin, "--out", tmp_path)
    assert code == 1 and "RuntimeError: no dimension" in out and "adaptive Gauss-Legendre" in out
    assert set(pd.read_csv(tmp_path / "certify.csv")["target"]) == {"broken", "quartic"}
    code, out, _ = command("list", "targets", "--plugin", plugin)
    assert code == 0 and "RuntimeError: no dimension" in out and "m = -12 (exact)" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "certify needs target names or --all, got neither"),
        (["quartic", "--all"], "certify needs target names or --all, got both"),
        (["quartik"], "unknown target 'quartik'"),
        (["funnel", "quartic", "--set", "dim=3"], "parameters are for one target, got 2 names"),
        (["funnel", "--set", "dims=3"], "unknown parameter 'dims', funnel accepts dim, variance"),
        (["funnel", "--set", "dim"], "--set dim: must be parameter=value"),
        (["funnel", "--set", "dim=x"], "dim must be a whole number, got"),
        (["funnel", "--set", "variance=-1"], "variance"),
        (["--all", "--set", "dim=3"], "--set is for one target, got --all"),
    ],
)
def test_bad_input_is_one_line(command: Command, tmp_path: Path, arguments: list[str], message: str) -> None:
    code, _, err = command("certify", *arguments, "--out", tmp_path)
    assert code == 2 and message in err and err.count("\n") == 1 and "Traceback" not in err


def test_list_targets_shows_constants_and_how_they_are_known(command: Command) -> None:
    code, out, _ = command("list", "targets")
    words = " ".join(out.split())
    assert code == 0 and "m = -12 (exact)" in words and "(numeric)" in words and "draws" in words
    assert "gaussian_mixture.fab_forty" in words


def test_a_summary_counts_words() -> None:
    good = Certificate("a", "a-1", 1, (Finding("score", "x", "certified"),))
    bad = Certificate("b", "b-1", 1, (Finding("score", "x", "failed"), Finding("m", "x", "open")))
    assert summary([good, bad]) == "2 targets: 1 certified, 1 failed; 3 findings."
    assert bad.word == "failed" and good.word == "certified"
    assert len(table([good, bad])) == 3


def test_a_stream_of_certificates_keeps_its_order() -> None:
    told: list[str] = []
    made = [Instance("quartic", {}), Instance("hyperbolic", {})]
    assert [c.target for c in certify_all(made, None, told.append)] == ["quartic", "hyperbolic"] == told
