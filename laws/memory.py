"""How much memory a run may take."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InvalidInput

#: Part of the machine's memory that a run may plan for.
SHARE = 0.8


def total() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's where that is less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found.append(int(Path(limit).read_text()))
        except (OSError, ValueError):  # no such file, or the word max
            continue
    return min(found, default=2**40)


def admit(need: int, what: str) -> None:
    """Raise one line where `need` bytes are more than 80 % of the memory there is."""
    have = total()
    if need > SHARE * have:
        raise InvalidInput(f"{what} need {need / 1e9:.3g} GB, and {SHARE:.0%} of this machine's memory is {SHARE * have / 1e9:.3g} GB")
