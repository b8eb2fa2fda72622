"""Reading DICOM files without trusting them and without repeating what they say of a patient."""

from pathlib import Path
from typing import Any

import pydicom


def is_dicom_file(path: Path) -> bool:
    """Whether a file starts as DICOM does: with a preamble, or at once with an early element."""
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    if start[128:] == b"DICM":
        return True
    # (0002,00xx) or (0008,00xx), then a value representation or a short length
    early = len(start) > 8 and start[0] in (2, 8) and start[1] == 0 and start[3] == 0
    return early and ((start[4:6].isalpha() and start[4:6].isupper()) or start[6:8] == b"\0\0")


def value_of(dataset: pydicom.Dataset, keyword: str) -> Any:
    """The value of an element; None where it is absent, empty or cannot be parsed."""
    try:
        value = dataset.get(keyword)
        return None if value is None or value == "" else value
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, NotImplementedError):
        return None


def with_syntax(dataset: pydicom.Dataset) -> pydicom.Dataset:
    """The data set with a transfer syntax; where its file has no header, the one it was read by."""
    if "TransferSyntaxUID" not in getattr(dataset, "file_meta", {}):
        dataset.ensure_file_meta()
        explicit = dataset.original_encoding == (False, True)
        dataset.file_meta.TransferSyntaxUID = (
            pydicom.uid.ExplicitVRLittleEndian if explicit else pydicom.uid.ImplicitVRLittleEndian
        )
    return dataset


def number_of_frames(dataset: pydicom.Dataset) -> int:
    """Number of Frames, 1 where it is absent."""
    try:
        return max(int(value_of(dataset, "NumberOfFrames") or 1), 1)
    except (ValueError, TypeError):
        return 1


def frame_value(dataset: pydicom.Dataset, keyword: str, frame: int = 0) -> Any:
    """A value of one frame: from its functional groups, those of all frames, or the data set.

    None where it is in none of them.
    """
    per_frame = value_of(dataset, "PerFrameFunctionalGroupsSequence") or []
    groups = [per_frame[frame]] if 0 <= frame < len(per_frame) else []
    groups += list(value_of(dataset, "SharedFunctionalGroupsSequence") or [])[:1]
    for group in groups:
        for element in group:
            if element.VR == "SQ" and element.value:
                value = value_of(element.value[0], keyword)
                if value is not None:
                    return value
    return value_of(dataset, keyword)
