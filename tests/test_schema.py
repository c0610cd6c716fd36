"""Experiment files: every mistake is one line at its place, and a sweep is exactly the points it says."""

from __future__ import annotations

import itertools
import json
import pickle
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixrate.errors import InvalidInput
from mixrate.experiments import catalogue, components, document
from mixrate.experiments.ranges import geometric, linear, whole_steps
from mixrate.experiments.schema import Experiment, Start, json_schema, load, read, validate
from mixrate.laws import memory

BASE = """\
title: ULA contracts to its bias ball
target: {name: gaussian.ill_conditioned, dim: 5, condition: 20}
sampler: {name: ula, step_size: 0.01}
start: {mean: 3.0, cov: 1.0}
law: normal
steps: 10
metrics: [kl, {name: renyi, order: 2}]
theorems: [ula-w2-dk]
"""
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes x.yaml into the working directory, so that messages begin with ``x.yaml:``."""
    monkeypatch.chdir(tmp_path)

    def to_file(text: str) -> Path:
        Path("x.yaml").write_text(text, encoding="utf-8")
        return Path("x.yaml")

    return to_file


def refusal(path: Path, overrides: tuple[str, ...] = ()) -> str:
    """The message with which a file is refused."""
    with pytest.raises(InvalidInput) as caught:
        validate(read(path, overrides))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_full_example(write: Write) -> None:
    text = """\
title: ULA contracts to its bias ball
claim: the distance falls at the rate of the theorem
tier: smoke
target: {name: gaussian.ill_conditioned, dim: 50, condition: 20}
sampler: {name: ula, step_size: 0.01}
start: {mean: 3.0, cov: 1.0}
law: normal
steps: {first: 1, last: 1000, count: 4, spacing: log}
metrics: [kl, {name: renyi, order: 2}]
theorems:
  - ula-w2-dk
  - {id: ula-w2-dk, factor: 0.5, expect: violated}
sweep:
  matrix: {target.dim: [1, 10], sampler.step_size: {geometric: [1e-3, 1e-1], count: 3}}
  zip: {start.mean: [0, 1], start.cov: [1, 2]}
  include: [{target.dim: 3, sampler.step_size: 0.05}]
  exclude: [{target.dim: 10, sampler.step_size: 0.1}]
