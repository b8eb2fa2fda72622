"""A reconstruction so far, as a file for whoever follows the lines of progress."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..system import Progress

if TYPE_CHECKING:
    from ..geometry import Volume

_PART = ".part.nii.gz"


def with_previews(progress: Progress, stage: Path) -> Progress:
    """Progress that puts the volume so far into ``stage``, in the place of the result's.

    Each is told of once it is whole (`Progress.reconstruction`); the folder goes when the command
    is cancelled, and in the end the result takes its place.
    """

    def show(volume: Volume) -> None:
        from ..cases import write_volume_nifti

        part = stage / _PART
        write_volume_nifti(volume, part)
        with contextlib.suppress(PermissionError):  # Windows: the one before is being read
            part.replace(stage / "reconstruction.nii.gz")
        part.unlink(missing_ok=True)
        progress.reconstruction(stage)

    return replace(progress, on_volume=show)
