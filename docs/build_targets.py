"""Writes `docs/targets.md` and its pictures from the targets themselves: ``python docs/build_targets.py``."""

from __future__ import annotations

import inspect
import io
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mixrate.display_targets import constants, has
from mixrate.experiments import density, drawing
from mixrate.experiments.components import find, names
from mixrate.experiments.zoo import Instance, instances, sections

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "targets.md"
PICTURES = ROOT / "docs" / "images" / "targets"
WIDTH = 120
ACROSS = 3  # pictures side by side
COLOURS = 192  # of a palette: with few the ink of labels goes blue where a picture has many blues

TOP = """\
# Targets

<!-- Written by `make targets-page` from the docstrings, the examples and `results/certify.csv`: edit those. -->

Densities `exp(-V(x)) / Z` on R^d. Each entry has the formula, the parameters, examples to paste into an experiment
(`target: {name: gaussian.ar1, dim: 2, rho: 0.9}`), pictures, sources, and which papers use which version: in the
literature one name means several densities, so every example has an id that changes whenever the density does.

**What a target has.** *score*: a closed form of `-grad V`, else it is differentiated automatically. *draws*: an exact
sampler. *restricted draws*: exact draws from the density times a Gaussian, as a proximal sampler needs them. *noised
law*: a closed form after Gaussian noising. *hessian*: a closed form. *kernel*: compiled loops for V and the score.
*log Z*, *moments*: the normaliser, mean and covariance, in closed form or by quadrature. *split*: the density is a
product, after a rotation perhaps.

**Constants.** `m I <= Hess V <= M I` (and `Hess V >= -M I`), the log-Sobolev constant `lsi` and the Poincare constant
`poincare` (`docs/notation.md`); in brackets, whether the value is exact, a bound on the safe side, or numeric. 0: no
such inequality holds. What is not named is not declared, and *when asked* is computed when it is needed,
which takes a while. `mixrate certify NAME` checks each by an independent route.

**Pictures.** In the plane the lines enclose 50, 90 and 99 % of the mass, and the shades change with each tenth of it;
of a product in more dimensions one plane is shown. Curves are densities, of x or of the radius. Dots are exact draws.
Fields, particles and intervals are exact draws, or, of targets without an exact sampler, the ends of chains that had
settled: typical points, not independent draws.
"""


# Text: docstrings as Markdown.


def marked(text: str) -> str:
    """Prose of a docstring: code in single backticks, nothing else read as Markdown."""
    parts = re.split(r"(``.+?``|`[^`]+`)", " ".join(text.split()))
    return "".join(re.sub(r"([*<])", r"\\\1", p) if i % 2 == 0 else f"`{p.strip('`')}`" for i, p in enumerate(parts))


def wrapped(text: str, first: str = "", rest: str = "") -> str:
    """Markdown at most 120 wide; code and links stay whole, and no line begins like a list or a heading."""
    whole = re.sub(r"`[^`]+`|\[[^\]]*\]\([^)]*\)", lambda m: m[0].replace(" ", "\0") if len(m[0]) < WIDTH - 12 else m[0], text)
    lines = textwrap.wrap(whole, WIDTH - 1, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False)
    lines[1:] = [re.sub(r"^(\s*)([-+#>=]+(?=\s|$)|\d+(?=[.)]\s))", lambda m: f"{m[1]}\\{m[2]}" if not m[2].isdigit() else m[0], x) for x in lines[1:]]
    return "\n".join(lines).replace("\0", " ")


def link(url: str, text: str = "") -> str:
    return f"[{text or re.sub('^https?://', '', url)}]({url})"


def entries(text: str) -> list[str]:
    """A section as entries: a line that is indented continues the one above."""
    found: list[str] = []
    for line in text.splitlines():
        if line[:1].isspace() and found:
            found[-1] += " " + line.strip()
        elif line.strip():
            found.append(line.strip())
    return found


def sources(text: str) -> list[str]:
    """References: each ends with its link."""
    return [m.strip(" ;") for m in re.findall(r".+?https?://\S+?(?=[.,;]?(?:\s|$))[.,;]?(?:\s\([^)]*\))?", " ".join(text.split()))]


def clickable(text: str) -> str:
    return re.sub(r"https?://[^\s)]*[^\s).,;:]", lambda m: link(m[0]), text)


def cell(text: str) -> str:
    """Text in a table."""
    return text.replace("|", "\\|")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ("---",) * len(head), *[tuple(map(cell, row)) for row in rows]])


# Entries.


def value(of: Any) -> str:
    """A parameter as YAML spells it within a flow mapping."""
    return of if isinstance(of, str) and re.fullmatch(r"[a-z][\w-]*", of) and of not in ("true", "false", "null") else json.dumps(of)


def yaml(instance: Instance) -> str:
    """The example as a flow mapping."""
    return "{" + ", ".join([f"name: {instance.name}", *(f"{k}: {value(v)}" for k, v in instance.params.items())]) + "}"


