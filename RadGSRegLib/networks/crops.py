"""X-rays as the networks see them (math.md section 3, "Decided").

Every view is resampled to a virtual camera that shares the view's source, looks at one point, the
middle of a cubic box, with pixels of one size there, and holds the box's z axis upright. The box's
axes follow the viewing directions. So a network never meets the absolute pose of a C-arm: frames
are named *box*, and `Frame.box_to_world` leads back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..geometry import Camera, invert_rigid

Array = NDArray[np.float64]

SIZE_PX = 128
PIXEL_MM = 1.0
BOX_MM = 128.0

# A direction nearer than this to one of the reference's axes stands for that axis.
_SNAP_DEG = 40.0
CONTRAST_MM = 8.0


@dataclass(frozen=True)
class Frame:
    """Where the box is, and the virtual cameras on it.

    ``box_to_world`` (4, 4) rigid, its origin the middle of the box; ``cameras`` map the box's frame
    to pixels (their ``world_to_camera`` is box_to_camera).
    """

    box_to_world: Array
    cameras: tuple[Camera, ...]

    def intrinsics(self) -> Tensor:
        """(V, 3, 3) float32."""
        return torch.from_numpy(np.stack([c.intrinsic for c in self.cameras])).float()

    def extrinsics(self) -> Tensor:
        """box_to_camera (V, 4, 4) float32."""
        return torch.from_numpy(np.stack([c.world_to_camera for c in self.cameras])).float()


def box_axes(directions_world: ArrayLike, reference: ArrayLike | None = None) -> Array:
    """The rotation (3, 3) from box to world axes that the viewing directions (V, 3) give.

    ``reference`` (3, 3): a rough guess of that rotation, off by tens of degrees at most (world axes
    unless given). A view that looks nearly along one of its x or y axes is taken to look along
    exactly that axis of the box, any other view along its own direction there; the rotation nearest
    to all views is chosen (Kabsch). Raises ValueError for parallel views.
    """
    seen = np.asarray(directions_world, dtype=float)
    seen = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    if len(seen) < 2 or np.linalg.svd(seen)[1][1] < 1e-2:
        raise ValueError("the views are parallel")
    rough = np.eye(3) if reference is None else np.asarray(reference, dtype=float)
    wanted = seen @ rough
    for row in wanted:
        axis = int(np.argmax(np.abs(row[:2])))
        if abs(row[axis]) > np.cos(np.radians(_SNAP_DEG)):
            sign = np.sign(row[axis])
            row[:] = 0.0
            row[axis] = sign
    return np.asarray(Rotation.align_vectors(seen, wanted)[0].as_matrix())


def virtual_camera(
    camera: Camera,
    box_to_world: ArrayLike,
    *,
    size_px: int = SIZE_PX,
    pixel_mm: float = PIXEL_MM,
) -> Camera:
    """A camera in the box's frame with the same source that looks at the box's middle.

    Its image is upright (the box's z axis runs up) and ``pixel_mm`` wide per pixel at the middle.
    Raises ValueError where the source lies on the box's z axis, or in the middle.
    """
    source = invert_rigid(box_to_world) @ np.append(camera.source_world, 1.0)
    depth = float(np.linalg.norm(source[:3]))
    if depth < 1.0:
        raise ValueError("the X-ray source lies in the middle of the box")
    forward = -source[:3] / depth
    right = np.cross(forward, [0.0, 0.0, 1.0])
    if np.linalg.norm(right) < 0.1:
        raise ValueError("a view looks along the spine")
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    pose[2, 3] = depth
    middle = (size_px - 1) / 2.0
    focal = depth / pixel_mm
    intrinsic = np.array([[focal, 0.0, middle], [0.0, focal, middle], [0.0, 0.0, 1.0]])
    return Camera(intrinsic, pose, size_px, size_px)


def make_frame(
    cameras: Sequence[Camera],
    centre_world: ArrayLike,
    reference: ArrayLike | None = None,
    *,
    size_px: int = SIZE_PX,
    pixel_mm: float = PIXEL_MM,
) -> Frame:
    """The box around ``centre_world`` (3,) mm and its virtual cameras; see `box_axes`."""
    box_to_world = np.eye(4)
    centre = np.asarray(centre_world, dtype=float)
    directions = np.stack([centre - c.source_world for c in cameras])
    box_to_world[:3, :3] = box_axes(directions, reference)
    box_to_world[:3, 3] = centre
    return Frame(
        box_to_world,
        tuple(virtual_camera(c, box_to_world, size_px=size_px, pixel_mm=pixel_mm) for c in cameras),
    )


def resample(
    pixels: NDArray[np.float32],
    valid: NDArray[np.bool_],
    camera: Camera,
    box_to_world: ArrayLike,
    virtual: Camera,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A view's pixels (rows, columns) in a virtual camera with the same source, and which are real.

    Exact geometry: cameras with one centre differ by a homography. Smoothed first so far that
    nothing aliases. The second image is 1 where a pixel shows a ``valid`` one, else 0.
    """
    turn = camera.world_to_camera[:3, :3] @ np.asarray(box_to_world, dtype=float)[:3, :3]
    to_real = turn @ virtual.world_to_camera[:3, :3].T
    v, u = np.mgrid[: virtual.rows, : virtual.columns].astype(float)
    rays = np.linalg.solve(virtual.intrinsic, np.stack([u.ravel(), v.ravel(), np.ones(u.size)]))
    real = camera.intrinsic @ (to_real @ rays)
    ahead = real[2] > 1e-9
    place = real[:2] / np.where(ahead, real[2], 1.0)
    step = abs(camera.intrinsic[0, 0] / virtual.intrinsic[0, 0])
    sigma = 0.5 * float(np.sqrt(max(step**2 - 1.0, 0.0)))
    # Only what the crop shows is smoothed.
    shape = np.array(pixels.shape)
    reach = np.stack([place[1], place[0]])[:, ahead]
    low = np.clip(np.floor(reach.min(axis=1, initial=shape.max())) - 8, 0, shape - 2).astype(int)
    high = np.clip(np.ceil(reach.max(axis=1, initial=0)) + 9, low + 2, shape).astype(int)
    part = (slice(low[0], high[0]), slice(low[1], high[1]))
    place = place - low[::-1, None]
    weight: NDArray[np.floating] = valid[part].astype(np.float32)
    values: NDArray[np.floating] = np.where(valid[part], pixels[part], 0.0).astype(np.float32)
    if sigma > 0.2:
        weight = ndimage.gaussian_filter(weight, sigma, mode="constant")
        values = ndimage.gaussian_filter(values, sigma, mode="constant")
    values = values / np.maximum(weight, 1e-3)
    at = [place[1], place[0]]
    image = ndimage.map_coordinates(values, at, order=1, mode="nearest").reshape(u.shape)
    seen = ndimage.map_coordinates(weight, at, order=1, mode="constant").reshape(u.shape)
    return (
        image.astype(np.float32),
        ((seen > 0.7) & ahead.reshape(u.shape)).astype(np.float32),
    )


def pool_views(
    images: Tensor, valid: Tensor, intrinsics: Tensor, factor: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Images and validity (..., H, W) averaged over ``factor`` x ``factor`` pixels, and intrinsics
    (..., 3, 3) of the coarser pictures. Pixels that are not valid do not count."""
    if factor == 1:
        return images, valid, intrinsics
    lead = images.shape[:-2]

    def mean(x: Tensor) -> Tensor:
        flat = torch.nn.functional.avg_pool2d(x.reshape(-1, 1, *x.shape[-2:]), factor)
        return flat.reshape(*lead, *flat.shape[-2:])

    share = mean(valid)
    coarse = intrinsics.clone()
    coarse[..., :2, :] = coarse[..., :2, :] / factor
    coarse[..., :2, 2] = coarse[..., :2, 2] - 0.5 * (factor - 1) / factor
    return mean(images * valid) / share.clamp_min(1e-2), (share > 0.7).to(valid.dtype), coarse


def blur(images: Tensor, sigma_px: float) -> Tensor:
    """Images (..., H, W) under a Gaussian, values beyond the border counting as zero."""
    reach = max(int(np.ceil(2.5 * sigma_px)), 1)
    offset = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offset / sigma_px) ** 2)
    kernel = kernel / kernel.sum()
    flat = images.reshape(-1, 1, *images.shape[-2:])
    flat = torch.nn.functional.conv2d(flat, kernel.view(1, 1, 1, -1), padding=(0, reach))
    flat = torch.nn.functional.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(reach, 0))
    return flat.reshape(images.shape)


def local_contrast(images: Tensor, valid: Tensor, sigma_px: float) -> Tensor:
    """Images (..., H, W) minus their local mean, over their local deviation; zero where invalid.

    The deviation has a floor at a third of its mean over the picture, so that flat places are not
    blown up to noise.
    """
    weight = blur(valid, sigma_px).clamp_min(1e-3)
    mean = blur(images * valid, sigma_px) / weight
    difference = (images - mean) * valid
    variance = blur(difference.square(), sigma_px) / weight
    deviation = variance.sqrt()
    count = valid.sum((-2, -1), keepdim=True).clamp_min(1.0)
    floor = (deviation * valid).sum((-2, -1), keepdim=True) / count / 3.0
    return difference / (deviation + floor + 1e-6)


def standardize(images: Tensor, valid: Tensor, pixel_mm: float) -> Tensor:
    """What the encoder sees of X-rays (..., H, W) with unknown display curve: (..., 2, H, W).

    ``pixel_mm`` is the pixel at the box's middle. First channel: the rank of each valid pixel among
    all of its picture, in [-1, 1], which no monotone curve changes; second: local contrast of that.
    Both turn their sign with the picture's polarity; pixels that are not valid (0 in ``valid``) are
    0.
    """
    flat = torch.where(valid > 0, images, torch.inf).flatten(-2)
    order = flat.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True)
    count = valid.flatten(-2).sum(-1, keepdim=True).clamp_min(2.0)
    rank = (2.0 * order.to(images.dtype) / (count - 1.0) - 1.0).reshape(images.shape)
    rank = rank * valid
    return torch.stack([rank, local_contrast(rank, valid, CONTRAST_MM / pixel_mm)], dim=-3)
