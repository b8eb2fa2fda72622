"""``views.json``: the X-rays and how they were taken."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from ..choices import INTENSITIES, Intensity
from ..errors import InputError
from ..geometry import Array, Camera
from . import bounds
from .calibrated import CALIBRATED_KEYS, calibrated_to_json, note_loose, read_covariance, read_metal
from .camera_sources import ViewEntry, camera_of, source_keys
from .itk_image import write_itk
from .joint_covariance import (
    TOGETHER,
    check_together,
    covariance_with_to_json,
    read_covariance_with,
)
from .json_input import Fields, read_json_object
from .ledger import Ledger
from .patient_axes import PARALLEL, patient_axes_to_json, read_patient_axes
from .patients import note_other_patients
from .standing import (
    check_standing,
    depth_mm,
    opposite,
    patient_place,
    sight_angle_deg,
    usual_spacing,
)
from .types import View
from .view_pictures import Opened, check_pixels, still
from .xray import XrayImage

ROOM_NOMINAL = "where all of them are together in the room stays nominal"
SCHEMA = "radgsreg/views"
VERSION = 1
_KEYS = {
    "name",
    "image",
    "size",
    "pixel_spacing_mm",
    "intensity",
    "bone_alone",
    "center_px",
    "frame",
    "frames",
    "times_s",
    "nominal",
    "room",
    "device",
    *CALIBRATED_KEYS,
    TOGETHER,
}
_TOP_KEYS = {"schema", "version", "views", "patient_axes"}
_UNFIT = re.compile(r'[/\\:*?"<>|\x00-\x1f]')


def check_schema(fields: Fields, schema: str, version: int) -> None:
    """InputError unless the object says that it is ``schema`` in ``version``."""
    if fields.need("schema") != schema:
        fields.refuse(f'"schema" must be "{schema}"')
    if fields.integer("version") != version:
        fields.refuse(f"has version {fields.data['version']}; this program reads {version}")


def _name(fields: Fields) -> str:
    name = fields.text("name").strip()
    if _UNFIT.search(name) or name.startswith("."):
        fields.refuse('"name" must be fit for a file name (no slashes, colons or the like)')
    return name


def intensity_of(fields: Fields) -> Intensity | None:
    """The intensity that an entry states, None where it states none."""
    if "intensity" not in fields:
        return None
    value = fields.data["intensity"]
    if value not in INTENSITIES:
        fields.refuse(
            f'"intensity" is {json.dumps(value)}',
            f"it must be one of {', '.join(INTENSITIES)}",
        )
    return cast(Intensity, value)


def _spacing(fields: Fields, image: XrayImage) -> tuple[float, float] | None:
    """What the entry says, or else its image; None where neither does."""
    if "pixel_spacing_mm" not in fields:
        return image.tags.spacing_mm if image.tags is not None else image.spacing_mm
    x, y = fields.numbers("pixel_spacing_mm", (2,))
    if min(x, y) <= 0:
        fields.refuse('"pixel_spacing_mm" must be positive')
    return float(x), float(y)


def _centre(fields: Fields, camera: Camera) -> tuple[float, float] | None:
    if "center_px" not in fields:
        return None
    u, v = fields.numbers("center_px", (2,))
    low, high = bounds.CENTRE_RANGE
    if not (low <= u / camera.columns <= high and low <= v / camera.rows <= high):
        fields.refuse(
            f'"center_px" ({u:g}, {v:g}) lies far outside the image '
            f"({camera.columns} x {camera.rows} pixels)"
        )
    return float(u), float(v)


def _said(fields: Fields, name: str) -> bool:
    """Whether an entry says true of something; what is not said is false."""
    value = fields.data.get(name, False)
    if not isinstance(value, bool):
        fields.refuse(f'"{name}" must be true or false')
    return value


def _room_nominal(fields: Fields) -> bool:
    if "room" not in fields:
        return False
    if fields.text("room") != "nominal":
        fields.refuse('"room" can only be "nominal"', "leave it out where the room is known")
    return True


class _Reading(NamedTuple):
    """A view as far as its own entry tells; pixels of (1, 1) mm where it says no spacing."""

    view: View
    has_spacing: bool
    either_side: bool


def _read_view(fields: Fields, ledger: Ledger, opened: Opened) -> _Reading:
    name = _name(fields)
    taken = opened(fields, intensity_of(fields), ledger)
    image = taken.image
    check_pixels(fields, taken)
    spacing = _spacing(fields, image)
    camera, nominal, either_side = camera_of(ViewEntry(fields, image, spacing, ledger))
    if not nominal and _said(fields, "nominal"):
        nominal = True
        ledger.note(f"{name}: the geometry is said to be nominal, an uncalibrated guess")
    for note in image.notes:
        ledger.note(f"{name}: {taken.name} {note}")
    intensity = intensity_of(fields) or image.intensity or "display"
    bone_alone = _said(fields, "bone_alone")
    if bone_alone and intensity != "attenuation":
        fields.refuse('"bone_alone" is of line integrals', 'say "intensity": "attenuation"')
    view = View(
        name=name,
        pixels=image.pixels,
        camera=camera,
        pixel_spacing_mm=spacing or (1.0, 1.0),
        intensity=intensity,
        center_px=_centre(fields, camera),
        nominal=nominal,
        device=fields.text("device").strip() if "device" in fields else "",
        bone_alone=bone_alone,
        metal_px=read_metal(fields),
        camera_covariance=read_covariance(fields),
        camera_covariance_with=read_covariance_with(fields),
        room_nominal=_room_nominal(fields),
    )
    return _Reading(view, spacing is not None, either_side)


def _settled(readings: Sequence[_Reading], ledger: Ledger) -> tuple[View, ...]:
    """The views, with what only all of them together tell: sides of sources, usual spacings."""
    views = [reading.view for reading in readings]
    place_world = patient_place(views) if len(views) > 1 else None
    for number, (view, has_spacing, either_side) in enumerate(readings):
        if either_side and place_world is not None and depth_mm(view.camera, place_world) < 0:
            view = replace(view, camera=opposite(view.camera))
            ledger.note(f"{view.name}: the world's origin lies behind the source")
        if not has_spacing:
            view = replace(view, pixel_spacing_mm=usual_spacing(view, place_world))
            ledger.note(
                f"{view.name}: nothing says its pixels' size; {view.pixel_spacing_mm[0]:.2g} mm is "
                "taken for margins"
            )
        views[number] = view
        note_loose(view, place_world, ledger)
    return tuple(views)


def check_views(views: Sequence[View], source: Path, least: int = 2) -> None:
    """InputError for fewer than two views, names used twice, equal views, one line of sight, or a
    patient who is not between source and detector.

    Two of many may be taken from nearly the same place: what counts is the spread of all. A pair by
    itself is equal where its directions are less than 5 degrees apart and so are its sources, seen
    from the distance of the detector. The same picture twice is refused.
    """
    if len(views) < least:
        needed = "one X-ray is" if least == 1 else "two X-rays are"
        raise InputError(source, f"holds {len(views)} view; at least {needed} needed")
    for a, b in combinations(views, 2):
        if a.name.lower() == b.name.lower():
            raise InputError(source, f'two views are called "{a.name}"', "names must differ")
        if a.pixels.shape == b.pixels.shape and np.array_equal(a.pixels, b.pixels):
            raise InputError(source, f'views "{a.name}" and "{b.name}" are the same picture')
    if len(views) == 2:
        _check_pair(views[0], views[1], source)
    lines = [sight_angle_deg(views[0].camera, v.camera) for v in views[1:]]
    if lines and all(min(angle, 180 - angle) < bounds.EQUAL_DEG for angle in lines):
        raise InputError(source, "all views look along one line, so they do not show depth")
    check_standing(views, source)


def _check_pair(a: View, b: View, source: Path) -> None:
    angle = sight_angle_deg(a.camera, b.camera)
    apart = float(np.linalg.norm(a.camera.source_world - b.camera.source_world))
    distance = abs(a.camera.intrinsic[0, 0]) * a.pixel_spacing_mm[0]
    if angle < bounds.EQUAL_DEG and apart < np.radians(bounds.EQUAL_DEG) * distance:
        raise InputError(
            source,
            f'views "{a.name}" and "{b.name}" are equal: taken from the same place, '
            f"{angle:.1f} degrees apart",
            "two X-rays must differ in direction",
        )


def read_views(path: Path, ledger: Ledger | None = None) -> tuple[View, ...]:
    """Read the X-rays of a ``views.json``, with their cameras (docs/files.md).

    Args:
        path: the file; paths in it are relative to it.
        ledger: collects hashes and remarks, where given.

    Returns:
        The views: pixels (rows, columns) float32, and a camera in world mm each.

    Raises:
        InputError: one sentence that names the file, for anything invalid.

    Example:
        >>> from pathlib import Path
        >>> from RadGSRegLib.cases import read_views
        >>> frontal, lateral = read_views(Path(folder) / "views.json")
        >>> frontal.pixels.shape == (frontal.camera.rows, frontal.camera.columns)
        True
        >>> frontal.nominal  # its geometry is calibrated
        False
    """
    ledger = ledger if ledger is not None else Ledger()
    views, _ = read_views_with_axes(path, ledger)
    note_other_patients(ledger)
    return views


def read_views_with_axes(
    path: Path, ledger: Ledger | None = None, opened: Opened = still, least: int = 2
) -> tuple[tuple[View, ...], Array | None]:
    """`read_views`, and how the patient lies in their world (`Case.patient_axes`).

    ``opened`` opens each view's picture, ``least`` is how many views there must be.
    """
    path = Path(path)
    ledger = ledger if ledger is not None else Ledger()
    fields = Fields(path, read_json_object(path))
    check_schema(fields, SCHEMA, VERSION)
    entries = view_entries(fields)
    ledger.add_file(path)
    for note in fields.note_unknown(_TOP_KEYS):
        ledger.note(note)
    axes = read_patient_axes(fields)
    readings = []
    for view in entries:
        for note in view.note_unknown(_KEYS | source_keys()):
            ledger.note(note)
        readings.append(_read_view(view, ledger, opened))
    views = _settled(readings, ledger)
    check_views(views, path, least)
    check_together(views, path, ledger)
    refined = [view.name for view in views if view.room_nominal]
    if refined:
        ledger.note(room_words(refined))
    return views, axes


def view_entries(fields: Fields) -> list[Fields]:
    """Each view's own object of a ``views.json``. Raises InputError where it has none."""
    entries = fields.need("views")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        fields.refuse('"views" must be a list of objects')
    out = []
    for number, entry in enumerate(entries, start=1):
        title = entry.get("name") if isinstance(entry.get("name"), str) else None
        out.append(Fields(fields.source, entry, f'view "{title}"' if title else f"view {number}"))
    return out


