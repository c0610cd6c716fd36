"""mixrate beside its peers, side by side in one run: `make bench-peers`, or ``python benchmarks/peers/table.py --quick --only gmm2``.

Every opponent is a process of its own on one pinned core with one thread (`worker.py`); this driver lets them run in
turn, ours, peer, ours, peer, and each says its own CPU time. What a row says is the median of the ratios of neighbours.
A peer that fails gives a row that says so.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from measures import Setting, chains, generators, scaling, startup, transport
from opponents import OURS, PEERS, ROOT, Opponent, cores
from page import CSV, PAGE, keep, plain
from rows import Row
from works import WORKS


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and keep: the exit code is 0 whatever the figures are, for a goal that is missed is a result."""
    parser = argparse.ArgumentParser(description="mixrate beside its peers, in one run.")
    parser.add_argument("--only", default="", help="parts whose name contains this: normals, ula gauss50, gmm2, f32, scaling, transport, startup")
    parser.add_argument("--quick", action="store_true", help="small sizes, two repeats: to see that it runs")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls of each side; only figures of 5 or more are kept")
    chosen = parser.parse_args(arguments)
    core = cores()[-1]  # the first one serves more interrupts
    opponents = {
        "mixrate": Opponent(OURS, "mixrate_samplers", core),
        "normals": Opponent(OURS, "normals", core),
        **{peer: Opponent(PEERS, f"{peer}_samplers", core, {"JAX_ENABLE_X64": "1"}) for peer in ("jax", "blackjax")},
        **{f"{peer} f32": Opponent(PEERS, f"{peer}_samplers", core, {"JAX_ENABLE_X64": "0"}) for peer in ("jax", "blackjax")},
    }
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(core, 2 if chosen.quick else chosen.repeats, chosen.quick, Path(folder))
        parts: dict[str, Callable[[], Iterator[Row]]] = {"normals": lambda: generators(setting, opponents)}
        for work in WORKS:
            parts[work.name] = lambda work=work: chains(setting, opponents, [work])  # type: ignore[misc]
        parts |= {"scaling": lambda: scaling(setting, opponents), "transport": lambda: transport(setting), "startup": lambda: startup(setting)}
        wanted = [part for name, part in parts.items() if chosen.only.lower() in name.lower()]
        if not wanted:
            parser.error(f"no part's name contains {chosen.only!r}: they are {', '.join(parts)}")
        try:
            for row in chain.from_iterable(part() for part in wanted):
                rows.append(replace(row, goal="") if chosen.quick else row)  # goals are those of the whole sizes
                print("  ".join(cell for cell in rows[-1].cells() if cell), flush=True)
        finally:
            for opponent in opponents.values():
                opponent.close()
    about = environment(opponents.values())
    print("\n" + plain(rows) + "\n" + "; ".join(f"{k} {v}" for k, v in about.items()))
    if not chosen.quick and not chosen.only and chosen.repeats >= 5:
        keep(rows, about)
        print(f"kept in {CSV.relative_to(ROOT)}, shown in {PAGE.relative_to(ROOT)}")
    return 0


def environment(opponents: Iterable[Opponent]) -> dict[str, str]:
    """The processor and every version: figures of one machine are not those of another."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    found = {"processor": model, "system": platform.system()}
    for opponent in opponents:
        for package, version in opponent.versions.items():
            if version not in found.setdefault(package, version).split(" and "):
                found[package] += f" and {version}"
    return found


if __name__ == "__main__":
    sys.exit(main())
