"""CTs with label maps as public data sets lay them out: VerSe'20, TotalSegmentator, CTSpine1K.

Lumbar vertebrae are taken; numbers of labels are VerSe's, which CTSpine1K has too.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..cases import Ledger, Segmentation, read_itk, same_grid, volume_from_itk
from ..errors import InputError
from ..vertebrae import LABEL_SCHEMES
from .pool import Source
from .readers import vertebrae_of

_NUMBERS = {level: number for number, level in LABEL_SCHEMES["verse"].items()}
_LUMBAR = tuple(number for level, number in _NUMBERS.items() if level.startswith("L"))


def verse_sources(folder: Path, ledger: Ledger | None = None) -> list[Source]:
    """List the lumbar vertebrae of VerSe'20 in its own layout.

    ``rawdata/SUBJECT/*_ct.nii.gz`` with ``derivatives/SUBJECT/*_seg-vert_msk.nii.gz``, in the
    folder itself or in its ``dataset-*`` parts. ``ledger`` as in
    `readers.ct_sources`. Raises InputError where there is none.
    """
    folder = Path(folder)
    parts = [folder, *sorted(folder.glob("dataset-*"))]
    sources: list[Source] = []
    for part in parts:
        for ct_path in sorted(part.glob("rawdata/*/*_ct.nii.gz")):
            stem = ct_path.name.removesuffix("_ct.nii.gz")
            place = part / "derivatives" / ct_path.parent.name
            mask = place / f"{stem}_seg-vert_msk.nii.gz"
            if mask.is_file():
                sources += vertebrae_of(ct_path, mask, _LUMBAR, ledger)
    if not sources:
        raise InputError(
            folder,
            "is not VerSe'20's layout",
            "it has rawdata/SUBJECT/*_ct.nii.gz and derivatives/SUBJECT/*_seg-vert_msk.nii.gz",
        )
    return sources


def totalsegmentator_sources(folder: Path, ledger: Ledger | None = None) -> list[Source]:
    """List the lumbar vertebrae of TotalSegmentator's data set in its own layout.

    ``SUBJECT/ct.nii.gz`` with a mask for each vertebra in ``SUBJECT/segmentations``
    (``vertebrae_L3.nii.gz``), empty where the CT does not show it (Wasserthal et al., 2023).
    ``ledger`` as in `readers.ct_sources`. Raises InputError where there is none.
    """
    folder = Path(folder)
    sources: list[Source] = []
    for ct_path in sorted(folder.glob("*/ct.nii.gz")):
        masks = ct_path.parent / "segmentations"
        if _shows_lumbar(masks, ledger):
            for source in vertebrae_of(ct_path, masks, _LUMBAR, ledger, _joined):
                name = source.name.replace(ct_path.name, ct_path.parent.name)
                sources.append(replace(source, name=name))
    if not sources:
        raise InputError(
            folder,
            "is not TotalSegmentator's layout, or shows no lumbar vertebra",
            "it has SUBJECT/ct.nii.gz and SUBJECT/segmentations/vertebrae_L3.nii.gz",
        )
    return sources


def ctspine1k_sources(folder: Path, ledger: Ledger | None = None) -> list[Source]:
    """List the lumbar vertebrae of CTSpine1K in its own layout.

    ``rawdata/volumes/SET/NAME.nii.gz`` with ``rawdata/labels/SET/NAME_seg.nii.gz`` (Deng et al.,
    2021); the folder may be ``rawdata`` itself. Labels without their CT are passed over. ``ledger``
    as in `readers.ct_sources`. Raises InputError where there is none.
    """
    folder = Path(folder)
    root = folder / "rawdata" if (folder / "rawdata").is_dir() else folder
    sources: list[Source] = []
    for mask in sorted(root.glob("labels/*/*_seg.nii.gz")):
        name = mask.name.removesuffix("_seg.nii.gz")
        ct_path = root / "volumes" / mask.parent.name / f"{name}.nii.gz"
        if ct_path.is_file():
            sources += vertebrae_of(ct_path, mask, _LUMBAR, ledger)
    if not sources:
        raise InputError(
            folder,
            "is not CTSpine1K's layout, or shows no lumbar vertebra",
            "it has rawdata/volumes/SET/NAME.nii.gz and rawdata/labels/SET/NAME_seg.nii.gz",
        )
    return sources


def _shows_lumbar(folder: Path, ledger: Ledger | None) -> bool:
    """Whether one of the lumbar masks is not empty."""
    levels = [level for level, number in _NUMBERS.items() if number in _LUMBAR]
    paths = [folder / f"vertebrae_{level}.nii.gz" for level in levels]
    there = (read_itk(path, ledger, placed=True) for path in paths if path.is_file())
    return any(bool(volume_from_itk(image).array.any()) for image in there)


def _joined(folder: Path, ledger: Ledger | None) -> Segmentation:
    """One label map, in VerSe's numbers, of a folder with a mask for each vertebra; empty where all
    masks are. Raises InputError for masks on different grids."""
    whole = None
    names = [(f"vertebrae_{level}", number) for level, number in _NUMBERS.items()]
    # Of the sacrum there is a mask of its own, whose first part S1 is in later versions.
    for name, number in [*names, ("sacrum", _NUMBERS["S1"])]:
        path = folder / f"{name}.nii.gz"
        if not path.is_file():
            continue
        mask = volume_from_itk(read_itk(path, ledger, placed=True))
        if whole is None:
            whole = mask.with_array(np.zeros(mask.array.shape, np.int32))
        elif not same_grid(mask, whole):
            raise InputError(path, "lies on another grid than the masks beside it")
        np.asarray(whole.array)[np.asarray(mask.array) > 0] = number
    assert whole is not None
    return Segmentation(np.asarray(whole.array)[None], whole.index_to_physical, ())
