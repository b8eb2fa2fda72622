"""The segmentation of the CT: label maps and Slicer's segmentations."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Array, Volume
from ..segmentnames import (
    LEVEL_TAG,
    choose_segment,
    contradicts_itself,
    levels_by_scheme,
    scheme_remedy,
)
from ..vertebrae import SNOMED_CODES, vertebra_level
from . import bounds
from .dicom_file import is_dicom_file
from .dicom_seg import read_dicom_segmentation
from .hounsfield import check_bone
from .itk_image import as_3d, check_axes, itk_index_to_physical, read_itk, same_grid, volume_to_itk
from .json_input import did_you_mean, existing_file
from .ledger import Ledger
from .patients import remember_patient
from .segments import Segment, Segmentation
from .tiff_stack import is_stack, labels_of_stack


def _segments_of(image: sitk.Image, path: Path) -> tuple[Segment, ...]:
    """Slicer's SegmentN_* header fields."""
    keys = set(image.GetMetaDataKeys())
    titles = [re.fullmatch(r"Segment(\d+)_(ID|Name)", key) for key in keys]
    by_kind = {kind: {int(m[1]) for m in titles if m and m[2] == kind} for kind in ("ID", "Name")}
    numbers = sorted(by_kind["ID"] or by_kind["Name"])

    def field(number: int, name: str, default: str) -> str:
        key = f"Segment{number}_{name}"
        return str(image.GetMetaData(key)).strip() if key in keys else default

    def whole(number: int, name: str, default: str) -> int:
        text = field(number, name, default)
        if not re.fullmatch(r"-?\d{1,9}", text):
            raise InputError(path, f"has '{text}' as Segment{number}_{name}, not a whole number")
        return int(text)

    out = []
    for number in numbers:
        tags = field(number, "Tags", "")
        codes = [c for c in re.findall(r"SCT\^(\d+)\^", tags) if c in SNOMED_CODES.values()]
        said = re.search(rf"(?:^|\|){re.escape(LEVEL_TAG)}:([^|]*)", tags)
        out.append(
            Segment(
                name=field(number, "Name", f"Segment_{number + 1}"),
                identifier=field(number, "ID", f"Segment_{number + 1}"),
                value=whole(number, "LabelValue", str(number + 1)),
                layer=whole(number, "Layer", "0"),
                code=codes[0] if codes else "",
                said=vertebra_level(said[1] if said else "") or "",
            )
        )
    return tuple(out)


def read_segmentation(
    path: Path, ledger: Ledger | None = None, stacked_ct: Volume | None = None
) -> Segmentation:
    """A label map (NIfTI, NRRD, MHA), a ``.seg.nrrd`` or a DICOM SEG, also with overlaps.

    Where the CT is a TIFF stack (``stacked_ct``), so may be the label map, with the same voxels.
    Raises InputError for what is missing, unreadable, sheared, not whole numbers, or empty.
    """
    path = Path(path)
    if stacked_ct is not None and path.exists() and is_stack(path):
        labels = labels_of_stack(path, stacked_ct, ledger)
        return _label_map(labels.array, labels.index_to_physical, (), path)
    path = existing_file(path)
    if is_dicom_file(path):
        if ledger is not None:
            remember_patient(ledger, "the segmentation", path)
        return read_dicom_segmentation(path, ledger)
    image = read_itk(path, ledger, placed=True)
    segments = _segments_of(image, path)
    image = as_3d(image, path, "a segmentation")
    matrix = itk_index_to_physical(image)
    check_axes(matrix, path)
    array: NDArray[Any] = sitk.GetArrayFromImage(image)
    if ledger is not None:
        ledger.add_file(path)
    return _label_map(array, matrix, segments, path)


def _label_map(
    array: NDArray[Any], matrix: Array, segments: tuple[Segment, ...], path: Path
) -> Segmentation:
    """The checked segmentation of a label map (K, J, I[, layers])."""
    if array.ndim == 4 and not segments:
        raise InputError(path, "is a colour or vector image, no label map")
    array = np.moveaxis(array, 3, 0) if array.ndim == 4 else array[None]
    if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.round(array))).all():
        raise InputError(path, "is no label map: it holds values that are not whole numbers")
    if array.min() < 0 or len(np.unique(array)) > bounds.MOST_LABELS:
        raise InputError(path, "is no label map: it holds negative or very many different values")
    if not array.any():
        raise InputError(path, "is empty: no voxel has a label")
    wrong = [s.name for s in segments if not 0 <= s.layer < len(array)]
    if wrong:
        raise InputError(path, f'puts segment "{wrong[0]}" on a layer that the file does not have')
    return Segmentation(array.astype(np.int32), matrix, segments)


def _describe(segmentation: Segmentation) -> str:
    if segmentation.segments:
        there = [f"{s.value} ({s.name})" for s in segmentation.segments]
    else:
        there = [str(value) for value in segmentation.values()]
    return ", ".join(there[:40]) + (", ..." if len(there) > 40 else "")


def named_by_scheme(segmentation: Segmentation, scheme: str, path: Path) -> Segmentation:
    """The segmentation with levels as names, by a scheme's numbers (`LABEL_SCHEMES`).

    Only segments without a name of their own get one. Raises InputError for an unknown scheme and
    for names that contradict it.
    """
    segments = segmentation.segments or tuple(_nameless(segmentation))
    known = levels_by_scheme([(s, s.value) for s in segments], scheme, path)
    named = [replace(s, name=level or s.name) for s, level in zip(segments, known, strict=True)]
    return replace(segmentation, segments=tuple(named))


