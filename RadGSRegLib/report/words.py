"""What a report calls the figures of a result: a name that a reader knows, a value with its unit.

What is not named here is of use to a program only, and stands in ``registration.json``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

Row = tuple[str, str]

# Agreement is a correlation, 1 where an X-ray and the rendering are alike.
_QUALITY = {
    "expected_error_mm": "expected error of the surface",
    "calibration_error_mm": "part of it that comes of the calibration",
    "score": "agreement with the X-rays, of 1",
    "weakest_score": "agreement with the weakest X-ray, of 1",
    "edge_score": "agreement of edges, of 1",
    "weakest_edge_score": "agreement of edges in the weakest X-ray, of 1",
    "own_share": "part of it that the bone itself adds, in the X-ray where that is least",
    "disagreement_mm": "moves if it is fitted in another way",
    "epipolar_mm": "the X-rays contradict one another, across epipolar lines, by",
    "apart_deg": "each alone turns the bone against the others by up to",
    "from_start_mm": "distance from the given start",
    "networks_distance_mm": "distance from the networks' pose",
    "networks_distance_deg": "turned against the networks' pose",
    "networks_held_out_mm": "the networks' error on held-out X-rays",
    "neighbour_shift_mm": "largest move of a bone beside it",
}
# By how much more agreement it is ahead of what must fit worse; 1, but for rounding, where
# there is no such thing.
_LEADS = {
    "lead": "the next best pose",
    "fine_lead": "the next best pose, closely fitted",
    "edge_lead": "the next best pose, by edges",
    "level_lead": "the level above or below",
    "picture_lead": "mirrored or exchanged X-rays",
    "polarity_lead": "bone bright in one X-ray and dark in another",
}
_NO_LEAD = "not needed, or nothing like it"

_VIEW = {
    "score": "agreement",
    "correlation": "correlation with the X-ray",
    "ssim": "SSIM with the X-ray",
    "l1": "mean difference from the X-ray",
    "bone": "bone is",
    "epipolar_mm": "contradicts the others by",
    "apart_deg": "turns the bone against the others by",
}
_RECONSTRUCTION = {
    "prior": "begun from",
    "background": "background of the X-rays",
    "bone": "bone in the X-rays is",
    "absolute_scale": "attenuation in 1/mm",
    "change_mm": "shape changed by",
    "change_allowed": "share of the change that was kept",
    "reason": "why",
    "agreement": "agreement with the X-rays, of 1",
    "gaussians": "Gaussians",
    "stopped_early": "stopped early, for lack of time",
}
_VALUES = {
    "prior": {
        "ct": "the bone in the CT",
        "none": "the X-rays alone",
        "model": "a trained model",
        "shape": "another CT's shape",
    },
    "absolute_scale": {"no": "no, up to a factor"},
    "background": {"none": "not modelled", "smooth": "smooth, modelled"},
}
_STAGES = {
    "align": "pose by networks",
    "prepare": "making ready",
    "learned": "trained model",
    "search": "search",
    "coarse": "coarse fit",
    "middle": "closer fit",
    "fine": "finest fit",
    "check": "checks of the pose",
    "reconstruct": "reconstruction",
    "total": "total",
}
_PARAMETERS = {
    "label_name": "bone",
    "method": "method",
    "refine": "networks' pose refined",
    "by_level": "begun at the level that the X-rays name",
    "label": "its number in the segmentation",
    "registration.click_range_mm": "search about the clicks",
    "registration.start_range_mm": "search about a start",
    "registration.rotation_range_deg": "search of rotations, each way",
    "registration.start_rotation_range_deg": "search of rotations about a start, each way",
    "seed": "seed of random numbers",
}


def quality_words(quality: Mapping[str, Any]) -> list[Row]:
    """Name what a registration's ``quality`` says of the pose."""
    rows = [(words, amount(key, quality[key])) for key, words in _QUALITY.items() if key in quality]
    for key in (*_LEADS, *sorted(k for k in quality if k.endswith("_lead") and k not in _LEADS)):
        if key in quality:
            other = _LEADS.get(key) or f"another {key.removesuffix('_lead').replace('_', ' ')}"
            lead = float(quality[key])
            rows.append((f"ahead of {other}", _NO_LEAD if lead > 0.999 else f"by {number(lead)}"))
    return rows


def view_words(figures: Mapping[str, Any]) -> list[Row]:
    """Name what is known of the fit in one X-ray."""
    return [(words, amount(key, figures[key])) for key, words in _VIEW.items() if key in figures]


def reconstruction_words(figures: Mapping[str, Any]) -> list[Row]:
    """Name the figures of a reconstruction, those of each X-ray in a row; what has spaces in its
    key has a name already."""
    rows = [
        (_without_unit(key), amount(key, value)) for key, value in figures.items() if " " in key
    ]
    for key, words in _RECONSTRUCTION.items():
        if key in figures:
            value = amount(key, figures[key])
            rows.append((words, _VALUES.get(key, {}).get(value, value)))
    views = figures.get("views")
    for name, fit in views.items() if isinstance(views, Mapping) else ():
        rows.append((f"X-ray {name}", ", ".join(f"{w} {v}" for w, v in view_words(fit))))
    return rows


def parameter_words(parameters: Mapping[str, Any]) -> list[Row]:
    """Name the settings (keys joined by dots) that a reader may ask for."""
    named = [(words, key) for key, words in _PARAMETERS.items() if key in parameters]
    return [(words, amount(key, parameters[key])) for words, key in named]


def stage_words(stage: str) -> str:
    """Name a stage that was timed."""
    return _STAGES.get(stage, stage.replace("_", " "))


def plain_words(values: Mapping[str, Any]) -> list[Row]:
    """Name figures by their keys; what is no number and no text is left out."""
    plain = {k: v for k, v in values.items() if isinstance(v, int | float | str | np.generic)}
    return [(_without_unit(key), amount(key, value)) for key, value in plain.items()]


def amount(key: str, value: Any) -> str:
    """Write a value with the unit that its key ends in."""
    shown = {"deg": "°", "db": " dB"}.get(_unit(key), f" {_unit(key)}" if _unit(key) else "")
    return f"{number(value)}{shown}"


def number(value: Any) -> str:
    """Write a value rounded for reading."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return str(value)
    if isinstance(value, float | np.floating):
        return f"{float(value):.3g}" if abs(float(value)) < 10 else f"{float(value):.1f}"
    return "none" if value is None else str(value)


def _unit(key: str) -> str:
    return next((unit for unit in ("mm", "deg", "db", "s") if key.endswith(f"_{unit}")), "")


def _without_unit(key: str) -> str:
    unit = _unit(key)
    return (key.removesuffix(f"_{unit}") if unit else key).replace("_", " ")
