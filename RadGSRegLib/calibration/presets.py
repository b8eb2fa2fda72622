"""What is known of a C-arm by source-detector distance: focal length, principal point, bend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from ..errors import InputError
from ..geometry import Array, Distortion
from . import bounds
from .prior import Intrinsics

Bend = Distortion | Literal["each"] | None


@dataclass(frozen=True)
class PresetEntry:
    """A C-arm at one source-detector distance (mm).

    ``focal_px``, ``principal_px`` (column, row) of pictures without distortion, and the
    ``covariance`` (3, 3) px^2 of the three. ``distortion`` of all pictures; "each" where every
    picture has its own, to be known otherwise; None where there is none.
    """

    source_detector_mm: float
    focal_px: float
    principal_px: tuple[float, float]
    covariance: Array
    distortion: Bend = None

    @property
    def mean_px(self) -> Array:
        """Focal length and principal point (3,), px."""
        return np.array([self.focal_px, *self.principal_px])


@dataclass(frozen=True)
class Preset:
    """A C-arm: pictures of ``size`` (columns, rows), pixels of ``pixel_spacing_mm`` where that is
    known, whether they are ``mirrored``, and entries in the order of their distances."""

    name: str
    size: tuple[int, int]
    pixel_spacing_mm: tuple[float, float] | None
    mirrored: bool
    entries: tuple[PresetEntry, ...]

    def with_entry(self, entry: PresetEntry) -> Preset:
        """The same with an entry, in place of the nearest of its distance (within 1 mm)."""
        old = self._nearest(entry.source_detector_mm)
        others = [other for other in self.entries if other is not old]
        every = sorted([*others, entry], key=lambda e: e.source_detector_mm)
        return replace(self, entries=tuple(every))

    def _nearest(self, source_detector_mm: float) -> PresetEntry | None:
        """The entry of a distance, mm; None where none is within 1 mm."""
        near = min(
            self.entries,
            key=lambda e: abs(e.source_detector_mm - source_detector_mm),
            default=None,
        )
        if near is None or not _same(near.source_detector_mm, source_detector_mm):
            return None
        return near

    def at(self, source_detector_mm: float) -> PresetEntry:
        """What is known at a distance, mm.

        At an entry's distance, within 1 mm, the nearest entry, its focal length as unsure as what
        is left of the millimetre makes it. Between two entries focal length, principal point and
        distortion go evenly from one to the other, and their covariance is wider: by a
        millimetre of distance, by what the focal length goes not in proportion to the distance, and
        by what the principal point moves, from the nearer entry to there.

        Raises:
            InputError: for a distance beyond all entries, and between entries of which one alone
                has distortion.

        Example:
            >>> import numpy as np
            >>> from RadGSRegLib.calibration import Preset, PresetEntry
            >>> near = PresetEntry(1000.0, 1639.0, (243.0, 244.0), np.eye(3))
            >>> far = PresetEntry(1100.0, 1803.0, (243.0, 244.0), np.eye(3))
            >>> preset = Preset("C-arm", (488, 488), (0.61, 0.61), False, (near, far))
            >>> float(preset.at(1050.0).focal_px)
            1721.0
            >>> bool(preset.at(1050.0).covariance[0, 0] > 1.0)
            True
        """
        distances = [entry.source_detector_mm for entry in self.entries]
        entry = self._nearest(source_detector_mm)
        if entry is not None:
            share = source_detector_mm / entry.source_detector_mm - 1.0
            unsure = np.diag([share * entry.focal_px, 0.0, 0.0]) ** 2
            return replace(entry, covariance=entry.covariance + unsure)
        if not distances[0] < source_detector_mm < distances[-1]:
            which = f"{distances[0]:g} mm"
            if len(distances) > 1:
                which = f"{distances[0]:g} to {distances[-1]:g} mm"
            raise InputError(
                self.name,
                f"knows the C-arm at {which} from source to detector, not at "
                f"{source_detector_mm:g} mm",
                "calibrate there with --save-preset first",
            )
        low, high = next(
            (a, b)
            for a, b in pairwise(self.entries)
            if a.source_detector_mm < source_detector_mm < b.source_detector_mm
        )
        return _between(self.name, low, high, source_detector_mm)

    def intrinsics(self, entry: PresetEntry) -> Intrinsics:
        """An entry as what is known before of a camera."""
        return Intrinsics(entry.mean_px, entry.covariance, self.size, self.mirrored)


def _same(a_mm: float, b_mm: float) -> bool:
    return abs(a_mm - b_mm) <= bounds.SAME_DISTANCE_MM


def _between(name: str, low: PresetEntry, high: PresetEntry, distance_mm: float) -> PresetEntry:
    step_mm = high.source_detector_mm - low.source_detector_mm
    share = (distance_mm - low.source_detector_mm) / step_mm
    mean = (1.0 - share) * low.mean_px + share * high.mean_px
    focal_step, *principal_step = high.mean_px - low.mean_px
    in_proportion = high.focal_px * low.source_detector_mm / high.source_detector_mm
    from_nearer = min(share, 1.0 - share)
    unsure = np.array(
        [
            np.hypot(
                focal_step / step_mm * bounds.SAME_DISTANCE_MM,
                from_nearer * (low.focal_px - in_proportion),
            ),
            *(from_nearer * np.array(principal_step)),
        ]
    )
    covariance = (1.0 - share) * low.covariance + share * high.covariance + np.diag(unsure**2)
    bent = _bend_between(name, low, high, share)
    return PresetEntry(
        distance_mm, float(mean[0]), (float(mean[1]), float(mean[2])), covariance, bent
    )


def _bend_between(name: str, low: PresetEntry, high: PresetEntry, share: float) -> Bend:
    a, b = low.distortion, high.distortion
    if not isinstance(a, Distortion) or not isinstance(b, Distortion):
        if a == b:
            return a
        raise InputError(
            name,
            f"says of {low.source_detector_mm:g} and {high.source_detector_mm:g} mm unlike things "
            "of distortion, so nothing follows for distances between",
            "calibrate at this distance with --save-preset",
        )
    if (a.centre_px, a.unit_px) != (b.centre_px, b.unit_px):
        raise InputError(name, "has distortions about different centres, so none follows between")
    radial = (1.0 - share) * np.array(a.radial) + share * np.array(b.radial)
    spiral = (1.0 - share) * np.array(a.spiral) + share * np.array(b.spiral)
    return replace(
        a,
        radial=(float(radial[0]), float(radial[1])),
        spiral=(float(spiral[0]), float(spiral[1])),
    )
