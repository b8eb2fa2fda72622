"""Whether views that are calibrated with one focal length and principal point truly share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import chi2

from ..errors import InputError
from ..geometry import Array
from . import bounds
from .exposures import Calibrating, Calibration, paired, sighted
from .prior import Intrinsics
from .resection import Resection, resect
from .spheres import sphere_shift_px
from .types import Beads


@dataclass(frozen=True)
class SharedCheck:
    """How far views alone differ in what they are to share.

    ``views``: names of those that alone fix a camera; ``chance``: how often true spots of one
    C-arm would differ as much; ``furthest``: the view without which the others agree best;
    ``apart_px`` (3,): its focal length, principal point's column and row, minus those of the
    others together; ``sigma_px`` (3,) standard deviations of these. ``preset``: whether the views
    share because a preset is of them.
    """

    views: tuple[str, ...]
    chance: float
    furthest: str
    apart_px: Array
    sigma_px: Array
    preset: bool = False

    @property
    def doubted(self) -> bool:
        """Whether that is too seldom to believe that they share them."""
        return self.chance < bounds.SHARED_CHANCE

    @property
    def words(self) -> str:
        """Which view differs, and by how much."""
        (focal, column, row), sigma = self.apart_px, self.sigma_px
        rest = [name for name in self.views if name != self.furthest]
        others = "the others" if len(rest) > 1 else rest[0]
        return (
            f"{self.furthest} alone has a focal length {focal:+.1f} px (± {sigma[0]:.1f}) and a "
            f"principal point {column:+.1f}, {row:+.1f} px (± {sigma[1]:.1f}, {sigma[2]:.1f}) from "
            f"{others}"
        )

    @property
    def remedy(self) -> str:
        """What to do where they do not share them."""
        return "calibrate without " + ("--preset and " * self.preset) + "--shared-intrinsics"


def check_shared(
    done: Sequence[Calibration], beads: Beads, options: Calibrating
) -> SharedCheck | None:
    """Compare what each view alone says of focal length and principal point.

    Cochran's test of homogeneity: the squares of the distances from the weighted mean have a
    chi-square distribution with 3 (N - 1) degrees of freedom where N views share all three. The
    distortion is taken as it is known or was fitted for all.

    Args:
        done: what `calibrate` made with shared intrinsics.
        beads: of the views.
        options: as `calibrate` was given them; what is known before is not used.

    Returns:
        How far the views are apart, and how likely that is; None where fewer than two of them fix
        a camera alone.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.calibration import (
        ...     Calibrating, Calibration, Resection, Sighting, Spots, check_shared, layout, resect,
        ... )
        >>> from RadGSRegLib.geometry import carm_camera
        >>> beads, rng = layout("two-plates"), np.random.default_rng(0)
        >>> pairs = np.column_stack([np.arange(16)] * 2)
        >>> told = []
        >>> for name, angle in (("AP", 10.0), ("LA", 80.0)):
        ...     camera = carm_camera(1000.0, 600.0, angle, 20.0, (1000, 1000), (0.4, 0.4))
        ...     shown = camera.project(beads.centres_mm) + rng.normal(0, 0.1, (16, 2))
        ...     spots = Spots(shown, np.full(16, 6.0), np.ones(16))
        ...     told.append(Sighting(name, beads, spots, pairs, camera))
        >>> views = resect(told, Resection(shared_intrinsics=True))
        >>> nothing = np.zeros((0, 3)), np.zeros(0, bool)
        >>> done = [Calibration(v, s.spots, *nothing) for v, s in zip(views, told)]
        >>> check_shared(done, beads, Calibrating(shared_intrinsics=True)).doubted
        False
    """
    names, means, covariances = list[str](), list[Array](), list[Array]()
    for c in done:
        alone = _alone(c, beads)
        if alone is not None:
            names.append(c.view.name)
            means.append(alone.mean_px)
            covariances.append(alone.covariance)
    if len(names) < 2:
        return None
    mean = np.stack(means)
    weight = np.linalg.inv(np.stack(covariances))
    every = np.ones(len(names), bool)
    square = _weighted(mean, weight, every)[2]
    apart, spread, falls = [], [], []
    for number in range(len(names)):
        others, covariance, _ = _weighted(mean, weight, every & (np.arange(len(names)) != number))
        apart.append(mean[number] - others)
        spread.append(covariances[number] + covariance)
        # By as much the sum of squares falls without this view.
        falls.append(float(apart[-1] @ np.linalg.solve(spread[-1], apart[-1])))
    furthest = int(np.argmax(falls))
    return SharedCheck(
        tuple(names),
        float(chi2.sf(square, 3 * (len(names) - 1))),
        names[furthest],
        apart[furthest],
        np.sqrt(np.diag(spread[furthest])),
        options.prior.intrinsics is not None,
    )


def _alone(c: Calibration, beads: Beads) -> Intrinsics | None:
    """What a view says by itself; None where it fixes no camera.

    The fit of all leaves out beads of a view that contradict the others: by itself it has them.
    """
    sighting, how = sighted(c, beads, c.view.distortion), Resection(sphere_shift=sphere_shift_px)
    try:
        (view,) = resect([sighting], how)
        pairs, _ = paired(view, c.spots, beads)
        if len(pairs) > len(view.pairs):
            (view,) = resect([replace(sighting, pairs=pairs, camera=view.camera)], how)
    except InputError:
        return None
    return Intrinsics.of(view.camera, view.covariance[6:, 6:])


def _weighted(mean: Array, weight: Array, used: Array) -> tuple[Array, Array, float]:
    """The weighted mean (3,) of those of N (N, 3) that are used, its covariance (3, 3), and the
    sum of squares about it."""
    mean, weight = mean[used], weight[used]
    covariance = np.linalg.inv(weight.sum(axis=0))
    middle = covariance @ np.einsum("nij,nj->i", weight, mean)
    away = mean - middle
    return middle, covariance, float(np.einsum("ni,nij,nj->", away, weight, away))
