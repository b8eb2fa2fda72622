"""X-rays whose cameras were refined with vertebrae, and the way back to the nominal ones.

An X-ray with a refined camera keeps the nominal one as the attribute ``RadGSReg.BeforeRefined``
(see `xray`), so that a saved scene brings both back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import slicer
from numpy.typing import ArrayLike
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, is_rigid

from .xray import BEFORE_REFINED, XrayGeometry, getGeometry, setGeometry

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode


def isRefined(node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether an X-ray has a refined camera."""
    return node.GetAttribute(BEFORE_REFINED) is not None


def nominalGeometry(node: vtkMRMLScalarVolumeNode) -> XrayGeometry:
    """The geometry of an X-ray as it was before its camera was refined, if it was at all.

    Raises InputError where it has none, or it cannot be read.
    """
    geometry = getGeometry(node)
    said = node.GetAttribute(BEFORE_REFINED)
    if said is None:
        return geometry
    try:
        before = json.loads(said)
        pose = np.array(before["world_to_camera"], dtype=float)
        known = before["camera_covariance"]
        covariance = None if known is None else np.array(known, dtype=float).reshape(9, 9)
        joint = {
            name: np.array(said, dtype=float).reshape(9, 9)
            for name, said in before.get("camera_covariance_with", {}).items()
        }
        if not is_rigid(pose):
            raise ValueError("it is not rigid")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            node.GetName(), f"has a nominal camera that cannot be read ({error})"
        ) from error
    camera = replace(geometry.camera, world_to_camera=pose)
    return replace(
        geometry,
        camera=camera,
        nominal=True,
        cameraCovariance=covariance,
        cameraCovarianceWith=joint,
        roomNominal=before.get("room") == "nominal",
    )


def setRefined(
    node: vtkMRMLScalarVolumeNode,
    worldToCamera: ArrayLike,
    covariance: Array | None,
    isNominal: bool = False,
    isRoomNominal: bool = False,
) -> None:
    """Put a refined camera on an X-ray; the nominal one is kept, also by a second time.

    ``worldToCamera`` (4, 4) LPS mm; ``covariance`` (9, 9) as in the library's `View`;
    ``isNominal``: the refined camera is not to be trusted and counts as nominal itself;
    ``isRoomNominal``: where it is in the room is. Raises InputError where they cannot be used; the
    X-ray is then as it was.
    """
    nominal = nominalGeometry(node)
    pose, before = np.asarray(worldToCamera, dtype=float), nominal.cameraCovariance
    kept = {
        "world_to_camera": nominal.camera.world_to_camera.tolist(),
        "camera_covariance": None if before is None else before.tolist(),
        "camera_covariance_with": {
            name: np.asarray(c).tolist() for name, c in nominal.cameraCovarianceWith.items()
        },
    }
    if nominal.roomNominal:
        kept["room"] = "nominal"
    refined = replace(
        nominal,
        camera=replace(nominal.camera, world_to_camera=pose),
        nominal=isNominal,
        cameraCovariance=covariance,
        cameraCovarianceWith={},
        roomNominal=isRoomNominal,
    )
    with slicer.util.NodeModify(node):
        setGeometry(node, refined)
        node.SetAttribute(BEFORE_REFINED, json.dumps(kept))


def setEdited(node: vtkMRMLScalarVolumeNode, geometry: XrayGeometry) -> None:
    """Put a geometry on an X-ray that a person has changed by a number or two.

    What was refined keeps its nominal camera, unless the person says that it is nominal itself.
    Raises InputError where it cannot be used.
    """
    saysNominal = geometry.nominal and not getGeometry(node).nominal
    kept = None if saysNominal else node.GetAttribute(BEFORE_REFINED)
    with slicer.util.NodeModify(node):
        setGeometry(node, geometry)
        node.SetAttribute(BEFORE_REFINED, kept)


def restoreNominal(
    xrayNodes: Sequence[vtkMRMLScalarVolumeNode],
) -> list[vtkMRMLScalarVolumeNode]:
    """Give X-rays their nominal cameras back; returns those that had refined ones.

    A registration that was made with the refined cameras fits the X-rays no more. Raises
    InputError, with nothing changed, where a nominal camera cannot be read.
    """
    refined = [node for node in xrayNodes if isRefined(node)]
    before = [nominalGeometry(node) for node in refined]
    for node, geometry in zip(refined, before, strict=True):
        setGeometry(node, geometry)
    return refined