seeds: [0, 1]
"""
    experiment = read(write(text.replace("1e-1]", "0.09]").replace("step_size: 0.1}", "step_size: 0.09}")))
    validate(experiment)
    assert (experiment.name, experiment.tier) == ("x", "smoke")
    points = experiment.points()
    assert len(points) == (2 * 3 * 2 - 2 + 1) * 2
    assert [p.index for p in points] == list(range(len(points)))
    first, last = points[0], points[-1]
    assert first.sweep == {"target.dim": 1, "sampler.step_size": 1e-3, "start.mean": 0, "start.cov": 1}
    assert (first.target.name, first.target.params) == ("gaussian.ill_conditioned", {"dim": 1, "condition": 20})
    assert (first.sampler.name, first.sampler.params) == ("ula", {"step_size": 1e-3})
    assert first.steps == (0, 1, 10, 100, 1000)
    assert first.law.kind == "normal"
    assert [m.name for m in first.metrics] == ["kl", "renyi"]
    assert first.metrics[1].params == {"order": 2}
    assert [(t.id, t.factor, t.expect, t.params) for t in first.theorems] == [("ula-w2-dk", 1.0, "holds", {}), ("ula-w2-dk", 0.5, "violated", {})]
    assert last.sweep == {"target.dim": 3, "sampler.step_size": 0.05}
    assert isinstance(last.start, Start)
    assert (last.start.mean, last.seed) == (3, 1)
    assert pickle.loads(pickle.dumps(first)) == first


# Mistakes. Each row: what is replaced in BASE, by what, and the message.

KEYS = "title, claim, tier, target, sampler, start, law, steps, metrics, theorems, sweep, seeds"
UNREADABLE = [
    ("", "1:1: an experiment is a mapping with title, target, sampler, start, law and steps, got an empty file"),
    ("# nothing\n", "1:1: an experiment is a mapping with title, target, sampler, start, law and steps, got an empty file"),
    ("- a\n- b", '1:1: an experiment is a mapping with title, target, sampler, start, law and steps, got the list ["a", "b"]'),
    ("just words", "1:1: an experiment is a mapping with title, target, sampler, start, law and steps, got the text 'just words'"),
    ("title: [1", "1:10: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
    ("title: x\nsteps: a: b", "2:9: not valid YAML: mapping values are not allowed here"),
    ("title: x\n\tlaw: y", "2:1: not valid YAML: while scanning for the next token, found character '\\t' that cannot start any token"),
    ("title: x\nlaw: \x01", "2:6: not valid YAML: the character U+0001 is not allowed"),
    ("title: *nowhere", "1:8: not valid YAML: found undefined alias 'nowhere'"),
    ("title: a\n---\ntitle: b", "2:1: not valid YAML: expected a single document in the stream, but found another document"),
    ("title: a\nlaw: b\ntitle: c", "3:1: title: duplicate key, first in line 1"),
    ("start:\n  mean: 0\n  mean: 1", "3:3: start.mean: duplicate key, first in line 2"),
    ('"a\\nb": 1', "1:1: 'a\\nb': unknown key, an experiment has " + KEYS),
    ("? [a]\n: b", "1:3: a key must be a word, got a list"),
    ("title: !!python/object:os.system x", "1:8: title: the tag !!python/object:os.system is not supported"),
    ("title: !!int x", "1:8: title: not a number: 'x'"),
    ("title: &a [*a]", "1:8: title[0]: this anchor contains itself"),
    ("title: " + "[" * 700, " not valid YAML: nested too deeply"),
]
UNKNOWN_KEYS = [
    ("sampler:", "sampelr:", f"3:1: sampelr: unknown key, an experiment has {KEYS}; did you mean 'sampler'?"),
    ("mean: 3.0", "mena: 3.0", "4:9: start.mena: unknown key, accepted: mean, cov, tilt; did you mean 'mean'?"),
    ("steps: 10", "steps: {last: 3, cuont: 3}", "6:18: steps.cuont: unknown key, accepted: last, first, count, spacing; did you mean 'count'?"),
    ("law: normal", "law: {kind: grid, node: 5}", "5:19: law.node: unknown key, accepted: kind, nodes, box; did you mean 'nodes'?"),
    ("law: normal", "law: {kind: particles, nodes: 5}", "5:24: law.nodes: unknown key, accepted: kind, n, dtype, device"),
    (
        "steps: 10",
        "steps: 10\nsweep: {matrxi: {}}",
        "7:9: sweep.matrxi: unknown key, accepted: matrix, zip, include, exclude; did you mean 'matrix'?",
    ),
]
WRONG_VALUES = [
    ("title: ULA contracts to its bias ball", "title: 3", "1:8: title: must be text, got 3"),
    ("steps: 10", "tier: smok\nsteps: 10", "6:7: tier: must be 'smoke' or 'full', got the text 'smok'; did you mean 'smoke'?"),
    ("steps: 10", "steps: '10'", "6:8: steps: must be a whole number or a list or a mapping, got the text '10'"),
    ("steps: 10", "steps: 0", "6:8: steps: must be greater than or equal to 1, got 0"),
    ("steps: 10", "steps: [1, -2]", "6:12: steps[1]: must be greater than or equal to 0, got -2"),
    ("steps: 10", "steps: [1, two]", "6:12: steps[1]: must be a whole number, got the text 'two'"),
    ("steps: 10", "steps: 1000000", "6:8: steps: at most 100000 checkpoints, got 1000000; give {last, count} instead"),
    ("steps: 10", "steps: {first: 3, last: 3}", "6:16: steps.first: must be below last, got 3 and 3"),
    ("steps: 10", "steps: {count: 3}", "6:8: steps: missing key 'last'"),
    ("mean: 3.0", "mean: no", "4:15: start.mean: must be a number or a list, got the text 'no'"),
    ("mean: 3.0", "mean: true", "4:15: start.mean: must be a number or a list, got true"),
    ("mean: 3.0", "mean: .nan", "4:15: start.mean: must be a finite number, got NaN"),
    ("cov: 1.0", "cov: [[1, x], [0, 1]]", "4:30: start.cov[0][1]: must be a number, got the text 'x'"),
    ("{mean: 3.0, cov: 1.0}", "targt", "4:8: start: must be 'target' or 'forward' or a mapping, got the text 'targt'; did you mean 'target'?"),
    (
        "law: normal",
        "law: gird",
        "5:6: law: must be 'normal', 'grid', 'particles' or 'coupled' or a mapping, got the text 'gird'; did you mean 'grid'?",
    ),
    (
        "law: normal",
        "law: {kind: gird}",
        "5:13: law.kind: must be one of 'normal', 'grid', 'particles', 'coupled', got the text 'gird'; did you mean 'grid'?",
    ),
    ("law: normal", "law: {nodes: 5}", "5:6: law: missing key 'kind'"),
    ("law: normal", "law: {kind: grid, nodes: 6}", "5:26: law.nodes: must be odd, got 6"),
    (
        "law: normal",
        "law: {kind: grid, box: [[1], [0]]}",
        "5:24: law.box: must be two corners [[lo, ...], [hi, ...]] with lo < hi, got [[1.0], [0.0]]",
    ),
    ("law: normal", "law: {kind: particles, dtype: half}", "5:31: law.dtype: must be 'float64' or 'float32', got the text 'half'"),
    ("law: normal", "law: {kind: particles, n: 0}", "5:27: law.n: must be greater than or equal to 2, got 0"),
    ("law: normal\n", "", "1:1: missing key 'law'"),
    ("name: ula", "nam: ula", "3:10: sampler: missing key 'name'"),
    ("[ula-w2-dk]", "[{id: ula-w2-dk, factor: -1}]", "8:36: theorems[0].factor: must be greater than 0, got -1"),
    (
        "[ula-w2-dk]",
        "[{id: ula-w2-dk, expect: fails}]",
        "8:36: theorems[0].expect: must be 'holds', 'violated', 'inconclusive' or 'not applicable', got the text 'fails'",
    ),
    ("steps: 10", "steps: 10\nseeds: 3", "7:8: seeds: must be a list, got 3"),
    ("steps: 10", "steps: 10\nseeds: []", "7:8: seeds: must have at least 1 item, got the list []"),
    ("steps: 10", "steps: 10\nseeds: [1, 1]", "7:8: seeds: must differ, got [1, 1]"),
]
COMPONENTS = [
    ("{name: ula, step_size: 0.01}", "{name: ulla, step_size: 0.01}", "3:17: sampler: unknown sampler 'ulla', known: "),
    ("gaussian.ill_conditioned", "gaussian.ill", "2:16: target: gaussian has no constructor 'ill', only: ar1, ill_conditioned, isotropic"),
    ("step_size:", "step_sise:", "3:22: sampler.step_sise: unknown parameter 'step_sise', ula accepts step_size; did you mean 'step_size'?"),
    ("0.01", "'0.01'", "3:33: sampler.step_size: must be a number, got the text '0.01'"),
    ("0.01", "true", "3:33: sampler.step_size: must be a number, got true"),
    ("0.01", "", "3:32: sampler.step_size: must be a number, got nothing (null)"),
    ("dim: 5", "dim: 5.5", "2:47: target.dim: must be a whole number, got 5.5"),
    ("dim: 5, ", "", "2:16: target: gaussian.ill_conditioned needs dim (a whole number)"),
    ("condition: 20", "condition: 0.5", "2:61: target.condition: must be at least 1 and m positive, got condition=0.5, m=1.0"),
    (
        "{name: gaussian.ill_conditioned, dim: 5, condition: 20}",
        "{name: gaussian, mean: [0, 0], cov: [[1, 2], [2, 1]]}",
        "2:45: target.cov: must be positive definite, its smallest eigenvalue is -1",
    ),
    (
        "{name: gaussian.ill_conditioned, dim: 5, condition: 20}",
        "{name: gaussian, mean: [0, 0], cov: [[1, 2], [2]]}",
        "2:16: target: gaussian refuses mean = the list [0, 0], cov = a list of 2: expected sequence of length 2",
    ),
    ("mean: 3.0", "mean: [1, 2]", "4:15: start.mean: must have the target's dimension 5, got 2 numbers"),
    ("cov: 1.0", "cov: -1", "4:25: start.cov: must be symmetric and positive semidefinite, its smallest eigenvalue is -1"),
    ("cov: 1.0", "cov: [[1, 2], [3]]", "4:25: start.cov: must be a matrix, got rows of unequal lengths"),
    (
        "law: normal",
        "law: {kind: particles, n: 100000000}",
        "5:6: law: 100000000 particles in d = 5 at 11 recorded steps need 48 GB, and 80% of this machine's memory is 0.8 GB",
    ),
    *(
        [
            (
                "law: normal",
                "law: {kind: particles, device: cuda}",
                "5:32: law.device: must be one that torch finds on this machine, got cuda: there is no CUDA device",
            )
        ]
        if not torch.cuda.is_available()
        else []
    ),
    ("law: normal", "law: grid", "5:6: law: a grid has the dimension of the target, which is 5, and at most 2"),
    ("order: 2", "ordre: 2", "7:29: metrics[1].ordre: unknown parameter 'ordre', renyi accepts order; did you mean 'order'?"),
    ("[ula-w2-dk]", "[ula-w2-dl]", "8:12: theorems[0]: unknown theorem 'ula-w2-dl', known: "),
    ("[ula-w2-dk]", "[ula-w2-dk, {id: ula-w2-dk, delta: 1}]", "8:39: theorems[1].delta: unknown parameter 'delta', ula-w2-dk accepts none"),
]
SWEEPS = [
    ("matrix: {sampler.step_sise: [0.1]}", "9:18: sampler.step_sise: unknown parameter 'step_sise', ula accepts step_size; did you mean"),
    ("matrix: {samplr.step_size: [0.1]}", "9:18: sweep.matrix.samplr.step_size: a sweep path begins with target, sampler, start, law, steps, "),
    ("matrix: {title: [a]}", "9:18: sweep.matrix.title: a sweep path begins with target, sampler, start, law, steps, metrics, theorems"),
    ("matrix: {start.mena: [1]}", "9:18: start.mena: unknown key, accepted: mean, cov, tilt; did you mean 'mean'?"),
    ("matrix: {steps.last: [5]}", "9:18: sweep.matrix.steps.last: steps is 10 and has no 'last'"),
    ("matrix: {metrics.w2.order: [5]}", "9:18: sweep.matrix.metrics.w2.order: metrics has no 'w2', give a name in it or an index from 0 to 1"),
    ("matrix: {target.dim: []}", "9:30: sweep.matrix.target.dim: must have at least 1 item, got the list []"),
    ("matrix: {target.dim: 3}", "9:30: sweep.matrix.target.dim: must be a list or a mapping, got 3"),
    ("matrix: {target.dim: {geometrc: [1, 2], count: 2}}", "9:31: sweep.matrix.target.dim.geometrc: unknown key, accepted: geometric, linear, count"),
    ("matrix: {target.dim: {geometric: [1, 2]}}", "9:30: sweep.matrix.target.dim: missing key 'count'"),
    ("matrix: {target.dim: {count: 2}}", "9:30: sweep.matrix.target.dim: give either geometric: [first, last] or linear: [first, last]"),
    (
        "matrix: {target.dim: {geometric: [0, 2], count: 3}}",
        "9:42: sweep.matrix.target.dim.geometric: must have positive ends, got [0.0, 2.0]",
    ),
    ("matrix: {target.dim: {geometric: [1, 2], count: 100001}}", "9:57: sweep.matrix.target.dim.count: must be less than or equal to 100000"),
    (
        "matrix: {target.dim: {linear: [1, 500], count: 500}, target.condition: {linear: [1, 2], count: 500}}",
        "9:1: sweep: at most 100000 points, got 250000",
    ),
    ("matrix: {target.dim: [2, 3, 2]}", "9:37: sweep.matrix.target.dim[2]: two points are the same: {'target.dim': 2} and {'target.dim': 2}"),
    ("matrix: {target.dim: [2, x]}", "9:34: target.dim: must be a whole number, got the text 'x'"),
    ("matrix: {sampler: [mala, {name: ula, step_sise: 1}]}", "9:28: sampler: mala needs step_size (a number)"),
    ("matrix: {sampler: [{name: ula, step_sise: 1}]}", "9:40: sampler.step_sise: unknown parameter 'step_sise', ula accepts step_size"),
    ("zip: {target.dim: [1, 2], start.mean: [1]}", "9:47: sweep.zip.start.mean: lists in zip walk together: target.dim has 2 values, this one 1"),
    ("{matrix: {target.dim: [1]}, zip: {target.dim: [1]}}", "9:42: sweep.zip.target.dim: is in matrix too"),
    ("{matrix: {target.dim: [1]}, exclude: [{target.dim: 2}]}", "9:46: sweep.exclude[0]: matches no point"),
    ("{matrix: {target.dim: [1]}, exclude: [{target.dmi: 1}]}", "9:47: sweep.exclude[0].target.dmi: is not swept; did you mean 'target.dim'?"),
    ("{matrix: {target.dim: [1]}, exclude: [{target.dim: 1}]}", "9:36: sweep.exclude: every point is excluded"),
    ("{matrix: {target.dim: [1]}, include: [{target.dim: 1}]}", "9:59: sweep.include[0].target.dim: two points are the same"),
    ("{matrix: {target.dim: [1]}, include: [{target.dim: x}]}", "9:59: target.dim: must be a whole number, got the text 'x'"),
    ("{matrix: {target.dim: [1]}, include: [{start.mena: 1}]}", "9:47: start.mena: unknown key, accepted: mean, cov, tilt; did you mean 'mean'?"),
]
OVERRIDES = [
    ("sampler.step_size=x", "override 'sampler.step_size=x': sampler.step_size: must be a number, got the text 'x'"),
    ("sampler.step_sise=1", "override 'sampler.step_sise=1': sampler.step_sise: unknown parameter 'step_sise', ula accepts step_size; did you mean"),
    ("samplr.step_size=1", "override 'samplr.step_size=1': unknown path; did you mean 'sampler'?"),
    ("start.mena=1", "override 'start.mena=1': start.mena: unknown key, accepted: mean, cov, tilt; did you mean 'mean'?"),
    ("start={mean: x, cov: 1}", "override 'start={mean: x, cov: 1}': start.mean: must be a number or a list, got the text 'x'"),
    ("steps.last=1", "override 'steps.last=1': steps is 10 and has no 'last'"),
    ("theorems.2.factor=1", "override 'theorems.2.factor=1': theorems has no '2', give a name in it or an index from 0 to 0"),
    ("steps", "override 'steps': must read path=value, for example sampler.step_size=0.1"),
    ("steps=[1", "override 'steps=[1':1:3: not valid YAML: while parsing a flow sequence, expected"),
    ("steps=[1, -2]", "override 'steps=[1, -2]': steps[1]: must be greater than or equal to 0, got -2"),
]


@pytest.mark.parametrize("text, message", UNREADABLE)
def test_an_unreadable_file_is_refused(write: Write, text: str, message: str) -> None:
    assert refusal(write(text)) == f"x.yaml:{message}"


@pytest.mark.parametrize("old, new, message", UNKNOWN_KEYS + WRONG_VALUES)
def test_a_mistake_is_refused_at_its_place(write: Write, old: str, new: str, message: str) -> None:
    assert old in BASE
    assert refusal(write(BASE.replace(old, new, 1))) == f"x.yaml:{message}"


@pytest.mark.parametrize("old, new, message", COMPONENTS)
def test_what_cannot_be_built_or_run_here_is_refused_at_its_place(
    write: Write, old: str, new: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "total", lambda: 10**9)
    assert old in BASE
    path = write(BASE.replace(old, new, 1))
    read(path)  # the keys are right: only building finds it
    assert refusal(path).startswith(f"x.yaml:{message}")


@pytest.mark.parametrize("sweep, message", SWEEPS)
def test_a_mistake_in_a_sweep_is_refused_at_its_place(write: Write, sweep: str, message: str) -> None:
    assert refusal(write(BASE + "sweep: " + (sweep if sweep.startswith("{") else f"{{{sweep}}}"))).startswith(f"x.yaml:{message}")


@pytest.mark.parametrize("override, message", OVERRIDES)
def test_a_mistake_in_an_override_names_it(write: Write, override: str, message: str) -> None:
    assert refusal(write(BASE), (override,)).startswith(message)


def test_the_line_is_that_of_the_value_in_block_style(write: Write) -> None:
    text = BASE.replace("sampler: {name: ula, step_size: 0.01}", "# a comment\nsampler:\n  name: ula\n\n  step_size: fast")
    assert refusal(write(text)) == "x.yaml:7:14: sampler.step_size: must be a number, got the text 'fast'"


def test_an_unreadable_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"title: \xe9")
    assert refusal(tmp_path / "latin.yaml") == f"{tmp_path / 'latin.yaml'}: cannot be read: not UTF-8 at byte 7"
    assert refusal(tmp_path / "none.yaml") == f"{tmp_path / 'none.yaml'}: cannot be read: No such file or directory"
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


def test_nothing_to_measure_is_refused(write: Write) -> None:
    text = BASE.replace("metrics: [kl, {name: renyi, order: 2}]\ntheorems: [ula-w2-dk]\n", "")
    assert refusal(write(text)) == "x.yaml:1:1: an experiment needs at least one entry in metrics or theorems"


def test_a_sampler_that_does_not_admit_its_target_is_refused(write: Write) -> None:
    message = refusal(write(BASE.replace("0.01", "5.0")))  # beyond 2/M = 0.1
    assert message.startswith("x.yaml:3:33: sampler.step_size: must be ")


# YAML.


def test_yaml_is_version_1_2_and_numbers_have_one_spelling(write: Write) -> None:
    (point,) = read(write(BASE.replace("0.01", "1e-2").replace("dim: 5", "dim: 5.0").replace("steps: 10", "steps: 1e1"))).points()
    assert point.key == read(write(BASE)).points()[0].key
    assert point.sampler.params["step_size"] == 0.01
    (titled,) = load(write(BASE.replace("title: ULA contracts to its bias ball", "title: 2020-01-01\nclaim: no")))
    assert (titled.title, titled.claim) == ("2020-01-01", "no")


def test_anchors_are_values_of_their_own(write: Write) -> None:
    text = BASE.replace("[kl, {name: renyi, order: 2}]", "[&r {name: renyi, order: 2}, *r, {<<: *r, order: 4}]")
    (point,) = read(write(text), ["metrics.0.order=3"]).points()
    assert [m.params["order"] for m in point.metrics] == [3, 2, 4]


def test_an_alias_bomb_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "ENTRIES", 2000)
    bomb = "".join(f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" if i else "- &a0 [1, 1, 1]\n" for i in range(9))
    assert "more than 2000 entries in the file" in refusal(write(bomb))


# Sweeps.


def swept(write: Write, sweep: str, overrides: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """What the points of BASE under a sweep are swept to."""
    return [point.sweep for point in read(write(BASE + sweep), overrides).points()]


def test_matrix_is_crossed_with_zip(write: Write) -> None:
    got = swept(write, "sweep: {matrix: {target.dim: [1, 2]}, zip: {start.mean: [3, 4], sampler.step_size: [0.1, 0.2]}}")
    expected = [(d, m, h) for d in (1, 2) for m, h in ((3, 0.1), (4, 0.2))]
    assert [tuple(point.values()) for point in got] == expected
    assert list(got[0]) == ["target.dim", "start.mean", "sampler.step_size"]


def test_exclude_is_a_partial_match_and_include_comes_after_it(write: Write) -> None:
    got = swept(
        write, "sweep: {matrix: {target.dim: [1, 2], start.mean: [3, 4]}, exclude: [{target.dim: 1}], include: [{target.dim: 1, start.mean: 4}]}"
    )
    assert got == [{"target.dim": 2, "start.mean": 3}, {"target.dim": 2, "start.mean": 4}, {"target.dim": 1, "start.mean": 4}]


def test_include_alone_is_all_there_is(write: Write) -> None:
    assert swept(write, "sweep: {include: [{target.dim: 1}, {start.mean: 4}]}") == [{"target.dim": 1}, {"start.mean": 4}]


def test_no_sweep_is_one_point_per_seed(write: Write) -> None:
    points = read(write(BASE + "seeds: [3, 5]")).points()
    assert [(p.sweep, p.seed) for p in points] == [({}, 3), ({}, 5)]


def test_whole_components_and_entries_of_lists_can_be_swept(write: Write) -> None:
    text = BASE.replace("sampler: {name: ula, step_size: 0.01}\n", "")
    experiment = read(
        write(
            text
            + "sweep: {matrix: {sampler: [{name: proximal}, ula], sampler.step_size: [0.01], metrics.renyi.order: [2, 3], theorems.0.factor: [1]}}"
        )
    )
    validate(experiment)
    got = [(p.sampler.name, p.sampler.params, p.metrics[1].params["order"], p.theorems[0].factor) for p in experiment.points()]
    assert got == [(name, {"step_size": 0.01}, order, 1.0) for name in ("proximal", "ula") for order in (2, 3)]


def test_ranges_have_exact_ends() -> None:
    assert geometric(1e-3, 1e-1, 3) == [1e-3, 1e-2, 1e-1]
    assert geometric(1, 1000, 4) == [1, 10, 100, 1000]
    assert all(isinstance(v, int) for v in geometric(1, 1000, 4))
    assert linear(-0.3, 0.3, 3) == [-0.3, 0, 0.3]
    for first, last, count in ((0.1, 0.7, 7), (1 / 3, 1e5 / 7, 11), (3e-5, 0.9, 2)):
        for values in (geometric(first, last, count), linear(first, last, count)):
            assert len(values) == count
            assert (values[0], values[-1]) == (first, last)
            assert values == sorted(values)


@pytest.mark.parametrize(
    "given_steps, expected",
    [
        ("3", (0, 1, 2, 3)),
        ("[5, 2, 5]", (0, 2, 5)),
        ("{last: 1000, count: 4}", (0, 1, 10, 100, 1000)),
        ("{first: 10, last: 20, count: 3, spacing: linear}", (0, 10, 15, 20)),
        ("{last: 3, count: 50}", (0, 1, 2, 3)),
    ],
)
def test_steps_are_increasing_from_zero(write: Write, given_steps: str, expected: tuple[int, ...]) -> None:
    (point,) = read(write(BASE.replace("steps: 10", f"steps: {given_steps}"))).points()
    assert point.steps == expected


def test_log_steps_keep_both_ends() -> None:
    steps = whole_steps(7, 123_457, 40, "log")
    assert (steps[0], steps[-1], len(steps)) == (7, 123_457, 40)


@settings(max_examples=60, deadline=None)
@given(
    dims=st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
    means=st.lists(st.integers(-5, 5), min_size=1, max_size=3, unique=True),
    pairs=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=3, unique=True),
    seeds=st.lists(st.integers(0, 9), min_size=1, max_size=2, unique=True),
    include=st.lists(st.integers(10, 20), max_size=2, unique=True),
    data=st.data(),
)
def test_points_are_product_less_excluded_plus_included(
    tmp_path_factory: pytest.TempPathFactory,
    dims: list[int],
    means: list[int],
    pairs: list[tuple[int, int]],
    seeds: list[int],
    include: list[int],
    data: st.DataObject,
) -> None:
    product = [
        {"target.dim": d, "start.mean": m, "target.condition": c, "start.cov": v}
        for d, m, (c, v) in itertools.product(dims, means, pairs)
    ]  # fmt: skip
    out = data.draw(st.sampled_from(product))
    keys = data.draw(st.lists(st.sampled_from(list(out)), min_size=1, max_size=4, unique=True))
    rule = {key: out[key] for key in keys}
    kept = [p for p in product if any(p[k] != v for k, v in rule.items())]
    sweep: dict[str, Any] = {
        "matrix": {"target.dim": dims, "start.mean": means},
        "zip": {"target.condition": [c for c, _ in pairs], "start.cov": [v for _, v in pairs]},
        "include": [{"target.dim": d} for d in include],
    }
    expected = product
    if kept or include:
        sweep["exclude"], expected = [rule], kept
    path = tmp_path_factory.mktemp("sweep") / "x.yaml"
    path.write_text(BASE + f"sweep: {json.dumps(sweep)}\nseeds: {seeds}\n", encoding="utf-8")  # JSON is YAML
    points = read(path).points()
    assert [p.sweep for p in points[:: len(seeds)]] == expected + sweep["include"]
    assert len(points) == len({p.key for p in points}) == (len(expected) + len(include)) * len(seeds)
    assert [p.seed for p in points] == seeds * (len(expected) + len(include))


# Keys.


def key(write: Write, text: str) -> str:
    """The key of a file's only point."""
    (point,) = read(write(text)).points()
    return point.key


