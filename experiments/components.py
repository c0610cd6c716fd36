"""Components by name: found, their parameters checked, and built."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..errors import InvalidInput
from .catalogue import Kind, load_plugin, sources_of
from .wording import came, culprit, in_words, suggest

__all__ = ["Kind", "Where", "build", "construct", "find", "load_plugin", "names"]

#: Prefix of an error message about a parameter ("" for the component): at its key if the flag is set, else at its value.
Where = Callable[[str, bool], str]


def names(kind: Kind) -> tuple[str, ...]:
    """All known names; only theorems, of which a file may define several, are imported for it."""
    return tuple(sorted(sources_of(kind)))


def find(kind: Kind, name: str) -> Callable[..., Any]:
    """The class called `name`, or its class method where the name is dotted (``gaussian.ill_conditioned``)."""
    sources = sources_of(kind)
    base, dot, method = name.partition(".")
    if base not in sources:
        raise InvalidInput(f"unknown {kind} {name!r}, known: {', '.join(sorted(sources)) or 'none'}{suggest(base, sources)}")
    found = sources[base]()
    if not dot:
        return found
    constructors = [n for n, v in inspect.getmembers(found) if inspect.ismethod(v) and not n.startswith("_")]
    if method not in constructors:
        raise InvalidInput(f"{base} has no constructor {method!r}, only: {', '.join(constructors) or 'none'}{suggest(method, constructors)}")
    return getattr(found, method)


def build(kind: Kind, name: str, params: Mapping[str, Any], where: Where = lambda parameter, at_key: "") -> Any:
    """The component `name` with its parameters checked against the dataclass fields or the constructor's signature.

    A whole number may stand for a number and a list for a tuple; nothing else is converted.

    Errors: `InvalidInput`, one line, for an unknown name, an unknown, missing or ill-typed parameter, and whatever the
    constructor refuses; the latter is placed at the parameter that its message begins with.
    """

    try:
        make = find(kind, name)
    except InvalidInput as error:
        prefix = where("", False)
        raise InvalidInput(f"{prefix}: {error}" if prefix else str(error)) from None
    return construct(make, name, params, where)


def construct(make: Callable[..., Any], name: str, params: Mapping[str, Any], where: Where) -> Any:
    """What `make` makes of checked parameters; `build` for what has no name of its own in a YAML."""

    def fail(message: str, parameter: str = "", at_key: bool = False) -> InvalidInput:
        prefix = where(parameter, at_key)
        return InvalidInput(f"{prefix}: {message.removeprefix(f'{parameter} ')}" if prefix else message)

    accepted = inspect.signature(make, eval_str=True).parameters
    values = {}
    for key, value in params.items():
        if key not in accepted:
            raise fail(f"unknown parameter {key!r}, {name} accepts {', '.join(accepted) or 'none'}{suggest(key, accepted)}", key, True)
        try:  # strict and by way of JSON: a list is a tuple where one is wanted, a text is never a number
            values[key] = _adapter(accepted[key].annotation).validate_json(json.dumps(value), strict=True)
        except ValidationError:
            raise fail(f"{key} must be {in_words(accepted[key].annotation)}, got {came(value)}", key) from None
    missing = [f"{p.name} ({in_words(p.annotation)})" for p in accepted.values() if p.default is p.empty and p.name not in values]
    if missing:
        raise fail(f"{name} needs {' and '.join(missing)}")
    try:
        return make(**values)
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:  # the last three: torch on ragged or mistyped entries
        message = " ".join(str(error).split())
        if not isinstance(error, InvalidInput):
            message = f"{name} refuses {', '.join(f'{k} = {came(v)}' for k, v in params.items())}: {message}"
        raise fail(message, culprit(message, params)) from error


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)
