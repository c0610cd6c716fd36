"""The command line called inside a test."""

from __future__ import annotations

import sys

import pytest

from mixrate import cli


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of ``mixrate ARGUMENTS``."""
    monkeypatch.setattr(sys, "argv", ["mixrate", *map(str, arguments)])
    code: object = 0
    try:
        cli.main()
    except SystemExit as left:
        code = left.code
    out = capsys.readouterr()
    return (code if isinstance(code, int) else 0), out.out, out.err
