"""A run of fluoroscopy: the X-rays of a case in many frames, which are read one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..choices import Intensity
from ..errors import InputError
from ..geometry import Array
from .case import case_with
from .json_input import Fields, existing_file, read_json_object
from .ledger import Ledger
from .patients import remember_patient
from .types import Case, View
from .view_pictures import Taken
from .views import intensity_of, read_views_with_axes, view_entries
from .xray import XrayImage, open_xray, read_xray

_SUFFIXES = (
    *(".tif", ".tiff", ".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".ima", ""),
    *(".nrrd", ".mha", ".nii", ".gz"),
)
_OF_THE_SYSTEM = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Run:
    """A case whose X-rays are runs of ``frames`` pictures; cameras stand still.

    The views of ``case`` show frame ``shown``, the first one in which all show something; clicks
    are of that one. ``times_s``: when each was taken, seconds; None where nothing says it.
    ``pixels`` reads a picture (rows, columns) float32 by the numbers of view and frame.
    """

    case: Case
    frames: int
    pixels: Callable[[int, int], NDArray[np.float32]]
    times_s: tuple[float, ...] | None = None
    shown: int = 0

    def views(self, frame: int) -> tuple[View, ...]:
        """Return the views with the pictures of a frame. Raises InputError where one is damaged."""
        if not 0 <= frame < self.frames:
            raise IndexError(f"there is no frame {frame} of {self.frames}")
        return tuple(
            replace(view, pixels=self.pixels(number, frame))
            for number, view in enumerate(self.case.views)
        )


def is_picture(view: View) -> bool:
    """Whether a view shows anything: numbers that are not all the same."""
    pixels = view.pixels
    return bool(np.isfinite(pixels).all() and np.ptp(pixels) > 0)


def run_of(
    case: Case,
    pictures: Sequence[Sequence[NDArray[Any]]],
    times_s: Sequence[float] | None = None,
) -> Run:
    """Make a run of pictures in memory: (frames) of (views in the case's order) of (rows, columns).

    The case's own pictures are replaced. Raises ValueError where a frame lacks a view.
    """
    if any(len(frame) != len(case.views) for frame in pictures):
        raise ValueError("each frame needs a picture of each view")
    shown = _first_shown(len(pictures), len(case.views), lambda v, n: np.asarray(pictures[n][v]))

    def pixels(view: int, frame: int) -> NDArray[np.float32]:
        return np.asarray(pictures[frame][view], dtype=np.float32)

    times = None if times_s is None else tuple(float(time) for time in times_s)
    run = Run(case, len(pictures), pixels, times, shown)
    return replace(run, case=replace(case, views=run.views(shown)))


def read_run(path: Path) -> Run:
    """Read the case of a ``case.json`` whose X-rays are runs (docs/files.md).

    In its ``views.json`` an "image" is a file of several frames (multi-frame DICOM, a TIFF of
    several pages), or a folder with a file for each, or "frames" lists files. A single view (one
    plane) is read too.

    Args:
        path: the ``case.json``, or a folder that holds one; paths in it are relative to the file.

    Returns:
        The case with the views of the first frame that shows something, and what reads the others.

    Raises:
        InputError: one sentence that names the file, for anything missing or invalid, views of
            unlike numbers of frames, and what is no run.

    Example:
        >>> from pathlib import Path
        >>> from RadGSRegLib.cases import read_run
        >>> from RadGSRegLib.errors import InputError
        >>> try:
        ...     read_run(Path(folder) / "case.json")
        ... except InputError as error:  # its views are stills
        ...     "radgsreg register" in str(error)
        True
    """
    sources: list[_Frames] = []
    by_name: dict[str, _Frames] = {}
    shown = 0

    def opened(fields: Fields, intensity: Intensity | None, ledger: Ledger) -> Taken:
        own = by_name[str(fields.data.get("name"))]
        if len(own.files) == 1:
            ledger.add_file(own.files[0])
        else:
            ledger.add_series(f"{fields.text('name').strip()} ({own.count} frames)", own.files)
        remember_patient(ledger, f'the X-ray "{fields.text("name").strip()}"', own.files[0])
        return Taken(own.image(shown), own.file_of(shown).name)

    def views_of(views: Path, ledger: Ledger) -> tuple[tuple[View, ...], Array | None]:
        nonlocal shown
        fields = Fields(views, read_json_object(views))
        entries = view_entries(fields)
        sources.extend(_frames_of(entry) for entry in entries)
        _check_counts(sources, views)
        by_name.update({str(source.fields.data.get("name")): source for source in sources})
        count = sources[0].count
        shown = _first_shown(count, len(sources), lambda v, n: sources[v].image(n).pixels)
        return read_views_with_axes(views, ledger, opened, least=1)

    case = case_with(path, views_of)
    for source, view in zip(sources, case.views, strict=True):
        source.size, source.intensity = view.camera.size, view.intensity
    times = next((source.times_s for source in sources if source.times_s is not None), None)
    return Run(case, sources[0].count, lambda v, n: sources[v].checked(n), times, shown)


class _Frames:
    """The frames of one view, and where they are from."""

    def __init__(
        self,
        fields: Fields,
        files: Sequence[Path],
        count: int,
        image: Callable[[int], XrayImage],
        times_s: tuple[float, ...] | None,
    ) -> None:
        self.fields, self.files, self.count = fields, tuple(files), count
        self.image, self.times_s = image, times_s
        self.size: tuple[int, int] | None = None
        self.intensity: str | None = None

    def file_of(self, frame: int) -> Path:
        """The file that a frame is in."""
        return self.files[frame if len(self.files) > 1 else 0]

    def checked(self, frame: int) -> NDArray[np.float32]:
        """A frame's pixels; InputError where it is unlike the others."""
        image = self.image(frame)
        rows, columns = image.pixels.shape
        if self.size is not None and (columns, rows) != tuple(self.size):
            raise InputError(
                self.file_of(frame),
                f"frame {frame} is {columns} x {rows} pixels, others {self.size[0]} x "
                f"{self.size[1]}",
                "all frames of a view must be alike",
            )
        if image.intensity is not None and image.intensity != self.intensity:
            raise InputError(
                self.file_of(frame),
                f"frame {frame} is {image.intensity}, others {self.intensity}",
                'say "intensity" in views.json',
            )
        return image.pixels


def _frames_of(fields: Fields) -> _Frames:
    """The frames that an entry of a ``views.json`` names. Raises InputError."""
    if "frame" in fields:
        fields.refuse('has "frame", which chooses one of a run', "leave it out to follow the run")
    if "image" in fields and "frames" in fields:
        fields.refuse('has "image" and "frames"', "leave one of them out")
    intensity = intensity_of(fields)
    if "frames" in fields:
        files = _listed(fields)
    else:
        path = fields.path("image")
        if not path.is_dir():
            opened = open_xray(existing_file(path, fields.source.name), intensity)
            times = _times(fields, opened.count, opened.times_s)
            return _Frames(fields, [path], opened.count, opened.image, times)
        files = _files_in(path)

    def image(frame: int) -> XrayImage:
        return read_xray(files[frame], None, intensity)

    return _Frames(fields, files, len(files), image, _times(fields, len(files), None))


def _listed(fields: Fields) -> list[Path]:
    names = fields.need("frames")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        fields.refuse('"frames" must be a list of file names')
    where = [Fields(fields.source, {"frames": name}, fields.of).path("frames") for name in names]
    return [existing_file(path, fields.source.name) for path in where]


def _files_in(folder: Path) -> list[Path]:
    """The frames in a folder, in the order of the numbers in their names."""
    try:
        files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise InputError(folder, f"cannot be read ({error.strerror})") from error
    files = [path for path in files if path.name.lower() not in _OF_THE_SYSTEM]
    strange = [p for p in files if p.is_dir() or p.suffix.lower() not in _SUFFIXES]
    if strange:
        raise InputError(
            folder, f"holds {min(strange).name}, which is no frame", "leave only frames in it"
        )
    if not files:
        raise InputError(folder, "holds no frames")
    return [existing_file(path) for path in sorted(files, key=_natural)]


def _natural(path: Path) -> tuple[Any, ...]:
    parts = re.split(r"(\d+)", path.name.lower())
    return tuple(int(p) if p.isdecimal() else p for p in parts), path.name


def _times(
    fields: Fields, count: int, of_file: tuple[float, ...] | None
) -> tuple[float, ...] | None:
    if "times_s" not in fields:
        return of_file
    times = fields.numbers("times_s", (count,))
    if (np.diff(times) <= 0.0).any():
        fields.refuse('"times_s" must rise from frame to frame')
    return tuple(float(time) for time in times)


def _check_counts(sources: Sequence[_Frames], views: Path) -> None:
    """InputError unless all views have one number of frames, more than one."""
    counts = {source.count for source in sources}
    if len(counts) > 1:
        said = ", ".join(f"{_title(source)} has {source.count} frames" for source in sources)
        raise InputError(views, said, "views of one run need a frame each at every time")
    if counts == {1}:
        raise InputError(
            views, "holds one frame of each view, which is no run", "use radgsreg register"
        )
    if not sources:
        raise InputError(views, "holds no view")


def _title(source: _Frames) -> str:
    file = source.files[0]
    return f"{file.name if len(source.files) == 1 else file.parent.name} (view {_name(source)})"


def _name(source: _Frames) -> str:
    return f'"{source.fields.data.get("name")}"'


def _first_shown(frames: int, views: int, read: Callable[[int, int], NDArray[Any]]) -> int:
    """The first frame in which all views show something; the first of all where none does."""
    for frame in range(frames):
        pictures = [np.asarray(read(view, frame)) for view in range(views)]
        if all(np.isfinite(p).all() and np.ptp(p) > 0 for p in pictures):
            return frame
    return 0