@pytest.mark.parametrize(
    "old, new",
    [
        ("ULA contracts", "ULA creeps"),
        ("steps: 10", "claim: another\ntier: smoke\nsteps: 10"),
        ("dim: 5, condition: 20", "condition: 20, dim: 5"),
        ("3.0", "3"),
        ("law: normal", "law: {kind: normal}"),
        ("steps: 10", "steps: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"),
        ("[ula-w2-dk]", "[{id: ula-w2-dk, expect: holds}]"),
        ("steps: 10", "steps: 10\nseeds: [0]"),
        ("dim: 5", "dim: 2\nsweep: {include: [{target.dim: 5}]}"),
    ],
)
def test_the_key_stays(write: Write, old: str, new: str) -> None:
    if "sweep" in new:  # a swept value and a written one are the same content
        text = BASE.replace("dim: 5", "dim: 2") + "sweep: {include: [{target.dim: 5}]}"
    else:
        text = BASE.replace(old, new, 1)
    assert key(write, text) == key(write, BASE)


@pytest.mark.parametrize(
    "old, new",
    [
        ("dim: 5", "dim: 6"),
        ("0.01", "0.010000000000000002"),
        ("name: ula", "name: mala"),
        ("mean: 3.0", "mean: [3, 3, 3, 3, 3]"),
        ("{mean: 3.0, cov: 1.0}", "target"),
        ("law: normal", "law: {kind: particles}"),
        ("steps: 10", "steps: [10]"),
        ("order: 2", "order: 3"),
        ("[ula-w2-dk]", "[{id: ula-w2-dk, factor: 0.5}]"),
        ("steps: 10", "steps: 10\nseeds: [1]"),
    ],
)
def test_the_key_changes(write: Write, old: str, new: str) -> None:
    assert key(write, BASE.replace(old, new, 1)) != key(write, BASE)


