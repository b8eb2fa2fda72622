"""The vertebrae that X-rays show, in space, with the levels that the X-rays tell of them.

Maps of single views (`networks.levels`) are fused to candidates in space, and these are weighed by
the order of the spine. A level is named only where a view shows an anchor, the sacrum or the last
rib (`RadGSRegLib.spine`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from ..geometry import Array, invert_rigid, transform_points
from ..spine import LEVELS, SpineLevels, Vertebra, name_vertebrae
from ..views import PreparedView
from . import bounds
from .anchors import project
from .detector import STRIDE, sample_map
from .levels import ANCHORS, LEVEL_CLASSES, UNTOLD, LevelNetwork, look_for_levels
from .places import Sighting, picture_px
from .views import crop_prepared

_CLASS_OF = [
    LEVEL_CLASSES.index(level) if level in LEVEL_CLASSES else LEVEL_CLASSES.index("above")
    for level in LEVELS
]


@dataclass(frozen=True)
class LevelSighting(Sighting):
    """Places that two views or more show; those that do not show a place do not count there.

    ``shows`` (V, h, w): 1 where a view's picture shows the patient.
    """

    shows: Tensor = field(kw_only=True)

    def scores(self, points_box: Tensor) -> Tensor:
        pixels = project(points_box[None], self.intrinsics[None], self.extrinsics[None])[0]
        weight = _shown(self, pixels)
        logs = sample_map(self.logs, pixels, self.size_px)
        score = (weight * logs).sum(0) / weight.sum(0).clamp_min(1.0)
        return torch.where(weight.sum(0) >= min(2, len(weight)), score, -torch.inf)


def _shown(sighting: "LevelSighting", pixels: Tensor) -> Tensor:
    """Which views show places at pixels (V, P, 2): 1 or 0 (V, P)."""
    inside = ((pixels > -0.5) & (pixels < sighting.size_px - 0.5)).all(-1)
    return inside * (sample_map(sighting.shows, pixels, sighting.size_px) > 0.5).float()


def name_levels(
    views: Sequence[PreparedView],
    network: LevelNetwork,
    centre_world: Array,
    reference: Array | None = None,
) -> SpineLevels:
    """Say which vertebrae X-rays show, and of which level each is.

    Args:
        views: two or more, of any directions, as `views.prepare_views` gives them.
        network: as `load_levels` gives it.
        centre_world: (3,) mm, about where the views' axes meet.
        reference: (3, 3), the patient's axes (LPS) in the world, roughly: which way is up (those
            of the world unless given).

    Returns:
        Candidates from top to bottom; without an anchor none of them has a level.

    Raises:
        InputError: for views that are parallel or look along the spine.
    """
    config = network.config
    try:
        batch, (frame,) = crop_prepared(
            views,
            [centre_world],
            reference,
            size_px=picture_px(views, centre_world, config),
            pixel_mm=config.pixel_mm,
            device=next(network.parameters()).device,
        )
    except ValueError as error:
        raise InputError("views", str(error), "give views from different sides") from None
    valid = batch.valid[0]
    there, classes = look_for_levels(network, batch.pictures[0], valid, batch.extrinsics[0])
    shows = functional.avg_pool2d(valid[:, None].cpu(), STRIDE)[:, 0]
    sighting = LevelSighting(
        there.clamp_min(bounds.SHARE_FLOOR).log(),
        batch.intrinsics[0].cpu(),
        batch.extrinsics[0].cpu(),
        batch.size_px,
        config.pixel_mm,
        frame.box_to_world,
        shows=shows,
    )
    return spine_of_maps(sighting, there, classes)


def spine_of_maps(sighting: LevelSighting, there: Tensor, classes: Tensor) -> SpineLevels:
    """Candidates and their levels from each view's maps (V, h, w) and (V, C, h, w)."""
    places, scores = sighting.places(bounds.CANDIDATES)
    likely = np.exp(scores) >= bounds.CANDIDATE_LEAST
    places, shares = places[likely], np.exp(scores[likely])
    up = sighting.box_to_world[:3, 2]
    order = np.argsort(-places @ up, kind="stable")
    places, shares = places[order], shares[order]
    box = transform_points(invert_rigid(sighting.box_to_world), places)
    pixels = project(
        torch.from_numpy(box).float()[None], sighting.intrinsics[None], sighting.extrinsics[None]
    )[0]
    weight = _shown(sighting, pixels)
    at = torch.stack(
        [sample_map(classes[:, n], pixels, sighting.size_px) for n in range(len(LEVEL_CLASSES))]
    )
    # Against what a vertebra of which nothing is told looks like: 0 there.
    levels = len(LEVELS) * at[_CLASS_OF] + at[UNTOLD]
    logs = bounds.LOOKS_WEIGHT * (weight * levels.clamp_min(bounds.LOOKS_FLOOR).log()).sum(1)
    vertebrae = tuple(
        Vertebra(place, float(share), dict(zip(LEVELS, looks, strict=True)), {})
        for place, share, looks in zip(places, shares, logs.T.tolist(), strict=True)
    )
    shown = there * (sighting.shows > 0.5)
    trust = {"sacrum": bounds.SACRUM_TRUST, "last rib": bounds.RIB_TRUST}
    anchors = {}
    for name, kind in ANCHORS.items():
        middle, slope = trust[name]
        share = float((shown * classes[:, kind]).amax())
        anchors[name] = float(expit(middle + slope * share))
    return name_vertebrae(vertebrae, anchors)
