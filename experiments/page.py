"""What the builders of the pages in `docs/` share: paragraphs, pictures with a palette, and putting both in place."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from . import drawing

#: Of a palette.
COLOURS = 128


def wrapped(block: str) -> str:
    """A paragraph at most 120 wide, code and addresses kept whole; tables, headings and pictures as they are."""
    if block[0] in "|#!":
        return block
    whole = re.sub(r"`[^`]+`", lambda m: m[0].replace(" ", "\0"), block)
    indent = "  " if block.startswith("- ") else ""
    return textwrap.fill(whole, 119, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False).replace("\0", " ")


def png(figure: Figure) -> bytes:
    """The picture with a palette."""
    from PIL import Image

    plain, packed = io.BytesIO(), io.BytesIO()
    with drawing.style():
        figure.savefig(plain, format="png", dpi=drawing.DPI, metadata={"Software": None})
    Image.open(plain).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(packed, format="png", optimize=True)
    return packed.getvalue()


def publish(page: Path, text: str, folder: Path, drawn: Mapping[str, Figure]) -> str:
    """Write a page and its pictures, of which no others stay in the folder; what was written, in a line."""
    for name, figure in drawn.items():
        (folder / f"{name}.png").write_bytes(png(figure))
    for path in set(folder.glob("*.png")) - {folder / f"{name}.png" for name in drawn}:
        path.unlink()
    page.write_text(text, encoding="utf-8")
    size = math.ceil(sum(p.stat().st_size for p in folder.glob("*.png")) / 1000)
    return f"{page.parent.name}/{page.name}: {len(drawn)} pictures, {size} kB"