def test_the_key_is_the_same_in_another_process(write: Write) -> None:
    path = write(BASE)
    code = f"from mixrate.experiments.schema import read; print(read({str(path)!r}).points()[0].key)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == read(path).points()[0].key


# Overrides and files.


def test_overrides_replace_values(write: Write) -> None:
    given_overrides = ["sampler.step_size=1e-3", "steps=[4]", "law={kind: particles, n: 7}", "theorems.ula-w2-dk.factor=0.5", "metrics=[kl]"]
    (point,) = read(write(BASE), given_overrides).points()
    assert point.sampler.params == {"step_size": 1e-3}
    assert point.steps == (0, 4)
    assert point.law.model_dump() == {"kind": "particles", "n": 7, "dtype": "float64", "device": "cpu"}
    assert point.theorems[0].factor == 0.5
    assert len(point.metrics) == 1


def test_overrides_of_a_sweep(write: Write) -> None:
    sweep = "sweep: {matrix: {target.dim: [1, 2], start.mean: [0]}}"
    assert swept(write, sweep, ("sweep.matrix.target.dim=[3]",)) == [{"target.dim": 3, "start.mean": 0}]
    assert swept(write, sweep, ("sweep={}",)) == [{}]
    with pytest.raises(InvalidInput, match=r"^override 'target.dim=3': is swept in the file; override sweep.matrix.target.dim, or"):
        swept(write, sweep, ("target.dim=3",))


