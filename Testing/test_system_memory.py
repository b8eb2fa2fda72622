"""The memory that a process has taken, in megabytes on every system."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from RadGSRegLib.system import memory, peak_memory_mb

LOOK = """
from RadGSRegLib.system import peak_memory_mb
before = peak_memory_mb()
block = bytearray(b"1") * 150_000_000
del block
print(before, peak_memory_mb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a parent's memory may count too")
def test_what_was_taken_once_counts_and_no_parents_does() -> None:
    own = bytearray(b"1") * 150_000_000
    said = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    before, after = map(float, said.stdout.split())
    assert len(own) == 150_000_000
    assert 1.0 < before < 100.0
    assert 140.0 < after - before < 200.0


@pytest.mark.parametrize(("platform", "mb"), [("freebsd", 2.048), ("darwin", 0.002)])
def test_units_differ(platform: str, mb: float, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: SimpleNamespace(ru_maxrss=2000))
    monkeypatch.setitem(sys.modules, "resource", usage)
    monkeypatch.setattr(sys, "platform", platform)
    assert peak_memory_mb() == pytest.approx(mb)


def test_unknown_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    monkeypatch.setitem(sys.modules, "resource", None)
    for platform in ("linux", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        assert peak_memory_mb() is None
