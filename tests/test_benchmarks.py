"""The table of `make bench-peers` on made-up times and opponents: no time is asserted, and no peer is needed."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "benchmarks" / "peers"
sys.path.insert(0, str(PEERS))
import table  # noqa: E402
from measures import Setting, chains, disagreement, waited  # noqa: E402
from opponents import Opponent, OpponentFailed, cores, in_turn  # noqa: E402
from page import CSV, JSON, MARKS, PAGE, keep, plain, shown  # noqa: E402
from rows import COLUMNS, Row, compared, foreign, short  # noqa: E402
from works import BLOCK, SCALING, STARTUP, STEP_SIZE, WORKS, N, Work, parameters  # noqa: E402

CHAIN = {"acceptance": 0.8, "second_moment": [1.0, 4.0], "displacement": [0.1, 0.4]}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Opponents from source: a module's text in, a real worker process out."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    opponents = []

    def start(name: str, source: str, patience: float = 60.0) -> Opponent:
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        opponents.append(Opponent(Path(sys.executable), name, min(cores()), patience=patience))
        return opponents[-1]

    yield start
    for opponent in opponents:
        opponent.close()


# A chain that is honest about what it does: every coordinate moves by 1, and 80 % of the proposals are accepted.
MOVES = "def prepare(task, arrays):\n    return lambda seed: (arrays['start'] + 1.0, 0.8)\n"


# Arithmetic and words.


def test_a_row_is_the_median_of_the_ratios_of_neighbours() -> None:
    peer, ours = [6.0, 8.0, 30.0], [1.0, 2.0, 3.0]
    row = compared("w", "f", peer, ours, ">= 6", "below", 10.0, "ns")
    assert (row.value, row.low, row.high) == (6.0, 4.0, 10.0)  # and not 8 / 2, the ratio of the medians
    assert (row.ours, row.peer, row.met) == (20.0, 80.0, "yes")
    turned = compared("w", "f", peer, ours, "<= 5", "above", 10.0, "ns")
    assert (turned.ours, turned.peer, turned.met) == (80.0, 20.0, "no")
    with pytest.raises(ValueError, match="zip"):
        compared("w", "f", [1.0], [1.0, 2.0], "", "below", 1.0, "s")


@pytest.mark.parametrize(
    ("value", "goal", "met"),
    [
        (6.0, ">= 6", "yes"),
        (5.99, ">= 6", "no"),
        (1.5, "<= 1.5", "yes"),
        (1.51, "<= 1.5", "no"),
        (0.1, "", ""),
        (None, ">= 6", "failed"),
        (None, "", "failed"),
    ],
)
def test_met_or_not(value: float | None, goal: str, met: str) -> None:
    assert Row("w", "f", value=value, goal=goal).met == met


def test_numbers_have_three_digits() -> None:
    assert [short(v) for v in (None, 0.0, 0.86349, 15.66, 312.7, 1234.5)] == ["", "0", "0.863", "15.7", "313", "1234"]


def test_rows_stand_in_columns_and_fit_their_header() -> None:
    rows = [Row("a long name of a work", "FIG", 1.0, 2.0, "s", 2.0, 1.9, 2.1, ">= 2"), Row("w", "FIG", note="died")]
    assert all(len(row.cells()) == len(COLUMNS) for row in rows)
    head, first, second = plain(rows).splitlines()
    assert head.index("figure") == first.index("FIG") == second.index("FIG")
    assert "yes" in first and second.endswith("died")


def test_every_goal_is_of_a_peer_that_exists_and_names_are_unique() -> None:
    assert {peer for work in WORKS for peer in work.goals} <= {"floor", "jax", "blackjax"}
    names = [work.name for work in WORKS]
    assert len(set(names)) == len(names)
    assert SCALING[1].name == "ULA gauss50 N=1e5"
    for peer in ("jax", "blackjax", "mixrate"):
        assert (PEERS / f"{peer}_samplers.py").exists()


@pytest.mark.parametrize("target", sorted(STEP_SIZE))
def test_both_sides_get_the_same_numbers(target: str) -> None:
    first, again = parameters(target, 7), parameters(target, 7)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert len(first["start"]) == 7


# Agreement.


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, ""),
        ({"acceptance": 0.815}, ""),
        ({"acceptance": 0.77}, "acceptance"),
        ({"acceptance": None}, "acceptance"),
        ({"acceptance": float("nan")}, "acceptance"),
        ({"second_moment": [1.04, 4.16]}, ""),
        ({"second_moment": [1.2, 4.0]}, "second moment"),
        ({"displacement": [0.05, 0.2]}, "displacement"),  # noise of sqrt(h): the moments of far modes would not show it
        ({"displacement": [float("nan"), 0.4]}, "displacement"),
    ],
)
def test_chains_that_differ_are_not_compared(changed: dict[str, object], word: str) -> None:
    said = disagreement(CHAIN, CHAIN | changed, N)
    assert (word in said) if word else said == ""


# Opponents.


def test_an_opponent_answers_and_counts_its_own_time(fake, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    opponent = fake("honest", "print('chatter on stdout')\n" + MOVES)
    path = tmp_path / "arrays.npz"
    np.savez(path, start=np.zeros((3, 2)))
    assert opponent.ask("prepare", name="w", task={}, arrays=str(path)) == {}
    assert opponent.ask("check", name="w", seed=1) == {"acceptance": 0.8, "second_moment": [1.0, 1.0], "displacement": [1.0, 1.0]}
    assert opponent.ask("run", name="w", seed=1)["seconds"] >= 0.0
    with pytest.raises(OpponentFailed, match="honest: KeyError: 'another'"):  # an error is an answer: the worker goes on
        opponent.ask("run", name="another", seed=1)
    assert set(in_turn({"a": (opponent, "w"), "b": (opponent, "w")}, 4)) == {"a", "b"}
    assert opponent.versions["numpy"] == np.__version__


def test_a_peer_that_raises_dies_or_goes_silent_says_so_in_one_line_and_starts_again(fake) -> None:  # type: ignore[no-untyped-def]
    raises = "def prepare(task, arrays):\n    raise ValueError('no\\nsuch target')"
    dies = "import os, sys\ndef prepare(task, arrays):\n    print('warning\\nout of memory', file=sys.stderr, flush=True)\n    os._exit(9)"
    broken = {
        "raises": (raises, "raises: ValueError: no such target"),
        "absent": ("import no_such_library", "absent: ModuleNotFoundError: No module named 'no_such_library'"),
        "dies": (dies, "dies: died with code 9: out of memory"),
    }
    for name, (source, message) in broken.items():
        opponent = fake(name, source)
        for _ in range(2):
            with pytest.raises(OpponentFailed) as caught:
                opponent.ask("prepare", name="w", task={}, arrays="")
            assert str(caught.value) == message
    silent = fake("silent", "import time\ndef prepare(task, arrays):\n    time.sleep(60)", patience=0.5)
    with pytest.raises(OpponentFailed, match=r"silent: no answer in 0.5 s"):
        silent.ask("prepare", name="w", task={}, arrays="")


def test_an_interpreter_that_is_not_there_is_a_failed_opponent() -> None:
    opponent = Opponent(ROOT / "no-such-python", "jax_samplers", 0)
    with pytest.raises(OpponentFailed, match="cannot be started"):
        opponent.ask("prepare", name="w", task={}, arrays="")


def test_a_failing_peer_costs_its_own_rows_only(fake, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Four peers, one row each: one right, one that dies, one that samples something else, one that is right again."""
    setting = Setting(min(cores()), 3, False, tmp_path)
    slow = MOVES.replace("(arrays", "(sum(range(200_000)), arrays").replace("+ 1.0, 0.8)", "+ 1.0, 0.8)[1:]")
    opponents = {
        "mixrate": fake("ours", MOVES),
        "slow": fake("slow", slow),
        "dies": fake("dies", "import os\ndef prepare(task, arrays):\n    os._exit(3)"),
        "wrong": fake("wrong", MOVES.replace("+ 1.0", "+ 0.7")),
        "again": fake("again", slow),
    }
    work = Work("gmm2", "mala", 2, dict.fromkeys(("slow", "dies", "wrong", "again"), 1.0), n=500)
    rows = list(chains(setting, opponents, [work]))
    assert [row.figure for row in rows] == ["slow / ours", "dies / ours", "wrong / ours", "again / ours"]
    assert [row.met for row in rows] == ["yes", "failed", "failed", "yes"]
    assert rows[1].note == "dies: died with code 3"
    assert rows[2].note.startswith("wrong: displacement there 0.49 times")
    broken = dict(opponents, mixrate=fake("broken", "def prepare(task, arrays):\n    raise KeyError('h')"))
    assert {row.met for row in chains(setting, broken, [work])} == {"failed"}


