"""X-rays of a CT and what is true of them, for `bench_beam`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, uniform_filter
from torch import Tensor

from RadGSRegLib.cases import View, read_ct, read_segmentation
from RadGSRegLib.geometry import Camera, Volume, transform_points
from RadGSRegLib.reconstruction import Box, cube
from RadGSRegLib.simulation import (
    SimulationParameters,
    simulate_case,
    take_apart,
)
from RadGSRegLib.simulation.case import _embed
from RadGSRegLib.simulation.drawing import Surroundings, draw_case
from RadGSRegLib.simulation.materials import mass_attenuation
from RadGSRegLib.simulation.parts import line_integrals, parts_on
from RadGSRegLib.simulation.pixels import pixel_rays
from RadGSRegLib.simulation.scene import draw_surface_points
from RadGSRegLib.simulation.shapes import ellipsoid_path

Array = NDArray[np.float32]
_BOX_MM, _STEP_MM = 110.0, 2.0
_TRUE_KEV = 60.0
# As many as `simulate_case` draws before it draws the case.
_SURFACE_POINTS = 2000


@dataclass(frozen=True)
class Patient:
    """A CT (HU), the labels of its vertebrae, and the vertebra in the middle."""

    ct: Volume
    labels: Volume
    label: int

    @classmethod
    def read(cls, ct: Path, labels: Path, label: int, only_label: bool) -> Patient:
        """Read both files; ``only_label``: the vertebra by itself, in air."""
        image, segmentation = read_ct(ct), read_segmentation(labels)
        marks = Volume(segmentation.array[0], segmentation.index_to_physical)
        if only_label:
            alone = marks.array == label
            image = image.with_array(np.where(alone, image.array, -1024).astype(image.array.dtype))
            marks = marks.with_array(np.where(alone, label, 0).astype(marks.array.dtype))
        return cls(image, marks, label)


class Truth:
    """The CT in the world, in the cube about its vertebra."""

    def __init__(self, ct: Volume, ct_to_world: NDArray[np.float64], pivot_ct: Sequence[float]):
        self.ct_to_world = ct_to_world
        self.centre = transform_points(ct_to_world, np.array([pivot_ct]))[0]
        self.box = cube(self.centre, _BOX_MM, _STEP_MM)
        fine = cube(self.centre, _BOX_MM, _STEP_MM / 2.0)
        moved = Volume(ct.array.astype(np.float32) + 1000.0, ct_to_world @ ct.index_to_physical)
        # A voxel is the mean of the eight it consists of.
        hu = uniform_filter(on_box(moved, fine), 2)[1::2, 1::2, 1::2] - 1000.0
        self.attenuation, self.bone = np.maximum(hu + 1000.0, 0.0), np.maximum(hu - 120.0, 0.0)

    def scores(self, volume: Array) -> tuple[float, float]:
        """Correlations of a volume (K, J, I) on the cube with attenuation and with bone; 0 for a
        volume that is the same everywhere."""
        flat = volume.ravel()
        if not flat.std() > 0.0:
            return 0.0, 0.0
        both = (np.corrcoef(flat, of.ravel())[0, 1] for of in (self.attenuation, self.bone))
        attenuation, bone = both
        return float(attenuation), float(bone)


@dataclass(frozen=True)
class Scene:
    """X-rays to reconstruct from, and those held out with their true line integrals at 60 keV
    (V, rows, columns), of all tissue and of bone alone."""

    views: tuple[View, ...]
    held: tuple[View, ...]
    truth: Truth
    tissue: Tensor
    bone: Tensor

    @property
    def bone_bright(self) -> bool:
        """Whether the pictures grow brighter with what the beam meets, as whoever looks at them
        sees."""
        both = zip(self.held, self.tissue.numpy(), strict=True)
        ways = [np.corrcoef(view.pixels.ravel(), lines.ravel())[0, 1] for view, lines in both]
        return bool(np.median(ways) > 0.0)

    def spread(self, count: int) -> list[View]:
        """So many of the views, spread over their list."""
        return [self.views[int(n)] for n in np.linspace(0, len(self.views) - 1, count).round()]


def on_box(volume: Volume, box: Box) -> Array:
    """A volume's trilinear values on a box's grid (K, J, I); 0 outside."""
    matrix = np.linalg.inv(volume.index_to_physical) @ box.index_to_world
    ijk = np.indices(box.size[::-1], dtype=np.float64).reshape(3, -1)[::-1]
    where = matrix[:3, :3] @ ijk + matrix[:3, 3:]
    values = map_coordinates(volume.array, where[::-1], order=1, mode="constant")
    return np.asarray(values.reshape(box.size[::-1]), dtype=np.float32)


def simulate_scene(
    patient: Patient, parameters: SimulationParameters, held_out: int, seed: int
) -> Scene:
    """Simulate X-rays (as many as the parameters say), ``held_out`` of them held out."""
    # The spine as one piece, so that the CT is the truth everywhere.
    parameters = replace(parameters, vertebra_deg=0.0, vertebra_mm=0.0)
    simulated = simulate_case(patient.ct, patient.labels, patient.label, parameters, seed)
    said = simulated.truth
    truth = Truth(patient.ct, np.array(said["spine_ct_to_world"]), said["pivot_ct"])
    every = simulated.case.views
    order = np.random.default_rng(seed).permutation(len(every))
    if parameters.path != "arbitrary":  # those held out lie between the others
        order = np.concatenate([order[:held_out], np.sort(order[held_out:])])
    held = tuple(every[n] for n in order[:held_out])
    tissue, bone = true_lines(patient, parameters, seed, [view.camera for view in held])
    rest = tuple(every[n] for n in order[held_out:])
    return Scene(rest, held, truth, tissue, bone)


def true_lines(
    patient: Patient, parameters: SimulationParameters, seed: int, cameras: Sequence[Camera]
) -> tuple[Tensor, Tensor]:
    """Line integrals (V, rows, columns) at 60 keV of all tissue and of bone alone, in what
    `simulate_case` images with this seed: the CT, the trunk that goes on beyond it, and gas. Tools
    of steel are left out."""
    ct, labels, label = patient.ct, patient.labels, patient.label
    generator = np.random.default_rng(seed)
    draw_surface_points(labels, label, _SURFACE_POINTS, generator)
    scene = take_apart(ct, labels)
    around = Surroundings.of(ct, scene)
    drawn = draw_case(parameters, scene.centroids, label, generator, around)
    if drawn.trunk is not None:
        scene = replace(scene, rest=_embed(scene.rest, drawn.ct_to_world[0], drawn.trunk))
    parts = parts_on(scene, "cpu")
    of_soft, of_bone = (float(mass_attenuation(of, _TRUE_KEV)) / 10.0 for of in ("soft", "bone"))
    tissue, bones = [], []
    for camera in cameras:
        if not any(np.array_equal(camera.projection, c.projection) for c in drawn.cameras.values()):
            raise ValueError("this camera is not of the case that was drawn")
        soft, bone = line_integrals(parts, drawn.ct_to_world, camera)
        for *shape, density in drawn.ellipsoids:
            path = ellipsoid_path(camera.source_world, pixel_rays(camera), *shape)
            soft += (path * density).astype(np.float32)
        tissue.append(np.maximum(soft * of_soft + bone * of_bone, 0.0))
        bones.append(bone * of_bone)
    both = (torch.from_numpy(np.stack(lines)).float() for lines in (tissue, bones))
    all_tissue, bone_alone = both
    return all_tissue, bone_alone
