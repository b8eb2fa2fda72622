"""The command that writes docs/performance.md, in its smallest size."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks"))

import floor_page
import floor_series
import floors
from floor_series import SIZES, Series
from measuring.growth import fitted


def rows(text: str, first: str) -> list[list[str]]:
    """The rows of the table whose header begins with these cells."""
    table = text[text.index(f"| {first} |") :].split("\n\n")[0]
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()]
    return [[cell.strip() for cell in line] for line in lines[2:]]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the command writes."""
    out = tmp_path_factory.mktemp("floors") / "performance.md"
    floors.main(["--size", "tiny", "--out", str(out)])
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    return out.read_text(encoding="utf-8")


def number(cell: str) -> float:
    return float(cell.replace(",", ""))


def test_every_stage_has_its_time_and_its_floor(page: str) -> None:
    table = rows(page, "stage | threads")
    names = [row[0] for row in table]
    for wanted in (
        "rasterizer, forward",
        "rasterizer, backward",
        "rasterizer, image and Jacobian",
        "bodies, images and Jacobians",
        "voxelizer, backward",
        "projector, image and Jacobian",
        "local normalisation, weights pulled",
        "Hessian of 24 derivatives",
        "32 Fourier transforms",
        "normal equations, voxels",
        "search",
    ):
        assert wanted in names
    assert len(set(names)) == len(names)
    for row in table:
        spent, busy, floor, times = (number(row[n]) for n in (6, 7, 8, 10))
        assert spent > 0.0
        assert floor > 0.0
        assert times == pytest.approx(busy / floor, rel=0.02)
        assert row[9] in ("arithmetic", "memory")
        # torch and kernels move at least what has to be moved.
        if row[5]:
            assert number(row[5]) >= 0.9 * number(row[4])
    assert "not counted" not in page


def test_series_go_as_far_as_their_sizes(page: str) -> None:
    table = rows(page, "stage | by")
    sizes = SIZES["tiny"]
    reached = {(row[1], row[2]) for row in table}
    assert ("Gaussians", f"{sizes.many_gaussians[0]} to {sizes.many_gaussians[-1]}") in reached
    assert ("pixels", f"{24**2} to {48**2:,}") in reached
    assert ("views", "1 to 3") in reached
    assert {("poses", "1 to 4"), ("poses", "1 to 27")} <= reached
    full = SIZES["full"]
    assert full.many_gaussians[0] == 1_000
    assert full.many_gaussians[-1] == 100_000
    assert full.many_pixels[0] == 64
    assert full.many_pixels[-1] == 976
    assert full.many_views[-1] == 50
    assert full.many_poses[-1] == 512


def test_the_page_names_commit_machine_memory_and_gpu(page: str) -> None:
    assert re.search(r"commit ([0-9a-f]{7,}|unknown)\.", page)
    assert number(rows(page, "stage | MiB")[0][1]) >= 0.0
    assert "Not measured." in page


def test_growth_above_linear_is_told() -> None:
    sizes = (1.0, 10.0, 100.0)
    line = fitted(sizes, list(sizes))
    steep = Series("new stage", "views", fitted(sizes, [n**1.4 for n in sizes]))
    flat = Series("old stage", "views", line)
    text = floor_page.growth_section([steep, flat])
    assert "- new stage, by views: not looked at." in text
    assert "old stage, by views:" not in text
    assert "None grows" in floor_page.growth_section([flat])
    mended = floor_page.growth_section([replace(steep, kept=line)])
    # 100^1.4 is 631.
    assert "linear once memory is kept, which saves 84 % of the time" in mended
    same = floor_page.growth_section([replace(steep, kept=steep.growth)])
    assert "1.40 and 1.40 with memory kept, which saves nothing" in same


def test_steep_series_are_run_again_with_memory_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (1.0, 10.0)
    asked = []

    def child(arguments: list[str], surroundings: dict[str, str] | None = None) -> str:
        asked.append((arguments, surroundings))
        if len(asked) > 1:
            raise RuntimeError("it took too long")
        return json.dumps([["new stage", "views", sizes, [1.0, 9.0]]])

    monkeypatch.setattr(floor_series.devices, "in_child", child)
    steep = Series("new stage", "views", fitted(sizes, [1.0, 30.0]))
    flat = Series("old stage", "views", fitted(sizes, [1.0, 2.0]))
    again = floor_series.keeping([steep, flat], ["floors.py"])
    which = json.dumps([["new stage", "views"]])
    assert asked == [(["floors.py", "--again", which], floor_series.KEEP)]
    assert again[0].kept is not None
    assert again[0].kept.seconds == (1.0, 9.0)
    assert again[1].kept is None
    # What fails costs its own figures alone.
    assert floor_series.keeping([steep, flat], ["floors.py"]) == [steep, flat]
    assert floor_series.memories(SIZES["tiny"], ["floors.py"]) == {FIRST: None}


FIRST = f"rasterizer, forward, {SIZES['tiny'].many_gaussians[-1]} Gaussians"


def test_only_some_stages_are_run_again() -> None:
    only = [("search", "poses"), ("bodies, images", "views")]
    series = floor_series.growths(SIZES["tiny"], torch.device("cpu"), only)
    assert [(each.stage, each.what) for each in series] == [only[1], only[0]]
