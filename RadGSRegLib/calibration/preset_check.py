"""Whether beads agree with what a preset says of a C-arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from ..geometry import Array
from . import bounds
from .exposures import Calibrating, Calibration, sighted
from .prior import Intrinsics
from .resection import Resection, resect
from .spheres import sphere_shift_px
from .types import Beads


@dataclass(frozen=True)
class PresetCheck:
    """How far the beads alone put a C-arm from its preset.

    ``apart_px`` (3,): focal length, principal point's column and row, beads minus preset;
    ``sigma_px`` (3,) standard deviations of these; ``chance``: how often true beads and a true
    preset would be as far apart, by all three together.
    """

    apart_px: Array
    sigma_px: Array
    chance: float

    @property
    def doubted(self) -> bool:
        """Whether that is too seldom to believe the preset."""
        return self.chance < bounds.PRESET_CHANCE

    @property
    def words(self) -> str:
        """What there is to say of it, without the preset's name."""
        (focal, column, row), sigma = self.apart_px, self.sigma_px
        return (
            f"beads alone put the focal length {focal:+.1f} px (± {sigma[0]:.1f}) and the "
            f"principal point {column:+.1f}, {row:+.1f} px (± {sigma[1]:.1f}, {sigma[2]:.1f}) "
            "from the preset"
        )


def check_preset(
    done: Sequence[Calibration], beads: Beads, known: Intrinsics, options: Calibrating
) -> PresetCheck:
    """Compare a preset with what the same beads say without it, of all views together.

    Args:
        done: what `calibrate` made with the preset.
        beads: of the views.
        known: what the preset says.
        options: as `calibrate` was given them.

    Returns:
        How far both are apart, and how likely that is.

    Raises:
        InputError: where the beads alone fix no camera.
    """
    bent = options.distortion
    sightings = [sighted(c, beads, None if bent == "fit" else c.view.distortion) for c in done]
    free = resect(sightings, Resection(True, distortion=bent, sphere_shift=sphere_shift_px))[0]
    own = known.as_of(free.camera)
    now = Intrinsics.of(free.camera, free.covariance[6:, 6:])
    apart, spread = now.mean_px - own.mean_px, now.covariance + own.covariance
    square = float(apart @ np.linalg.solve(spread, apart))
    return PresetCheck(apart, np.sqrt(np.diag(spread)), float(chi2.sf(square, len(apart))))
