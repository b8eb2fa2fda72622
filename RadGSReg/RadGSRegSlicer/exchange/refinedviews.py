"""Cameras that a registration has refined: from its folder of results to X-rays in the scene."""

from __future__ import annotations

import json
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
from .casefolder import forgetTogether, patientAxes, viewsFromXrays

REFINED_VIEWS = "refined_views.json"
_PICTURES = "case"


@dataclass(frozen=True)
class RefinedCamera:
    """The camera of an X-ray: ``worldToCamera`` (4, 4) LPS mm, ``covariance`` (9, 9) or None.

    ``isRefined``: whether it was refined, or held where it had been calibrated. ``isNominal``: it
    is not to be trusted and counts as nominal; ``isRoomNominal``: where it is in the room is.
    """

    name: str
    worldToCamera: Array
    covariance: Array | None
    isRefined: bool
    isNominal: bool = False
    isRoomNominal: bool = False


def readCameras(
    folder: str | os.PathLike[str], count: int, of: Path | None = None
) -> list[RefinedCamera]:
    """Read the refined cameras of a folder of results, in the order of its X-rays; none where its
    record says of none: the registration then has the nominal cameras.

    ``of``: the folder of the vertebra whose record that is, where they are several. Raises
    InputError where they are not those of ``count`` X-rays, or cannot be read.
    """
    from RadGSRegLib.cases import read_json_object, read_registration_json

    path = Path(folder) / REFINED_VIEWS
    quality = read_registration_json((of or Path(folder)) / "registration.json").quality
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
    isRefined = said[name]["refined"] is True
    isNominal, isRoomNominal = entry.get("nominal") is True, entry.get("room") == "nominal"
    return RefinedCamera(name, pose, known, isRefined, isNominal, isRoomNominal)


def useCameras(
    cameras: Sequence[RefinedCamera], xrayNodes: Sequence[slicer.vtkMRMLScalarVolumeNode]
) -> list[str]:
    """Put refined cameras on the X-rays that they are of; returns the names of these X-rays.

    One that is no longer in the scene is left out, and one that was held stays as it is.
    """
    taken = []
    for node, camera in zip(xrayNodes, cameras, strict=True):
        if camera.isRefined and node.GetScene() is not None:
            isNominal, isRoomNominal = camera.isNominal, camera.isRoomNominal
            setRefined(node, camera.worldToCamera, camera.covariance, isNominal, isRoomNominal)
            taken.append(node)
    forgetTogether(taken)
    return [node.GetName() for node in taken]


def keptPictures(folder: str | os.PathLike[str] | None) -> list[Path]:
    """The files that `keepPictures` has put into a folder of results; none where there are none."""
    if folder is None:
        return []
    pictures = Path(folder) / _PICTURES
    try:
        content = json.loads((Path(folder) / REFINED_VIEWS).read_text(encoding="utf-8"))
        named = [Path(folder) / str(entry["image"]) for entry in content["views"]]
    except (OSError, ValueError, TypeError, KeyError):
        return []
    own = [path for path in named if path.parent == pictures]
    return [*own, pictures / "views.json"] if own else []


def forgetCameras(folder: str | os.PathLike[str], pictures: Sequence[Path]) -> None:
    """Remove the refined cameras from a folder of results, and these pictures of theirs.

    Raises OSError where they cannot be removed.
    """
    (Path(folder) / REFINED_VIEWS).unlink(missing_ok=True)
    for path in pictures:
        path.unlink(missing_ok=True)
    for inside in {path.parent for path in pictures}:
        if inside.is_dir() and not any(inside.iterdir()):
            inside.rmdir()


def keepPictures(
    folder: str | os.PathLike[str], xrayNodes: Sequence[slicer.vtkMRMLScalarVolumeNode]
) -> None:
    """Put the X-rays, as they were registered, into a folder of results that is kept.

    What its refined cameras name was temporary. Raises InputError where it cannot be written, or an
    X-ray is no longer in the scene.
    """
    from RadGSRegLib.cases import OutputFolder, read_json_object, write_json, write_views

    if any(node.GetScene() is None for node in xrayNodes):
        raise InputError(REFINED_VIEWS, "is not kept, as an X-ray is no longer in the scene")
    content = read_json_object(Path(folder) / REFINED_VIEWS)
    with OutputFolder(folder) as stage:
        pictures = stage / _PICTURES
        pictures.mkdir()
        views = viewsFromXrays(xrayNodes, nominal=True)
        written = read_json_object(write_views(pictures, views, patientAxes(xrayNodes)))
        for entry, of in zip(content["views"], written["views"], strict=True):
            entry["image"] = f"{_PICTURES}/{of['image']}"
        write_json(content, stage / REFINED_VIEWS)
