"""Whether X-rays as they are show the bones that a standardisation drew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..gaussians import GaussianCloud
from ..geometry import Array
from ..views import PreparedView
from .beams import whole_beams
from .cloud_fit import render_view
from .consistency import agreement

# Details of about 4 mm are compared, as `consistency` compares them.
_FACTOR = 2


@torch.no_grad()
def displayed_agreement(
    cloud: GaussianCloud, views: Sequence[PreparedView], centre_world: Array, pixels: int
) -> float:
    """How well details of a cloud of bones agree with those of the X-rays as they are.

    The median over views of correlations, each with the polarity that most views of its device
    have; NaN where no view can be judged. X-rays of bones alone, which only a network has seen, are
    not asked.
    """
    real = [view for view in views if not view.bone_alone]
    if not real:
        return float("nan")
    beams = whole_beams(real, centre_world, pixels, cloud.means.device.type).thinned(_FACTOR)
    rendered: Tensor = torch.stack([render_view(cloud, beams, n) for n in range(len(beams))])
    scores = np.array(agreement(rendered, beams.values, beams.weight))
    device = beams.device.cpu().numpy()
    for number in np.unique(device):
        same = device == number
        if np.nanmedian(np.append(scores[same], 0.0)) < 0.0 and not beams.known[same].any():
            scores[same] = -scores[same]
    judged = scores[~np.isnan(scores)]
    return float(np.median(judged)) if len(judged) else float("nan")
