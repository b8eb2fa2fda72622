"""What becomes of the tests that read files when a number that decides about files is changed.

The tests have made-up files of every kind, right ones and wrong ones, many of them near a limit. A
first run notes which tests ask for a number; with the number changed these are run once more.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest

from RadGSRegLib.errors import InputError

TESTING = Path(__file__).resolve().parent.parent
FILES = {
    "cases": ("test_cases_*.py", "test_dicom_*.py"),
    "gaussians": ("test_gaussians_kept.py",),
}
"""Which tests read files, or keep them, by room."""

_asked: set[str] = set()


class _Watched(ModuleType):
    """A table of bounds that notes which of them is asked for."""

    def __getattribute__(self, name: str) -> Any:
        if name.isupper():
            _asked.add(name)
        return super().__getattribute__(name)


class _Recorder:
    """Notes which numbers each test asks for, and how tests fail."""

    def __init__(self) -> None:
        self.asking: defaultdict[str, list[str]] = defaultdict(list)
        self.failed: Counter[str] = Counter()
        self.names: list[str] = []

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        _asked.clear()
        yield
        for name in _asked:
            self.asking[name].append(f"{item.path}::{item.nodeid.split('::', 1)[1]}")

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        if call.excinfo is None or call.excinfo.errisinstance(pytest.skip.Exception):
            return
        if call.excinfo.errisinstance(InputError):
            kind = "refused"
        elif "DID NOT RAISE" in str(call.excinfo.value):
            kind = "accepted"
        else:
            kind = "otherwise"
        self.failed[kind] += 1
        self.names.append(f"{kind}: {item.nodeid}")


def run_tests(tests: Sequence[str]) -> _Recorder:
    """Run tests, files or single ones, in this process without a word."""
    recorder = _Recorder()
    sys.path.insert(0, str(TESTING))
    words = ["-q", "--no-header", "--no-summary", "--tb=no", "-p", "no:cacheprovider"]
    words += [
        "-o",
        "addopts=",
        f"--rootdir={TESTING.parent}",
        "-c",
        str(TESTING.parent / "pyproject.toml"),
    ]
    alone = patch.dict(os.environ, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    # A folder of its own: pytest would remove those of the runs before, file by file.
    with alone, TemporaryDirectory() as folder, Path(os.devnull).open("w") as silent:
        words += [f"--basetemp={folder}/tests"]
        with redirect_stdout(silent):
            pytest.main([*words, *tests], plugins=[recorder])
    return recorder


def tests_asking(room: str) -> dict[str, list[str]]:
    """Run a room's tests, and return those that ask for each of its numbers."""
    table = importlib.import_module(f"RadGSRegLib.{room}.bounds")
    table.__class__ = _Watched
    try:
        files = [str(path) for glob in FILES[room] for path in sorted(TESTING.glob(glob))]
        recorder = run_tests(files)
    finally:
        table.__class__ = ModuleType
    assert not recorder.failed, recorder.names
    return dict(recorder.asking)
