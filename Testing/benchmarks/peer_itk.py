"""itk-twoprojectionregistration: its Siddon-Jacobs projector, and its Powell registration."""

from __future__ import annotations

from typing import Any

import itk
import numpy as np
from numpy.typing import NDArray
from peer_views import Problem, Turntable
from scipy.spatial.transform import Rotation

from RadGSRegLib.geometry import Volume, transform_points

Array = NDArray[np.float64]

if not hasattr(itk, "TwoProjectionImageRegistrationMethod"):
    raise ImportError("this itk has no TwoProjectionImageRegistrationMethod")

_KIND = itk.Image[itk.F, 3]
# pixels and first step (degrees and mm) of each level; the rest as in the module's own example
_LEVELS = ((64, 4.0), (128, 1.0))


class Stage:
    """A volume in the frame that the module wants: its corner at the origin, axes along the grid's.

    The module's transform takes that grid frame to the turntable's, whose isocentre it puts at
    ``centre`` (3,) mm.
    """

    def __init__(self, volume: Volume, centre_ct: Array, table: Turntable) -> None:
        array, matrix = volume.array, volume.index_to_physical.copy()
        if np.linalg.det(matrix[:3, :3]) < 0:  # a mirrored grid has no rotation: turn it over
            array = array[::-1]
            matrix[:3, 3] += matrix[:3, 2] * (len(array) - 1)
            matrix[:3, 2] *= -1.0
        flipped = Volume(array, matrix)
        self.image = itk.image_from_array(np.ascontiguousarray(array, np.float32))
        self.image.SetSpacing([float(s) for s in flipped.spacing])
        self.image.SetOrigin([0.0, 0.0, 0.0])
        self.table = table
        self.grid_to_ct = np.eye(4)
        self.grid_to_ct[:3, :3] = flipped.direction
        self.grid_to_ct[:3, 3] = flipped.physical_points([[-0.5, -0.5, -0.5]])[0]
        self.centre = transform_points(np.linalg.inv(self.grid_to_ct), centre_ct[None])[0]
        self.world_to_table = np.eye(4)
        self.world_to_table[:3, :3] = table.world_to_table
        offset = self.centre - table.world_to_table @ table.isocentre
        self.world_to_table[:3, 3] = offset

    def transform(self, ct_to_world: Array) -> Any:
        """The module's transform for a pose (4, 4)."""
        matrix = self.world_to_table @ ct_to_world @ self.grid_to_ct
        x, y, z = Rotation.from_matrix(matrix[:3, :3]).as_euler("xyz")
        out = itk.Euler3DTransform[itk.D].New()
        out.SetComputeZYX(True)
        out.SetCenter([float(c) for c in self.centre])
        out.SetRotation(float(x), float(y), float(z))
        shift = transform_points(matrix, self.centre[None])[0] - self.centre
        out.SetTranslation([float(t) for t in shift])
        return out

    def pose(self, transform: Any) -> Array:
        """``ct_to_world`` (4, 4) of the module's transform."""
        matrix = np.eye(4)
        matrix[:3, :3] = itk.array_from_matrix(transform.GetMatrix())
        matrix[:3, 3] = list(transform.GetOffset())
        to_world = np.linalg.inv(self.world_to_table)
        return np.asarray(to_world @ matrix @ np.linalg.inv(self.grid_to_ct))

    def interpolator(self, view: int, transform: Any) -> Any:
        """The ray caster of one view."""
        out = itk.SiddonJacobsRayCastInterpolateImageFunction[_KIND, itk.D].New()
        out.SetProjectionAngle(self.table.angles[view])
        out.SetFocalPointToIsocenterDistance(self.table.distances_mm[view])
        out.SetThreshold(0.0)
        out.SetTransform(transform)
        out.SetInputImage(self.image)
        out.Initialize()
        return out

    def radiograph(self, view: int, pixels: Array, pixel_mm: float) -> Any:
        """An X-ray as the module wants it: 0 to 255, rows running up, at the isocentre's depth."""
        span = max(float(np.ptp(pixels)), 1e-12)
        scaled = (pixels - pixels.min()) / span * 255.0
        out = itk.image_from_array(np.ascontiguousarray(scaled[None, ::-1], np.float32))
        out.SetSpacing([pixel_mm, pixel_mm, 1.0])
        out.SetOrigin(self._corner(view, len(pixels), pixel_mm))
        return out

    def _corner(self, view: int, pixels: int, pixel_mm: float) -> list[float]:
        edge = -(pixels - 1) / 2.0 * pixel_mm
        return [edge, edge, -self.table.distances_mm[view]]

    def project(self, view: int, ct_to_world: Array, pixels: int, pixel_mm: float) -> Array:
        """Line integrals (rows, columns) of the volume at a pose.

        The module sums in fractions of the ray from the source to the pixel; here in mm.
        """
        return np.asarray(self.projector(view, ct_to_world, pixels, pixel_mm)())

    def projector(self, view: int, ct_to_world: Array, pixels: int, pixel_mm: float) -> Any:
        """`project` with everything but the ray casting done once."""
        filter_: Any = itk.ResampleImageFilter[_KIND, _KIND].New()
        filter_.SetInput(self.image)
        filter_.SetInterpolator(self.interpolator(view, self.transform(ct_to_world)))
        filter_.SetTransform(itk.IdentityTransform[itk.D, 3].New())
        filter_.SetSize([pixels, pixels, 1])
        filter_.SetOutputSpacing([pixel_mm, pixel_mm, 1.0])
        corner = self._corner(view, pixels, pixel_mm)
        filter_.SetOutputOrigin(corner)
        across = np.arange(pixels) * pixel_mm + corner[0]
        lengths = np.sqrt(across[None] ** 2 + across[:, None] ** 2 + corner[2] ** 2)

        def run() -> Array:
            filter_.Modified()
            filter_.Update()
            return np.asarray(itk.array_view_from_image(filter_.GetOutput())[0, ::-1] * lengths)

        return run


