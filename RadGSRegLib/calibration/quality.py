"""Whether a calibration is to be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..cases import CALIBRATION_MM
from . import bounds
from .exposures import Calibration
from .preset_check import PresetCheck
from .shared_check import SharedCheck


def verdict(
    done: Sequence[Calibration],
    known_mm: Mapping[str, float],
    preset: PresetCheck | None = None,
    shared: SharedCheck | None = None,
) -> tuple[str, str]:
    """Judge a calibration: ``ok`` or ``uncertain``, and why.

    ``known_mm``: of each view, how well it knows where the beads' middle is shown
    (`cases.camera_sigma_mm`). ``preset``: how far beads and a preset are apart.
    ``shared``: how far views are apart that are to share focal length and principal point.
    """
    # First: of views that share nothing no preset can be compared.
    if shared is not None and shared.doubted:
        what = "the views do not share focal length and principal point"
        return "uncertain", f"{what}: {shared.words}; {shared.remedy}"
    if preset is not None and preset.doubted:
        return "uncertain", f"the preset does not hold: {preset.words}"
    poor = [c.view.name for c in done if known_mm[c.view.name] > CALIBRATION_MM]
    rough = [c.view.name for c in done if c.view.rms_px > bounds.MOST_RMS_PX]
    few = [c.view.name for c in done if len(c.view.pairs) < bounds.TRUSTED_PAIRS]
    lost = [c.view.name for c in done if c.missing.mean() > 1.0 - bounds.LEAST_MET]
    for names, what in (
        (lost, f"shows less than {bounds.LEAST_MET:.0%} of the beads that lie within it"),
        (rough, f"leaves more than {bounds.MOST_RMS_PX:g} px between beads and shadows"),
        (few, f"shows fewer than {bounds.TRUSTED_PAIRS} of the beads"),
        (poor, f"is not known to {CALIBRATION_MM:g} mm at the beads"),
    ):
        if names:
            return "uncertain", f"{', '.join(names)} {what}"
    return "ok", "the beads that were met lie where the cameras show them"
