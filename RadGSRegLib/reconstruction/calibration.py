"""What an X-ray of unknown display curve says about the target: calibrated on its rendering.

An X-ray shows the target's excess attenuation through an unknown curve, on top of scatter, the
trunk and neighbouring bone. The registered rendering is the ruler. Over a neighbourhood of about a
centimetre a smooth curve, scatter and soft tissue are an offset and a gain:

    X-ray = offset(x) + gain(x) rendering + what is not explained.

The offset is what the local means differ by. The gain is the local regression of the X-ray on the
rendering, drawn towards one robust gain of the whole shadow where the rendering has little
contrast. This is preferred to one monotone curve, because a curve cannot follow the trunk's
thickness or a neighbour's shadow, while locally any curve is a line. What it costs: changes of the
target wider than the neighbourhood are put down to the background, so those stay as in the prior.
Array count by the share of the local contrast that the rendering explains, so that neighbours,
wires and gas that lie over the shadow pull little.

The calibration is made once, on the prior. Renewed during the fit it would let a target fade, with
the gain making up for it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..geometry import Array, Camera
from ..views import LEAST_SHARE
from . import bounds
from .observation import Observation


@dataclass(frozen=True)
class Target:
    """An X-ray in units of the rendering: what the fit compares renderings with.

    ``image`` and ``weight`` (rows, columns); divided by ``scale`` both the image and a rendering
    lie in about [0, 1]. ``gain`` is the whole shadow's (X-ray units per unit of line integral, with
    its sign), ``correlation`` that of X-ray and rendering after taking off local means, in [-1, 1].
    """

    name: str
    camera: Camera
    image: Tensor
    weight: Tensor
    scale: float
    gain: float
    correlation: float


def calibrate(observation: Observation, rendering: Tensor, pixel_mm: float) -> Target:
    """Calibrate an observation against the prior's rendering (rows, columns) at its pose."""
    observed = observation.image.cpu().double().numpy()
    rendered = rendering.detach().cpu().double().numpy()
    valid = observation.valid.cpu().double().numpy()
    sigma = bounds.NEIGHBOURHOOD_MM / pixel_mm

    def mean(image: Array) -> Array:
        blurred = ndimage.gaussian_filter(image * valid, sigma, mode="constant")
        return np.asarray(blurred / share)

    share: Array = np.maximum(ndimage.gaussian_filter(valid, sigma, mode="constant"), LEAST_SHARE)
    rendered_mean = mean(rendered)
    high_observed = (observed - mean(observed)) * valid
    high_rendered = (rendered - rendered_mean) * valid
    shadow = (rendered > bounds.SHADOW_SHARE * rendered.max()) & (valid > 0)
    scale = float(np.percentile(rendered[shadow], 99.0)) if shadow.any() else 1.0
    gain, correlation = _robust_gain(high_observed[shadow], high_rendered[shadow])
    believable = observation.sign * gain >= 0
    if gain == 0.0 or not believable:
        empty = torch.zeros_like(rendering)
        return Target(
            observation.name, observation.camera, rendering.detach(), empty, scale, 0.0, correlation
        )

    covariance = mean(high_observed * high_rendered) * np.sign(gain)
    variance = mean(high_rendered**2)
    if observation.gain_known:
        # One gain, not exactly 1: the X-ray's energy is not the one the prior is given at.
        local = np.full_like(variance, abs(gain))
    else:
        pull = max(float(variance[shadow].mean()), 1e-12)
        local = (covariance + pull * abs(gain)) / (variance + pull)
        low, high = bounds.GAIN_RANGE
        local = np.clip(local, low * abs(gain), high * abs(gain))
    image = rendered_mean + np.sign(gain) * high_observed / local
    power = np.maximum(variance * mean(high_observed**2), 1e-24)
    explained = np.clip(covariance, 0.0, None) ** 2 / power
    near = ndimage.binary_dilation(shadow, iterations=2)
    weight = np.where(near, valid * np.minimum(explained, 1.0), 0.0)

    def tensor(values: Array) -> Tensor:
        return torch.from_numpy(values).to(rendering)

    return Target(
        observation.name,
        observation.camera,
        tensor(np.where(valid > 0, image, rendered)),
        tensor(weight),
        scale,
        gain,
        correlation,
    )


def _robust_gain(observed: Array, rendered: Array) -> tuple[float, float]:
    """The slope of ``observed`` (N,) on ``rendered`` (N,), Huber's, and their correlation."""
    power = float(rendered @ rendered)
    if rendered.size < bounds.LEAST_SHADOW_PX or power <= 0.0 or not observed.any():
        return 0.0, 0.0
    norm = np.sqrt(power * float(observed @ observed))
    correlation = float(observed @ rendered) / norm
    slope = float(observed @ rendered) / power
    for _ in range(8):
        residual = np.abs(observed - slope * rendered)
        limit = 1.345 * max(float(np.median(residual)) / 0.6745, 1e-12)
        weight = np.minimum(1.0, limit / np.maximum(residual, 1e-12))
        slope = float((weight * observed) @ rendered / ((weight * rendered) @ rendered))
    return slope, float(correlation)