def room_words(names: Sequence[str]) -> str:
    """What is said of views whose cameras were refined with vertebrae alone."""
    return f"the cameras of {', '.join(names)} were refined with vertebrae; {ROOM_NOMINAL}"


def view_name(text: str) -> str:
    """Make a view's name of any text: one that is fit for every file system."""
    return _UNFIT.sub("_", text).strip(".")


def file_stem(name: str) -> str:
    """A view's name as part of a file name: letters, digits, dash and underscore only."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "view"


def view_to_json(view: View, image: str) -> dict[str, Any]:
    """One entry of ``views.json``; ``image`` is the file name of its pixels."""
    out: dict[str, Any] = {
        "name": view.name,
        "image": image,
        "size": list(view.camera.size),
        "pixel_spacing_mm": [float(s) for s in view.pixel_spacing_mm],
        "intrinsic": view.camera.intrinsic.tolist(),
        "extrinsic": view.camera.world_to_camera.tolist(),
        "intensity": view.intensity,
    }
    if view.center_px is not None:
        out["center_px"] = [float(c) for c in view.center_px]
    if view.nominal:
        out["nominal"] = True
    if view.room_nominal:
        out["room"] = "nominal"
    if view.device:
        out["device"] = view.device
    if view.bone_alone:
        out["bone_alone"] = True
    return {**out, **calibrated_to_json(view), **covariance_with_to_json(view)}


def write_tiff(pixels: NDArray[np.float32], spacing_mm: tuple[float, float], path: Path) -> None:
    """Write an X-ray (rows, columns) as a float32 TIFF; ``spacing_mm`` (column step, row step)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(pixels, dtype=np.float32))
    image.SetSpacing([float(s) for s in spacing_mm])
    write_itk(image, path, compressed=False)


def write_views(folder: Path, views: Sequence[View], patient_axes: Array | None = PARALLEL) -> Path:
    """Write ``views.json`` and one float32 TIFF per view into an existing folder.

    ``patient_axes`` as in `Case`: (3, 3), or None where the patient may lie in any way. Returns
    the path of ``views.json``. Raises InputError for views that could not be read back.
    """
    check_views(views, folder / "views.json", least=1)
    entries = []
    taken: set[str] = set()
    for view in views:
        stem = file_stem(view.name).lower()
        while stem in taken:
            stem += "_"
        taken.add(stem)
        write_tiff(view.pixels, view.pixel_spacing_mm, folder / f"{stem}.tif")
        entries.append(view_to_json(view, f"{stem}.tif"))
    return write_view_entries(folder / "views.json", entries, patient_axes)


def write_view_entries(
    path: Path, entries: Sequence[Mapping[str, Any]], patient_axes: Array | None = PARALLEL
) -> Path:
    """Write a ``views.json`` of entries made by `view_to_json`; their images are the caller's."""
    axes = patient_axes_to_json(patient_axes)
    content = {"schema": SCHEMA, "version": VERSION, **axes, "views": list(entries)}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path
