"""How good a trained model's reconstructions are, as the contract measures them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..gaussians import GaussianCloud
from ..geometry import translation
from ..measures import reconstruction_quality, shape_dice
from ..networks import Prediction, RadGSReg, excess_cube, inside_volume, placed
from ..reconstruction import box_of_cloud
from .losses import point_distance
from .pool import VALIDATION, SamplePool, in_anchor_axes, stack_samples
from .subjects import Subject

_SPACING_MM = 1.5


def reconstruction_figures(
    model: RadGSReg,
    pool: SamplePool,
    count: int,
    vertebrae: Callable[[SamplePool, Sequence[int]], Sequence[GaussianCloud]] = lambda *_: (),
) -> dict[str, float]:
    """Average SSIM and PSNR (dB) of held-out pairs, on the vertebra's box at 1.5 mm.

    Where the model has a decoder, told nothing, also the Dice coefficient, and the medians of how
    far off poses are (mm).

    RecM's own answers, without any refinement, polarity unknown. A reconstruction that misses its
    vertebra's box counts as 0. ``vertebrae`` gives those of pairs that RecM is told; their polarity
    is known too.
    """
    figures = []
    device = next(model.parameters()).device
    for number in range(VALIDATION, VALIDATION + count):
        subject, sample = pool.subject(number), pool.sample(number)
        views, _, poses = stack_samples([sample], model.config.recm.pixel_mm, None)
        own, prediction = vertebrae(pool, [number]), None
        if own:
            poses_box = model.recm.predict(views.to(device), own).effect.poses
            (cloud,) = placed(own, poses_box.to("cpu"))
        else:
            views = views.to(device)
            prediction, polarity, _ = model.reconstruct(views)
            bright = views.pictures * polarity[:, None, None, None, None]
            prediction = model.decode(prediction, replace(views, pictures=bright))
            cloud = model.clouds(prediction)[0].detach().to("cpu")
        ct_to_box = poses[0].double().numpy() @ translation(-subject.centre_ct)
        volume = box_of_cloud(cloud, _SPACING_MM).voxelize(cloud)
        try:
            quality = reconstruction_quality(
                volume, subject.ct, subject.labels, subject.label, ct_to_box
            )
        except ValueError:
            quality = {"ssim": 0.0, "psnr_db": 0.0}
        if prediction is not None and prediction.decoded is not None and model.decoder is not None:
            anchors_to_box = prediction.effect.poses[0].double().cpu().numpy()
            inside = inside_volume(prediction.decoded, model.decoder.config, anchors_to_box)
            quality["dice"] = shape_dice(inside, subject.labels, subject.label, ct_to_box)
            quality |= _off(model, prediction, subject, poses)
        figures.append(quality)
    found: dict[str, float] = {}
    for name in figures[0]:
        how = np.median if name.endswith("_mm") else np.mean
        found[name] = float(how([each[name] for each in figures]))
    return found


def _off(
    model: RadGSReg, prediction: Prediction, subject: Subject, centred_to_box: Tensor
) -> dict[str, float]:
    """How far off RecM's and RegM's poses are, mm, mean over the surface."""
    axes = torch.from_numpy(np.asarray(subject.anchors_to_centred)).float()[None]
    points = torch.from_numpy(subject.surface_points_ct - subject.centre_ct).float()[None]
    cube = excess_cube(subject.excess, subject.centre_ct, model.config.regm)
    aligned = model.align(prediction, cube[None]).cpu()
    own = in_anchor_axes(points, axes)
    seen = prediction.effect.poses.cpu()
    return {
        "recm_mm": float(point_distance(own, centred_to_box @ axes, seen)),
        "regm_mm": float(point_distance(points, centred_to_box, aligned)),
    }