def picture_of(instance: Instance) -> str:
    """The file's name."""
    return re.sub(r"[^a-z0-9_.]+", "-", str(instance).lower()).strip("-") + ".png"


def signature(name: str, of: Callable[..., Any]) -> str:
    given = [str(p).replace("'", "") for p in inspect.signature(of).parameters.values()]
    return f"`{name}({', '.join(given)})`"


def constructors(name: str) -> list[tuple[str, str]]:
    """The class methods: signature and what they are."""
    cls = find("target", name)
    methods = [(n, v) for n, v in inspect.getmembers(cls) if inspect.ismethod(v) and not n.startswith("_")]
    return [(signature(f"{name}.{n}", v), marked((inspect.getdoc(v) or "").split("\n\n")[0])) for n, v in methods]


def parameters(text: str) -> Iterator[str]:
    for entry in entries(text):
        given, _, what = entry.partition(":")
        yield f"- {', '.join(f'`{p.strip()}`' for p in given.split(','))}: {marked(what)}"


def version(entry: str) -> str:
    """``Name (link): text``, the name linked."""
    parts = re.match(r"(.+?) \((https?://[^\s)]+)\):\s*(.*)", entry)
    return f"{link(parts[2], parts[1])}: {clickable(marked(parts[3]))}" if parts else clickable(marked(entry))


def gallery(examples: list[Instance]) -> Iterator[str]:
    for k in range(0, len(examples), ACROSS):
        row = examples[k : k + ACROSS]
        heads = tuple(f"`{i.name}`" + "".join(f"<br>{n} = {value(v)}" for n, v in i.params.items()) for i in row)
        yield table(heads, [tuple(f"![density of {i}](images/targets/{picture_of(i)})" for i in row)])


def entry(name: str) -> Iterator[str]:
    """One target, block by block."""
    cls, text, examples = find("target", name), sections(find("target", name)), instances(name)
    yield f"## {name}"
    yield wrapped(signature(name, cls))
    for paragraph in text[""].split("\n\n"):
        yield wrapped(marked(paragraph))
    if "Cost" in text:
        yield wrapped(f"Cost: {marked(text['Cost'])}")
    if "Arguments" in text:
        yield "**Parameters**"
        yield "\n".join(wrapped(p, rest="  ") for p in parameters(text["Arguments"]))
    if made := constructors(name):
        yield "**Constructors**"
        yield table(("constructor", "what it is"), made)
    yield "**Examples**"
    rows = []
    for instance in examples:
        target = instance.build()
        rows.append((f"`{yaml(instance)}`", str(target.dim), has(target), constants(target) or "none declared", f"`{target.id}`"))
    yield table(("example", "d", "has", "constants", "id"), rows)
    yield from gallery(examples)
    if "References" in text:
        yield "**Sources**"
        yield "\n".join(wrapped(clickable(marked(source)), "- ", "  ") for source in sources(text["References"]))
    if "Versions" in text:
        yield "**Versions**"
        yield "\n".join(wrapped(version(v), "- ", "  ") for v in entries(text["Versions"]))


def contents() -> str:
    rows = []
    for name in names("target"):
        about = sections(find("target", name))[""]
        formula = re.search(r"``(.+?)``", about, re.DOTALL)
        dims = sorted({i.build().dim for i in instances(name)})
        rows.append(
            (f"[{name}](#{name})", f"`{' '.join(formula[1].split())}`" if formula else marked(about.split("\n\n")[0]), ", ".join(map(str, dims)))
        )
    return table(("target", "density", "d of the examples"), rows)


def page() -> str:
    """The whole text."""
    return "\n\n".join([TOP.strip(), contents(), *(block for name in names("target") for block in entry(name))]) + "\n"


# Pictures.


def draw(instance: Instance) -> bytes:
    """The picture as PNG with a palette."""
    plain, packed = io.BytesIO(), io.BytesIO()
    with drawing.style():
        density.picture(instance.build()).savefig(plain, format="png", dpi=drawing.DPI, metadata={"Software": None})
    Image.open(plain).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(packed, format="png", optimize=True)
    return packed.getvalue()


def main() -> None:
    torch.set_num_threads(1)  # these are small, and sums do not depend on the machine's cores
    PICTURES.mkdir(parents=True, exist_ok=True)
    shown = [instance for name in names("target") for instance in instances(name)]
    for instance in shown:
        (PICTURES / picture_of(instance)).write_bytes(draw(instance))
    for path in set(PICTURES.glob("*.png")) - {PICTURES / picture_of(i) for i in shown}:
        path.unlink()
    PAGE.write_text(page(), encoding="utf-8")
    size = math.ceil(sum(p.stat().st_size for p in PICTURES.glob("*.png")) / 1000)
    print(f"{PAGE.relative_to(ROOT)}: {len(names('target'))} targets, {len(shown)} examples; pictures: {size} kB")


if __name__ == "__main__":
    main()