def _nameless(segmentation: Segmentation) -> list[Segment]:
    return [Segment(str(value), str(value), value, 0) for value in segmentation.values()]


def find_segment(segmentation: Segmentation, label: int | str, path: Path) -> Segment:
    """The segment that ``label`` (a number or a name) means.

    A vertebra's name is looked for in codes, ids and names (`choose_segment`), which must agree.
    Raises InputError, listing what is there, if nothing or more than one thing fits.
    """
    segments = segmentation.segments
    if isinstance(label, str) and label.strip().isdigit():
        named = [s for s in segments if label.strip() in (s.name, s.identifier)]
        if len(named) == 1:
            return named[0]
        label = int(label)
    if isinstance(label, int):
        return _numbered(segmentation, label, path)
    remedy = f"correct the segment, or choose by number: {_describe(segmentation)}"
    chosen = choose_segment(segments, label, path, remedy)
    if chosen is not None:
        return chosen
    values = segmentation.values()
    scheme = scheme_remedy(label, values, '"label_scheme": "{}"')
    if not segments:
        raise InputError(
            path,
            f'holds labels without names, so "{label}" cannot be found in it',
            "; ".join(
                filter(None, (scheme, f"give a number; the labels are: {_describe(segmentation)}"))
            ),
        )
    candidates = [s.name for s in segments] + [s.identifier for s in segments]
    raise InputError(
        path,
        f'has no segment "{label}"; the segments are: {_describe(segmentation)}'
        f"{did_you_mean(label, candidates)}",
        scheme,
    )


def _numbered(segmentation: Segmentation, label: int, path: Path) -> Segment:
    segments = segmentation.segments
    having = [s for s in segments or _nameless(segmentation) if s.value == label]
    if len(having) > 1:
        names = ", ".join(s.name for s in having)
        raise InputError(path, f"uses label {label} for {names}", "choose by name")
    if not having:
        kind = "segments" if segments else "labels"
        there = _describe(segmentation)
        raise InputError(path, f"has no label {label}; the {kind} are: {there}")
    return having[0]


def _flatten(segmentation: Segmentation, chosen: Segment) -> tuple[Volume, int, dict[int, str]]:
    """One label map out of all layers; where segments overlap, the chosen one has the voxel."""
    segments = segmentation.segments
    matrix = segmentation.index_to_physical
    if not segments:
        return Volume(segmentation.array[0], matrix), chosen.value, {}
    values = [s.value for s in segments]
    if len(set(values)) < len(values) or 0 in values:
        values = list(range(1, len(segments) + 1))
    names = {value: s.name for value, s in zip(values, segments, strict=True)}
    out = np.zeros(segmentation.array.shape[1:], np.int32)
    number = values[segments.index(chosen)]
    for value, s in (*zip(values, segments, strict=True), (number, chosen)):
        out[segmentation.array[s.layer] == s.value] = value
    return Volume(out, matrix), number, names


def label_mask(segmentation: Segmentation, label: int | str, path: Path) -> Volume:
    """1 (uint8) in the segment that ``label`` (a number or a name) means, else 0, on its own grid.

    Raises InputError where the label is not there.
    """
    chosen = find_segment(segmentation, label, path)
    inside = segmentation.array[chosen.layer] == chosen.value
    if not inside.any():
        raise InputError(path, f'has no voxel of "{chosen.name}"')
    return Volume(inside.astype(np.uint8), segmentation.index_to_physical)


def labels_on_ct(
    segmentation: Segmentation,
    label: int | str,
    ct: Volume,
    path: Path,
    ledger: Ledger | None = None,
) -> tuple[Volume, int, dict[int, str]]:
    """The label map (K, J, I) int32 on the CT's grid, the chosen label's number, and all names.

    Where the grids differ the labels are resampled (nearest neighbour). Raises InputError where the
    label is not there, or has too few voxels inside the CT to be a vertebra.
    """
    chosen = find_segment(segmentation, label, path)
    if contradicts_itself(chosen) and ledger is not None:
        ledger.note(f"{path.name}: different vertebrae are said of label {chosen.value}")
    volume, value, names = _flatten(segmentation, chosen)
    title = f'"{chosen.name}"' if segmentation.segments else f"label {value}"
    before = int((volume.array == value).sum())
    if before == 0:
        raise InputError(path, f"has no voxel of {title}")
    if not same_grid(volume, ct):
        cell = abs(np.linalg.det(volume.index_to_physical[:3, :3]))
        resampled = sitk.Resample(
            volume_to_itk(volume),
            volume_to_itk(Volume(ct.array.astype(np.float32, copy=False), ct.index_to_physical)),
            sitk.Transform(),
            sitk.sitkNearestNeighbor,
            0,
        )
        volume = ct.with_array(sitk.GetArrayFromImage(resampled))
        after = int((volume.array == value).sum())
        if after == 0:
            raise InputError(
                path,
                f"does not overlap the CT: no voxel of {title} lies inside it",
                "is it a segmentation of this CT?",
            )
        kept = after * abs(np.linalg.det(ct.index_to_physical[:3, :3])) / (before * cell)
        if kept < bounds.LEAST_INSIDE and ledger is not None:
            ledger.note(f"{path.name}: about {1 - kept:.0%} of {title} lies outside the CT")
    else:
        volume = Volume(volume.array, ct.index_to_physical)
    inside = volume.array == value
    if int(inside.sum()) < bounds.LEAST_VOXELS:
        raise InputError(path, f"has too few voxels of {title} to be a vertebra")
    check_bone(ct.array[inside], title, path)
    return volume, value, names
