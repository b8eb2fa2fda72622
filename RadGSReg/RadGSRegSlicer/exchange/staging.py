"""A case folder for a child process, uncompressed, piece by piece so that a window stays alive."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import Array, Volume

from ..scene.segments import SegmentLabels, findSegment, labelsOnCt
from .casefolder import patientAxes, startToLps, viewsFromXrays, volumeFromCt

if TYPE_CHECKING:
    from RadGSRegLib.cases import View
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

_PIECE = 2**20  # voxels
CASE = "case.json"
VIEWS = "views.json"
_WAIT_S = 0.01  # how long a step may wait for a thread


@dataclass(frozen=True)
class XrayUse:
    """What of X-rays is written: without ``clicks`` their centres are left out, and with
    ``nominal`` cameras that were refined are written as they were before; there must be ``least``
    of them."""

    clicks: bool = True
    nominal: bool = False
    least: int = 2


_WHOLE = XrayUse()


def stageViews(
    xrayNodes: Sequence[vtkMRMLScalarVolumeNode], folder: Path, use: XrayUse = _WHOLE
) -> Iterator[None]:
    """Write X-rays into an existing folder, while the steps of the iterator returned are taken.

    What cannot be used raises InputError here, before the first step.
    """
    return _writePictures(folder, *_pictures(xrayNodes, use))


def stageCase(
    ctNode: vtkMRMLScalarVolumeNode | None,
    segmentationNode: vtkMRMLSegmentationNode | None,
    segment: str,
    xrayNodes: Sequence[vtkMRMLScalarVolumeNode] | None,
    folder: Path,
    startRas: ArrayLike | None = None,
    use: XrayUse = _WHOLE,
    name: str | None = None,
) -> Iterator[None]:
    """Write a case into an existing folder, a piece at each step of the iterator returned.

    Arguments as `casefolder.writeCase`; ``xrayNodes`` None: a case without X-rays, for what needs
    none. ``name`` is what the vertebra is called in the files, in place of all the segments' own
    names. What cannot be used raises InputError here, before the first step.
    """
    ct = volumeFromCt(ctNode)
    assert ctNode is not None
    if segmentationNode is None:
        raise InputError("segmentation", "none is chosen")
    segmentId = findSegment(segmentationNode, segment)
    pictures = None if xrayNodes is None else _pictures(xrayNodes, use)
    start = None if startRas is None else startToLps(startRas)
    labels = labelsOnCt(segmentationNode, segmentId, ctNode)
    if name is not None:
        labels = replace(labels, names={labels.label: name})
    low, high = ctNode.GetImageData().GetScalarRange()
    whole = np.issubdtype(ct.array.dtype, np.integer) and low >= -(2**15) and high < 2**15
    return _write(folder, ct, np.int16 if whole else np.float32, labels, pictures, start)


def _write(
    folder: Path,
    ct: Volume,
    kind: type,
    labels: SegmentLabels,
    pictures: tuple[list[View], Array | None] | None,
    start: Array | None,
) -> Iterator[None]:
    from RadGSRegLib.cases import write_start

    content: dict[str, object] = {
        "ct": "ct.nrrd",
        "segmentation": "seg.seg.nrrd",
        "label": labels.label,
    }
    if pictures is not None:
        yield from _writePictures(folder, *pictures)
        content["views"] = VIEWS
    yield
    yield from writeNrrd(folder / "ct.nrrd", ct, kind)
    with (folder / "seg.seg.nrrd").open("wb") as file:
        file.write(_header(ct, np.int16, _segmentFields(labels)))
        yield from _pieces(file, labels.counted, np.dtype(np.int16), labels.table)
    if start is not None:
        write_start(folder / "start.json", start)
    (folder / CASE).write_text(json.dumps(content), encoding="utf-8")


def _pictures(
    xrayNodes: Sequence[vtkMRMLScalarVolumeNode], use: XrayUse
) -> tuple[list[View], Array | None]:
    """X-rays as views, and how the patient lies in their world."""
    views = viewsFromXrays(xrayNodes, use.nominal, use.least)
    if not use.clicks:
        views = [replace(view, center_px=None) for view in views]
    return views, patientAxes(xrayNodes)


class _UntilStopped(list["View"]):
    """Views that end with an error where they are not waited for any longer."""

    isStopped = False

    def __iter__(self) -> Iterator[View]:
        for view in super().__iter__():
            if self.isStopped:
                raise Cancelled("cancelled")
            yield view


def _writePictures(folder: Path, views: list[View], axes: Array | None) -> Iterator[None]:
    """Write X-rays on a thread of their own: the views hold copies, so no node is touched there."""
    from RadGSRegLib.cases import write_views

    left, problems = _UntilStopped(views), []

    def write() -> None:
        try:
            write_views(folder, left, axes)
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_WAIT_S)
            yield
    finally:
        left.isStopped = True
        thread.join()
    if problems:
        raise problems[0]


def writeNrrd(path: Path, volume: Volume, kind: type) -> Iterator[None]:
    """Write a volume as ``kind`` (int16 or float32), a piece at each step."""
    with path.open("wb") as file:
        file.write(_header(volume, kind))
        yield from _pieces(file, volume.array, np.dtype(kind), None)


def _pieces(
    file: IO[bytes],
    array: NDArray[np.generic],
    kind: np.dtype[np.generic],
    table: NDArray[np.int16] | None,
) -> Iterator[None]:
    """The voxels, slowest axis first, through a table if there is one."""
    per = max(_PIECE // max(array[0].size, 1), 1)
    for first in range(0, len(array), per):
        piece = array[first : first + per]
        values = piece if table is None else table[piece]
        file.write(np.ascontiguousarray(values, dtype=kind.newbyteorder("<")).tobytes())
        yield


def _header(volume: Volume, kind: type, fields: dict[str, str] | None = None) -> bytes:
    matrix = volume.index_to_physical
    vectors = [",".join(f"{x:.17g}" for x in matrix[:3, column]) for column in range(4)]
    lines = [
        "NRRD0005",
        f"type: {'float' if kind is np.float32 else 'int16'}",
        "dimension: 3",
        "space: left-posterior-superior",
        "sizes: {} {} {}".format(*volume.array.shape[::-1]),
        "space directions: ({}) ({}) ({})".format(*vectors[:3]),
        "kinds: domain domain domain",
        "endian: little",
        "encoding: raw",
        f"space origin: ({vectors[3]})",
        *(f"{key}:={value}" for key, value in (fields or {}).items()),
        "",
        "",
    ]
    return "\n".join(lines).encode()


def _segmentFields(labels: SegmentLabels) -> dict[str, str]:
    """What makes a label map a ``.seg.nrrd``: the names of its segments."""
    size = labels.counted.shape[::-1]
    fields = {"Segmentation_MasterRepresentation": "Binary labelmap"}
    for number, (value, name) in enumerate(sorted(labels.names.items())):
        prefix = f"Segment{number}_"
        fields[f"{prefix}ID"] = f"Segment_{value}"
        fields[f"{prefix}Name"] = " ".join(name.split())
        fields[f"{prefix}LabelValue"] = str(value)
        fields[f"{prefix}Layer"] = "0"
        fields[f"{prefix}Extent"] = " ".join(f"0 {n - 1}" for n in size)
    return fields
