"""Whether X-rays are of the CT's patient, as far as their DICOM files say so.

What the files say of a patient is compared in memory; nodes keep nothing but the instance's UID, as
Slicer's own volumes do.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from RadGSRegLib.errors import InputError

from ..process.environment import missingPackages

if TYPE_CHECKING:
    from RadGSRegLib.cases import Patient

INSTANCE = "RadGSReg.DicomInstance"
"""The attribute of an X-ray that keeps which DICOM instance it is."""

# By the instance's UID, of files that the database may not know.
_known: dict[str, "Patient | None"] = {}


def rememberFile(node: Any, path: str | os.PathLike[str]) -> None:
    """Have an X-ray's node know which DICOM file it is from; any other file clears that."""
    node.RemoveAttribute(INSTANCE)
    uid = _instance(Path(path))
    if uid:
        from RadGSRegLib.cases import patient_in

        _known[uid] = patient_in(Path(path))
        node.SetAttribute(INSTANCE, uid)


def otherPatients(ctNode: Any, xrayNodes: list[Any]) -> list[str]:
    """Say which X-rays are of another patient than the CT, or than the first X-ray."""
    if not any(node.GetAttribute(INSTANCE) for node in xrayNodes) or missingPackages():
        return []
    from RadGSRegLib.cases import THE_CT, other_patients

    uids = (ctNode.GetAttribute("DICOM.instanceUIDs") or "").split() if ctNode else []
    every = {THE_CT: _patient(uids[0] if uids else "")}
    for node in xrayNodes:
        every[f'the X-ray "{node.GetName()}"'] = _patient(node.GetAttribute(INSTANCE) or "")
    return other_patients({what: said for what, said in every.items() if said is not None})


def _patient(uid: str) -> "Patient | None":
    if uid and uid not in _known:
        database = getattr(slicer, "dicomDatabase", None)
        file = database.fileForInstance(uid) if database is not None else ""
        if not file:
            return None
        from RadGSRegLib.cases import patient_in

        _known[uid] = patient_in(Path(file))
    return _known.get(uid)


def _instance(path: Path) -> str:
    from RadGSRegLib.cases import is_dicom_file, quiet_readers

    if not is_dicom_file(path):
        return ""
    import pydicom

    with quiet_readers():
        try:
            tags = ["SOPInstanceUID"]
            data = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
            return str(data.get("SOPInstanceUID") or "")
        except Exception as error:  # bytes from anywhere make the parser raise anything
            raise InputError(path, "cannot be read as DICOM; is it complete?") from error
