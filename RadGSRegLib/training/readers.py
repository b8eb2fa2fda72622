"""Where vertebrae to train on come from: phantoms, folders of CTs, real X-ray cases."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..cases import (
    Case,
    Ledger,
    Segmentation,
    labels_on_ct,
    patient_of,
    read_case,
    read_ct,
    read_segmentation,
)
from ..errors import InputError
from ..geometry import Rigid, Volume, affine, invert_rigid, is_rigid, transform_points, translation
from ..networks import make_frame, resample_views
from ..phantom import LABELS, make_phantom, random_spine
from ..views import prepare_views
from . import bounds
from .kept import keep, read_kept
from .pool import Simulated, Source
from .samples import Sample, SampleOptions, draw_offset, project_target
from .subjects import Subject, make_subject

ReadLabels = Callable[[Path, Ledger | None], Segmentation]

_SACRUM = 26
_PHANTOM_LEVELS = ("L1", "L2", "L3", "L4", "L5")
_CT_NAME = re.compile(r"(.+?)_ct\.(nii\.gz|nii|mha|nrrd)$")
_MASKS = ("{}_vertebrae", "{}_seg", "{}_seg-vert_msk", "{}_label")


def phantom_sources(
    count: int, seed: int, *, spacing_mm: float = 2.0, folder: Path | None = None
) -> list[Source]:
    """List the lumbar vertebrae of ``count`` random spines (five each), made when needed.

    ``folder`` keeps the CTs, which take seconds to build.
    """
    return [
        Simulated(
            f"phantom {number} {level}",
            partial(_phantom_subject, number, level, spacing_mm, folder),
            axes_known=True,
        )
        for number in range(seed, seed + count)
        for level in _PHANTOM_LEVELS
    ]


def _phantom_subject(
    seed: int, level: str, spacing_mm: float, folder: Path | None, wide: bool
) -> Subject:
    ct, labels, poses = _phantom(seed, spacing_mm, folder)
    subject = make_subject(ct, labels, LABELS[level], f"phantom {seed} {level}", wide=wide)
    local_to_ct = poses[_PHANTOM_LEVELS.index(level)]
    return subject.with_axes(affine(local_to_ct[:3, :3], np.zeros(3)))


def _phantom(
    seed: int, spacing_mm: float, folder: Path | None
) -> tuple[Volume, Volume, NDArray[np.float64]]:
    path = None if folder is None else folder / f"phantom-{seed}-{spacing_mm:g}.npz"
    kept = None if path is None else read_kept(path)
    if kept is not None:
        matrix = kept["index_to_physical"]
        return Volume(kept["ct"], matrix), Volume(kept["labels"], matrix), kept["poses"]
    made = make_phantom(random_spine(seed), spacing_mm, "lumbar")
    poses = np.stack([made.poses[level] for level in _PHANTOM_LEVELS])
    if path is not None:
        arrays = {
            "ct": made.ct.array,
            "labels": made.labels.array,
            "index_to_physical": made.ct.index_to_physical,
            "poses": poses,
        }
        keep(path, arrays)
    return made.ct, made.labels, poses


def ct_sources(folder: Path, ledger: Ledger | None = None) -> list[Source]:
    """List vertebrae of the CTs of a folder: ``NAME_ct.nii.gz`` beside ``NAME_vertebrae.nii.gz``
    (or ``_seg``). All labels that lie wholly inside the CT are taken, but the sacrum's (26).
    ``ledger`` collects remarks, also later, when a CT is read.

    Raises InputError where there is none.
    """
    folder = Path(folder)
    sources: list[Source] = []
    for ct_path in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = _CT_NAME.match(ct_path.name)
        if not name:
            continue
        for mask in _MASKS:
            segmentation = folder / f"{mask.format(name[1])}.{name[2]}"
            if segmentation.is_file():
                sources += vertebrae_of(ct_path, segmentation, None, ledger)
                break
    if not sources:
        raise InputError(folder, "holds no NAME_ct.nii.gz beside a NAME_vertebrae.nii.gz")
    return sources


def vertebrae_of(
    ct_path: Path,
    mask_path: Path,
    wanted: Iterable[int] | None,
    ledger: Ledger | None,
    read: ReadLabels = read_segmentation,
) -> list[Simulated]:
    """List a source per label that is not cut by the border of the CT: those ``wanted``, or all but
    the sacrum's. ``read`` makes a segmentation of what is at ``mask_path``."""
    segmentation = read(mask_path, ledger)
    sources: list[Simulated] = []
    for label in segmentation.values():
        mask = (segmentation.array == label).any(axis=0)
        skipped = label == _SACRUM if wanted is None else label not in wanted
        if skipped or _is_cut(mask):
            continue
        name = f"{ct_path.name} {label}"
        load = partial(_ct_subject, ct_path, mask_path, label, ledger, read)
        sources.append(Simulated(name, load))
    return sources


