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
) -> dict[str, float]:
    """How well details of a cloud of bones agree with those of the X-rays as they are.

    Correlations by the views' names, with the polarity that most views of a device have; NaN for a
    view that shows too little. X-rays of bones alone, which only a network has seen, are not asked.
    """
    real = [view for view in views if not view.bone_alone]
    if not real:
        return {}
    beams = whole_beams(real, centre_world, pixels, cloud.means.device.type).thinned(_FACTOR)
    rendered: Tensor = torch.stack([render_view(cloud, beams, n) for n in range(len(beams))])
    scores = np.array(agreement(rendered, beams.values, beams.weight))
    device = beams.device.cpu().numpy()
    known = beams.known.cpu().numpy()
    for number in np.unique(device):
        same = device == number
        judged = scores[same & ~np.isnan(scores)]
        if len(judged) and np.median(judged) < 0.0 and not known[same].any():
            scores[same] = -scores[same]
    return dict(zip(beams.names, scores.tolist(), strict=True))