def test_load_reads_a_file_or_a_folder(write: Write, tmp_path: Path) -> None:
    path = write(BASE)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidInput, match=r"there is no \*\.yaml in this folder$"):
        load(tmp_path / "folder")
    for name in ("b", "a"):
        (tmp_path / "folder" / f"{name}.yaml").write_text(BASE, encoding="utf-8")
    assert [e.name for e in load(tmp_path / "folder")] == ["a", "b"]
    assert [type(e) for e in load(path)] == [Experiment]


def test_reading_is_light(tmp_path: Path) -> None:
    """Listing and reading must not wait for torch; only building does."""
    code = "import sys; from mixrate.experiments import schema, components; components.names('target'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "False"


def test_json_schema_knows_the_keys_and_names() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert ", ".join(schema["properties"]) == KEYS
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["title", "target", "sampler", "start", "law", "steps"]
    assert "gaussian" in schema["properties"]["target"]["examples"]
    assert "ula-w2-dk" in schema["properties"]["theorems"]["items"]["examples"]


# Components.


@pytest.mark.parametrize("kind", list(catalogue.FOLDERS))
def test_what_is_listed_unread_is_what_is_defined(kind: components.Kind) -> None:
    """The listing parses files without running them; it must agree with the classes that importing finds."""
    folder, _ = catalogue.FOLDERS[kind]
    package = import_module(f"mixrate.{folder}")
    modules = [info.name for info in pkgutil.walk_packages(package.__path__, f"mixrate.{folder}.")]
    if kind == "theorem":  # a folder of checks lies beside the theorems
        modules = [name for name in modules if name.count(".") == 2]
    found = {name for module in modules for name in catalogue._defined(kind, import_module(module))}
    assert set(components.names(kind)) == found
    assert all(isinstance(components.find(kind, name), type) for name in found)


