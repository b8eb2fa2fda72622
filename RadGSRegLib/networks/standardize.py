"""X-rays standardised: every view shows the line integrals of its bones alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from ..geometry import Array
from ..views import PreparedView, blurred, ranks_and_contrast, sampled
from . import bounds
from .standard import MULTIPLE, Standardizer


@dataclass(frozen=True)
class Familiarity:
    """How far a view lies from the pictures of the training, in their standard deviations, and
    where it counts as unlike them.

    ``doubt``: how much the answers to the picture as it is, and mirrored and inverted, differ, as a
    share of what they show.
    """

    strangeness: float
    limit: float
    doubt: float

    @property
    def unlike(self) -> bool:
        """Whether the network was trained on nothing like it."""
        # What is not a number is not familiar either.
        return not (self.strangeness <= self.limit and self.doubt <= bounds.MOST_DOUBT)


class Standardization:
    """A `ViewFilter`: a realistic X-ray becomes the DRR of its bones alone.

    The values are line integrals of cortical bone at 60 keV, without a unit, and never negative
    (math.md 2: what of a voxel is not bone is soft tissue, and is not shown);
    ``said`` tells, by the views' names, how familiar each was.

    Args:
        network: as `load_standardizer` gives it.
        centre_world: (3,) mm, about where the patient is in the beams: sizes hang on it.

    Example:
        >>> from RadGSRegLib import pipeline
        >>> from RadGSRegLib.networks import Standardization, load_standardizer, shipped_weights
        >>> network = load_standardizer(shipped_weights("standard"))
        >>> bones = Standardization(network, pipeline.centre_of_views(case.views))
        >>> from RadGSRegLib.views import prepare_views
        >>> standard = prepare_views(case.views, [bones])
        >>> standard[0].bone_alone
        True
        >>> sorted(bones.said) == sorted(view.name for view in case.views)
        True
    """

    name = "standardisation"

    def __init__(self, network: Standardizer, centre_world: Array) -> None:
        self.network = network
        self.centre_world = np.asarray(centre_world, dtype=float)
        self.said: dict[str, Familiarity] = {}

    def __call__(self, view: PreparedView) -> PreparedView:
        """Return the view with the line integrals of its bones.

        Raises InputError for a view whose source lies at the patient, one that shows nothing, and
        one that shows bone alone already.
        """
        if view.bone_alone:
            raise InputError(view.name, "is standardised already", "take the X-ray as it was")
        step = self.network.config.pixel_mm / self._pixel_mm(view)
        picture, valid, rows, columns = _resampled(view, step)
        answers, features = self._answers(picture, valid)
        bone = answers.mean(0).clamp_min(0.0)
        self.said[view.name] = self._familiarity(answers, features, valid)
        fine = _back(bone.numpy(), (rows, columns), view)
        return replace(
            view,
            values=np.where(view.valid, fine, 0.0).astype(np.float32),
            sign=1,
            gain_known=True,
            offset_known=True,
            bone_alone=True,
            unlike=self.said[view.name].unlike,
        )

    def _pixel_mm(self, view: PreparedView) -> float:
        """How wide a pixel is at the patient."""
        camera = view.camera
        centre = np.append(self.centre_world, 1.0)
        depth = float(camera.world_to_camera[2] @ centre)
        if depth < bounds.LEAST_DEPTH_MM:
            raise InputError(
                view.name, "the patient lies at or behind the source, or nearly", "check it"
            )
        if not view.valid.any():
            raise InputError(view.name, "no pixel shows the patient", "leave this X-ray out")
        return depth / camera.focal_px

    @torch.no_grad()
    def _answers(self, picture: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """What is said (2, H, W) of the picture (H, W) as it is, and mirrored and inverted, turned
        back, and the features (2, F)."""
        device = next(self.network.parameters()).device
        rows, columns = picture.shape
        pad = (0, -columns % MULTIPLE, 0, -rows % MULTIPLE)
        shown = ranks_and_contrast(picture[None], valid[None], self.network.config.pixel_mm)
        shown, real = functional.pad(shown, pad), functional.pad(valid[None], pad)
        bone, features = self.network(
            torch.cat([shown, -shown.flip(-1)]).to(device),
            torch.cat([real, real.flip(-1)]).to(device),
        )
        bone = torch.stack([bone[0], bone[1].flip(-1)])
        return bone[:, :rows, :columns].float().cpu(), features.float().cpu()

    def _familiarity(self, answers: Tensor, features: Tensor, valid: Tensor) -> Familiarity:
        network = self.network
        strangeness = network.strangeness(features).mean()
        mean = answers.mean(0).clamp_min(0.0)
        difference = (answers[0].clamp_min(0.0) - answers[1].clamp_min(0.0)).abs()
        doubt = (valid * difference).sum() / (valid * mean).sum().clamp_min(1e-6)
        return Familiarity(float(strangeness), float(network.limit), float(doubt))


def _resampled(view: PreparedView, step: float) -> tuple[Tensor, Tensor, Array, Array]:
    """The picture and its validity (H, W) at pixels ``step`` as wide, and where their rows and
    columns lie in the view."""
    height, width = view.values.shape
    rows, columns = (
        np.arange(max(round(n / step), MULTIPLE)) * step + (step - 1.0) / 2.0
        for n in (height, width)
    )
    valid = view.valid.astype(np.float32)
    smooth, share = blurred(
        view.pixels, valid, bounds.THINNING_BLUR * max(step - 1.0, 0.0), 3.0, 1e-3
    )
    grid = np.meshgrid(rows, columns, indexing="ij")
    image, real = sampled(smooth, share, *grid)
    inside = (grid[0] <= height - 0.5) & (grid[1] <= width - 0.5)
    real = real & inside
    return (
        torch.from_numpy(np.where(real, image, 0.0)).float(),
        torch.from_numpy(real).float(),
        rows,
        columns,
    )


def _back(bone: Array, places: tuple[Array, Array], view: PreparedView) -> Array:
    """Coarse pixels at rows and columns ``places`` of the view, on the view's own pixels."""
    at = [
        (np.arange(n) - where[0]) / (where[1] - where[0])
        for n, where in zip(view.values.shape, places, strict=True)
    ]
    grid = np.meshgrid(*at, indexing="ij")
    fine, _ = sampled(bone, np.ones_like(bone), *grid)
    return np.asarray(fine)


def unlike_views(filters: Sequence[object]) -> tuple[str, ...]:
    """Name the views that standardisations among ``filters`` called unlike their training."""
    return tuple(
        name
        for each in filters
        if isinstance(each, Standardization)
        for name, familiar in each.said.items()
        if familiar.unlike
    )


def standard_record(bones: Standardization) -> dict[str, dict[str, float | bool]]:
    """Return what a standardisation says of its views as JSON values, by their names."""
    return {
        name: {
            "strangeness": round(familiar.strangeness, 3),
            "limit": round(familiar.limit, 3),
            "doubt": round(familiar.doubt, 3),
            "unlike": familiar.unlike,
        }
        for name, familiar in bones.said.items()
    }
