"""What ``radgsreg calibrate --compare`` says of the calibration before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..calibration import Beads, Calibration, Drift
    from ..cases import Ledger
    from ..report import Table

_COLUMNS = ("", "focal length, px", "principal point, px", "at the patient, mm", "sigma")
# Rows of the page; calibration.json has all pairs.
_SHOWN_PAIRS = 15


@dataclass(frozen=True)
class Compared:
    """An earlier ``views.json``, and what has drifted since; views that only one of both has are
    ``unmatched``."""

    earlier: Path
    drift: Drift
    unmatched: Sequence[str]

    def record(self) -> dict[str, Any]:
        """What ``calibration.json`` says of it."""
        told = self.drift
        return {
            "earlier": self.earlier.name,
            "at_patient_mm": told.at_patient_mm,
            "sigmas": told.sigmas,
            "significant": told.significant,
            "unmatched": list(self.unmatched),
            "views": [
                {
                    "name": view.name,
                    "focal_px": view.focal_px,
                    "principal_px": view.principal_px.tolist(),
                    "sigmas": view.sigmas,
                    "at_patient_mm": view.at_patient_mm,
                }
                for view in told.views
            ],
            "pairs": [
                {
                    "names": list(pair.names),
                    "turn_deg": pair.turn_deg,
                    "source_mm": pair.source_mm,
                    "sigmas": pair.sigmas,
                }
                for pair in told.pairs
            ],
        }

    def tables(self) -> list[Table]:
        """What the page says of it: tables with a title, the columns and the rows."""
        views = [
            (
                view.name,
                f"{view.focal_px:+.1f}",
                ", ".join(f"{value:+.2f}" for value in view.principal_px),
                f"{view.at_patient_mm:.2f}",
                f"{view.sigmas:.1f}",
            )
            for view in self.drift.views
        ]
        title = f"Since {self.earlier.name}"
        tables: list[Table] = [(title, _COLUMNS, views)]
        pairs = [
            (" to ".join(p.names), f"{p.turn_deg:.2f}", f"{p.source_mm:.2f}", f"{p.sigmas:.1f}")
            for p in sorted(self.drift.pairs, key=lambda pair: -pair.sigmas)[:_SHOWN_PAIRS]
        ]
        if pairs:
            columns = ("", "turned, degrees", "source moved, mm", "sigma")
            of = len(self.drift.pairs)
            some = f", the {len(pairs)} least likely of {of} pairs" if of > len(pairs) else ""
            tables.append((f"{title}, one view against the other{some}", columns, pairs))
        return tables

    def note(self, ledger: Ledger) -> None:
        """Note what has drifted, and what could not be compared."""
        told = self.drift
        if self.unmatched:
            ledger.note(f"not compared, as only one run has them: {', '.join(self.unmatched)}")
        if told.significant:
            ledger.note(
                f"the C-arm has drifted since {self.earlier.name}: {told.at_patient_mm:.2f} mm at "
                f"the patient, by {told.most_sigmas:.1f} standard deviations of both calibrations"
            )

    def verdict(self, status: str, reason: str) -> tuple[str, str]:
        """The verdict of the calibration with what has drifted: no `ok` where that matters."""
        if status != "ok" or not self.drift.matters:
            return status, reason
        return "uncertain", (
            f"the C-arm has drifted by {self.drift.at_patient_mm:.1f} mm at the patient since "
            f"{self.earlier.name}: what was registered with the earlier cameras may be off"
        )


def compared(
    path: Path | None, done: Sequence[Calibration], beads: Beads, ledger: Ledger
) -> Compared | None:
    """Compare calibrated views with an earlier ``views.json`` (None: with nothing).

    Raises InputError where it is none of a calibration, or none of its views is here.
    """
    if path is None:
        return None
    from ..calibration import KnownCamera, drift, read_cameras

    earlier = read_cameras(path)
    ledger.add_file(path)
    views = [
        KnownCamera(c.view.name, c.view.camera, c.view.covariance, c.view.covariance_with)
        for c in done
    ]
    if not {known.name for known in earlier} & {known.name for known in views}:
        names = ", ".join(known.name for known in earlier)
        raise InputError(path, f"has none of these views ({names})", "name the pictures alike")
    told = drift(earlier, views, beads.centres_mm.mean(axis=0))
    both = {view.name for view in told.views}
    unmatched = [known.name for known in (*earlier, *views) if known.name not in both]
    out = Compared(path, told, list(dict.fromkeys(unmatched)))
    out.note(ledger)
    return out