PLUGIN = """
from __future__ import annotations
from dataclasses import dataclass
from typing import Literal, Sequence
import torch
from mixrate.targets.base import Target

@dataclass(frozen=True)
class Shell(Target):
    radius: float
    axes: tuple[int, ...] = (1,)
    style: Literal["thin", "thick"] = "thin"
    label: str | None = None

    @property
    def dim(self) -> int:
        return len(self.axes)

    def potential(self, x):
        return (x.norm(dim=1) - self.radius) ** 2

    @classmethod
    def unit(cls) -> Shell:
        return cls(1.0)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(catalogue, "_plugins", {})
    path = tmp_path / "shell.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return path


def test_a_plugin_adds_names(plugin: Path) -> None:
    assert "shell" not in components.names("target")
    assert components.load_plugin(plugin) == ("shell",)
    assert components.load_plugin(plugin) == ("shell",)  # twice is once
    assert "shell" in components.names("target")
    assert components.build("target", "shell.unit", {}).radius == 1.0
    shell = components.build("target", "shell", {"radius": 2, "axes": [1, 2], "style": "thick"})
    assert (shell.radius, shell.axes, shell.style, shell.name) == (2.0, (1, 2), "thick", "shell")
    assert isinstance(shell.radius, float)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"radius": "2"}, "radius must be a number, got the text '2'"),
        ({"radius": True}, "radius must be a number, got true"),
        ({"radius": 1, "axes": [1, 2.5]}, "axes must be a list of whole numbers, got the list [1, 2.5]"),
        ({"radius": 1, "style": "thik"}, "style must be 'thin' or 'thick', got the text 'thik'"),
        ({"radius": 1, "label": 3}, "label must be text or null, got 3"),
        ({}, "shell needs radius (a number)"),
        ({"raduis": 1}, "unknown parameter 'raduis', shell accepts radius, axes, style, label; did you mean 'radius'?"),
    ],
)
def test_parameters_are_checked_against_their_types(plugin: Path, params: dict[str, Any], message: str) -> None:
    components.load_plugin(plugin)
    with pytest.raises(InvalidInput) as caught:
        components.build("target", "shell", params)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("gaussian.py", PLUGIN, "there is a target 'gaussian' already"),
        ("empty.py", "x = 1", "defines no target, sampler, metric or theorem (a concrete subclass, or a target made by mixrate.potential)"),
        ("broken.py", "import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("broken.py", "def f(:", "SyntaxError: invalid syntax (broken.py, line 1)"),
        ("twice.py", PLUGIN + "\n@dataclass(frozen=True)\nclass Other(Shell):\n    pass\n", "defines both Shell and Other as target 'twice'"),
        ("notes.txt", "hello", "not a Python file"),
    ],
)
def test_a_plugin_that_does_not_work_is_refused(plugin: Path, name: str, text: str, message: str) -> None:
    path = plugin.with_name(name)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        components.load_plugin(path)
    assert str(caught.value).endswith(message)
    assert "\n" not in str(caught.value)


def test_entry_points_add_names(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Entry:
        name: str
        value: str = "elsewhere:Disc"

        def load(self) -> type:
            return dict

    def entries(*names: str) -> None:
        catalogue._installed.cache_clear()
        monkeypatch.setattr(catalogue, "entry_points", lambda group: [Entry(n) for n in names if group == "mixrate.targets"])

    try:
        entries("disc")
        assert "disc" in components.names("target")
        assert "disc" not in components.names("sampler")
        assert components.find("target", "disc") is dict
        entries("gaussian")
        with pytest.raises(InvalidInput, match=r"^entry point elsewhere:Disc: there is a target 'gaussian' already$"):
            components.names("target")
    finally:
        catalogue._installed.cache_clear()


def test_lists_in_words() -> None:
    assert components.in_words(float | list[float]) == "a number or a list of numbers"
    assert components.in_words(Literal["a", "b"] | None) == "'a' or 'b' or null"
