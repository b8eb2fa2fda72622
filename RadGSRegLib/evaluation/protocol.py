"""Registering every case of a folder that has a truth, and saying how well that went."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..cases.case import read_case, read_start
from ..cases.json_input import read_json_object
from ..cases.types import Case
from ..errors import InputError
from ..geometry import Volume, is_rigid
from ..geometry.camera import triangulate
from ..geometry.pose import translation
from ..measures import pose as metrics
from ..measures import volume as volumes
from ..registration.types import Registration, Status
from ..system.progress import Progress

Array = NDArray[np.float64]
StartKind = Literal["center", "start"]
Registrar = Callable[[Case, Array | None, Progress], Registration]
Reconstructor = Callable[[Case, Registration, Progress], Volume]

POINTS = 2000
_LEAST_POINTS = 1000
# What a reconstruction scores that misses the vertebra, or that there is none of.
_NOTHING = {"ssim": 0.0, "psnr_db": 0.0}


@dataclass(frozen=True)
class Truth:
    """What is known of a case: its pose (4, 4), surface points (N, 3) mm, level of realism."""

    ct_to_world: Array
    points_ct: Array | None
    level: str


@dataclass(frozen=True)
class Trial:
    """One registration of one case. Lengths in mm, angles in degrees, time in seconds.

    ``mtre_mm`` and ``start_mtre_mm`` are the errors of the result and of the start (None where the
    case gives no start); ``expected_error_mm`` is the program's own guess; ``is_warm`` is False for
    the first registration of a process, whose time holds one-off work. ``ssim`` and ``psnr_db`` are
    those of the reconstruction against the CT at its true pose, where one was made.
    """

    case: str
    level: str
    method: str
    start: str
    status: Status
    mtre_mm: float
    rotation_error_deg: float
    centre_error_mm: float
    start_mtre_mm: float | None
    expected_error_mm: float | None
    score: float | None
    time_s: float
    is_warm: bool
    reason: str
    ssim: float | None = None
    psnr_db: float | None = None

    @property
    def is_silent_failure(self) -> bool:
        """See `metrics.is_silent_failure`."""
        return metrics.is_silent_failure(self.status, self.mtre_mm)

    @property
    def is_false_alarm(self) -> bool:
        """See `metrics.is_false_alarm`."""
        return metrics.is_false_alarm(self.status, self.mtre_mm)

    def to_row(self) -> dict[str, Any]:
        """The fields and the two verdicts, for tables."""
        row = asdict(self)
        reason = row.pop("reason")
        return {
            **row,
            "silent_failure": self.is_silent_failure,
            "false_alarm": self.is_false_alarm,
            "reason": reason,
        }


ROW_KEYS = tuple(f.name for f in fields(Trial) if f.name != "reason") + (
    "silent_failure",
    "false_alarm",
    "reason",
)


def find_cases(folder: Path) -> list[Path]:
    """The case folders in ``folder`` (or ``folder`` itself), by name; each has its truth.json.

    Raises InputError where there is none, or where one has no truth.
    """
    folder = Path(folder)
    if not folder.exists():
        raise InputError(folder, "does not exist")
    if not folder.is_dir():
        raise InputError(folder, "is not a folder of cases")
    if (folder / "case.json").is_file():
        found = [folder]
    else:
        found = sorted(path.parent for path in folder.glob("*/case.json"))
    if not found:
        raise InputError(folder, "holds no case", "each case is a folder with a case.json")
    for case in found:
        if not (case / "truth.json").is_file():
            raise InputError(case, "has no truth.json", "evaluation needs the true pose")
    return found


def read_truth(path: Path) -> Truth:
    """The truth.json of a case: "ct_to_world", and optionally "points_ct" and "level".

    Raises InputError for a pose that is not rigid or points of another shape.
    """
    path = Path(path)
    content = read_json_object(path)
    try:
        matrix = np.asarray(content["ct_to_world"], dtype=float)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, 'has no 4x4 "ct_to_world"') from error
    if not is_rigid(matrix):
        raise InputError(path, '"ct_to_world" is not a rigid 4x4')
    points: Array | None = None
    if content.get("points_ct") is not None:
        try:
            points = np.asarray(content["points_ct"], dtype=float)
        except (TypeError, ValueError) as error:
            raise InputError(path, '"points_ct" must be a list of [x, y, z]') from error
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise InputError(path, '"points_ct" must be a list of [x, y, z]')
    return Truth(matrix, points, str(content.get("level", "")))


def start_from_centres(case: Case) -> Array | None:
    """The pose (4, 4) that the clicks alone give: CT axes along the world's, centres together.

    None where fewer than two views have a ``center_px``.
    """
    clicked = [(view.camera, view.center_px) for view in case.views if view.center_px]
    if len(clicked) < 2:
        return None
    cameras, pixels = zip(*clicked, strict=True)
    try:
        centre_world, _ = triangulate(list(cameras), np.array(pixels))
    except ValueError:
        return None
    inside = np.argwhere(np.asarray(case.labels.array) == case.label)[:, ::-1].astype(float)
    return translation(centre_world - case.labels.physical_points(inside).mean(axis=0))


def run_case(
    folder: Path,
    register: Registrar,
    *,
    start: StartKind,
    method: str,
    is_warm: bool,
    progress: Progress,
    reconstruct: Reconstructor | None = None,
) -> Trial:
    """Register one case from its clicks ("center") or, with the clicks removed, its start.json.

    One that the registration refuses counts as failed, at the pose it would have started from.
    """
    case, given = _prepare(folder, start)
    truth = read_truth(folder / "truth.json")
    points = truth.points_ct
    if points is None or len(points) < _LEAST_POINTS:
        points = metrics.surface_points(case.labels, case.label, POINTS)
    first = given if given is not None else start_from_centres(case)
    result: Registration | None = None
    began = time.perf_counter()
    try:
        result = register(case, given, progress.part(0.0, 0.6) if reconstruct else progress)
        reason = result.reason
    except InputError as error:
        # Readable, but it cannot be registered: a failure like others, and the rest goes on.
        reason = str(error)
    seconds = time.perf_counter() - began
    similarity: dict[str, float] = {}
    if reconstruct is not None and result is not None:
        volume = reconstruct(case, result, progress.part(0.6, 1.0))
        similarity = _similarity(volume, case, truth)
    elif reconstruct is not None:
        similarity = dict(_NOTHING)
    # Refused: the vertebra stays where the start has put it.
    stays = np.eye(4) if first is None else first
    ct_to_world = stays if result is None else result.ct_to_world
    centre_ct = np.mean(points, axis=0) if result is None else result.centre_ct
    quality = {} if result is None else result.quality
    return Trial(
        case=folder.resolve().name,
        level=truth.level,
        method=method,
        start=start,
        status="failed" if result is None else result.status,
        mtre_mm=metrics.mtre(points, ct_to_world, truth.ct_to_world),
        rotation_error_deg=metrics.rotation_error_deg(ct_to_world, truth.ct_to_world),
        centre_error_mm=metrics.centre_error_mm(centre_ct, ct_to_world, truth.ct_to_world),
        start_mtre_mm=None if first is None else metrics.mtre(points, first, truth.ct_to_world),
        expected_error_mm=_optional(quality.get("expected_error_mm")),
        score=_optional(quality.get("score")),
        time_s=seconds,
        is_warm=is_warm,
        reason=reason,
        ssim=similarity.get("ssim"),
        psnr_db=similarity.get("psnr_db"),
    )


def _similarity(volume: Volume, case: Case, truth: Truth) -> dict[str, float]:
    """SSIM and PSNR; a reconstruction that misses the vertebra altogether scores 0 and 0 dB."""
    try:
        return volumes.reconstruction_quality(
            volume, case.ct, case.labels, case.label, truth.ct_to_world
        )
    except ValueError:
        return dict(_NOTHING)


def evaluate(
    folder: Path,
    register: Registrar,
    *,
    start: StartKind = "center",
    method: str = "optimize",
    progress: Progress | None = None,
    reconstruct: Reconstructor | None = None,
) -> list[Trial]:
    """Register every case of ``folder`` with ``register``; one Trial each, by the cases' names.

    With ``reconstruct`` each case is reconstructed too, after the time has been taken.

    All cases are read once before the first registration, so that one that cannot be used is
    refused (InputError) before any work is spent.
    """
    report = progress or Progress()
    cases = find_cases(folder)
    for number, case in enumerate(cases):
        report(0.05 * number / len(cases), f"reading {case.name}")
        _prepare(case, start)
        read_truth(case / "truth.json")
    trials: list[Trial] = []
    for number, case in enumerate(cases):
        low, high = (0.05 + 0.95 * n / len(cases) for n in (number, number + 1))
        report(low, f"{case.name} ({number + 1} of {len(cases)})")
        trials.append(
            run_case(
                case,
                register,
                start=start,
                method=method,
                is_warm=number > 0,
                progress=report.part(low, high),
                reconstruct=reconstruct,
            )
        )
    return trials


def summarize(trials: Sequence[Trial]) -> dict[str, Any]:
    """The contract's metrics over trials: of all, and of each level of realism."""
    levels = sorted({trial.level for trial in trials if trial.level})
    return {
        "all": _summary(trials),
        "levels": {level: _summary([t for t in trials if t.level == level]) for level in levels},
    }


