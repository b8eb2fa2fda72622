"""The mean vertebra: the anchors of a model that knows no patient."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from ..gaussians import GaussianCloud, fit_vertebra
from ..geometry import Array, Volume, affine, translation
from ..networks import sample_cube
from ..system import Progress
from . import bounds
from .subjects import Subject

EDGE_MM = 112.0
SPACING_MM = 2.0
_COARSE_MM = 4.0


def mean_vertebra(subjects: Sequence[Subject], progress: Progress | None = None) -> Volume:
    """Average the excess attenuation (1/mm) of subjects in the anchors' axes.

    Each is turned by its ``anchors_to_centred`` and scaled along each axis to the mean size, so
    that the mean keeps a shape instead of a blur.
    """
    report = progress or Progress()
    sizes = []
    for subject in subjects:
        points = subject.surface_points_ct - subject.centre_ct
        sizes.append((points @ subject.anchors_to_centred[:3, :3]).std(axis=0))
    mean_size = np.mean(sizes, axis=0)
    total: NDArray[np.float32] | None = None
    for n, (subject, size) in enumerate(zip(subjects, sizes, strict=True)):
        report(n / len(subjects), "averaging vertebrae")
        axes = subject.anchors_to_centred.copy()
        axes[:3, :3] = axes[:3, :3] @ np.diag(size / mean_size)
        volume = resampled(subject, axes, SPACING_MM)
        total = volume if total is None else total + volume
    assert total is not None
    return Volume((total / len(subjects)).astype(np.float32), index_to_box(SPACING_MM))


def template_cloud(mean: Volume, count: int) -> GaussianCloud:
    """Fit the mean vertebra with at most ``count`` Gaussians, without what is rare."""
    array = np.where(mean.array > bounds.MEAN_SHARE * mean.array.max(), mean.array, 0.0)
    return fit_vertebra(mean.with_array(array.astype(np.float32)), count)


def resampled(subject: Subject, axes: Array, spacing_mm: float) -> NDArray[np.float32]:
    """Put a subject's excess (1/mm) on the anchors' grid; ``axes`` (4, 4): anchors to centred."""
    to_physical = translation(subject.centre_ct)
    to_index = subject.excess.physical_to_index
    matrix = to_index @ to_physical @ axes @ index_to_box(spacing_mm)
    return sample_cube(subject.excess, matrix, spacing_mm, round(EDGE_MM / spacing_mm))


def find_axes(subject: Subject, mean: Volume) -> Array:
    """Find where the mean vertebra's axes are in a subject's centred CT axes (4, 4).

    A CT does not say how its vertebra leans; the pose in which it looks most like the mean one
    does (normalised correlation at 4 mm, Powell from several leans).
    """
    factor = round(_COARSE_MM / SPACING_MM)
    edge = mean.array.shape[0] // factor
    blocks = np.asarray(mean.array, float)[: edge * factor, : edge * factor, : edge * factor]
    coarse = blocks.reshape(edge, factor, edge, factor, edge, factor).mean(axis=(1, 3, 5))
    coarse = ndimage.gaussian_filter(coarse, 1.0)
    reference = coarse - coarse.mean()

    def matrix(numbers: Array) -> Array:
        return affine(Rotation.from_rotvec(0.1 * numbers[:3]).as_matrix(), 2.0 * numbers[3:])

    def cost(numbers: Array) -> float:
        shown = ndimage.gaussian_filter(resampled(subject, matrix(numbers), _COARSE_MM), 1.0)
        shown = shown - shown.mean()
        energy = float(np.sqrt((shown**2).sum() * (reference**2).sum()))
        return -float((shown * reference).sum()) / max(energy, 1e-12)

    starts = [np.array([lean, 0.0, 0.0, 0.0, 0.0, 0.0]) for lean in (-2.0, 0.0, 2.0)]
    best = min(starts, key=cost)
    options = {"maxfev": 400, "xtol": 0.02}
    return matrix(optimize.minimize(cost, best, method="Powell", options=options).x)


def index_to_box(spacing_mm: float) -> Array:
    """Return (4, 4): voxel (i, j, k) of the anchors' grid to mm in the anchors' axes."""
    edge = round(EDGE_MM / spacing_mm)
    out = np.diag([spacing_mm] * 3 + [1.0])
    out[:3, 3] = -spacing_mm * (edge - 1) / 2.0
    return out
