"""Whether the views contradict one another: where each of them alone puts the target.

A bone that is elsewhere than a pose says is shown elsewhere in every view at once; two views that
ask for unlike shifts across their epipolar plane, or for unlike turns, are not explained by any
motion, so a camera is not where its calibration says (Hartley and Zisserman, Multiple View
Geometry, 2nd ed., chapter 9).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry import Array, Camera, Rigid
from ..system import Progress
from . import bounds
from .options import Stage
from .stages import Hypothesis, Refiner


@dataclass(frozen=True)
class Consistency:
    """Where V views alone put the target, against a pose that was fitted to all.

    ``names``; ``shifts_px`` (V, 2): how much farther, column and row, each puts its centre;
    ``pairs_mm`` (V, V): by how much two contradict each other across the epipolar lines, at the
    target, as of `across`; ``turns_deg`` (V,): by how much each turns it against the others.
    """

    names: tuple[str, ...]
    shifts_px: Array
    pairs_mm: Array
    turns_deg: Array

    @property
    def finite(self) -> bool:
        """Whether all that the views ask for is a number; pairs without an angle do not count."""
        numbers = (self.shifts_px, self.turns_deg)
        return all(np.isfinite(n).all() for n in numbers) and not np.isinf(self.pairs_mm).any()

    @property
    def across_mm(self) -> Array:
        """By how much each view (V,) contradicts the others: the median of its pairs; NaN where it
        has none."""
        return np.array([np.median(own) if len(own) else np.nan for own in self._told])

    @property
    def epipolar_mm(self) -> float | None:
        """That of the view that contradicts the others most; None where no two can, or no number is
        known.

        Of a view with one or two pairs the larger one counts: a median of two would halve what
        only one of them can show.
        """
        decisive = self._decisive_mm
        if not self.finite or np.isnan(decisive).all():
            return None
        return float(np.nanmax(decisive))

    @property
    def apart_deg(self) -> float:
        """By how much the view turns it that turns it most against the others."""
        return float(self.turns_deg.max())

    @property
    def worst(self) -> str:
        """The view that contradicts the others most, by its name; both of a pair that decides."""
        number = int(np.nanargmax(self._decisive_mm))
        if len(self._told[number]) >= bounds.MEDIAN_PAIRS:
            return self.names[number]
        both = sorted((number, int(np.nanargmax(self.pairs_mm[number]))))
        return " and ".join(self.names[n] for n in both)

    @property
    def _told(self) -> list[Array]:
        """What the pairs of each view say."""
        return [own[~np.isnan(own)] for own in self.pairs_mm]

    @property
    def _decisive_mm(self) -> Array:
        largest = [own.max() if len(own) else np.nan for own in self._told]
        few = np.array([len(own) < bounds.MEDIAN_PAIRS for own in self._told])
        return np.where(few, largest, self.across_mm)

    def to_quality(self) -> dict[str, float]:
        """What a result says of all views; nothing where that is no number."""
        if not self.finite:
            return {}
        across_mm = {} if self.epipolar_mm is None else {"epipolar_mm": self.epipolar_mm}
        return {**across_mm, "apart_deg": self.apart_deg}

    def of_view(self, number: int) -> dict[str, Any]:
        """What a result says of a view; nothing where that is no number."""
        if not self.finite:
            return {}
        out: dict[str, Any] = {"alone_px": self.shifts_px[number].tolist()}
        if len(self.names) > 2:
            if np.isfinite(self.across_mm[number]):
                out["epipolar_mm"] = float(self.across_mm[number])
            out["apart_deg"] = float(self.turns_deg[number])
        return out


def consistency(
    refiner: Refiner, stage: Stage, best: Hypothesis, progress: Progress
) -> Consistency | None:
    """Fit a pose to each view alone and compare what comes of it; None for a single view."""
    scene = refiner.scene
    if len(scene.views) < 2:
        return None
    alone_ct_to_world = [at.ct_to_world for at in refiner.refine_alone(stage, best, progress)]
    points_ct, cameras = scene.distance_points_ct, [view.camera for view in scene.views]
    centre_world = scene.centre_world(best.ct_to_world)
    points_world = Rigid(best.ct_to_world).apply(points_ct)
    shifts_world = [
        shift_world(camera, points_world, Rigid(pose).apply(points_ct))
        for camera, pose in zip(cameras, alone_ct_to_world, strict=True)
    ]
    shifts_px = [
        camera.project(centre_world + shift[None])[0] - camera.project(centre_world[None])[0]
        for camera, shift in zip(cameras, shifts_world, strict=True)
    ]
    return Consistency(
        tuple(view.name for view in scene.views),
        np.array(shifts_px),
        across(cameras, centre_world, shifts_world),
        turned_apart(alone_ct_to_world),
    )


def shift_world(camera: Camera, before_world: Array, after_world: Array) -> Array:
    """The mean shift (3,) mm of points (N, 3) as a view shows it: each held at its depth."""
    to_camera = Rigid(camera.world_to_camera)
    before, after = to_camera.apply(before_world), to_camera.apply(after_world)
    shown = after * (before[:, 2:] / after[:, 2:]) - before
    return np.asarray(camera.world_to_camera[:3, :3].T @ shown.mean(axis=0))


def across(cameras: Sequence[Camera], point_world: Array, shifts_world: Sequence[Array]) -> Array:
    """By how much each two views (V, V) contradict each other about where a point (3,) is, mm.

    ``shifts_world`` (3,) of each, of which only what it shows counts. Of a pair of views it is the
    difference across the plane through both sources and the point; NaN where their rays do not
    meet at an angle, infinite where a shift is no number.
    """
    rays = [(point_world - camera.source_world) for camera in cameras]
    rays = [ray / np.linalg.norm(ray) for ray in rays]
    out = np.full((len(cameras), len(cameras)), np.nan)
    for a, b in itertools.combinations(range(len(cameras)), 2):
        normal = np.cross(rays[a], rays[b])
        sine = float(np.linalg.norm(normal))
        if sine < np.sin(np.radians(bounds.LEAST_ANGLE_DEG)):
            continue
        mm = abs(float(normal @ (shifts_world[a] - shifts_world[b]))) / sine
        out[a, b] = out[b, a] = mm if np.isfinite(mm) else np.inf
    return out


def turned_apart(poses: Sequence[Array]) -> Array:
    """By how much each of V poses (4, 4) is turned against the others (V,), degrees: the median;
    NaN where a pose is no number."""
    if not np.isfinite(poses).all():
        return np.full(len(poses), np.nan)
    turns = [Rotation.from_matrix(pose[:3, :3]) for pose in poses]
    apart = [
        [np.degrees((turn * other.inv()).magnitude()) for other in turns if other is not turn]
        for turn in turns
    ]
    return np.asarray(np.median(apart, axis=1))
