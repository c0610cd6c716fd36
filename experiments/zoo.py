"""The canonical instances of the targets, and what their docstrings say, section by section."""

from __future__ import annotations

import csv
import inspect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from ..targets.base import Constants, Target
from .components import build, find, names
from .wording import suggest


@dataclass(frozen=True)
class Instance:
    """A target as a YAML names it.

    Arguments:
        name: the component, with its class method: ``gaussian.ar1``.
        params: its parameters.
    """

    name: str
    params: Mapping[str, Any]

    def __str__(self) -> str:
        given = ", ".join(f"{k}={v}" for k, v in self.params.items())
        return f"{self.name}({given})" if given else self.name

    def build(self) -> Target:
        """The target."""
        target = build("target", self.name, self.params)
        assert isinstance(target, Target)
        return target


def instances(name: str) -> list[Instance]:
    """The examples of one target (of one of its class methods where the name is dotted); where a class gives none, the
    class itself if its parameters all have defaults."""
    made = find("target", name)
    base, _, method = name.partition(".")
    given = getattr(find("target", base), "examples", ())
    chosen = [Instance(f"{base}.{of}" if of else base, params) for of, params in given if not method or of == method]
    if not chosen and all(p.default is not p.empty for p in inspect.signature(made).parameters.values()):
        chosen = [Instance(name, {})]
    return chosen


def everything() -> list[Instance]:
    """The examples of every target that is known."""
    return [instance for name in names("target") for instance in instances(name)]


def chosen(asked: Sequence[str], params: Mapping[str, Any]) -> list[Instance]:
    """What a user asked for: names (their examples), or one name with parameters of its own.

    Errors: `InvalidInput` for an unknown name, a name without an example, or parameters for several targets.
    """
    if params:
        if len(asked) != 1:
            raise InvalidInput(f"parameters are for one target, got {len(asked)} names")
        return [Instance(asked[0], {**_first(asked[0], params), **params})]
    found = []
    for name in asked:
        mine = instances(name)
        if not mine:
            needed = ", ".join(p.name for p in inspect.signature(find("target", name)).parameters.values() if p.default is p.empty)
            raise InvalidInput(f"{name} has no example: give its parameters with --set ({needed})")
        found += mine
    return found


def _first(name: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of the example that is named exactly so, which --set then changes."""
    accepted = inspect.signature(find("target", name)).parameters
    for key in params:
        if key not in accepted:
            raise InvalidInput(f"unknown parameter {key!r}, {name} accepts {', '.join(accepted) or 'none'}{suggest(key, accepted)}")
    return next((i.params for i in instances(name) if i.name == name), {})


#: Certificates of all examples, as `mixrate certify --all` last wrote them for this repository.
REFERENCE = Path(__file__).resolve().parent.parent / "results" / "certify.csv"


@cache
def _certified() -> dict[tuple[str, str], tuple[float, str]]:
    """(value, how it is known) of every certified constant by (id, name); empty where the table is not there."""
    if not REFERENCE.is_file():
        return {}
    with REFERENCE.open(encoding="utf-8", newline="") as file:
        return {(row["id"], row["what"]): (float(row["declared"]), row["known"]) for row in csv.DictReader(file) if row["known"]}


def constants(target: Target) -> dict[str, tuple[float, str]]:
    """(value, how it is known) of the constants of a target. One that takes seconds is taken from the reference table, where the
    same id is in it; else it is NaN, and known ``when asked``."""
    known = target.constants
    found: dict[str, tuple[float, str]] = {}
    for name, constant in (known.at_once() if isinstance(known, Constants) else dict(known)).items():
        if constant is not None:
            found[name] = constant.value, constant.how
        elif (target.id, name) in _certified():
            found[name] = _certified()[target.id, name]
        elif not any(key == target.id for key, _ in _certified()):
            found[name] = math.nan, "when asked"
    return found


SECTION = re.compile(r"^(Arguments|Errors|Cost|References|Versions|Class attributes):\s?", re.MULTILINE)


def sections(component: Any) -> dict[str, str]:
    """A docstring by section; what comes before the first is under the empty name."""
    text = inspect.getdoc(component) or ""
    parts = SECTION.split(text)
    found = {"": parts[0].strip()}
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        found[title] = inspect.cleandoc("\n" + body if body.startswith(" ") else body).strip()
    return found
