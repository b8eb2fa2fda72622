"""Names of vertebrae over the X-rays: a point on each picture, and what the names rest on.

What the library said of the vertebrae is kept with the points of every X-ray, so that names can be
corrected in a scene that was saved, and where one of the X-rays is gone.
"""

import json
from collections.abc import Sequence

import numpy as np
import slicer
import vtk
from RadGSRegLib.errors import InputError
from RadGSRegLib.spine import SpineLevels, levels_from_record, levels_to_record
from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLScalarVolumeNode, vtkMRMLScene

from .drawing import pixelsToRas
from .starts import markupsOf, pixelInPicture
from .xray import getGeometry

NAMES_ROLE = "RadGSReg.LevelNames"
CORRECTION_ROLE = "RadGSReg.LevelCorrection"
RECORD = "RadGSReg.Levels"
UNKNOWN = "?"

# A click farther from every name than this, mm at the vertebra, means none of them.
_REACH_MM = 25.0
_MAGNIFICATION = 1.5


def showLevels(xrayNodes: Sequence[vtkMRMLScalarVolumeNode], spine: SpineLevels) -> None:
    """Draw the names over every X-ray that shows the vertebrae, and keep what they rest on."""
    record = json.dumps(levels_to_record(spine))
    for node in xrayNodes:
        markups = markupsOf(node, NAMES_ROLE, f"Levels in {node.GetName()}")
        markups.RemoveAllControlPoints()
        # A name that is dragged away would lie.
        markups.SetLocked(True)
        geometry = getGeometry(node)
        for vertebra in spine.vertebrae:
            pixel = geometry.camera.project(vertebra.place_world[None])[0]
            if not _inside(pixel, geometry.camera.size):
                continue
            place = pixelsToRas(node, [pixel])[0]
            point = markups.AddControlPointWorld(vtk.vtkVector3d(*place))
            markups.SetNthControlPointLabel(point, vertebra.level or UNKNOWN)
        markups.SetAttribute(RECORD, record)


def levelsOf(xrayNodes: Sequence[vtkMRMLScalarVolumeNode]) -> SpineLevels | None:
    """What is said of the vertebrae in X-rays, by the first that has it, or None."""
    for node in xrayNodes:
        markups = markupsOf(node, NAMES_ROLE)
        record = None if markups is None else markups.GetAttribute(RECORD)
        if record:
            try:
                return levels_from_record(json.loads(record))
            except ValueError:
                return None
    return None


def namesIn(scene: vtkMRMLScene) -> list[vtkMRMLMarkupsFiducialNode]:
    """The names in a scene, also those whose X-ray is not used any more or is gone."""
    nodes = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode", scene)
    return [node for node in nodes if node.GetAttribute(RECORD)]


def forgetLevels(scene: vtkMRMLScene) -> None:
    """Take all names out of a scene."""
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)
    corrections = [markupsOf(node, CORRECTION_ROLE) for node in volumes]
    for node in [*namesIn(scene), *corrections]:
        if node is not None:
            scene.RemoveNode(node)


def nearestVertebra(
    xrayNode: vtkMRMLScalarVolumeNode, pointRas: Sequence[float], spine: SpineLevels
) -> int:
    """Which vertebra of a spine is meant by a point (3,), RAS mm, on an X-ray's picture.

    Raises InputError where the point is not in the picture, or no vertebra is near.
    """
    geometry = getGeometry(xrayNode)
    clicked = np.array(pixelInPicture(xrayNode, pointRas))
    away = [
        float(np.linalg.norm(geometry.camera.project(v.place_world[None])[0] - clicked))
        for v in spine.vertebrae
    ]
    reach = _REACH_MM * _MAGNIFICATION / geometry.pixelSpacing[0]
    if not away or min(away) > reach:
        raise InputError(xrayNode.GetName(), "no vertebra is near the point", "click on a name")
    return int(np.argmin(away))


def placesInXrays(
    xrayNodes: Sequence[vtkMRMLScalarVolumeNode], placeWorld: np.ndarray
) -> dict[str, tuple[float, float]]:
    """The pixels (column, row) of a place (3,), LPS mm, by the IDs of the X-rays that show it."""
    out = {}
    for node in xrayNodes:
        camera = getGeometry(node).camera
        column, row = camera.project(placeWorld[None])[0]
        if _inside((column, row), camera.size):
            out[node.GetID()] = (float(column), float(row))
    return out


def _inside(pixel: Sequence[float], size: tuple[int, int]) -> bool:
    return all(-0.5 <= x <= n - 0.5 for x, n in zip(pixel, size, strict=True))
