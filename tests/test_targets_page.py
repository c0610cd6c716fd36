"""The page of the targets is what the targets say, and every target says what the page needs."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest
from ruamel.yaml import YAML

from mixrate.experiments.components import build, find, names
from mixrate.experiments.zoo import everything, instances

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")
ENTRIES = dict(zip(*[iter(re.split(r"^## (\w+)$", PAGE, flags=re.MULTILINE)[1:])] * 2, strict=True))


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_targets", ROOT / "docs" / "build_targets.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = generator()


def test_the_page_is_what_the_generator_writes() -> None:
    assert BUILD.page() == PAGE, "run: make targets-page"


def test_every_picture_is_linked_and_every_link_is_a_picture() -> None:
    linked = re.findall(r"!\[[^\]]*(?:\[[^\]]*\][^\]]*)*\]\((images/targets/[^)]+)\)", PAGE)
    there = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs" / "images" / "targets").iterdir()}
    assert set(linked) == there
    assert len(linked) == len(there) == len(everything())
    assert all((ROOT / "docs" / name).read_bytes().startswith(b"\x89PNG") for name in linked)


def test_lines_are_at_most_120_wide_outside_tables_and_links() -> None:
    assert not [line for line in PAGE.splitlines() if len(line) > 120 and not line.startswith("|") and "](" not in line]


def test_there_is_an_entry_of_every_target() -> None:
    assert tuple(ENTRIES) == names("target")
    assert all(f"[{name}](#{name})" in PAGE for name in names("target"))


@pytest.mark.parametrize("name", names("target"))
def test_an_entry_is_complete(name: str) -> None:
    entry = ENTRIES[name]
    about = entry.split("\n\n")[2]
    assert re.search(r"`[^`]*=[^`]*`", about), "a formula"
    accepted = inspect.signature(find("target", name)).parameters
    assert all(re.search(rf"^- (`\w+`, )*`{parameter}`[,:]", entry, re.MULTILINE) for parameter in accepted)
    assert "![density of" in entry
    assert f"| `{{name: {name}" in entry
    assert re.search(r"\]\(https?://", entry), "a source"
    assert "**Versions**\n\n- [" in entry


@pytest.mark.parametrize("name", names("target"))
def test_the_examples_can_be_pasted(name: str) -> None:
    rows = re.findall(r"^\| `(\{name: .*\})` \| (\d+) \|.*\| `(.*)` \|$", ENTRIES[name], re.MULTILINE)
    assert len(rows) == len(instances(name))
    for text, dim, identity in rows:
        given = YAML(typ="safe").load(text)
        target = build("target", given.pop("name"), given)
        assert (target.dim, target.id) == (int(dim), identity)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("``a | b`` and 2 * 3 < 4", "`a | b` and 2 \\* 3 \\< 4"),
        ("as `log Z` is\n    wrapped", "as `log Z` is wrapped"),
    ],
)
def test_prose_becomes_markdown(text: str, shown: str) -> None:
    assert BUILD.marked(text) == shown


def test_no_wrapped_line_turns_into_a_list() -> None:
    lines = BUILD.wrapped("x" * 119 + " - 1 is less").splitlines()
    assert lines[1].startswith("\\- 1")


def test_a_reference_ends_with_its_link() -> None:
    text = 'A, "T" (1999), section 8,\n    https://doi.org/10.1/x(2).3; B, "U" (2000), https://arxiv.org/abs/1.2\n    C, "V" (2001), https://c.org'
    assert BUILD.sources(text) == [
        'A, "T" (1999), section 8, https://doi.org/10.1/x(2).3',
        'B, "U" (2000), https://arxiv.org/abs/1.2',
        'C, "V" (2001), https://c.org',
    ]
