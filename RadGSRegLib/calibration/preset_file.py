"""Files of presets: a C-arm's focal length and principal point by its source-detector distance."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import Fields, check_schema, output_file, read_json_object, write_json
from ..errors import InputError
from ..geometry import Distortion
from ..inputs import guarded_inputs
from .presets import Bend, Preset, PresetEntry

SCHEMA = "radgsreg/carm"
VERSION = 1
_EACH = "each"
# Numbers that were typed by hand are symmetric to so much.
_ROUNDED = 1e-6


def read_preset(path: str | os.PathLike[str]) -> Preset:
    """Read a preset of a C-arm (docs/files.md).

    Args:
        path: of the JSON file.

    Returns:
        The preset, its entries in the order of their distances.

    Raises:
        InputError: for a file that is missing, no JSON or of another schema; without entries, or
            with two of one distance; numbers that are none or not positive, a covariance that is
            none.
    """
    fields = Fields(Path(path), read_json_object(Path(path)))
    check_schema(fields, SCHEMA, VERSION)
    listed = fields.need("distances")
    if not isinstance(listed, list) or not listed or not all(isinstance(e, dict) for e in listed):
        fields.refuse('"distances" must be a list of one object or more')
    spacing = None
    if "pixel_spacing_mm" in fields:
        x, y = fields.numbers("pixel_spacing_mm", (2,))
        spacing = (float(x), float(y))
        if min(spacing) <= 0:
            fields.refuse('"pixel_spacing_mm" must be positive')
    columns, rows = fields.numbers("size", (2,))
    if min(columns, rows) < 1 or columns % 1 or rows % 1:
        fields.refuse('"size" must be [columns, rows] in whole pixels')
    mirrored = fields.need("mirrored")
    if not isinstance(mirrored, bool):
        fields.refuse('"mirrored" must be true or false')
    preset = Preset(fields.text("name").strip(), (int(columns), int(rows)), spacing, mirrored, ())
    entries = dict[float, PresetEntry]()
    for number, data in enumerate(listed, start=1):
        entry = _entry(Fields(Path(path), data, f"distance {number}"))
        if entries.setdefault(entry.source_detector_mm, entry) is not entry:
            fields.refuse(f"has two entries for {entry.source_detector_mm:g} mm")
    return replace(preset, entries=tuple(entries[distance] for distance in sorted(entries)))


def _entry(fields: Fields) -> PresetEntry:
    distance, focal = fields.number("source_detector_mm"), fields.number("focal_px")
    if min(distance, focal) <= 0:
        fields.refuse('"source_detector_mm" and "focal_px" must be positive')
    column, row = fields.numbers("principal_px", (2,))
    covariance = fields.numbers("covariance", (3, 3))
    apart = np.abs(covariance - covariance.T).max()
    covariance = 0.5 * (covariance + covariance.T)
    if apart > _ROUNDED * np.abs(covariance).max() or np.linalg.eigvalsh(covariance)[0] <= 0:
        fields.refuse('"covariance" must be symmetric, with positive eigenvalues')
    bent: Bend = None
    if "distortion" in fields:
        said = fields.data["distortion"]
        bent = _distortion(fields, said) if isinstance(said, dict) else None
        if said == _EACH:
            bent = "each"
        elif bent is None:
            fields.refuse(f'"distortion" must be an object, "{_EACH}" or null')
    return PresetEntry(distance, focal, (float(column), float(row)), covariance, bent)


def _distortion(fields: Fields, said: dict[str, Any]) -> Distortion:
    inner = Fields(fields.source, said, f"{fields.of}: distortion")
    pairs = {key: inner.numbers(key, (2,)) for key in ("centre_px", "radial", "spiral")}
    if inner.number("unit_px") <= 0:
        inner.refuse('"unit_px" must be positive')
    centre, radial, spiral = ((float(a), float(b)) for a, b in pairs.values())
    return Distortion(centre, inner.number("unit_px"), radial, spiral)


def preset_to_json(preset: Preset) -> dict[str, Any]:
    """What the file of a preset holds."""
    listed = [
        {
            "source_detector_mm": float(entry.source_detector_mm),
            "focal_px": float(entry.focal_px),
            "principal_px": [float(x) for x in entry.principal_px],
            "covariance": np.asarray(entry.covariance, dtype=float).tolist(),
            "distortion": (
                asdict(entry.distortion)
                if isinstance(entry.distortion, Distortion)
                else entry.distortion
            ),
        }
        for entry in preset.entries
    ]
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "name": preset.name,
        "size": list(preset.size),
        "pixel_spacing_mm": None if preset.pixel_spacing_mm is None else [*preset.pixel_spacing_mm],
        "mirrored": preset.mirrored,
        "distances": listed,
    }


def joined_preset(path: str | os.PathLike[str], preset: Preset) -> Preset:
    """What `save_preset` would write: the entries of the file that is there, and these.

    Raises InputError for a file that is no preset, or one of other pictures.
    """
    path = Path(path)
    if not path.exists():
        return preset
    with guarded_inputs():  # it is read to be gone on with: this may be written over
        old = read_preset(path)
    refuse_other_pictures(path, old, preset.size, preset.pixel_spacing_mm)
    if old.mirrored != preset.mirrored:
        raise InputError(
            path, "is of pictures that are mirrored otherwise", "save this C-arm in another file"
        )
    for entry in preset.entries:
        old = old.with_entry(entry)
    return old


def refuse_other_pictures(
    path: str | os.PathLike[str],
    preset: Preset,
    size: tuple[int, int],
    spacing_mm: tuple[float, float] | None,
) -> None:
    """InputError where pictures of a size (columns, rows) and spacing are not a preset's."""
    if preset.size != size:
        raise InputError(
            path,
            f"is of pictures of {preset.size[0]} x {preset.size[1]} pixels, not of "
            f"{size[0]} x {size[1]}",
            "use a preset of this size",
        )
    own = preset.pixel_spacing_mm
    if own and spacing_mm and max(abs(a - b) for a, b in zip(own, spacing_mm, strict=True)) > 1e-3:
        raise InputError(
            path,
            f"is of pixels of {own[0]:g} x {own[1]:g} mm, not of {spacing_mm[0]:g} x "
            f"{spacing_mm[1]:g} mm",
            "use a preset of this detector",
        )


def save_preset(path: str | os.PathLike[str], preset: Preset) -> None:
    """Write a preset, whole or not at all; a preset that is there keeps its other distances.

    Args:
        path: of the JSON file.
        preset: its entries replace those of the same distances, within 1 mm.

    Raises:
        InputError: for a file that is no preset, one of other pictures, and where it cannot be
            written.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from RadGSRegLib.calibration import Preset, PresetEntry, read_preset, save_preset
        >>> for distance, focal in ((1100.0, 1803.0), (1000.0, 1639.0)):
        ...     entry = PresetEntry(distance, focal, (243.0, 244.0), np.eye(3))
        ...     preset = Preset("C-arm", (488, 488), (0.61, 0.61), False, (entry,))
        ...     save_preset(Path(folder) / "carm.json", preset)
        >>> [entry.focal_px for entry in read_preset(Path(folder) / "carm.json").entries]
        [1639.0, 1803.0]
    """
    whole = joined_preset(path, preset)
    with output_file(path) as part:
        write_json(preset_to_json(whole), part)