def register(problem: Problem, field_mm: float = 128.0) -> Array:
    """Two levels of the module's own example: Powell on the normalised correlation."""
    stage = Stage(problem.volume, problem.centre_ct, problem.table)
    pose = problem.start
    for pixels, step in _LEVELS:
        _, radiographs = problem.windows(pixels, field_mm)
        transform = stage.transform(pose)
        metric = itk.NormalizedCorrelationTwoImageToOneImageMetric[_KIND, _KIND].New()
        metric.SetComputeGradient(False)
        metric.SetSubtractMean(True)
        optimizer = itk.PowellOptimizer.New()
        optimizer.SetMaximize(False)
        optimizer.SetMaximumIteration(10)
        optimizer.SetMaximumLineIteration(4)
        optimizer.SetStepLength(step)
        optimizer.SetStepTolerance(0.02)
        optimizer.SetValueTolerance(0.001)
        scales = itk.OptimizerParameters[itk.D]([180.0 / np.pi] * 3 + [1.0] * 3)
        optimizer.SetScales(scales)
        registration = itk.TwoProjectionImageRegistrationMethod[_KIND, _KIND].New()
        registration.SetMetric(metric)
        registration.SetOptimizer(optimizer)
        registration.SetTransform(transform)
        first, second = (
            stage.radiograph(n, pixels_, field_mm / pixels) for n, pixels_ in enumerate(radiographs)
        )
        registration.SetFixedImage1(first)
        registration.SetFixedImage2(second)
        registration.SetFixedImageRegion1(first.GetBufferedRegion())
        registration.SetFixedImageRegion2(second.GetBufferedRegion())
        registration.SetMovingImage(stage.image)
        registration.SetInterpolator1(stage.interpolator(0, transform))
        registration.SetInterpolator2(stage.interpolator(1, transform))
        registration.SetInitialTransformParameters(transform.GetParameters())
        registration.StartRegistration()
        transform.SetParameters(registration.GetLastTransformParameters())
        pose = stage.pose(transform)
    return pose
