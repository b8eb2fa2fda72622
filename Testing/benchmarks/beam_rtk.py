"""RTK's SART and FDK of simulated X-rays, for `bench_beam`.

Both see the patient in voxels of 4 mm of a cube of 400 mm, in RTK's own frame, whose y axis is the
one that a C-arm turns about. FDK is meant for a full circle. RTK accepts other paths and weights
their views by the gaps between their angles about that axis (Parker's weights for a short scan made
25 arbitrary views of a trunk worse: attenuation 0.12 instead of 0.43).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import itk
import numpy as np
from numpy.typing import ArrayLike, NDArray

from RadGSRegLib.cases import View
from RadGSRegLib.geometry import Volume
from RadGSRegLib.reconstruction import Box, cube

if not hasattr(itk, "SARTConeBeamReconstructionFilter"):
    raise ImportError("this itk has no RTK")

Array = NDArray[np.float32]
_REGION_MM, _VOXEL_MM = 400.0, 4.0
_SART_ROUNDS, _SART_STEP = 10, 0.3
# Of a trunk wider than the pictures: rows go on smoothly by this share of their width.
_FDK_PAD = 1.0
_KIND = itk.Image[itk.F, 3]
# Named here, so that their libraries are loaded with this module.
_SART = itk.SARTConeBeamReconstructionFilter[_KIND, _KIND]
_FDK = itk.FDKConeBeamReconstructionFilter[_KIND]
# The world's z, from feet to head, is RTK's y.
_WORLD_TO_RTK = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


def _projections(views: Sequence[View], lines: Array) -> tuple[Any, Any]:
    """Square views of one size, with their line integrals, as RTK's stack and geometry."""
    geometry = itk.RTK.ThreeDCircularProjectionGeometry.New()
    pixels, pitch = views[0].camera.columns, views[0].pixel_spacing_mm[0]
    for view in views:
        camera = view.camera
        right, down, ahead = camera.world_to_camera[:3, :3]
        foot = camera.source_world + pitch * camera.intrinsic[0, 0] * ahead
        middle = ((pixels - 1) / 2.0 - camera.intrinsic[:2, 2]) * pitch
        detector = foot + middle[0] * right + middle[1] * down
        vectors = (_WORLD_TO_RTK @ v for v in (camera.source_world, detector, right, -down))
        if not geometry.AddProjection(*([float(x) for x in v] for v in vectors)):
            raise ValueError("RTK refuses this geometry")
    stack = itk.image_from_array(np.ascontiguousarray(lines[:, ::-1], np.float32))
    stack.SetSpacing([pitch, pitch, 1.0])
    edge = -(pixels - 1) / 2.0 * pitch
    stack.SetOrigin([edge, edge, 0.0])
    return stack, geometry


def _empty(centre_world: ArrayLike) -> tuple[Any, Box]:
    """RTK's empty volume, and its grid in RTK's frame."""
    region = cube(_WORLD_TO_RTK @ np.asarray(centre_world), _REGION_MM, _VOXEL_MM)
    start = itk.image_from_array(np.zeros(region.size[::-1], np.float32))
    start.SetSpacing([_VOXEL_MM] * 3)
    start.SetOrigin([float(x) for x in region.index_to_world[:3, 3]])
    return start, region


def _in_world(image: Any, region: Box) -> Volume:
    back = np.eye(4)
    back[:3, :3] = _WORLD_TO_RTK.T
    voxels = np.array(itk.array_view_from_image(image), np.float32)
    return Volume(voxels, back @ region.index_to_world)


def sart(views: Sequence[View], lines: Array, centre_world: ArrayLike) -> Volume:
    """RTK's SART of line integrals (V, rows, columns), never negative, in the world."""
    stack, geometry = _projections(views, lines)
    start, region = _empty(centre_world)
    method = _SART.New()
    method.SetInput(0, start)
    method.SetInput(1, stack)
    method.SetGeometry(geometry)
    method.SetNumberOfIterations(_SART_ROUNDS)
    method.SetLambda(_SART_STEP)
    method.SetEnforcePositivity(True)
    method.Update()
    return _in_world(method.GetOutput(), region)


def fdk(views: Sequence[View], lines: Array, centre_world: ArrayLike) -> Volume:
    """RTK's FDK of line integrals (V, rows, columns), in the world."""
    stack, geometry = _projections(views, lines)
    start, region = _empty(centre_world)
    method = _FDK.New()
    method.SetInput(0, start)
    method.SetInput(1, stack)
    method.SetGeometry(geometry)
    method.GetRampFilter().SetTruncationCorrection(_FDK_PAD)
    method.Update()
    return _in_world(method.GetOutput(), region)