def test_rows_of_other_scripts_are_read_line_by_line() -> None:
    lines = [
        "a line for people",
        '{"work": "n=1e4 d=2", "figure": "POT / ours", "ours_s": 8.5, "peer_s": 29.2, "ratio": 3.44, "goal": 2.5, "met": true}',
        '{"work": "memory", "figure": "ours / POT", "ours_s": null, "peer_s": null, "ratio": 0.02, "goal": "<= 0.05", "met": true}',
        '{"work": "half a row"}',
        "[1, 2]",
    ]
    first, second = foreign("\n".join(lines))
    assert (first.goal, first.met, first.ours, first.peer) == (">= 2.5", "yes", 8.5, 29.2)
    assert (second.goal, second.met, second.unit) == ("<= 0.05", "yes", "")


def test_waiting_times_leave_out_the_first_call_and_say_why_there_are_none() -> None:
    seconds = iter([60.0, 3.0, 1.0, 2.0])
    row = waited("w", 4.0, lambda: next(seconds), 3)
    assert (row.ours, row.value, row.low, row.high, row.met) == (2.0, 2.0, 1.0, 3.0, "yes")
    died = subprocess.CalledProcessError(2, ["mixrate"], stderr="a warning\nmixrate: no such file\n\n")
    for error, note in ((died, "exit code 2: mixrate: no such file"), (KeyError("seconds"), "KeyError")):

        def fails(error: Exception = error) -> float:
            raise error

        row = waited("w", 4.0, fails, 3)
        assert (row.met, row.note) == ("failed", note)


