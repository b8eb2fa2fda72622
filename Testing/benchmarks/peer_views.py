"""What our baselines are given: the same X-rays, seen by cameras that all of them can express.

itk-twoprojectionregistration knows only sources that turn about one axis, with the detector
perpendicular to the line from the source through the isocentre. Any two views are of that kind once
the isocentre lies on the vertebra and the images are resampled: rotating a camera about its source
is a homography of the image. All peers get these resampled windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from RadGSRegLib.cases import Case
from RadGSRegLib.drr import excess_attenuation
from RadGSRegLib.evaluation import start_from_clicks
from RadGSRegLib.geometry import Camera, Volume, transform_points
from RadGSRegLib.views import prepare_view

Array = NDArray[np.float64]

# Where the peers' detectors stand: behind the vertebra. The image does not depend on it.
DETECTOR_MM = 1200.0


@dataclass(frozen=True)
class Turntable:
    """Two sources that turn about ``isocentre`` (3,) mm in the plane of all three points.

    ``world_to_table`` (3, 3): x and y in that plane with y from the first source to the isocentre,
    z its normal. Source n stands ``distances_mm[n]`` from the isocentre, turned by ``angles[n]``
    (rad, about z).
    """

    isocentre: Array
    world_to_table: Array
    angles: tuple[float, ...]
    distances_mm: tuple[float, ...]

    @classmethod
    def of(cls, sources: Sequence[Array], isocentre: Array) -> Turntable:
        """The turntable of two sources (world mm)."""
        first, second = (np.asarray(s) - isocentre for s in sources)
        normal = np.cross(first, second)
        normal /= np.linalg.norm(normal)
        ahead = -first / np.linalg.norm(first)
        rotation = np.stack([np.cross(ahead, normal), ahead, normal])
        angles, distances = [], []
        for arm in (first, second):
            x, y, _ = rotation @ arm
            angles.append(float(np.arctan2(x, -y)))
            distances.append(float(np.linalg.norm(arm)))
        return cls(np.asarray(isocentre, float), rotation, tuple(angles), tuple(distances))

    def cameras(self, pixels: int, pixel_mm: float) -> list[Camera]:
        """Square cameras that look at the isocentre; ``pixel_mm`` wide pixels there."""
        middle = (pixels - 1) / 2.0
        out = []
        for angle, distance in zip(self.angles, self.distances_mm, strict=True):
            c, s = np.cos(angle), np.sin(angle)
            right, ahead = np.array([c, s, 0.0]), np.array([-s, c, 0.0])
            rotation = np.stack([right, [0.0, 0.0, -1.0], ahead]) @ self.world_to_table
            pose = np.eye(4)
            pose[:3, :3] = rotation
            pose[:3, 3] = [0.0, 0.0, distance] - rotation @ self.isocentre
            focal = distance / pixel_mm
            intrinsic = np.array([[focal, 0.0, middle], [0.0, focal, middle], [0.0, 0.0, 1.0]])
            out.append(Camera(intrinsic, pose, pixels, pixels))
        return out


def resample(image: Array, camera: Camera, wanted: Camera) -> Array:
    """An X-ray of ``camera`` as a camera with the same source would see it, blurred to its pixels.

    Pixels that the X-ray does not reach repeat its edge.
    """
    rows, columns = np.mgrid[0 : wanted.rows, 0 : wanted.columns].reshape(2, -1).astype(float)
    directions = wanted.ray_directions(np.column_stack([columns, rows]))
    u, v = camera.project(camera.source_world + directions).T
    step = camera.intrinsic[0, 0] / wanted.intrinsic[0, 0]
    smooth = ndimage.gaussian_filter(image, max(0.4 * abs(step) - 0.3, 0.0))
    sampled = ndimage.map_coordinates(smooth, [v, u], order=1, mode="nearest")
    return np.asarray(sampled.reshape(wanted.rows, wanted.columns), dtype=float)


def correlation(a: Array, b: Array) -> float:
    """Normalised correlation; 0 where either is constant."""
    x, y = a - a.mean(), b - b.mean()
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float((x * y).sum()) / norm if norm > 0 else 0.0


def _whitened(patches: Array) -> Array:
    flat = patches.reshape(-1, patches.shape[-2] * patches.shape[-1])
    flat = flat - flat.mean(1, keepdims=True)
    return np.asarray(flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-8))


def local_similarity(a: Array, b: Array, size: int = 13) -> float:
    """Normalised correlation of whole images, of patches, and of their gradients: what xvr uses."""
    step = size // 2
    parts = [correlation(a, b)]
    windows = (
        np.lib.stride_tricks.sliding_window_view(x, (size, size))[::step, ::step] for x in (a, b)
    )
    one, other = (_whitened(w) for w in windows)
    parts.append(float((one * other).sum(1).mean()))
    slopes = [correlation(np.diff(a, axis=n), np.diff(b, axis=n)) for n in (0, 1)]
    return 0.25 * sum(parts) + 0.25 * sum(slopes)


@dataclass(frozen=True)
class Problem:
    """One registration as the peers get it: the vertebra, where it starts, and the X-rays."""

    volume: Volume
    centre_ct: Array
    start: Array
    table: Turntable
    radiographs: tuple[Array, ...]
    originals: tuple[Camera, ...]

    @classmethod
    def of(cls, case: Case, bone_is_bright: Sequence[bool]) -> Problem:
        """From the case's first two views; the clicks and parallel axes are the start.

        Collimated and burnt-out pixels are filled with the median of the others, and the polarity
        is given (the peers would have to guess it): bone is bright afterwards.
        """
        start = start_from_clicks(case)
        if start is None:
            raise ValueError("the peers start from clicks in two views")
        centre = case.centre_ct
        images, cameras = [], []
        for view, bright in zip(case.views[:2], bone_is_bright, strict=True):
            prepared = prepare_view(view)
            pixels = np.where(
                prepared.valid, prepared.pixels, np.median(prepared.pixels[prepared.valid])
            )
            images.append(pixels if bright else -pixels)
            cameras.append(view.camera)
        isocentre = transform_points(start, centre[None])[0]
        table = Turntable.of([c.source_world for c in cameras], isocentre)
        volume = excess_attenuation(case.ct, case.labels, case.label)
        return cls(volume, centre, start, table, tuple(images), tuple(cameras))

    def windows(self, pixels: int, field_mm: float = 128.0) -> tuple[list[Camera], list[Array]]:
        """Cameras and X-rays of ``field_mm`` at the vertebra, ``pixels`` square."""
        cameras = self.table.cameras(pixels, field_mm / pixels)
        views = zip(self.radiographs, self.originals, cameras, strict=True)
        return cameras, [resample(image, camera, wanted) for image, camera, wanted in views]
