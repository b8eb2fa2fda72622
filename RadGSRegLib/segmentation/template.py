"""What a vertebra looks like: templates drawn from the phantom's mean anatomy, nothing trained."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from ..geometry import invert_rigid, transform_points
from ..phantom import (
    LABELS,
    SIZES,
    Points,
    SpineParameters,
    joint_surfaces,
    make_phantom,
    sacrum,
    shape_of,
    vertebra_poses,
)
from . import bounds

Array = NDArray[np.float32]

SPACING_MM = 2.0
LOWER_MM = np.array([-58.0, -36.0, -46.0])
SHAPE_XYZ = (59, 57, 47)
LEVELS = ("T12", "L1", "L2", "L3", "L4", "L5")

CLIP_HU = (-120.0, 520.0)
"""What lies beyond tells bone from soft tissue no better, but weighs heavily in a correlation."""


@dataclass(frozen=True)
class Template:
    """A mean vertebra between its neighbours, in its own frame (see `phantom.vertebra`).

    Arrays (Z, Y, X) on a grid of ``SPACING_MM`` that starts at ``LOWER_MM``: ``hu`` the clipped
    appearance; ``target`` and ``others`` signed distances in mm (negative inside) to the vertebra
    and to the nearest other bone; ``body`` (N, 3) mm points inside the vertebral body.
    """

    level: str
    hu: Array
    target: Array
    others: Array
    weight: Array
    body: NDArray[np.float64]


@lru_cache(maxsize=len(LEVELS))
def template(level: str) -> Template:
    """The template of one level, T12 to L5."""
    # Straightened to the level's own frame: turning the whole spine keeps the grid upright.
    vertebrae = {
        name: replace(vertebra, trabecular_hu=110.0)
        for name, vertebra in SpineParameters().vertebrae.items()
    }
    spine = SpineParameters(vertebrae=vertebrae, noise_hu=0.0, roughness_mm=0.0, gas=0)
    home = invert_rigid(vertebra_poses(spine)[level])
    # A move is applied in the spine's frame, before which every vertebra has its own pose.
    moves = dict.fromkeys(vertebra_poses(spine), home)
    upper = LOWER_MM + SPACING_MM * np.array(SHAPE_XYZ)
    phantom = make_phantom(spine, SPACING_MM, (LOWER_MM, upper), moves=moves)
    number = LABELS[level]
    labels = phantom.labels.array
    hu = phantom.ct.array.astype(np.float32)
    bone = (labels == 0) & (hu > 300)  # ribs have no label
    size = SIZES[level]
    half = np.array([0.42 * size.width_upper, 0.42 * size.depth_upper, 0.42 * size.height_anterior])
    steps = np.linspace(-1.0, 1.0, 7)
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    body = cube[(cube[:, :2] ** 2).sum(1) <= 1.0] * half
    target = _exact_near_surface(signed_distance(labels == number, SPACING_MM), spine, level)
    weight = np.ones(target.shape, dtype=np.float32)
    if level == LEVELS[0]:
        # The phantom ends here: what lies above is missing, not soft.
        z = LOWER_MM[2] + SPACING_MM * np.arange(target.shape[0])
        weight[z > 0.5 * size.height_anterior + 2.0] = 0.0
        weight[target < 2.0] = 1.0
    return Template(
        level,
        np.clip(gaussian_filter(hu, 0.4), *CLIP_HU),
        target,
        signed_distance(((labels != 0) & (labels != number)) | bone, SPACING_MM),
        weight,
        body,
    )


def body_half(level: str) -> NDArray[np.float64]:
    """Half the largest width, depth and height (3,) of a level's mean body, mm."""
    size = SIZES[level]
    width = max(size.width_upper, size.width_lower)
    depth = max(size.depth_upper, size.depth_lower)
    return 0.5 * np.array([width, depth, max(size.height_anterior, size.height_posterior)])


def in_body(level: str, at: NDArray[np.float64]) -> bool:
    """Whether a point (3,) of the template's frame is in the body, or in a spur beside it."""
    return bool((np.abs(at) <= body_half(level) + bounds.BODY_MARGIN_MM).all())


def grid_points() -> NDArray[np.float64]:
    """The template's voxel centres (Z, Y, X, 3) as (x, y, z) mm."""
    nx, ny, nz = SHAPE_XYZ
    x, y, z = (LOWER_MM[a] + SPACING_MM * np.arange(n) for a, n in enumerate((nx, ny, nz)))
    zz, yy, xx = np.meshgrid(z, y, x, indexing="ij")
    return np.stack([xx, yy, zz], axis=-1)


def _exact_near_surface(rough: Array, spine: SpineParameters, level: str) -> Array:
    """A vertebra's signed distance, from the phantom's formulas where the surface is near.

    Voxels of 2 mm lose half of what is thin: laminae, processes.
    """
    poses = vertebra_poses(spine)
    grid = grid_points().reshape(-1, 3)
    near = np.flatnonzero(np.abs(rough.ravel()) < 5.0)

    def seen_from(name: str) -> Points:
        return Points.of(transform_points(invert_rigid(poses[name]) @ poses[level], grid[near]))

    index = LEVELS.index(level)
    above = below = None
    if index > 0:
        upper = LEVELS[index - 1]
        above = joint_surfaces(spine.vertebrae[upper], seen_from(upper))[1]
    if index + 1 < len(LEVELS):
        lower = LEVELS[index + 1]
        below = joint_surfaces(spine.vertebrae[lower], seen_from(lower))[0]
    else:
        below = sacrum(spine, seen_from("S1"))[1]
    exact = shape_of(spine.vertebrae[level], Points.of(grid[near]), above, below).distance
    out = rough.ravel().copy()
    out[near] = exact
    return out.reshape(rough.shape)


def signed_distance(mask: NDArray[np.bool_], spacing_mm: float) -> Array:
    """Distance in mm to the mask's surface on an isotropic grid, negative inside."""
    if not mask.any():
        return np.full(mask.shape, 100.0, dtype=np.float32)
    outside = distance_transform_edt(~mask)
    inside = distance_transform_edt(mask)
    # Half a voxel from a voxel's centre to its face.
    distance = np.where(mask, 0.5 - inside, outside - 0.5) * spacing_mm
    return np.asarray(gaussian_filter(distance, 0.5), dtype=np.float32)
