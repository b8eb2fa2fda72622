"""Pictures that ``radgsreg calibrate`` reads, and what those of a grid say of distortion."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .calibrated_files import Pictures

if TYPE_CHECKING:
    from ..cases import Ledger, XrayImage
    from ..geometry import Distortion


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
    grids = {p.stem: p for p in sorted(args.grid.iterdir()) if not p.name.startswith(".")}
    for number, (exposure, path) in enumerate(zip(read.exposures, read.paths, strict=True)):
        if path.stem not in grids:
            raise InputError(
                args.grid,
                f"holds no picture of the grid for {path.name}",
                f"it must be called {path.stem}, with any ending",
            )
        own = Pictures([exposure], [path], [None])
        bent = _of_grid(grids[path.stem], own, ledger)
        read.exposures[number] = replace(exposure, distortion=bent)
    return None


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
