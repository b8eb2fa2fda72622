"""``case.json`` and ``start.json``: the whole input of one registration."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import ArrayLike

from ..errors import InputError
from ..geometry import THREE_DECIMALS, Array, Volume, is_rigid
from ..vertebrae import LABEL_SCHEMES
from .ct import read_ct
from .itk_image import place_like, volume_to_itk, write_itk
from .json_input import Fields, read_json_object
from .labels import labels_on_ct, named_by_scheme, read_segmentation
from .ledger import Ledger
from .patient_axes import PARALLEL
from .patients import note_other_patients
from .tiff_stack import StackPlace
from .types import Case, CtCase, View
from .views import read_views_with_axes, write_views

_KEYS = {"ct", "segmentation", "label", "label_scheme", "views", "series"}
_STACK_KEYS = {"ct_spacing_mm", "ct_axes", "ct_rescale"}


def is_views_file(path: Path) -> bool:
    """Whether a file is a ``views.json`` rather than a ``case.json``; InputError if neither."""
    data = read_json_object(Path(path))
    if isinstance(data.get("views"), list):
        return True
    if "ct" in data or isinstance(data.get("views"), str):
        return False
    raise InputError(path, "is neither a case.json nor a views.json")


def read_case(path: Path, least: int = 2) -> Case:
    """Read the case that a ``case.json`` describes (docs/files.md).

    Beyond the contract, ``series`` (a DICOM SeriesNumber) chooses among several CT volumes of one
    folder, and ``label_scheme`` says what the numbers of a label map mean.

    Args:
        path: the ``case.json``, or a folder that holds one; paths in it are relative to the file.
        least: how many X-rays there must be.

    Returns:
        The CT (HU), the segmentation on the CT's grid, the label, and the X-rays with cameras.

    Raises:
        InputError: one sentence that names the file, for anything missing or invalid.

    Example:
        >>> from pathlib import Path
        >>> from RadGSRegLib.cases import read_case
        >>> case = read_case(Path(folder) / "case.json")
        >>> [view.name for view in case.views]
        ['AP', 'LA']
        >>> case.ct.array.shape == case.mask.shape
        True
    """
    return case_with(path, partial(read_views_with_axes, least=least))


def views_path(path: Path) -> Path:
    """Return the file of the X-rays that a ``case.json``, or a folder with one, names; a
    ``views.json`` itself. Nothing else of the case is looked at.

    Raises InputError where it is neither, or the file is missing.
    """
    path = Path(path)
    if path.is_dir() and (path / "case.json").is_file():
        path = path / "case.json"
    if is_views_file(path):
        return path
    views = Fields(path, read_json_object(path)).path("views")
    if not views.exists():
        raise InputError(views, f"does not exist (mentioned in {path.name})")
    return views


def read_ct_case(path: Path) -> CtCase:
    """`read_case` for what needs no X-rays: ``views`` may be missing and is not looked at."""
    return _read(path, ("ct", "segmentation"))[0]


ViewsReader = Callable[[Path, Ledger], tuple[tuple[View, ...], Array | None]]
"""Reads a ``views.json``: X-rays, and the patient's axes."""


def case_with(path: Path, read_views: ViewsReader) -> Case:
    """`read_case` with X-rays that ``read_views`` reads."""
    known, views, axes = _read(path, ("ct", "segmentation", "views"), read_views)
    rest = {f.name: getattr(known, f.name) for f in dataclasses.fields(known)}
    return Case(views=views, patient_axes=axes, **rest)


def _read(
    path: Path, needed: tuple[str, ...], read_views: ViewsReader = read_views_with_axes
) -> tuple[CtCase, tuple[View, ...], Array | None]:
    """What is known before the operation, and the X-rays with the patient's axes if needed."""
    path = Path(path)
    if path.is_dir() and (path / "case.json").is_file():
        path = path / "case.json"
    fields = Fields(path, read_json_object(path))
    if isinstance(fields.data.get("views"), list):
        fields.refuse("is a views.json, not a case.json", "a CT and a segmentation are needed")
    ledger = Ledger()
    ledger.add_file(path)
    for note in fields.note_unknown(_KEYS | _STACK_KEYS):
        ledger.note(note)
    label = fields.need("label")
    if isinstance(label, bool) or not isinstance(label, int | str) or not str(label).strip():
        fields.refuse('"label" must be a whole number or a segment\'s name')
    scheme = fields.text("label_scheme") if "label_scheme" in fields else None
    if scheme is not None and scheme not in LABEL_SCHEMES:
        fields.refuse(f'"label_scheme" is "{scheme}"', f"use one of {', '.join(LABEL_SCHEMES)}")
    paths = {key: fields.path(key) for key in needed}
    for mentioned in paths.values():
        if not mentioned.exists():
            raise InputError(mentioned, f"does not exist (mentioned in {path.name})")
    views: tuple[View, ...] = ()
    axes: Array | None = PARALLEL
    if "views" in paths:
        views, axes = read_views(paths["views"], ledger)
    series = fields.integer("series") if "series" in fields else None
    stack = _stack_place(fields)
    ct = read_ct(paths["ct"], ledger, series, stack)
    segmentation = read_segmentation(paths["segmentation"], ledger, ct if stack else None)
    if scheme is not None:
        segmentation = named_by_scheme(segmentation, scheme, paths["segmentation"])
    labels, value, names = labels_on_ct(segmentation, label, ct, paths["segmentation"], ledger)
    note_other_patients(ledger)
    known = CtCase(
        ct=ct,
        labels=labels,
        label=value,
        label_names=names,
        inputs=ledger.inputs,
        notes=tuple(ledger.notes),
    )
    return known, views, axes


