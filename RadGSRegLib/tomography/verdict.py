"""Whether a reconstruction without a CT is to be trusted, and what says so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..geometry import Array, Camera
from . import bounds
from .bone import Bone, DrawnBones


def widest_gap_deg(cameras: Sequence[Camera], centre_world: Array) -> float:
    """The widest angle without a view, degrees, in the plane that the directions span most.

    A direction and its opposite show the same. 180 for fewer than two views.
    """
    if len(cameras) < 2:
        return 180.0
    ways = np.stack([centre_world - camera.source_world for camera in cameras])
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    plane = np.linalg.eigh(ways.T @ ways)[1][:, 1:]
    flat = ways @ plane
    angles = np.sort(np.degrees(np.arctan2(flat[:, 1], flat[:, 0])) % 180.0)
    return float(np.max(np.diff(np.concatenate([angles, [angles[0] + 180.0]]))))


def verdict(
    views: int,
    gap_deg: float,
    agreement: float,
    odd: Sequence[str],
    stopped_early: bool,
    unfinished: bool = False,
) -> tuple[str, str]:
    """Return "ok" or "uncertain", and why in one sentence.

    ``agreement``: the median that `consistency.contradictions` says, NaN where nothing is judged.
    ``stopped_early``: no step of the fit was taken; ``unfinished``: nor is the coarse volume whole,
    so that what contradicts may only be unfinished.
    """
    if unfinished:
        return (
            "uncertain",
            "stopped early, before the coarse volume was finished; give more minutes",
        )
    if odd:
        named = ", ".join(odd)
        word = "contradicts" if len(odd) == 1 else "contradict"
        return "uncertain", f"{named} {word} the other X-rays; check the geometry and the patient"
    if views < bounds.LEAST_VIEWS:
        return "uncertain", f"{views} X-rays do not show a volume; {bounds.LEAST_VIEWS} are needed"
    if gap_deg > bounds.WIDEST_GAP_DEG:
        return (
            "uncertain",
            f"no X-ray looks along {gap_deg:.0f} degrees; spread the directions",
        )
    if not agreement >= bounds.LEAST_AGREEMENT:
        return "uncertain", "the X-rays do not agree with each other; check the geometry"
    if stopped_early:
        return "uncertain", "the fit was stopped before it had begun; give it more minutes"
    return (
        "ok",
        f"{views} X-rays agree, and no gap between them is wider than {gap_deg:.0f} degrees",
    )


def with_bone(status: str, reason: str, drawn: DrawnBones, bone: Bone) -> tuple[str, str]:
    """Return the verdict where bone was told from soft tissue too: bones that a network drew are
    held against what the X-rays as they are show."""
    if not drawn.enough:
        count = len(drawn.left_out)
        word = "X-ray is" if count == 1 else "X-rays are"
        why = f"{count} {word} unlike anything that the standardisation was trained on"
    elif not drawn.finished:
        why = "stopped early, before the drawn bones were finished; give more minutes"
    elif not bone.agreement >= bounds.LEAST_BONE_AGREEMENT:
        why = "the X-rays as they are do not show the bones that were drawn of them"
    elif status == "ok":
        return status, f"{reason}, and show the bones that were drawn of them"
    else:
        return status, reason
    return "uncertain", why if status == "ok" else f"{reason}; {why}"


def psnr_db(rendered: Tensor, wanted: Tensor, weight: Tensor) -> float:
    """Peak signal to noise of a picture (rows, columns), dB.

    The peak is the highest of the X-ray, as R2-Gaussian's code takes it.
    """
    error = float((weight * (rendered - wanted).square()).sum() / weight.sum().clamp_min(1.0))
    peak = float((weight * wanted).max())
    return float(10.0 * np.log10(max(peak, 1e-12) ** 2 / max(error, 1e-20)))
