# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""The module's own self test, which CTest runs inside Slicer, here on slicer-core."""

from __future__ import annotations

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer_startup

slicer_startup.start()

from RadGSRegSlicer.process import environment

import RadGSReg


def test_without_packages_the_rest_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    slicer_startup.start()
    monkeypatch.setattr(environment, "missingPackages", lambda: ["torch"])
    said: list[str] = []
    test = RadGSReg.RadGSRegTest()
    monkeypatch.setattr(test, "delayDisplay", said.append)
    test.runTest()
    assert said[-1] == "Left out, not installed: torch"


@pytest.mark.usefixtures("brief_children")
@pytest.mark.slow
def test_the_self_test_passes() -> None:
    slicer_startup.start()
    test = RadGSReg.RadGSRegTest()
    test.runTest()
