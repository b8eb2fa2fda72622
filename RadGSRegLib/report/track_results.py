"""The result files of a bone that was followed through a run."""

from __future__ import annotations

from pathlib import Path

from ..cases import (
    FRAMES,
    Run,
    TrackRecord,
    track_csv,
    write_itk_transform,
    write_track_json,
)
from ..system import Progress
from .film import film_webp
from .track import track_png
from .track_page import track_report_html


def write_track_results(
    folder: Path, run: Run, record: TrackRecord, progress: Progress | None = None
) -> None:
    """Write all that a run comes to into the existing ``folder``: ``track.json``, ``track.csv``, a
    transform for each frame, ``film.webp`` and ``report.html``.

    The transforms are the smoothed poses, as ``ct_to_world.tfm`` is that of a registration. Write
    inside a `cases.OutputFolder`. Raises Cancelled.
    """
    report = progress or Progress()
    film = film_webp(run, record, report.part(0.0, 0.9))
    report(0.9, "writing the results")
    write_track_json(record, folder / "track.json")
    (folder / "track.csv").write_text(track_csv(record), encoding="utf-8")
    poses = folder / FRAMES
    poses.mkdir()
    for frame in record.frames:
        path = poses / f"{frame.index:04d}_ct_to_world.tfm"
        write_itk_transform(frame.smoothed_ct_to_world, path, record.centre_ct)
    (folder / "film.webp").write_bytes(film)
    page = track_report_html(run.case, record, track_png(record), film)
    (folder / "report.html").write_text(page, encoding="utf-8")
