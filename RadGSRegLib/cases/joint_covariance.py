"""How cameras that were calibrated together go wrong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..geometry import CAMERA_PARAMETERS, Array
from . import bounds
from .json_input import Fields
from .ledger import Ledger
from .types import View

TOGETHER = "camera_covariance_with"


def read_covariance_with(fields: Fields) -> dict[str, Array]:
    """The covariances (9, 9) of an entry's camera with those of other views, by their names.

    Raises InputError for what is none, and where the entry says nothing of its own camera.
    """
    if TOGETHER not in fields:
        return {}
    said = fields.data[TOGETHER]
    if not isinstance(said, dict):
        fields.refuse(f'"{TOGETHER}" must be an object of other views\' names')
    if "camera_covariance" not in fields:
        fields.refuse(f'"{TOGETHER}" is of use only with "camera_covariance"')
    inner = Fields(fields.source, said, f"{fields.of}: {TOGETHER}")
    shape = (CAMERA_PARAMETERS, CAMERA_PARAMETERS)
    return {name: inner.numbers(name, shape) for name in said}


def covariance_with_to_json(view: View) -> dict[str, object]:
    """What an entry of ``views.json`` says of it; nothing where nothing is known."""
    if not view.camera_covariance_with:
        return {}
    with_others = view.camera_covariance_with.items()
    return {TOGETHER: {name: np.asarray(c, dtype=float).tolist() for name, c in with_others}}


def camera_covariances_with(views: Sequence[View]) -> dict[tuple[int, int], Array]:
    """The covariances (9, 9) between views' cameras, by pairs of their numbers, lower one first.

    Rows are of the first view's parameters, columns of the second's. It is enough that one of the
    two views says it; what is said of views that are not among these does not count.
    """
    out = {}
    for (i, first), (j, second) in combinations(enumerate(views), 2):
        if first.camera_covariance is None or second.camera_covariance is None:
            continue
        if second.name in first.camera_covariance_with:
            out[i, j] = first.camera_covariance_with[second.name]
        elif first.name in second.camera_covariance_with:
            out[i, j] = second.camera_covariance_with[first.name].T
    return out


def check_together(views: Sequence[View], source: Path, ledger: Ledger) -> None:
    """InputError where views' covariances are none together, or two views say it differently.

    Names of views that are not there are noted: these may have been left out.
    """
    names = {view.name for view in views}
    for view in views:
        absent = sorted(set(view.camera_covariance_with) - names)
        if absent:
            ledger.note(
                f'{view.name}: "{TOGETHER}" names {", ".join(absent)}, not among these views'
            )
    crossed = camera_covariances_with(views)
    if not crossed:
        return
    for i, j in crossed:
        other = views[j].camera_covariance_with.get(views[i].name)
        limit = bounds.COVARIANCE_SHARE * _scale(views[i], views[j])
        if other is not None and (np.abs(other.T - crossed[i, j]) > limit).any():
            raise InputError(
                source, f'views "{views[i].name}" and "{views[j].name}" differ in "{TOGETHER}"'
            )
    if np.linalg.eigvalsh(_correlation(views, crossed))[0] < -bounds.COVARIANCE_SHARE:
        raise InputError(
            source,
            f'"{TOGETHER}" and "camera_covariance" have a negative eigenvalue together: they are '
            "no covariance",
        )


def _scale(first: View, second: View) -> Array:
    deviations = [np.sqrt(np.diag(np.asarray(v.camera_covariance))) for v in (first, second)]
    return np.outer(*deviations)


def _correlation(views: Sequence[View], crossed: Mapping[tuple[int, int], Array]) -> Array:
    """Of all views that say how sure their cameras are; radians and pixels are no common scale."""
    known = [n for n, view in enumerate(views) if view.camera_covariance is not None]
    at = {n: slice(9 * k, 9 * k + 9) for k, n in enumerate(known)}
    whole = np.zeros((9 * len(known), 9 * len(known)))
    for n in known:
        whole[at[n], at[n]] = views[n].camera_covariance
    for (i, j), covariance in crossed.items():
        whole[at[i], at[j]], whole[at[j], at[i]] = covariance, covariance.T
    deviations = np.sqrt(np.diag(whole))
    scale = np.outer(deviations, deviations)
    return np.asarray(whole / np.where(scale > 0, scale, 1.0))
