"""What components there are: one file each in its folder, and nothing is registered.

Three sources are looked at, and a name may come from one of them only: the folders of mixrate, the entry points
``mixrate.targets``, ``.samplers``, ``.metrics`` and ``.theorems`` of installed packages, and files given to `load_plugin`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import types
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from ..errors import InvalidInput

Kind = Literal["target", "sampler", "metric", "theorem"]

ROOT = __name__.split(".", maxsplit=1)[0]
FOLDERS: dict[Kind, tuple[str, str]] = {
    "target": ("targets", "Target"),
    "sampler": ("samplers", "Sampler"),
    "metric": ("metrics", "Metric"),
    "theorem": ("theory", "Theorem"),
}
_plugins: dict[Path, dict[tuple[Kind, str], type]] = {}


def sources_of(kind: Kind) -> dict[str, Callable[[], type]]:
    """All known names of a kind, each with the function that imports its class."""
    return _installed(kind) | {name: _always(cls) for plugin in _plugins.values() for (of, name), cls in plugin.items() if of == kind}


@cache
def _installed(kind: Kind) -> dict[str, Callable[[], type]]:
    found = _theorems() if kind == "theorem" else _files(kind)
    for entry in entry_points(group=f"{ROOT}.{'theorems' if kind == 'theorem' else FOLDERS[kind][0]}"):
        if entry.name in found:
            raise InvalidInput(f"entry point {entry.value}: there is a {kind} {entry.name!r} already")
        found[entry.name] = partial(_loaded, entry)
    return found


def _loaded(entry: EntryPoint) -> Any:
    """What an entry point names: a component, or a target that is made already."""
    found = entry.load()
    return _made(found) if not callable(found) else found


def _made(target: Any) -> Any:
    """A target that exists already (of `mixrate.potential`, say), as a component without parameters."""

    def made() -> Any:
        """A potential that a user wrote down as a function."""
        return target

    made.version, made.examples = target.version, (("", {}),)  # type: ignore[attr-defined]
    return made


def load_plugin(path: str | Path) -> tuple[str, ...]:
    """Run a Python file and make its components known under the file's name (theorems: their `id`); returns the names.

    Only ever called on a user's explicit word (a command-line flag), never from a YAML: this runs the file's code. Worker
    processes that do not fork must call it themselves.
    """
    path = Path(path).resolve()
    spec = importlib.util.spec_from_file_location(f"{ROOT}_plugins.{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InvalidInput(f"plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look a class up in its module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise InvalidInput(f"plugin {path}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    found = {(kind, name): cls for kind in FOLDERS for name, cls in _defined(kind, module).items()}
    if not found:
        raise InvalidInput(
            f"plugin {path}: defines no target, sampler, metric or theorem (a concrete subclass, or a target made by mixrate.potential)"
        )
    _plugins.pop(path, None)  # the file may have been loaded before
    for kind, name in found:
        if name in sources_of(kind):
            raise InvalidInput(f"plugin {path}: there is a {kind} {name!r} already")
    for (kind, name), cls in found.items():
        missing = [a for a in ("statement", "source", "kind") if not hasattr(cls, a)] if kind == "theorem" else []
        if missing:
            raise InvalidInput(f"plugin {path}: theorem {name!r} lacks {' and '.join(missing)}")
    _plugins[path] = found
    return tuple(name for _, name in found)


def _always(cls: type) -> Callable[[], type]:
    return lambda: cls


def _theorems() -> dict[str, Callable[[], type]]:
    package = importlib.import_module(f"{ROOT}.theory")
    found: dict[str, Callable[[], type]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        for name, cls in _defined("theorem", importlib.import_module(f"{ROOT}.theory.{info.name}")).items():
            if name in found:
                raise InvalidInput(f"theory/{info.name}.py: there is a theorem {name!r} already")
            found[name] = _always(cls)
    return found


def _files(kind: Kind) -> dict[str, Callable[[], type]]:
    """The files of a folder that define a component, read without running them: a dataclass that descends from the base."""
    folder, base = FOLDERS[kind]
    classes = []
    for info in pkgutil.walk_packages(importlib.import_module(f"{ROOT}.{folder}").__path__, f"{ROOT}.{folder}."):
        source = Path(getattr(info.module_finder, "path", "")) / f"{info.name.rsplit('.', 1)[-1]}.py"
        for node in ast.parse(source.read_bytes()).body if source.is_file() else ():
            if isinstance(node, ast.ClassDef):
                classes.append((info.name, node, {ast.unparse(b).rsplit(".", 1)[-1] for b in node.bases}))
    family = {base}
    while grown := {node.name for _, node, bases in classes if bases & family} - family:
        family |= grown

    def concrete(node: ast.ClassDef) -> bool:
        return (
            not node.name.startswith("_")
            and any("dataclass" in ast.unparse(d) for d in node.decorator_list)
            and "abstractmethod" not in ast.unparse(node)
        )

    return {module.rsplit(".", 1)[-1]: partial(_from_file, kind, module) for module, node, _ in classes if node.name in family and concrete(node)}


def _from_file(kind: Kind, module: str) -> type:
    defined, name = _defined(kind, importlib.import_module(module)), module.rsplit(".", 1)[-1]
    if name not in defined:
        raise InvalidInput(f"{module.split('.', 1)[1].replace('.', '/')}.py: its class is abstract, a {kind} must define every abstract method")
    return defined[name]


def _defined(kind: Kind, module: types.ModuleType) -> dict[str, type]:
    """The concrete components (public dataclasses) that a module itself defines, by name: the module's, or a theorem's `id`;
    and a target that it makes."""
    folder, base = FOLDERS[kind]
    parent = getattr(importlib.import_module(f"{ROOT}.{folder}.base"), base)
    found: dict[str, type] = {}
    for cls in vars(module).values():
        own = isinstance(cls, type) and cls.__module__ == module.__name__ and "__dataclass_fields__" in vars(cls) and cls.__name__[0] != "_"
        if own and issubclass(cls, parent) and not inspect.isabstract(cls):
            name = vars(cls)["id"] if kind == "theorem" else module.__name__.rsplit(".", 1)[-1]
            if found.setdefault(name, cls) is not cls:
                raise InvalidInput(f"{module.__name__} defines both {found[name].__name__} and {cls.__name__} as {kind} {name!r}")
    if kind == "target":
        name = module.__name__.rsplit(".", 1)[-1]
        for made in (value for value in vars(module).values() if isinstance(value, parent)):
            if name in found:
                raise InvalidInput(f"{module.__name__} defines more than one target {name!r}")
            found[name] = _made(made)
    return found


def plugin_fingerprint() -> str:
    """Hash of the source of all plugins that are loaded."""
    digest = hashlib.sha256()
    for path in sorted(_plugins):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
