"""A start for registration from a trained model: RecM, voxelizer, RegM; with no click if need be.

Without a click the vertebra is found by the network itself: crops all over the place where the
views' axes meet are reconstructed, and the one whose pictures agree best with what they were taken
to show is kept. Each answer says where the vertebra's centre is, so that crops are moved there and
looked at again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..cases import Case, View
from ..drr import excess_attenuation
from ..errors import InputError
from ..gaussians import GaussianCloud
from ..gaussians.fit import one_torch_thread
from ..geometry import transform_points
from ..geometry.camera import triangulate
from ..geometry.pose import translation
from ..progress import Progress
from ..registration.observation import PreparedView, prepare_view
from ..registration.search import Candidate
from .crops import Frame
from .cubes import excess_cube
from .model import RadGSReg
from .recm import Prediction
from .views import concatenate, crop_prepared

Array = NDArray[np.float64]

# A crop about a point this far off still shows the vertebra, if not in its middle.
_SCAN_MM = 20.0
_SCAN_STEPS = 1
_START_STEPS = 2
_RECENTRED = 3
_RECENTRINGS = 2
_BATCH = 32


@dataclass(frozen=True)
class LearnedStart:
    """What a model says about a case.

    ``candidates``: poses to refine, RegM's after RecM's own where its anchors are the patient's.
    ``centre_world`` (3,) mm; ``cloud`` the reconstruction in world mm; ``score`` how well the
    X-rays agree with it, at most 1; ``attention`` (V, M, h, w) over the crops of ``frame``.
    """

    candidates: tuple[Candidate, ...]
    centre_world: Array
    cloud: GaussianCloud
    score: float
    attention: Tensor
    frame: Frame


def learned_start(
    case: Case,
    model: RadGSReg,
    start_ct_to_world: Array | None = None,
    progress: Progress | None = None,
) -> LearnedStart:
    """Where the case's vertebra is, from clicks, else around a start, else from nothing.

    Raises InputError where the views meet nowhere or the label is not in the CT.
    """
    report = progress or Progress()
    mask = np.asarray(case.labels.array) == case.label
    if not mask.any():
        raise InputError(case.label_name, "is not in the segmentation", "check the label")
    centre_ct = case.labels.physical_points(np.argwhere(mask)[:, ::-1].astype(float)).mean(axis=0)
    reference = None if start_ct_to_world is None else np.asarray(start_ct_to_world)[:3, :3]
    views = [prepare_view(view) for view in case.views]
    centres = _centres(case.views, start_ct_to_world, centre_ct)
    with one_torch_thread():
        found = _look(views, centres, reference, model, report.part(0.0, 0.6))
        for turn in range(_RECENTRINGS):
            again = [one.centre_world for one in found[:_RECENTRED]]
            part = report.part(0.6 + 0.15 * turn, 0.75 + 0.15 * turn)
            found = _look(views, again, reference, model, part)
        best = found[0]
        report(0.9, "comparing the reconstruction with the CT")
        excess = excess_attenuation(case.ct, case.labels, case.label)
        cube = excess_cube(excess, centre_ct, model.config.regm)
        aligned = model.align(best.prediction, cube[None])[0].double().cpu().numpy()
    box_to_world = best.frame.box_to_world
    to_centred = translation(-centre_ct)
    poses = []
    if model.is_patient_specific:
        own = best.prediction.effect.poses[0].double().cpu().numpy()
        poses.append(box_to_world @ own @ to_centred)
    poses.append(box_to_world @ aligned @ to_centred)
    cloud = model.recm.clouds(best.prediction.effect)[0]
    return LearnedStart(
        tuple(Candidate(pose, best.score, best.signs) for pose in poses),
        best.centre_world,
        cloud.transformed(box_to_world),
        best.score,
        best.prediction.attention[0],
        best.frame,
    )


@dataclass(frozen=True)
class _Found:
    """One crop's answer."""

    score: float
    centre_world: Array
    prediction: Prediction
    frame: Frame
    signs: tuple[int, ...]


def _centres(
    views: Sequence[View], start_ct_to_world: Array | None, centre_ct: Array
) -> list[Array]:
    """Where to look: the click, or a grid around a start or around where the views' axes meet."""
    clicked = [view for view in views if view.center_px is not None]
    try:
        if len(clicked) >= 2:
            pixels = np.array([view.center_px for view in clicked], dtype=float)
            return [triangulate([view.camera for view in clicked], pixels)[0]]
        if start_ct_to_world is not None:
            start = np.asarray(start_ct_to_world)
            middle, steps = start[:3, :3] @ centre_ct + start[:3, 3], _START_STEPS
        else:
            cameras = [view.camera for view in views]
            middles = [((c.columns - 1) / 2, (c.rows - 1) / 2) for c in cameras]
            middle, steps = triangulate(cameras, middles)[0], _SCAN_STEPS
    except ValueError as error:
        raise InputError("views", str(error), "give views from different sides") from None
    axis = _SCAN_MM * np.arange(-steps, steps + 1)
    return [middle + np.array(offset) for offset in itertools.product(axis, repeat=3)]


def _look(
    views: Sequence[PreparedView],
    centres: Sequence[Array],
    reference: Array | None,
    model: RadGSReg,
    report: Progress,
) -> list[_Found]:
    """The answers of crops about several points, the best first."""
    config = model.config.recm
    device = next(model.parameters()).device
    found: list[_Found] = []
    for first in range(0, len(centres), _BATCH):
        report(first / len(centres), "looking for the vertebra")
        some = centres[first : first + _BATCH]
        try:
            crops = [
                crop_prepared(views, c, reference, size_px=config.size_px, pixel_mm=config.pixel_mm)
                for c in some
            ]
        except ValueError as error:
            raise InputError("views", str(error), "give views from different sides") from None
        batch = concatenate([b for b, _ in crops]).to(device)
        prediction, polarity, scores = model.reconstruct(batch)
        for n, (_, frame) in enumerate(crops):
            one = prediction.case(n)
            centre = one.effect.poses[0, :3, 3].double().cpu().numpy()
            world = transform_points(frame.box_to_world, centre[None])[0]
            sign = 1 if float(polarity[n]) > 0 else -1
            signs = tuple(view.sign or sign for view in views)
            found.append(_Found(float(scores[n]), world, one, frame, signs))
    return sorted(found, key=lambda one: -one.score)
