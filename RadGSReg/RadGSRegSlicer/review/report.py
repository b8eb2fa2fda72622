"""The report of a review, as a folder of files that appears whole or not at all."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import ras_to_lps

from ..scene.record import reportOf

if TYPE_CHECKING:
    from .session import ReviewSession

SCHEMA = "radgsreg/review"

# The contract's; nothing else that may lie beside them is taken along.
_RESULT_FILES = (
    "registration.json",
    "ct_to_world.tfm",
    "reconstruction.nii.gz",
    "gaussians.ply",
    "overlay_*.png",
    "report.html",
)


def saveReport(
    session: ReviewSession,
    folder: str | os.PathLike[str],
    scores: Mapping[str, Any] | None = None,
    pictures: Iterable[str | os.PathLike[str]] = (),
) -> Path:
    """Write the review into ``folder``; returns its path.

    ``report.html`` and whatever else the registration left, as it was; ``review.json`` with the
    pose under review (LPS), whether it was accepted and moved by hand, and its ``scores`` (the
    answer to "score"); ``ct_to_world.tfm`` of the pose under review; and in ``reviewed/`` the
    ``pictures`` of it (overlay_<view>.png). Raises InputError where the folder cannot be written or
    holds other people's files.
    """
    from RadGSRegLib.cases import (
        OutputFolder,
        refuse_strangers,
        write_itk_transform,
        write_json,
    )

    refuse_strangers(folder, reviews=True)
    record, target = session.record, Path(folder)
    report = reportOf(session.transformNode)
    pose = session.poseLps
    centre = session.surface.centre * [-1.0, -1.0, 1.0]
    shift, angle = session.movedByHand()
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "version": 1,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "vertebra": session.segment,
        "accepted": session.isAccepted,
        "hardened": session.isHardened,
        "ct_to_world": pose,
        "moved_by_hand": {"mm": shift, "deg": angle},
        "scores": {key: dict(scores)[key] for key in ("score", "views") if key in scores}
        if scores
        else None,
    }
    if record is not None:
        content["registered"] = {
            "status": record.status,
            "reason": record.reason,
            "ct_to_world": ras_to_lps(record.ctToWorld),
            "covariance": record.covariance,
            "quality": record.quality,
        }
    with OutputFolder(target) as stage:
        try:
            source = Path(record.folder) if record is not None and record.folder else None
            if source is not None and source.resolve() != target.resolve():
                for pattern in _RESULT_FILES:
                    for path in sorted(source.glob(pattern)):
                        shutil.copyfile(path, stage / path.name)
            if report is not None:
                (stage / "report.html").write_text(report, encoding="utf-8")
            write_itk_transform(pose, stage / "ct_to_world.tfm", centre)
            write_json(content, stage / "review.json")
            taken = [Path(picture) for picture in pictures]
            if taken:
                (stage / "reviewed").mkdir(exist_ok=True)
                for picture in taken:
                    shutil.copyfile(picture, stage / "reviewed" / picture.name)
        except OSError as error:
            raise InputError(
                target, f"the report cannot be written ({error.strerror or 'no such place'})"
            ) from error
    return target
