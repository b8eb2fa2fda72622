"""From parameters to CT, labels and subregions on any grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from ..errors import InputError
from ..geometry import Array, Volume
from ..system import Progress, ProgressCallable
from .bones import ORDER, Spine, paint_disc, paint_sacrum, paint_thoracic, paint_vertebra
from .canvas import Canvas, Grid
from .parameters import SpineParameters
from .placement import vertebra_poses
from .region import Region, posed_vertebrae, region_box
from .sizes import LABELS
from .torso import paint_torso

SCANNER_BLUR_MM = 0.35
"""Standard deviation of the scanner's own point spread, mm."""

# Soft tissue is painted no higher.
_MOST_THORACIC = 3


@dataclass(frozen=True)
class Phantom:
    """CT in HU (int16), label map and subregions (uint8) on one grid (LPS axes, mm).

    ``poses`` holds ``local_to_physical`` (4, 4) of every vertebra as built; ``label_names`` the
    name of every label of the map.
    """

    ct: Volume
    labels: Volume
    subregions: Volume
    label_names: dict[int, str]
    poses: dict[str, Array]


def make_phantom(
    parameters: SpineParameters | None = None,
    spacing_mm: float | ArrayLike = 1.0,
    region: Region = "lumbar",
    *,
    moves: Mapping[str, Array] | None = None,
    thoracic: int = 0,
    progress: ProgressCallable | None = None,
) -> Phantom:
    """Build the phantom on a grid of ``spacing_mm`` (one number or (x, y, z)) over ``region``.

    The anatomy does not depend on the grid. ``moves`` (name to 4x4) moves vertebrae rigidly, as
    from `random_poses`; a vertebra's own shape never depends on them. ``thoracic``: so many
    vertebrae more above T12, each with ribs, up to three. Raises InputError for a
    spacing or region that makes no sense, Cancelled when ``progress`` asks to stop.
    """
    p = SpineParameters() if parameters is None else parameters
    report = Progress(progress)
    spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=float), (3,))
    if not (np.isfinite(spacing).all() and (spacing > 0.2).all() and (spacing <= 6.0).all()):
        raise InputError("phantom", f"spacing {spacing.tolist()} mm", "use 0.2 to 6 mm")
    if not 0 <= thoracic <= _MOST_THORACIC:
        raise InputError("phantom", f"{thoracic} vertebrae above T12", "use 0 to 3")
    lower, upper = region_box(p, region, moves)
    count = np.maximum(np.ceil((upper - lower) / spacing).astype(int), 1)
    if count.prod() > 400_000_000:
        raise InputError("phantom", f"{count.prod()} voxels are too many", "use a coarser spacing")
    blur = float(np.sqrt(np.mean(spacing**2) / 12.0 + SCANNER_BLUR_MM**2))
    axes = [(lower[i] + spacing[i] * np.arange(count[i])).astype(np.float32) for i in range(3)]
    grid = Grid(axes[0], axes[1], axes[2], blur)

    report(0.0, "soft tissue")
    hu = paint_torso(p, grid)
    canvas = Canvas(grid, hu)
    spine = Spine(p, vertebra_poses(p), posed_vertebrae(p, moves))
    for index, (upper_name, lower_name) in enumerate(pairwise(ORDER)):
        report(0.3 + 0.6 * index / len(ORDER), upper_name)
        paint_disc(spine, canvas, upper_name, lower_name)
    for index, name in enumerate(ORDER):
        report(0.4 + 0.5 * index / len(ORDER), name)
        if name == "S1":
            paint_sacrum(spine, canvas)
        else:
            paint_vertebra(spine, canvas, index)
    paint_thoracic(spine, canvas, thoracic)
    canvas.drop_islands(float(spacing.prod()))
    report(0.95, "noise")
    if p.noise_hu > 0:
        rng = np.random.default_rng(p.seed + 1)
        noise = rng.standard_normal(grid.shape, dtype=np.float32)
        smooth = gaussian_filter(noise, 0.55)
        hu += smooth * np.float32(p.noise_hu / smooth.std())
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = [axis[0] for axis in axes]
    ct = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    known = {**LABELS, **{f"T{12 - n}": LABELS["T12"] - n for n in range(1, thoracic + 1)}}
    names = {number: name for name, number in known.items() if (canvas.labels == number).any()}
    report(1.0, "phantom")
    return Phantom(
        Volume(ct, matrix),
        Volume(canvas.labels, matrix),
        Volume(canvas.parts, matrix),
        names,
        dict(spine.poses),
    )
