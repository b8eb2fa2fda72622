"""RTK's Joseph projector, alone and driven by Py-BOBYQA: the strongest simple baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import itk
import numpy as np
import pybobyqa
from numpy.typing import NDArray
from peer_views import DETECTOR_MM, Problem, correlation

from RadGSRegLib.geometry import Camera, Volume, compose_about

Array = NDArray[np.float64]
Similarity = Callable[[Array, Array], float]

if not hasattr(itk, "JosephForwardProjectionImageFilter"):
    raise ImportError("this itk has no RTK")

_KIND = itk.Image[itk.F, 3]
# One unit of every parameter moves the vertebra's rim by about 1 mm.
_UNITS = np.array([np.radians(1.5)] * 3 + [1.0] * 3)
_BOUNDS = np.array([20.0] * 6)
# pixels, first and last trust region (units), most evaluations
_LEVELS = ((32, 6.0, 0.5, 150), (64, 2.0, 0.1, 150), (128, 0.5, 0.02, 150))


class RtkProjector:
    """Line integrals of a moved volume in square cameras of one size (`Turntable.cameras`)."""

    def __init__(self, volume: Volume, cameras: Sequence[Camera]) -> None:
        self.to_physical, self.spacing = volume.index_to_physical, volume.spacing
        self.image = itk.image_from_array(np.ascontiguousarray(volume.array, np.float32))
        self.image.SetSpacing([float(s) for s in self.spacing])
        pixels = cameras[0].columns
        pitch = DETECTOR_MM / float(cameras[0].intrinsic[0, 0])
        geometry = itk.RTK.ThreeDCircularProjectionGeometry.New()
        for camera in cameras:
            right, down, ahead = camera.world_to_camera[:3, :3]
            detector = camera.source_world + pitch * float(camera.intrinsic[0, 0]) * ahead
            vectors = (camera.source_world, detector, right, -down)
            if not geometry.AddProjection(*([float(x) for x in v] for v in vectors)):
                raise ValueError("RTK refuses this geometry")
        stack = itk.image_from_array(np.zeros((len(cameras), pixels, pixels), np.float32))
        stack.SetSpacing([pitch, pitch, 1.0])
        edge = -(pixels - 1) / 2.0 * pitch
        stack.SetOrigin([edge, edge, 0.0])
        self.filter: Any = itk.JosephForwardProjectionImageFilter[_KIND, _KIND].New()
        self.filter.SetInput(0, stack)
        self.filter.SetInput(1, self.image)
        self.filter.SetGeometry(geometry)
        self.filter.InPlaceOff()  # the empty stack is needed again

    def __call__(self, ct_to_world: Array) -> Array:
        """X-rays (views, rows, columns) of the volume at a pose (4, 4)."""
        moved = ct_to_world @ self.to_physical
        self.image.SetOrigin([float(x) for x in moved[:3, 3]])
        direction = np.ascontiguousarray(moved[:3, :3] / self.spacing)
        self.image.SetDirection(itk.matrix_from_array(direction))
        self.filter.Modified()  # the same pose again is computed again
        self.filter.Update()
        return np.asarray(itk.array_view_from_image(self.filter.GetOutput())[:, ::-1])


def register(problem: Problem, similarity: Similarity = correlation) -> Array:
    """Multi-resolution, without derivatives; ``similarity`` of a rendering and an X-ray."""
    total = np.zeros(6)
    for pixels, begin, end, evaluations in _LEVELS:
        cameras, radiographs = problem.windows(pixels)
        project = RtkProjector(problem.volume, cameras)

        def cost(
            x: Array, project: RtkProjector = project, radiographs: list[Array] = radiographs
        ) -> float:
            images = project(compose_about(problem.start, x * _UNITS, problem.centre_ct))
            pairs = zip(images, radiographs, strict=True)
            return 1.0 - float(np.mean([similarity(a, b) for a, b in pairs]))

        found = pybobyqa.solve(
            cost,
            total,
            bounds=(-_BOUNDS, _BOUNDS),
            rhobeg=begin,
            rhoend=end,
            maxfun=evaluations,
            do_logging=False,
            print_progress=False,
        )
        total = np.clip(found.x, -_BOUNDS, _BOUNDS)  # rounding may leave it a little outside
    return np.asarray(compose_about(problem.start, total * _UNITS, problem.centre_ct))
