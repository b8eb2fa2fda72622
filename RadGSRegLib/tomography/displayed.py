"""Whether X-rays as they are show the bones that a standardisation drew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..gaussians import GaussianCloud
from ..geometry import Array
from ..views import PreparedView
from . import bounds
from .beams import whole_beams
from .cloud_fit import render_view
from .consistency import agreement, leads

# Details of about 4 mm are compared, as `consistency` compares them.
_FACTOR = 2


@dataclass(frozen=True)
class Shown:
    """How well details of bones agree with an X-ray's (a correlation; NaN: it shows too little),
    and by how much more in their own place than elsewhere (`consistency.leads`)."""

    agreement: float
    lead: float

    @property
    def there(self) -> bool:
        """Whether the X-ray shows these bones, and shows them where they are."""
        return self.agreement >= bounds.LEAST_DISPLAYED and self.lead >= bounds.LEAST_LEAD


@torch.no_grad()
def displayed_agreement(
    cloud: GaussianCloud, views: Sequence[PreparedView], centre_world: Array, pixels: int
) -> dict[str, Shown]:
    """How well details of a cloud of bones agree with those of the X-rays as they are.

    By the views' names, with the polarity that most views of a device have, where it is not known.
    X-rays of bones alone, as only a network knows them, are not asked.
    """
    real = [view for view in views if not view.bone_alone]
    if not real:
        return {}
    beams = whole_beams(real, centre_world, pixels, cloud.means.device.type).thinned(_FACTOR)
    rendered: Tensor = torch.stack([render_view(cloud, beams, n) for n in range(len(beams))])
    scores = np.array(agreement(rendered, beams.values, beams.weight))
    signs = np.ones(len(scores))
    device, known = beams.device.cpu().numpy(), beams.sign.cpu().numpy()
    for number in np.unique(device):
        same = device == number
        judged = scores[same & ~np.isnan(scores)]
        if len(judged) and np.median(judged) < 0.0 and not known[same].any():
            signs[same] = -1.0
    turned = torch.from_numpy(signs).to(beams.values)[:, None, None] * beams.values
    ahead = leads(rendered, turned, beams.weight, beams.pixel_mm)
    return {
        name: Shown(float(score), lead)
        for name, score, lead in zip(beams.names, signs * scores, ahead, strict=True)
    }
