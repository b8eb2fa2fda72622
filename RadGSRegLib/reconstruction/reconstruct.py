"""X-rays, and Gaussians to begin with if there are any, to Gaussians and their volume."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..cases import View
from ..errors import InputError
from ..gaussians import GaussianCloud, rasterize
from ..system import Progress, ProgressCallable, one_torch_thread
from ..views import PreparedView, ViewFilter, prepare_views
from .box import FRESH_BOX_MM, Box, box_of_cloud, cube
from .calibration import calibrate
from .deadline import Deadline
from .from_scratch import fit_from_scratch
from .losses import image_losses
from .observation import observe
from .types import Reconstruction, ReconstructionOptions
from .with_prior import fit_with_prior


def reconstruct_from_views(
    views: Sequence[View],
    *,
    prior_cloud: GaussianCloud | None = None,
    centre_world: ArrayLike,
    options: ReconstructionOptions | None = None,
    filters: Sequence[ViewFilter] = (),
    progress: Progress | ProgressCallable | None = None,
) -> Reconstruction:
    """Reconstruct what the views show about ``centre_world`` (3,), world mm.

    With ``prior_cloud`` (in world mm: the CT vertebra at its registered pose) the prior is adjusted
    as far as the views agree (`with_prior`), otherwise a fresh cloud is fitted
    (`from_scratch`, math.md section 5). The cloud is on ``options.device``, the volume axis-aligned
    in the world. ``filters`` make the views better first. The same views, options and machine give
    the same result. Raises InputError for views that cannot show the place and for a prior without
    anything in it, Cancelled when ``progress`` says so.
    """
    chosen = options or ReconstructionOptions()
    report = progress if isinstance(progress, Progress) else Progress(progress)
    centre = np.asarray(centre_world, dtype=float)
    if not views:
        raise InputError("views", "there are none to reconstruct from")
    if centre.shape != (3,) or not np.isfinite(centre).all():
        raise InputError("centre_world", "is not a point of three finite numbers")
    deadline = Deadline(chosen.time_limit_s)
    with one_torch_thread():
        report(0.0, "preparing the X-rays")
        prepared = prepare_views(views, filters)
        if prior_cloud is None:
            result = _fresh(prepared, centre, chosen, deadline, report)
        else:
            result = _adjusted(prepared, prior_cloud, centre, chosen, deadline, report)
    report(1.0, "reconstructed")
    return result


def _adjusted(
    views: Sequence[PreparedView],
    prior_cloud: GaussianCloud,
    centre: np.ndarray,
    options: ReconstructionOptions,
    deadline: Deadline,
    report: Progress,
) -> Reconstruction:
    prior = prior_cloud.detach().to(options.device, torch.float32)
    if not len(prior) or not float(prior.mass()) > 0.0:
        raise InputError("prior", "holds no Gaussian that absorbs", "check the CT's Gaussians")
    box = box_of_cloud(prior, options.spacing_mm)
    targets = []
    for view in views:
        seen = observe(view, box.corners, options.pixel_mm, device=options.device)
        targets.append(calibrate(seen, _rendered(prior, seen.camera), options.pixel_mm))
    fit = fit_with_prior(prior, targets, options, deadline, report.part(0.1, 0.9))
    figures = {
        target.name: {
            **_figures(
                _rendered(fit.cloud, target.camera), target.image, target.weight, target.scale
            ),
            "correlation": target.correlation,
            "bone": "bright" if target.gain > 0 else "dark" if target.gain < 0 else "unknown",
        }
        for target in targets
    }
    if options.box_mm is not None:
        box = cube(centre, options.box_mm, options.spacing_mm)
    facts = {"prior": "ct", "absolute_scale": True, **fit.quality}
    return _result(fit.cloud, box, facts, figures, deadline)


def _fresh(
    views: Sequence[PreparedView],
    centre: np.ndarray,
    options: ReconstructionOptions,
    deadline: Deadline,
    report: Progress,
) -> Reconstruction:
    box = cube(centre, options.box_mm or FRESH_BOX_MM, options.spacing_mm)
    seen = [observe(view, box.corners, options.pixel_mm, device=options.device) for view in views]
    fit = fit_from_scratch(seen, box, options, deadline, report.part(0.05, 0.95))
    with torch.no_grad():
        figures = {
            target.name: _figures(target.render(fit.cloud), target.image, target.weight, fit.scale)
            for target in fit.targets
        }
    absolute = all(view.gain_known for view in seen)
    facts = {"prior": "none", "absolute_scale": absolute, **fit.quality}
    return _result(fit.cloud, box, facts, figures, deadline)


def _result(
    cloud: GaussianCloud,
    box: Box,
    facts: dict[str, Any],
    figures: dict[str, Any],
    deadline: Deadline,
) -> Reconstruction:
    quality = {
        **facts,
        "gaussians": len(cloud),
        "stopped_early": deadline.struck,
        "views": figures,
    }
    return Reconstruction(cloud, box.voxelize(cloud), quality)


@torch.no_grad()
def _rendered(cloud: GaussianCloud, camera: Any) -> Tensor:
    return rasterize(cloud, camera.intrinsic, camera.world_to_camera, camera.size)


@torch.no_grad()
def _figures(rendered: Tensor, image: Tensor, weight: Tensor, scale: float) -> dict[str, float]:
    """L1 and SSIM of a rendering against its X-ray in the rendering's units."""
    l1, dssim = image_losses(rendered / scale, image / scale, weight)
    return {"l1": float(l1), "ssim": 1.0 - float(dssim)}
