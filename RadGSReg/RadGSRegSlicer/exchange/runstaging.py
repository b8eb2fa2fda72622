"""Runs of X-rays, sequences of volumes, as the case folder of a child process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from RadGSRegLib.errors import InputError

from ..scene.tracksequence import checkRuns, timesOf, xrayShown
from ..scene.xray import isXray
from .casefolder import patientAxes, viewFromXray
from .staging import CASE, VIEWS, stageCase


def xraysOfRuns(xraySequences: Sequence[Any], xrayNodes: Sequence[Any] = ()) -> list[Any]:
    """The X-ray whose geometry is that of each run: the one given, else the one shown.

    Raises InputError where there is none.
    """
    if not xraySequences:
        raise InputError("X-rays", "there is no run", "give a sequence for each view")
    if xrayNodes and len(xrayNodes) != len(xraySequences):
        raise InputError("xrayNodes", "must be as many as the sequences, in their order")
    shown = xrayNodes or [xrayShown(node, node.GetScene()) for node in xraySequences]
    for sequence, node in zip(xraySequences, shown, strict=True):
        if not isXray(node):
            raise InputError(
                sequence.GetName(),
                "has no X-ray geometry",
                "give the X-rays whose geometry it has as xrayNodes",
            )
    return list(shown)


def stageRun(
    inputs: tuple[Any, Any, str],
    xraySequences: Sequence[Any],
    xrayNodes: Sequence[Any],
    folder: Path,
    startRas: Any = None,
) -> Iterator[None]:
    """Write a case whose X-rays are runs into an existing folder, a piece at each step.

    ``inputs``: the CT, the segmentation and the segment; ``xrayNodes`` as `xraysOfRuns` gives them.
    Clicks are left out: which frame they are of is not known. What cannot be used raises InputError
    here, before the first step.
    """
    checkRuns(xraySequences)
    views = [replace(viewFromXray(node), center_px=None) for node in xrayNodes]
    for sequence, view in zip(xraySequences, views, strict=True):
        for n in range(sequence.GetNumberOfDataNodes()):
            _pixels(sequence, n, view.camera.size)
    return _write(
        stageCase(*inputs, None, folder, startRas),
        folder,
        list(xraySequences),
        views,
        patientAxes(xrayNodes),
    )


def _write(
    case: Iterator[None], folder: Path, sequences: list[Any], views: list[Any], axes: Any
) -> Iterator[None]:
    from RadGSRegLib.cases import view_to_json, write_tiff, write_view_entries

    yield from case
    entries = []
    for number, (sequence, view) in enumerate(zip(sequences, views, strict=True)):
        own = folder / f"run{number}"
        own.mkdir()
        for n in range(sequence.GetNumberOfDataNodes()):
            pixels = _pixels(sequence, n, view.camera.size).astype(np.float32)
            write_tiff(pixels, view.pixel_spacing_mm, own / f"{n:05d}.tif")
            yield
        times = timesOf(sequence)
        entry = view_to_json(view, own.name)
        entries.append(entry if times is None else {**entry, "times_s": times})
    write_view_entries(folder / VIEWS, entries, axes)
    content = json.loads((folder / CASE).read_text(encoding="utf-8"))
    (folder / CASE).write_text(json.dumps({**content, "views": VIEWS}), encoding="utf-8")


def _pixels(sequence: Any, number: int, size: tuple[int, int]) -> Any:
    """A frame (rows, columns); InputError where it is no picture of this size."""
    node = sequence.GetNthDataNode(number)
    image = node.GetImageData() if node.IsA("vtkMRMLScalarVolumeNode") else None
    if image is None or image.GetDimensions() != (*size, 1):
        raise InputError(
            sequence.GetName(),
            f"frame {number} is no picture of {size[0]} x {size[1]} pixels",
            "all frames must be as large as the X-ray whose geometry they have",
        )
    return slicer.util.arrayFromVolume(node)[0]
