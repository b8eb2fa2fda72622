"""Pictures that ``radgsreg calibrate`` reads, and what those of a grid say of distortion."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .calibrated_files import Pictures

if TYPE_CHECKING:
    from ..calibration import Calibrating
    from ..cases import Ledger, XrayImage
    from ..geometry import Distortion

PICTURES = {
    ".tif",
    ".tiff",
    ".png",
    ".jpg",
    ".jpeg",
    ".dcm",
    ".ima",
    ".mha",
    ".nrrd",
    ".nii",
    ".gz",
}


def plain_name(path: Path) -> str:
    """A picture's name without its ending."""
    return path.name.removesuffix(path.suffix).removesuffix(".nii")


def distortion_used(args: argparse.Namespace, options: Calibrating) -> str:
    """Where the distortion that pictures were calibrated with comes from."""
    if args.fit_distortion:
        return "fit"
    if args.grid is not None:
        return "grid"
    return "none" if options.distortion is None else "preset"


def picture(path: Path, frame: int | None, ledger: Ledger) -> XrayImage:
    """Read a picture; InputError for one that holds what is no number."""
    import numpy as np

    from ..cases import read_xray

    image = read_xray(path, frame)
    if not np.isfinite(image.pixels).all():
        raise InputError(path, "holds values that are no numbers")
    ledger.add_file(path)
    for note in image.notes:
        ledger.note(f"{path.name} {note}")
    return image


def distortion_of_grids(
    args: argparse.Namespace, read: Pictures, ledger: Ledger
) -> Distortion | None:
    """The distortion that the picture of a grid shows, of all pictures; None where ``--grid`` is a
    folder: then each exposure gets that of its own grid, which bears its file's name."""
    if not args.grid.is_dir():
        return _of_grid(args.grid, read, ledger)
    grids = _by_name(args.grid)
    for number, (exposure, path) in enumerate(zip(read.exposures, read.paths, strict=True)):
        name = plain_name(path)
        if name not in grids:
            raise InputError(
                args.grid,
                f"holds no picture of the grid for {path.name}",
                f"it must be called {name}, with any ending of a picture",
            )
        own = Pictures([exposure], [path], [None])
        bent = _of_grid(grids[name], own, ledger)
        read.exposures[number] = replace(exposure, distortion=bent)
    return None


def _by_name(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by their names without endings; InputError for two of one name."""
    out = dict[str, Path]()
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in PICTURES or not path.is_file():
            continue
        other = out.setdefault(plain_name(path), path)
        if other != path:
            raise InputError(
                folder, f"holds both {other.name} and {path.name}", "keep the one that is the grid"
            )
    return out


def _of_grid(path: Path, read: Pictures, ledger: Ledger) -> Distortion:
    from ..calibration import grid_distortion_of

    pixels = picture(path, None, ledger).pixels
    for exposure in read.exposures:
        if exposure.pixels.shape != pixels.shape:
            raise InputError(
                path, f"is of another size than {exposure.name}", "take the grid as the X-rays"
            )
    distortion, left_px = grid_distortion_of(path.name, pixels)
    ledger.note(f"grid {path.name}: its nodes lie within {left_px:.2f} px of the distortion")
    return distortion