def _summary(trials: Sequence[Trial]) -> dict[str, Any]:
    errors = [trial.mtre_mm for trial in trials]
    started = [trial for trial in trials if trial.start_mtre_mm is not None]
    warm = [trial.time_s for trial in trials if trial.is_warm] or [t.time_s for t in trials]
    starts = [float(trial.start_mtre_mm or 0.0) for trial in started]
    reconstructed = [trial for trial in trials if trial.ssim is not None]
    similarity = {
        "ssim": metrics.describe([float(t.ssim or 0.0) for t in reconstructed]),
        "psnr_db": metrics.describe([float(t.psnr_db or 0.0) for t in reconstructed]),
    }
    return {
        "cases": len(trials),
        "mtre_mm": metrics.describe(errors),
        "sr": metrics.success_rate(errors),
        "smsr": metrics.success_rate(errors, metrics.SUBMILLIMETRE_MM),
        "cr_mm": metrics.capture_range_mm(starts, [trial.mtre_mm for trial in started]),
        "silent_failures": sum(trial.is_silent_failure for trial in trials),
        "false_alarms": sum(trial.is_false_alarm for trial in trials),
        "rt_s": float(np.median(warm)) if warm else float("nan"),
        **(similarity if reconstructed else {}),
    }


def _prepare(folder: Path, start: StartKind) -> tuple[Case, Array | None]:
    case = read_case(folder / "case.json")
    if start == "center":
        if sum(view.center_px is not None for view in case.views) < 2:
            raise InputError(
                folder, "has fewer than two views with a center_px", "use --start start"
            )
        return case, None
    path = folder / "start.json"
    if not path.is_file():
        raise InputError(folder, "has no start.json", "use --start center")
    views = tuple(replace(view, center_px=None) for view in case.views)
    return replace(case, views=views), read_start(path)


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)