def _is_cut(mask: NDArray[np.bool_]) -> bool:
    faces = [np.take(mask, end, axis) for axis in range(3) for end in (0, -1)]
    few = int(np.count_nonzero(mask)) < bounds.LEAST_VOXELS
    return few or any(bool(face.any()) for face in faces)


def _ct_subject(
    ct_path: Path,
    mask_path: Path,
    label: int,
    ledger: Ledger | None,
    read: ReadLabels,
    wide: bool,
) -> Subject:
    ct = read_ct(ct_path, ledger)
    segmentation = read(mask_path, ledger)
    labels, value, _ = labels_on_ct(segmentation, label, ct, mask_path, ledger)
    return make_subject(ct, labels, value, f"{ct_path.name} {label}", wide=wide)


@dataclass(frozen=True)
class RealCase:
    """A source whose X-rays are real (or from elsewhere), with a known pose."""

    name: str
    case: Case
    ct_to_world: NDArray[np.float64]
    axes_known: bool = False
    simulated: bool = False

    def subject(self, wide: bool = False) -> Subject:
        """Return the vertebra."""
        case = self.case
        return make_subject(case.ct, case.labels, case.label, self.name, wide=wide)

    def sample(self, subject: Subject, options: SampleOptions, seed: int) -> Sample:
        """Crop its X-rays about a point that is off as clicks are; the same seed gives the same."""
        offset = draw_offset(options, np.random.default_rng([seed, 78]))
        centre = Rigid(self.ct_to_world).apply(subject.centre_ct)
        views = prepare_views(self.case.views)
        frame = make_frame(
            [view.camera for view in views],
            centre + offset,
            size_px=options.size_px,
            pixel_mm=options.pixel_mm,
        )
        images, valid = resample_views(views, [frame])
        ct_to_box = invert_rigid(frame.box_to_world) @ self.ct_to_world
        return Sample(
            images=images[0],
            valid=valid[0],
            targets=project_target(subject.excess, frame, ct_to_box),
            intrinsics=frame.intrinsics(),
            extrinsics=frame.extrinsics(),
            centred_to_box=torch.from_numpy(ct_to_box @ translation(subject.centre_ct)).float(),
            # The others' own poses are not known: as far off as the spine has bent.
            centres=torch.from_numpy(transform_points(ct_to_box, subject.centroids_ct)).float(),
        )


def real_sources(folder: Path) -> list[RealCase]:
    """List the cases of a folder that have a ``truth.json`` with ``ct_to_world`` (4, 4).

    Raises InputError where there is none or a truth is not rigid.
    """
    folder = Path(folder)
    cases = []
    for path in sorted(folder.glob("*/case.json")):
        truth = path.parent / "truth.json"
        if not truth.is_file():
            continue
        try:
            pose = np.asarray(json.loads(truth.read_text(encoding="utf-8"))["ct_to_world"], float)
        except (ValueError, KeyError, TypeError):
            raise InputError(truth, "holds no ct_to_world") from None
        if pose.shape != (4, 4) or not is_rigid(pose):
            raise InputError(truth, "its ct_to_world is not a rigid 4x4")
        cases.append(RealCase(path.parent.name, read_case(path), pose))
    if not cases:
        raise InputError(folder, "holds no case.json beside a truth.json")
    return cases


def folds(groups: Sequence[str], count: int = 5) -> list[list[int]]:
    """Deal cases into ``count`` folds (indices) for cross-validation; a group is never split.

    ``groups`` names each case's patient (`patient_of`), so that no fold is tested on a patient it
    was trained on. Groups are dealt out by size, then name: the same cases give the same folds.
    Raises InputError where there are fewer groups than folds.
    """
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    if len(members) < count:
        raise InputError("folds", f"{len(members)} patients do not make {count} folds")
    out: list[list[int]] = [[] for _ in range(count)]
    for group in sorted(members, key=lambda g: (-len(members[g]), g)):
        min(out, key=len).extend(members[group])
    return [sorted(fold) for fold in out]


def held_out_names(folder: Path) -> list[list[str]]:
    """Name the cases of each fold that the second stage deals `real_sources` of a folder into."""
    sources = real_sources(folder)
    dealt = folds([patient_of(source.case) for source in sources])
    return [[sources[index].name for index in fold] for fold in dealt]
