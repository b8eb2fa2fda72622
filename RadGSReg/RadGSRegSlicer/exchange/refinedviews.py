"""Cameras that a registration has refined: from its folder of results to X-rays in the scene."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, is_rigid

from ..scene.refinedcameras import setRefined
from .casefolder import patientAxes, viewsFromXrays

REFINED_VIEWS = "refined_views.json"
_PICTURES = "case"


@dataclass(frozen=True)
class RefinedCamera:
    """The camera of an X-ray: ``worldToCamera`` (4, 4) LPS mm, ``covariance`` (9, 9) or None.

    ``isRefined``: whether it was refined, or held where it had been calibrated.
    """

    name: str
    worldToCamera: Array
    covariance: Array | None
    isRefined: bool


def readCameras(folder: str | os.PathLike[str], count: int) -> list[RefinedCamera]:
    """Read the refined cameras of a folder of results, in the order of its X-rays; none where its
    record says of none: the registration then has the nominal cameras.

    Raises InputError where they are not those of ``count`` X-rays, or cannot be read.
    """
    from RadGSRegLib.cases import read_json_object, read_registration_json

    path = Path(folder) / REFINED_VIEWS
    quality = read_registration_json(Path(folder) / "registration.json").quality
    said = (quality.get("cameras") or {}).get("views")
    if said is None:
        return []
    try:
        cameras = [_camera(entry, said) for entry in read_json_object(path)["views"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, f"holds cameras that cannot be read ({error})") from error
    if len(cameras) != count:
        raise InputError(path, f"holds {len(cameras)} cameras for {count} X-rays")
    return cameras


def _camera(entry: Mapping[str, Any], said: Mapping[str, Any]) -> RefinedCamera:
    pose, covariance = np.array(entry["extrinsic"], dtype=float), entry.get("camera_covariance")
    if not is_rigid(pose):
        raise ValueError("one is not rigid")
    known = None if covariance is None else np.array(covariance, dtype=float).reshape(9, 9)
    name = str(entry["name"])
    return RefinedCamera(name, pose, known, said[name]["refined"] is True)


def useCameras(
    cameras: Sequence[RefinedCamera], xrayNodes: Sequence[slicer.vtkMRMLScalarVolumeNode]
) -> list[str]:
    """Put refined cameras on the X-rays that they are of; returns the names of these X-rays.

    One that is no longer in the scene is left out, and one that was held stays as it is.
    """
    names = []
    for node, camera in zip(xrayNodes, cameras, strict=True):
        if camera.isRefined and node.GetScene() is not None:
            setRefined(node, camera.worldToCamera, camera.covariance)
            names.append(node.GetName())
    return names


def keepPictures(
    folder: str | os.PathLike[str], xrayNodes: Sequence[slicer.vtkMRMLScalarVolumeNode]
) -> None:
    """Put the X-rays, as they were registered, into a folder of results that is kept.

    What its refined cameras name was temporary. Raises InputError where it cannot be written.
    """
    from RadGSRegLib.cases import OutputFolder, read_json_object, write_json, write_views

    if any(node.GetScene() is None for node in xrayNodes):
        return
    content = read_json_object(Path(folder) / REFINED_VIEWS)
    with OutputFolder(folder) as stage:
        pictures = stage / _PICTURES
        pictures.mkdir()
        views = viewsFromXrays(xrayNodes, nominal=True)
        written = read_json_object(write_views(pictures, views, patientAxes(xrayNodes)))
        for entry, of in zip(content["views"], written["views"], strict=True):
            entry["image"] = f"{_PICTURES}/{of['image']}"
        write_json(content, stage / REFINED_VIEWS)
