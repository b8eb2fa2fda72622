"""Brief fits and searches, here and in child processes, for tests that are not about how good they
are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

# Brief fits must not be kept: tests that fit in earnest share what is (conftest).
NOT_KEPT = ("RADGSREG_CACHE", "off")

# Python runs a module of this name first of all.
_FIRST = "sitecustomize.py"
_PROGRAM = """
import sys
sys.path.append({folder!r})
import brief
sys.path.remove({folder!r})
brief.shorten()
"""


def shorten(put: Callable[[Any, str, Any], object] = setattr) -> None:
    """Fit Gaussians in three steps instead of 160, let commands reconstruct coarsely, and look for
    a clicked vertebra with one template of four.

    ``put`` sets an attribute: a monkeypatch's, where it is to be taken back.
    """
    from RadGSRegLib.commands import running
    from RadGSRegLib.gaussians import FitOptions
    from RadGSRegLib.segmentation import pose

    steps = FitOptions(volume_steps=3, view_steps=3, views=3)
    usual = running.reconstruction_options

    def coarse(device: str, seed: int) -> Any:
        return replace(usual(device, seed), pixel_mm=2.4, spacing_mm=2.0, prior_steps=2)

    put(FitOptions, "for_count", lambda count: steps)
    put(running, "reconstruction_options", coarse)
    put(pose, "_LEVELS_TRIED", ("L2",))


def write_for_children(folder: Path) -> Path:
    """Make ``folder``, which shortens a Python that has it on its path; returns it."""
    folder.mkdir()
    program = _PROGRAM.format(folder=str(Path(__file__).resolve().parent))
    (folder / _FIRST).write_text(program, encoding="utf-8")
    return folder
