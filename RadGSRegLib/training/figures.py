"""How good a trained model's reconstructions are, as the contract measures them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..gaussians import GaussianCloud
from ..geometry import translation
from ..measures import reconstruction_quality, shape_dice
from ..networks import RadGSReg, inside_volume, placed
from ..reconstruction import box_of_cloud
from .pool import VALIDATION, SamplePool, stack_samples

_SPACING_MM = 1.5


def reconstruction_figures(
    model: RadGSReg,
    pool: SamplePool,
    count: int,
    vertebrae: Callable[[SamplePool, Sequence[int]], Sequence[GaussianCloud]] = lambda *_: (),
) -> dict[str, float]:
    """Average SSIM and PSNR (dB) of held-out pairs, on the vertebra's box at 1.5 mm, and the Dice
    coefficient where the model has a decoder.

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
            pose = prediction.effect.poses[0].double().cpu().numpy()
            inside = inside_volume(prediction.decoded, model.decoder.config, pose)
            quality["dice"] = shape_dice(inside, subject.labels, subject.label, ct_to_box)
        figures.append(quality)
    return {name: float(np.mean([each[name] for each in figures])) for name in figures[0]}