def test_the_small_experiments_that_are_timed_exist() -> None:
    assert all((ROOT / "experiments" / f"{name}.yaml").exists() for name in STARTUP)


def test_normals_come_in_blocks_that_make_up_a_chain() -> None:
    """The noise alone is as many normals as the chain draws: blocks of whole particles."""
    assert all(work.n % BLOCK == 0 for work in WORKS if "floor" in work.goals)


# What is kept, and the page.


def test_what_is_kept_is_what_the_page_shows(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n", encoding="utf-8")
    rows = [
        Row("ULA gauss50", "jax / ours", 2.2, 15.6, "ns/pd-step", 7.05, 7.03, 7.19, ">= 6"),
        Row("normals", "numpy / ours", 1.9, 7.8, "ns/normal", 4.1, 4.0, 4.2, ">= 4", "SFC64"),
        Row("RWM gmm2", "jax / ours", goal=">= 2", note="jax: died with code 9: a|b"),
    ]
    keep(rows, {"processor": "P", "numpy": "2"}, tmp_path / "t.csv", tmp_path / "t.json", page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| ULA gauss50 | jax / ours | 2.2 | 15.6 | ns/pd-step | 7.05 (7.03 to 7.19) | >= 6 | yes |" in text
    assert "| normals | numpy / ours (SFC64) |" in text
    assert "| RWM gmm2 | jax / ours |  |  |  | jax: died with code 9: a/b | >= 2 | failed |" in text
    assert "Measured with processor P, numpy 2." in text
    assert shown(text, tmp_path / "t.csv", tmp_path / "t.json") == text  # showing twice changes nothing


def test_the_page_agrees_with_the_kept_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert shown(page) == page
    if CSV.exists():
        with CSV.open(encoding="utf-8") as file:
            kept = list(csv.DictReader(file))
        assert tuple(kept[0]) == COLUMNS
        assert json.loads(JSON.read_text(encoding="utf-8"))["processor"]
        for row in kept:  # the word follows from the figure
            value = float(row["value"]) if row["value"] else None
            near = value is not None and row["goal"] and abs(value - float(row["goal"].split()[1])) < 0.006 * value  # printed digits
            assert near or Row(row["work"], row["figure"], value=value, goal=row["goal"]).met == row["met"]


def test_only_a_complete_run_is_kept(capsys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    kept: list[object] = []
    monkeypatch.setattr(table, "keep", lambda *written: kept.append(written))
    with pytest.raises(SystemExit):
        table.main(["--only", "gmm3"])
    assert "'gmm3'" in capsys.readouterr().err
    monkeypatch.setattr(table, "PEERS", tmp_path / "no-such-python")
    monkeypatch.setattr(table, "OURS", tmp_path / "no-such-python")
    assert table.main(["--only", "ula gmm2"]) == 0
    assert table.main(["--quick", "--only", "scaling"]) == 0
    assert capsys.readouterr().out.count("cannot be started") >= 6  # said as they come and in the table
    monkeypatch.setattr(table, "transport", lambda setting: iter(()))
    monkeypatch.setattr(table, "startup", lambda setting: iter(()))
    assert table.main(["--repeats", "4"]) == 0
    assert table.main(["--quick"]) == 0
    assert kept == []
    assert table.main([]) == 0
    [(written, about)] = kept
    assert {row.met for row in written} == {"failed"}  # type: ignore[attr-defined]
    assert about["processor"]  # type: ignore[index]


def test_the_peers_are_pinned_and_stay_out_of_our_environment() -> None:
    lines = [line for line in (PEERS / "requirements.txt").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert {"jax", "jaxlib", "blackjax", "numpy"} <= {line.split("==")[0] for line in lines}
    ours = (ROOT / "constraints.txt").read_text(encoding="utf-8") + (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert not re.search(r"\b(jax|jaxlib|blackjax)\b", ours)
