"""Whether a CT is in Hounsfield units: water at 0, air at -1000, bone above both."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from . import bounds

_REMEDY = "export it in Hounsfield units"


def check_hounsfield(array: NDArray[Any], path: Path) -> None:
    """InputError where a CT (K, J, I), finite, cannot be in HU.

    Noticed are values that are all alike or span too little, those that end where eight bits end,
    and soft tissue that lies where an offset of 1000 or 1024 puts it.
    """
    what = "is no CT in Hounsfield units: "
    top = float(array.max())
    span = top - max(float(array.min()), bounds.AIR_HU)
    if span <= 0:
        raise InputError(path, "is no CT: all voxels are alike")
    if span < bounds.LEAST_SPAN_HU:
        raise InputError(path, f"{what}its values span only {span:.3g}", _REMEDY)
    if top <= bounds.EIGHT_BITS:
        raise InputError(
            path, f"{what}no value is above {top:.4g}, as in a picture of 8 bits", _REMEDY
        )
    if _is_shifted(array):
        raise InputError(
            path,
            f"{what}soft tissue lies near 1050 in it, where HU have 50",
            "subtract 1024 (or what was added to it), or export it in Hounsfield units",
        )


def _is_shifted(array: NDArray[Any]) -> bool:
    """Whether more lies where an offset puts tissue than where bone has most of its HU.

    The most frequent value is left out where it is a background.
    """
    sample = array.ravel()[:: max(1, array.size // 1_000_000)]
    values, counts = np.unique(np.round(sample), return_counts=True)
    often = int(counts.argmax())
    if counts[often] > bounds.BACKGROUND_SHARE * len(sample):
        counts[often] = 0
    low, middle, high = bounds.SHIFTED_HU
    bone = int(counts[(values >= low) & (values < middle)].sum())
    tissue = int(counts[(values >= middle) & (values <= high)].sum())
    return tissue > max(bone, bounds.SHIFTED_SHARE * int(counts.sum()))


def check_bone(values: NDArray[Any], title: str, path: Path) -> None:
    """InputError where the CT's values (N,) under a bone's label are not those of bone in HU."""
    low, high = bounds.BONE_MEDIAN_HU
    median = float(np.median(values))
    if not low <= median <= high:
        raise InputError(
            path,
            f"marks as {title} what has a median of {median:.0f} in the CT; bone has {low:.0f} to "
            f"{high:.0f} Hounsfield units",
            "is the CT in Hounsfield units, and is this its segmentation?",
        )
