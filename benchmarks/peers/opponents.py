"""The other end of the pipe: a worker process that runs one side's chains, and what is done when it fails."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OURS, PEERS = ROOT / ".venv" / "bin" / "python", ROOT / ".venv-peers" / "bin" / "python"

#: Seconds after which an opponent that has not answered counts as failed: compiling takes seconds, a call less.
PATIENCE = 300.0

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1") | {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


class OpponentFailed(Exception):
    """An opponent did not start, said that it failed, went silent or died; the message is one line."""


class Opponent:
    """A worker process behind a pipe, started at its first request.

    Arguments:
        python: the interpreter of its environment.
        module: its samplers, a file beside this one.
        core: the core it is pinned to.
        env: variables beside those of one thread.
    """

    def __init__(self, python: Path, module: str, core: int, env: dict[str, str] | None = None, patience: float = PATIENCE) -> None:
        self.python, self.module, self.core, self.env, self.patience = python, module, core, env or {}, patience
        self.versions: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it lives as long as the process)

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """One request, one answer. Errors: `OpponentFailed`; the next request starts a new process."""
        if self._process is None:
            self._start()
        return self._answer({"do": do, **request})

    def _start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | ONE_THREAD | self.env
        command = [str(self.python), str(HERE / "worker.py"), self.module, str(self.core)]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, env=environment)
        except OSError as error:
            raise OpponentFailed(f"{self.module}: cannot be started: {error.strerror}") from None
        self.versions = self._answer({"do": "hello"})["versions"]

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], self.patience)
            line = process.stdout.readline() if ready else None
        except OSError:  # the pipe broke: it is dead
            line = ""
        if line is None:
            self.close()
            raise OpponentFailed(f"{self.module}: no answer in {self.patience:g} s")
        if not line:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it closed its pipe and may be about to end
                process.wait(5.0)
            self.close()
            code, last = process.returncode, self._last_words()
            raise OpponentFailed(f"{self.module}: died with code {code}{': ' + last if last else ''}")
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            answer = {"error": f"its answer cannot be read: {line[:80]!r}"}
        if "error" in answer:
            if request["do"] == "hello":
                self.close()
            raise OpponentFailed(f"{self.module}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        self._said.seek(0)
        return last_line(self._said.read())

    def close(self) -> None:
        """End the process; only this one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self._process = None


def in_turn(sides: dict[str, tuple[Opponent, str]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each side, A B A B: neighbours in time share whatever the machine was doing."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(1, repeats + 1):
        for name, (opponent, task) in sides.items():
            seconds[name].append(opponent.ask("run", name=task, seed=repeat)["seconds"])
    return seconds


def last_line(text: str) -> str:
    """The last words of a process."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
