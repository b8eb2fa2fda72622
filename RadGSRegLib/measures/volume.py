"""How good a reconstruction is: SSIM and PSNR of volumes.

SSIM and PSNR follow MONAI's definitions (window 11, Gaussian of sigma 1.5, valid part only, data
range 1; PSNR with peak 1) in float64, without needing MONAI at run time; tests hold the equality.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..geometry import Array, Volume, invert_rigid

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def scale_to_unit(values: ArrayLike) -> Array:
    """Map ``values`` linearly so that the least becomes 0 and the greatest 1 (constant: 0)."""
    array = np.asarray(values, dtype=float)
    low, high = float(array.min()), float(array.max())
    if high <= low:
        return np.zeros_like(array)
    return (array - low) / (high - low)


def ssim(a: ArrayLike, b: ArrayLike) -> float:
    """Return the mean structural similarity of two volumes (K, J, I) of data range 1 (Wang 2004).

    Raises ValueError when the shapes differ or a side is shorter than the window of 11.
    """
    x, y = _pair(a, b)
    if min(x.shape) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs at least {SSIM_WINDOW} voxels along every axis: {x.shape}")
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    kernel = np.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    kernel /= kernel.sum()
    inner = tuple(slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2)) for _ in x.shape)

    def local_mean(values: Array) -> Array:
        for axis in range(values.ndim):
            values = ndimage.correlate1d(values, kernel, axis=axis, mode="nearest")
        return values[inner]

    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x = local_mean(x * x) - mean_x**2
    variance_y = local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float(similarity.mean())


def psnr(a: ArrayLike, b: ArrayLike) -> float:
    """Return the peak signal to noise ratio, dB, of two volumes with peak 1; equal: infinite."""
    x, y = _pair(a, b)
    error = float(np.mean((x - y) ** 2))
    return float("inf") if error == 0.0 else float(-10.0 * np.log10(error))


def resample(
    volume: Volume, like: Volume, frame_to_volume: ArrayLike, *, order: int = 1, outside: float = 0
) -> NDArray[Any]:
    """Resample ``volume`` at the voxels of ``like``.

    ``frame_to_volume`` (4, 4) takes points of the frame ``like`` lies in to ``volume``'s; ``order``
    is the spline's, ``outside`` the value beyond ``volume``.
    """
    matrix = volume.physical_to_index @ np.asarray(frame_to_volume) @ like.index_to_physical
    ijk_to_kji = matrix[:3, :3][::-1, ::-1]
    return np.asarray(
        ndimage.affine_transform(
            volume.array,
            ijk_to_kji,
            offset=matrix[:3, 3][::-1],
            output_shape=like.array.shape,
            order=order,
            mode="constant",
            cval=outside,
        )
    )


def reconstruction_quality(
    reconstruction: Volume, ct: Volume, labels: Volume, label: int, ct_to_world: ArrayLike
) -> dict[str, float]:
    """Return SSIM and PSNR of a reconstruction against the CT's vertebra at its true pose.

    The truth is what the reconstruction stands for: the vertebra's attenuation above soft tissue,
    zero outside it (math.md 2). Both are scaled to [0, 1] on the vertebra's box: the smallest box
    of the reconstruction's grid that holds the moved mask (at least 11 voxels wide). SSIM and PSNR
    are in 3-D, as MONAI defines them (window 11, sigma 1.5; peak 1).

    Args:
        reconstruction: 1/mm, world frame.
        ct: HU.
        labels: on the CT's grid.
        label: the vertebra's value in them.
        ct_to_world: (4, 4), the true pose.

    Returns:
        "ssim" (at most 1) and "psnr_db".

    Raises:
        ValueError: where the vertebra does not lie inside the reconstruction.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.drr import excess_attenuation
        >>> from RadGSRegLib.measures import reconstruction_quality
        >>> excess = excess_attenuation(case.ct, case.labels, case.label, margin_mm=8.0)
        >>> quality = reconstruction_quality(excess, case.ct, case.labels, case.label, np.eye(4))
        >>> round(quality["ssim"], 2)  # the truth itself
        1.0
    """
    # Here, so that errors of poses can be had where there is no torch.
    from ..drr import excess_attenuation

    world_to_ct = invert_rigid(ct_to_world)
    mask = (np.asarray(labels.array) == label).astype(np.float32)
    moved_mask = resample(labels.with_array(mask), reconstruction, world_to_ct) > 0.5
    box = box_of(moved_mask, SSIM_WINDOW)
    truth = resample(excess_attenuation(ct, labels, label), reconstruction, world_to_ct)
    x, y = scale_to_unit(reconstruction.array[box]), scale_to_unit(truth[box])
    return {"ssim": ssim(x, y), "psnr_db": psnr(x, y)}


def box_of(mask: NDArray[np.bool_], least: int = 1) -> tuple[slice, ...]:
    """Return the smallest box around a mask, at least ``least`` voxels wide along every axis."""
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes:
        raise ValueError("the vertebra does not lie inside the volume")
    box = []
    for part, side in zip(boxes[0], mask.shape, strict=True):
        missing = max(0, least - (part.stop - part.start))
        start = max(0, part.start - missing // 2)
        stop = min(side, max(part.stop, start + least))
        box.append(slice(max(0, min(start, stop - least)), stop))
    return tuple(box)


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if x.shape != y.shape:
        raise ValueError(f"shapes differ: {x.shape} and {y.shape}")
    return x, y