def _stack_place(fields: Fields) -> StackPlace | None:
    """How a CT that is a TIFF stack lies, where the case says so."""
    if "ct_spacing_mm" not in fields:
        for key in ("ct_axes", "ct_rescale"):
            if key in fields:
                fields.refuse(f'has "{key}" but no "ct_spacing_mm"', "both are of a TIFF stack")
        return None
    x, y, z = fields.numbers("ct_spacing_mm", (3,))
    axes = fields.text("ct_axes") if "ct_axes" in fields else "LPS"
    slope, intercept = fields.numbers("ct_rescale", (2,)) if "ct_rescale" in fields else (1.0, 0.0)
    try:
        return StackPlace((float(x), float(y), float(z)), axes, float(slope), float(intercept))
    except ValueError as error:
        fields.refuse(str(error))


def patient_of(case: CtCase) -> str:
    """A name for the patient of a case that says nothing about him: the digest of the CT."""
    return hashlib.sha256(np.ascontiguousarray(case.ct.array).tobytes()).hexdigest()[:16]


def read_start(path: Path) -> Array:
    """``ct_to_world`` (4, 4) of a ``start.json``, made exactly rigid.

    InputError unless it is rigid to three decimals.
    """
    path = Path(path)
    return Fields(path, read_json_object(path)).rigid("ct_to_world", THREE_DECIMALS)


def write_start(path: Path, ct_to_world: ArrayLike) -> None:
    """Write a ``start.json``. Raises ValueError unless the matrix (4, 4) is rigid."""
    matrix = np.asarray(ct_to_world, dtype=float)
    if not is_rigid(matrix):
        raise ValueError("ct_to_world must be a rigid 4x4")
    text = json.dumps({"ct_to_world": matrix.tolist()}, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_segmentation(path: Path, labels: Volume, names: dict[int, str] | None = None) -> None:
    """Write a label map; to ``.seg.nrrd`` with the names of its segments, as Slicer reads them."""
    array = np.asarray(labels.array)
    kind = np.uint8 if array.max(initial=0) < 256 else np.uint16
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.astype(kind)))
    place_like(image, labels)
    if path.name.endswith(".seg.nrrd"):
        values = [int(v) for v in np.unique(array) if v != 0]
        for number, value in enumerate(values):
            name = (names or {}).get(value, f"label {value}")
            prefix = f"Segment{number}_"
            image.SetMetaData(prefix + "ID", f"Segment_{value}")
            image.SetMetaData(prefix + "Name", name)
            image.SetMetaData(prefix + "LabelValue", str(value))
            image.SetMetaData(prefix + "Layer", "0")
            image.SetMetaData(prefix + "Extent", " ".join(f"0 {n - 1}" for n in labels.size))
        image.SetMetaData("Segmentation_MasterRepresentation", "Binary labelmap")
    write_itk(image, path)


def write_case(
    folder: Path,
    ct: Volume,
    labels: Volume,
    label: int,
    views: Sequence[View],
    label_names: dict[int, str] | None = None,
    start_ct_to_world: ArrayLike | None = None,
    patient_axes: Array | None = PARALLEL,
) -> Path:
    """Write a case in the form of the contract (docs/files.md).

    Use it inside an `OutputFolder`, so that the case appears whole.

    Args:
        folder: an existing folder.
        ct: HU; stored as int16 if all values are whole, as float32 otherwise.
        labels: the label map, on any grid.
        label: the vertebra's value in it.
        views: two X-rays or more.
        label_names: names by value; with them the segmentation is a ``seg.seg.nrrd``, without a
            ``seg.nii.gz``.
        start_ct_to_world: an approximate pose (4, 4), written as ``start.json``.
        patient_axes: as in `Case`: (3, 3), or None where the patient may lie in any way.

    Returns:
        The path of ``case.json``.

    Raises:
        ValueError: for a start that is not rigid.

    Example:
        >>> from pathlib import Path
        >>> from RadGSRegLib.cases import OutputFolder, read_case, write_case
        >>> with OutputFolder(Path(folder) / "copy") as stage:
        ...     path = write_case(stage, case.ct, case.labels, case.label, case.views)
        >>> read_case(Path(folder) / "copy").label == case.label
        True
    """
    folder = Path(folder)
    array = ct.array
    whole = bool((array == np.round(array)).all() and np.abs(array).max() < 2**15)
    stored = ct.with_array(array.astype(np.int16 if whole else np.float32))
    write_itk(volume_to_itk(stored), folder / "ct.nii.gz")
    segmentation = "seg.seg.nrrd" if label_names else "seg.nii.gz"
    write_segmentation(folder / segmentation, labels, label_names)
    write_views(folder, views, patient_axes)
    if start_ct_to_world is not None:
        write_start(folder / "start.json", start_ct_to_world)
    path = folder / "case.json"
    content = {
        "ct": "ct.nii.gz",
        "segmentation": segmentation,
        "label": int(label),
        "views": "views.json",
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path
