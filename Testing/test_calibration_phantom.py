"""Phantoms of beads: their files, the layouts that come with the program, a holder to print."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from RadGSRegLib.bones import Mesh
from RadGSRegLib.calibration import (
    LAYOUTS,
    Beads,
    Holder,
    beads_to_json,
    holder,
    layout,
    posts_under,
    read_beads,
    write_beads,
    write_holder,
)
from RadGSRegLib.errors import InputError

Change = Callable[[dict[str, Any]], None]


def test_a_phantom_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    beads = layout("two-plates")
    write_beads(tmp_path / "beads.json", beads)
    again = read_beads(tmp_path / "beads.json")
    assert again.name == "two-plates"
    assert (again.centres_mm == beads.centres_mm).all()
    assert (again.diameters_mm == beads.diameters_mm).all()
    assert json.loads((tmp_path / "beads.json").read_text())["schema"] == "radgsreg/beads"


def test_names_are_layouts_and_paths_are_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_beads("helix").name == "helix"
    monkeypatch.chdir(tmp_path)
    write_beads("helix", layout("two-plates"))
    assert len(read_beads("helix")) == len(layout("helix"))
    assert len(read_beads("./helix")) == len(read_beads(Path("helix"))) == 16
    with pytest.raises(InputError, match="no layout has this name; layouts: two-plates, helix"):
        read_beads("cube")
    with pytest.raises(InputError, match="no layout named cube"):
        layout("cube")


def _flat(content: dict[str, Any]) -> None:
    for bead in content["beads"]:
        bead["at_mm"][1] = 4.0 + 0.01 * bead["at_mm"][0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(schema="radgsreg/views"), '"schema" must be "radgsreg/beads"'),
        (lambda c: c.update(version=2), "this program reads 1"),
        (lambda c: c.pop("beads"), 'has no "beads"'),
        (lambda c: c.update(beads={}), '"beads" must be a list'),
        (lambda c: c["beads"].__setitem__(3, [1, 2, 3]), "bead 3 must be an object"),
        (lambda c: c["beads"][2].update(at_mm=[1.0, 2.0]), 'bead 2: "at_mm" must hold 3 numbers'),
        (lambda c: c["beads"][2].update(at_mm=[1.0, 2.0, 1e400]), "not finite"),
        (lambda c: c["beads"][4].pop("diameter_mm"), 'bead 4: has no "diameter_mm"'),
        (lambda c: c["beads"][4].update(diameter_mm="3"), '"diameter_mm" must be a number'),
        (lambda c: c["beads"][4].update(diameter_mm=0.003), "0.3 to 25 mm wide"),
        (lambda c: c["beads"][4].update(diameter_mm=-3.0), "bead 4 has a diameter of -3 mm"),
        (lambda c: c.update(beads=c["beads"][:5]), "holds 5 beads; a camera needs 6 or more"),
        (lambda c: c["beads"].append(dict(c["beads"][1])), "beads 1 and 16 are 0.00 mm apart"),
        (lambda c: c["beads"][1].update(at_mm=[4000.0, 0.0, 0.0]), "mm apart; give places in mm"),
        (_flat, "of one plane; a camera needs beads in depth"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, change: Change, said: str) -> None:
    content = beads_to_json(layout("two-plates"))
    change(content)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content).replace("Infinity", "1e400"))
    with pytest.raises(InputError) as refusal:
        read_beads(path)
    assert said in str(refusal.value)
    assert "mine.json" in str(refusal.value)


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    beads = layout("helix")
    with pytest.raises(InputError, match="holds 4 beads"):
        write_beads(
            tmp_path / "few.json", Beads("few", beads.centres_mm[:4], beads.diameters_mm[:4])
        )
    nowhere = beads.centres_mm.copy()
    nowhere[3, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        write_beads(tmp_path / "few.json", Beads("nan", nowhere, beads.diameters_mm))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="does not exist"):
        read_beads(tmp_path / "none.json")


def _nearest_other(centres: np.ndarray, affine: bool) -> float:
    """How far, mm (root mean square), the best map of the beads onto themselves leaves them that
    exchanges some: from many turns and mirrors, matched and fitted in turn."""
    points = centres - centres.mean(axis=0)
    rng = np.random.default_rng(5)
    best = np.inf
    for trial in range(300):
        turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
        if trial % 2:
            turn = turn @ np.diag([1.0, 1.0, -1.0])
        moved = points @ turn.T
        order = np.arange(0)
        for _ in range(30):
            before, order = order, linear_sum_assignment(cdist(moved, points) ** 2)[1]
            if np.array_equal(before, order):
                break
            if affine:
                moved = points @ np.linalg.lstsq(points, points[order], rcond=None)[0]
            else:
                left, _, right = np.linalg.svd(points.T @ points[order])
                moved = points @ left @ right
        if not np.array_equal(order, np.arange(len(points))):
            off = np.sum((moved - points[order]) ** 2, axis=1)
            best = min(best, float(np.sqrt(off.mean())))
    return best


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_fit_around_a_spine_and_have_no_symmetry(name: str) -> None:
    beads = layout(name)
    assert len(beads) >= 14
    assert len(set(beads.diameters_mm)) == 2
    size = np.ptp(beads.centres_mm, axis=0)
    assert (size <= 160.0).all()
    assert (size >= 60.0).all()
    assert _nearest_other(beads.centres_mm, affine=False) > 3.0
    assert _nearest_other(beads.centres_mm, affine=True) > 3.0


def test_an_even_helix_would_be_symmetric() -> None:
    steps = np.arange(12)
    angles = np.radians(34.0 * steps)
    even = np.column_stack([70 * np.cos(angles), 70 * np.sin(angles), 8.0 * steps])
    assert _nearest_other(even, affine=False) < 0.01


@lru_cache
def _printed(name: str) -> Holder:
    return holder(layout(name), step_mm=0.8)


def _inside(mesh: Mesh, points: np.ndarray) -> np.ndarray:
    """Whether points (N, 3) are inside: an odd number of triangles is above them."""
    corners = mesh.points_world[mesh.triangles]
    low, high = corners[..., :2].min(axis=1), corners[..., :2].max(axis=1)
    out = []
    for *at, z in points + [0.00113, 0.00271, 0.0]:
        near = ((low <= at) & (high >= at)).all(axis=1)
        a, b, c = np.moveaxis(corners[near], 1, 0)
        u, v, w = b - a, c - a, np.array([*at, 0.0]) - a
        area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
        with np.errstate(all="ignore"):
            s = (w[:, 0] * v[:, 1] - w[:, 1] * v[:, 0]) / area
            t = (u[:, 0] * w[:, 1] - u[:, 1] * w[:, 0]) / area
            above = a[:, 2] + s * u[:, 2] + t * v[:, 2] > z
            hit = (s >= 0) & (t >= 0) & (s + t <= 1)
        out.append(np.count_nonzero(above & hit) % 2 == 1)
    return np.array(out)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_holder_is_closed_and_stands_on_the_bed(name: str) -> None:
    mesh = _printed(name).mesh
    edges = np.sort(mesh.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert (counts == 2).all()
    assert mesh.points_world[:, 2].min() == pytest.approx(0.0, abs=0.05)
    size = np.ptp(mesh.points_world, axis=0)
    assert (size < 180.0).all()
    # Plastic: more than the base plate alone, much less than the box around it.
    assert 3.0 * size[0] * size[1] / 1000.0 < mesh.enclosed_ml < 0.15 * size.prod() / 1000.0


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_bead_has_a_seat_at_its_place(name: str) -> None:
    beads, made = layout(name), _printed(name)
    centres = made.beads_to_print.apply(beads.centres_mm)
    radii = 0.5 * beads.diameters_mm
    up = np.array([0.0, 0.0, 1.0])
    for height in (0.0, 0.9, 10.0, 60.0):
        assert not _inside(made.mesh, centres + height * up).any()
    # The seat touches the bead from below, and around it is plastic.
    assert not _inside(made.mesh, centres - (radii - 0.15)[:, None] * up).any()
    assert _inside(made.mesh, centres - (radii + 0.15)[:, None] * up).all()
    for side in ([1.0, 0.0, 0.0], [0.0, -1.0, 0.0]):
        assert _inside(made.mesh, centres + (radii + 0.3)[:, None] * side).all()
        assert not _inside(made.mesh, centres + (radii - 0.1)[:, None] * side).any()


def test_nothing_hangs_over_but_the_bores(tmp_path: Path) -> None:
    """Below each point of the solid is solid, down to the bed."""
    beads, made = layout("two-plates"), _printed("two-plates")
    points = made.mesh.points_world
    rng = np.random.default_rng(3)
    low, high = points.min(axis=0), points.max(axis=0)
    tried = rng.uniform(low, high, (400, 3))
    solid = tried[_inside(made.mesh, tried)]
    assert len(solid) > 15
    deeper = solid * [1.0, 1.0, 0.6] + [0.0, 0.0, 0.1]
    assert _inside(made.mesh, deeper).all()
    write_holder(tmp_path / "holder.stl", made)
    assert (tmp_path / "holder.stl").stat().st_size == 84 + 50 * len(made.mesh.triangles)
    axes, radii = posts_under(beads) or (np.zeros(0), np.zeros(0))
    gap = np.linalg.norm(axes[:, 1] - beads.centres_mm, axis=1)
    assert gap == pytest.approx(0.5 * beads.diameters_mm)
    assert (radii > 0.5 * beads.diameters_mm).all()


def test_beads_over_each_other_are_refused_or_printed_another_way_up() -> None:
    corners = 40.0 * np.indices((2, 2, 2)).reshape(3, -1).T
    cube = Beads("cube", corners, np.full(8, 3.0))
    with pytest.raises(InputError, match="over each other along every axis"):
        holder(cube)
    assert posts_under(cube) is None
    with pytest.raises(InputError, match="makes beads stand over each other"):
        holder(cube, up=[0.0, 0.0, 1.0])
    with pytest.raises(InputError, match="is no direction"):
        holder(cube, up=[0.0, 0.0, 0.0])
    leaning = holder(cube, up=[1.0, 0.55, 0.3], step_mm=1.5)
    assert leaning.beads_to_print.rotation @ [1.0, 0.55, 0.3] == pytest.approx(
        [0.0, 0.0, np.linalg.norm([1.0, 0.55, 0.3])]
    )
