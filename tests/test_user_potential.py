"""A potential in one call: from Python, from a plugin file, from an entry point; and what it must refuse."""

from __future__ import annotations

import math
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch

import mixrate
from mixrate.errors import InvalidInput
from mixrate.experiments import catalogue, components
from mixrate.experiments.runner import run
from mixrate.experiments.schema import read
from mixrate.samplers.noise import Stream
from mixrate.targets.double_well import DoubleWell

CONE = """
title: a cone
claim: it runs
tier: smoke
target: cone
sampler: {name: ula, step_size: 0.1}
start: {mean: 1.0, cov: 1.0}
law: grid
steps: {last: 4, count: 2}
metrics: [w2]
"""


def quartic(x: torch.Tensor) -> torch.Tensor:
    return (x**4).sum(1) / 4


def test_one_call_makes_a_target_that_runs() -> None:
    target = mixrate.potential(quartic, dim=3, m=0.0)
    x = Stream("user").normal((64, 3))
    v, s = target.potential_and_score(x)
    assert torch.allclose(s, -(x**3)) and torch.allclose(v, quartic(x))
    assert target.potential_and_score(x.float())[1].dtype == torch.float32
    law = mixrate.propagate(mixrate.normal(0.0, 1.0, dim=3), mixrate.sampler("mala", step_size=0.1), target, steps=5, law="particles", n=100)
    assert law.x.shape == (100, 3)
    given = mixrate.potential(quartic, 3, gradient=lambda y: y**3)
    assert torch.allclose(given.score(x), s)


def test_what_it_declares_is_certified_and_a_wrong_declaration_is_not() -> None:
    well = DoubleWell()
    arguments = {"log_normalizer": well.log_normalizer, "sample": well.sample, "mean": [0.0], "cov": well.moments[1], "m": -4.0, "poincare": 0.7}  # type: ignore[index]
    right = mixrate.potential(lambda x: (x[:, 0] ** 2 - 1) ** 2, 1, **arguments)
    found = mixrate.certify(right)
    assert found.attrs["word"] == "certified" and {"log Z", "draws", "moments", "m", "poincare"} <= set(found["what"])
    wrong = mixrate.potential(lambda x: (x[:, 0] ** 2 - 1) ** 2, 1, **{**arguments, "m": -3.9})
    assert mixrate.certify(wrong).query("word == 'failed'")["what"].tolist() == ["m"]


def test_the_id_is_that_of_the_function_and_what_it_closes_over() -> None:
    def steep(a: float):  # type: ignore[no-untyped-def]
        return lambda x: a * (x**2).sum(1)

    assert mixrate.potential(steep(1.0), 2).id == mixrate.potential(steep(1.0), 2).id
    assert len({mixrate.potential(steep(a), d).id for a in (1.0, 2.0) for d in (1, 2)}) == 4
    shapes = [lambda x: sum((lambda y: 1.0 * y)(c) for c in x.T), lambda x: sum((lambda y: 0.25 * y)(c) for c in x.T)]
    assert mixrate.potential(shapes[0], 2).id != mixrate.potential(shapes[1], 2).id
    assert mixrate.potential(quartic, 2).id != mixrate.potential(quartic, 2, m=0.0).id


def test_a_plugin_file_may_make_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_plugins", {})
    (tmp_path / "cone.py").write_text(
        "import mixrate\ntarget = mixrate.potential(lambda x: (1 + (x**2).sum(1)) ** 0.5, dim=1, m=0.0, M=1.0, how='exact')\n"
    )
    assert components.load_plugin(tmp_path / "cone.py") == ("cone",)
    assert components.build("target", "cone", {}).constant("M") == 1.0
    path = tmp_path / "cone.yaml"
    path.write_text(CONE)
    assert set(run(read(path), tmp_path / "runs").table["status"]) == {"ok"}
    with pytest.raises(InvalidInput, match=r"unknown parameter 'scale', cone accepts none"):
        components.build("target", "cone", {"scale": 1})


def test_an_entry_point_may_name_a_made_target(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("outside", "mixrate_outside:target", "mixrate.targets")
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [entry] if group == "mixrate.targets" else [])
    monkeypatch.setattr(EntryPoint, "load", lambda self: mixrate.potential(quartic, dim=2))
    catalogue._installed.cache_clear()
    try:
        assert components.build("target", "outside", {}).dim == 2
    finally:
        catalogue._installed.cache_clear()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mixrate.potential(quartic, 0), "dim must be a whole number of at least 1, got 0"),
        (lambda: mixrate.potential("x^2", 1), "potential must be a function of a batch, got a str"),
        (lambda: mixrate.potential(lambda x: x, 2), "must return one number per row, shape (2,), got (2, 2)"),
        (lambda: mixrate.potential(lambda x: x @ torch.zeros(3, dtype=x.dtype), 2), "the potential fails on a batch of shape (2, 2): RuntimeError"),
        (lambda: mixrate.potential(quartic, 2, mu=1.0), "unknown constant 'mu', a potential may declare m, M, lsi, poincare"),
        (lambda: mixrate.potential(quartic, 2, mean=[0.0, 0.0]), "mean and cov come together"),
        (lambda: mixrate.potential(quartic, 2, mean=[0.0], cov=np.eye(2)), "mean must have 2 numbers, got 1"),
        (lambda: mixrate.potential(quartic, 1, box=([1.0], [0.0])), "box must be two corners"),
        (lambda: mixrate.potential(quartic, 2, box=5), "box must be two corners (lo, hi) of 2 numbers each, got 5"),
        (lambda: mixrate.potential(quartic, 1, box=(-np.inf, np.inf)), "box must be two corners"),
        (lambda: mixrate.potential(quartic, 1, how="exakt", m=0.0), "how must be exact, bound or numeric, got 'exakt'"),
        (lambda: mixrate.potential(quartic, 1, m="a"), "m must be a finite number, got 'a'"),
        (lambda: mixrate.potential(quartic, 1, log_normalizer=float("inf")), "log_normalizer must be a finite number, got inf"),
        (lambda: mixrate.potential(quartic, 1, mean="a", cov=1.0), "mean and cov must be arrays of numbers"),
        (lambda: mixrate.potential(quartic, 2, gradient=lambda x: x[:, 0]), "the gradient must return one row per row, shape (2, 2), got (2,)"),
        (lambda: mixrate.potential(quartic, 1, sample=lambda n, noise: noise.normal((n, 2))).sample(3, Stream("s")), "shape (3, 1), got (3, 2)"),
        (lambda: mixrate.certify(quartic), "the target must be a Target, got a function"),
    ],
)
def test_bad_input_gets_one_line(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_box_makes_a_grid_in_the_plane() -> None:
    target = mixrate.potential(quartic, 2, box=(-4.0, 4.0))
    lo, hi = target.extent()
    assert lo.tolist() == [-4.0, -4.0] and hi.tolist() == [4.0, 4.0]
    law = mixrate.propagate("target", mixrate.sampler("mala", step_size=0.1), target, steps=1, law="grid", nodes=41)
    assert math.isclose(float(law.density.sum() * law.mesh.cell), 1.0, rel_tol=1e-9)
