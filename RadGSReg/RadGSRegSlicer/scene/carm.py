"""An X-ray's geometry as the numbers of a C-arm, and back.

The C-arm turns about an isocentre. Its angles are those of `RadGSRegLib.geometry.carm`; what they
leave open, where the isocentre lies across the beam, is kept in ``lateral``.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import (
    Array,
    Camera,
    affine,
    carm_angles,
    carm_rotation,
    pinhole,
    triangulate,
)
from slicer import vtkMRMLScalarVolumeNode

from .xray import XrayGeometry

ISOCENTRE = "RadGSReg.Isocentre"
"""The attribute of an X-ray's node that holds its isocentre, LPS mm (JSON)."""


@dataclass(frozen=True)
class CArm:
    """Distances in mm, angles in degrees, ``spacing`` (column, row) mm, ``principal`` in pixels.

    ``isocentre`` (3,) is in LPS mm, ``lateral`` (2,) how far it lies off the beam's axis, along the
    camera's x and y. ``mirrored``: the picture is seen facing the source (or upside down).
    """

    sourceDetector: float
    sourcePatient: float
    primary: float
    secondary: float
    roll: float = 0.0
    spacing: tuple[float, float] = (0.5, 0.5)
    principal: tuple[float, float] = (0.0, 0.0)
    isocentre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    lateral: tuple[float, float] = (0.0, 0.0)
    mirrored: bool = False

    @classmethod
    def of(cls, geometry: XrayGeometry, isocentre: ArrayLike | None = None) -> Self:
        """The numbers of a geometry, with its isocentre (3,) LPS mm if one is known.

        Without one, it is taken to lie on the beam's axis at 0.7 of the way to the detector.
        """
        camera = geometry.camera
        intrinsic = camera.intrinsic
        distance = abs(float(intrinsic[0, 0])) * geometry.pixelSpacing[0]
        if isocentre is None:
            isocentre = camera.source_world + 0.7 * distance * camera.view_direction_world
        point = np.asarray(isocentre, dtype=float)
        inCamera = camera.world_to_camera[:3, :3] @ point + camera.world_to_camera[:3, 3]
        angles = carm_angles(camera)
        return cls(
            sourceDetector=distance,
            sourcePatient=float(inCamera[2]),
            primary=angles.primary_deg,
            secondary=angles.secondary_deg,
            roll=angles.roll_deg,
            spacing=(geometry.pixelSpacing[0], distance / abs(float(intrinsic[1, 1]))),
            principal=(float(intrinsic[0, 2]), float(intrinsic[1, 2])),
            isocentre=(float(point[0]), float(point[1]), float(point[2])),
            lateral=(float(inCamera[0]), float(inCamera[1])),
            mirrored=bool(intrinsic[0, 0] < 0),
        )

    def camera(self, columns: int, rows: int) -> Camera:
        """The camera of these numbers. Raises InputError where they make no sense."""
        if not 0 < self.sourcePatient < self.sourceDetector:
            raise InputError(
                "C-arm",
                f"the patient ({self.sourcePatient:g} mm from the source) must be between the "
                f"source and the detector ({self.sourceDetector:g} mm)",
            )
        if min(self.spacing) <= 0:
            raise InputError("C-arm", "the pixel spacing must be positive")
        fx = self.sourceDetector / self.spacing[0]
        fy = self.sourceDetector / self.spacing[1]
        intrinsic = pinhole((-fx if self.mirrored else fx, fy), self.principal)
        c, s = np.cos(np.radians(self.roll)), np.sin(np.radians(self.roll))
        turn = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
        rotation = turn @ carm_rotation(self.primary, self.secondary)
        shift = [*self.lateral, self.sourcePatient] - rotation @ self.isocentre
        return Camera(intrinsic, affine(rotation, shift), columns, rows)

    def applied(self, geometry: XrayGeometry) -> XrayGeometry:
        """A geometry with these numbers; what they do not say (intensity, centre) stays."""
        camera = self.camera(*geometry.camera.size)
        return replace(geometry, camera=camera, pixelSpacing=self.spacing)


def nominalCArm(columns: int, rows: int, spacing: tuple[float, float] | None = None) -> CArm:
    """A usual C-arm looking from the back to the chest, for an image that says nothing."""
    step = spacing or (300.0 / max(columns, rows),) * 2
    return CArm(1000.0, 700.0, 0.0, 0.0, 0.0, step, ((columns - 1) / 2.0, (rows - 1) / 2.0))


def isocentre(node: vtkMRMLScalarVolumeNode) -> Array | None:
    """The isocentre (3,) LPS mm that was set for an X-ray's node, or None."""
    text = node.GetAttribute(ISOCENTRE)
    if text is None:
        return None
    try:
        point = np.array(json.loads(text), dtype=float)
    except (ValueError, TypeError):
        return None
    return point if point.shape == (3,) and np.isfinite(point).all() else None


def setIsocentre(node: vtkMRMLScalarVolumeNode, point: Sequence[float]) -> None:
    """Remember the isocentre (3,) LPS mm that an X-ray's C-arm turns about."""
    node.SetAttribute(ISOCENTRE, json.dumps([float(x) for x in point]))


def commonIsocentre(geometries: Sequence[XrayGeometry]) -> Array | None:
    """The point (3,) LPS mm nearest to the beams' axes; None for fewer than two, or parallel ones.

    None too where it is not in front of every detector, as for views that do not look at one place.
    """
    cameras = [geometry.camera for geometry in geometries]
    feet: list[Any] = [camera.intrinsic[:2, 2] for camera in cameras]
    try:
        point, _ = triangulate(cameras, feet)
    except ValueError:
        return None
    for geometry in geometries:
        camera = geometry.camera
        depth = (camera.world_to_camera[:3, :3] @ point + camera.world_to_camera[:3, 3])[2]
        if not 0 < depth < abs(camera.intrinsic[0, 0]) * geometry.pixelSpacing[0]:
            return None
    return point
