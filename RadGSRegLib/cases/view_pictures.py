"""The picture of a view in ``views.json``: a still, or one frame of a run (`run`)."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..choices import Intensity
from ..errors import InputError
from . import bounds
from .json_input import Fields, existing_file
from .ledger import Ledger
from .patients import remember_patient
from .xray import XrayImage, read_xray

FOLLOW = "follow it with radgsreg track, or name one of its frames"


class Taken(NamedTuple):
    """A picture, and what it is called: the name of its file."""

    image: XrayImage
    name: str


Opened = Callable[[Fields, Intensity | None, Ledger], Taken]
"""Opens the picture that an entry means, and enters its files."""


def still(fields: Fields, intensity: Intensity | None, ledger: Ledger) -> Taken:
    """Open the X-ray that an entry names. Raises InputError, for a run of several too."""
    if "frames" in fields:
        fields.refuse('has "frames": it is a run, not one X-ray', FOLLOW)
    path: Path = fields.path("image")
    if path.is_dir():
        where = f"(mentioned in {fields.source.name})"
        raise InputError(path, f"is a folder: a run of frames, not one X-ray {where}", FOLLOW)
    path = existing_file(path, fields.source.name)
    frame = fields.integer("frame") if "frame" in fields else None
    image = read_xray(path, frame, intensity)
    ledger.add_file(path)
    remember_patient(ledger, f'the X-ray "{fields.text("name").strip()}"', path)
    return Taken(image, path.name)


def check_pixels(fields: Fields, taken: Taken) -> None:
    """InputError for pixels that show nothing, or are not what the entry says."""
    image, name = taken
    pixels = image.pixels
    if not np.isfinite(pixels).all():
        fields.refuse(f'image "{name}" holds pixels that are not a number (NaN or infinite)')
    if np.ptp(pixels) == 0:
        fields.refuse(f'image "{name}" is constant: all its pixels are {pixels.flat[0]:g}')
    rows, columns = pixels.shape
    if min(rows, columns) < bounds.LEAST_PIXELS:
        fields.refuse(f'image "{name}" is only {columns} x {rows} pixels')
    if "size" in fields:
        size = fields.numbers("size", (2,))
        if tuple(size) != (columns, rows):
            fields.refuse(
                f'"size" is {size[0]:g} x {size[1]:g} (columns x rows), but image "{name}" is '
                f"{columns} x {rows}"
            )
    elif image.tags is None:
        fields.need("size")
