"""The result files of the contract."""

import errno
import json
import math
import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import ArrayLike

from .. import __version__
from ..geometry import Array, Rigid, Volume, is_rigid
from .itk_image import quiet_itk, volume_to_itk, write_itk
from .json_input import Fields, read_json_object
from .views import check_schema

Status = Literal["ok", "uncertain", "failed"]

SCHEMA = "radgsreg/registration"
VERSION = 1
_TABLES = ("quality", "timing_s", "ran_on", "inputs", "software", "parameters", "published")
_PACKAGES = ("numpy", "scipy", "torch", "warp-lang", "SimpleITK", "pydicom")


def software_versions() -> dict[str, str]:
    """Versions of this program, of Python and of the packages that a result hangs on."""
    out = {"radgsreg": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            continue
    return out


@dataclass(frozen=True)
class RegistrationRecord:
    """What ``registration.json`` holds.

    ``ct_to_world`` (4, 4) rigid, mm. ``covariance`` (6, 6) of the twist about the vertebra's centre
    (rotation in rad, then translation in mm, along the CT's axes; see geometry/pose.py), or None
    where there is none (allowed only if ``status`` is not ``ok``). ``ran_on``: the device that each
    stage of ``timing_s`` was computed on. ``published``: the networks' pose and its distance, where
    the published order was followed; else it is not written. The dictionaries hold anything that
    JSON can, numpy values included.
    """

    status: Status
    ct_to_world: Array
    covariance: Array | None
    quality: dict[str, Any] = field(default_factory=dict)
    timing_s: dict[str, float] = field(default_factory=dict)
    ran_on: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    software: dict[str, str] = field(default_factory=software_versions)
    parameters: dict[str, Any] = field(default_factory=dict)
    published: dict[str, Any] = field(default_factory=dict)


def to_json_value(value: Any) -> Any:
    """Plain JSON out of numpy values, paths and nested containers.

    What is not finite becomes null, as JSON knows no NaN. Raises TypeError for other objects.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return to_json_value(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return Path(value).name
    if isinstance(value, dict):
        return {str(key): to_json_value(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        parts = sorted(value) if isinstance(value, set | frozenset) else value
        return [to_json_value(part) for part in parts]
    raise TypeError(f"{type(value).__name__} does not fit into JSON")


def write_json(content: Any, path: Path) -> None:
    """Write strict JSON (no NaN), whole or not at all."""
    text = json.dumps(to_json_value(content), indent=1, allow_nan=False)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def write_registration_json(record: RegistrationRecord, path: Path) -> None:
    """Write ``registration.json``. ValueError for a pose or covariance that promises nonsense."""
    if record.status not in get_args(Status):
        raise ValueError(f"status {record.status!r} is none of {get_args(Status)}")
    if not is_rigid(record.ct_to_world):
        raise ValueError("ct_to_world is not rigid")
    covariance = None if record.covariance is None else np.asarray(record.covariance, dtype=float)
    if covariance is not None and covariance.shape != (6, 6):
        raise ValueError(f"a covariance is (6, 6), not {covariance.shape}")
    if covariance is None or not np.isfinite(covariance).all():
        if record.status == "ok":
            raise ValueError("a result that is ok needs a finite covariance")
        covariance = None
    content = {"schema": SCHEMA, "version": VERSION, **vars(record), "covariance": covariance}
    if not record.published:
        del content["published"]
    write_json(content, path)


def read_registration_json(path: Path) -> RegistrationRecord:
    """Read a ``registration.json`` back. InputError for anything else."""
    path = Path(path)
    fields = Fields(path, read_json_object(path))
    check_schema(fields, SCHEMA, VERSION)
    status = fields.text("status")
    if status not in get_args(Status):
        fields.refuse(f'"status" is "{status}"', f"it must be one of {', '.join(get_args(Status))}")

    def table(key: str) -> dict[str, Any]:
        value = fields.data.get(key, {})
        if not isinstance(value, dict):
            fields.refuse(f'"{key}" must be an object')
        return value

    return RegistrationRecord(
        status=status,  # type: ignore[arg-type]
        ct_to_world=fields.rigid("ct_to_world"),
        covariance=fields.numbers("covariance", (6, 6)) if "covariance" in fields else None,
        **{key: table(key) for key in _TABLES},
    )


def write_itk_transform(
    ct_to_world: ArrayLike, path: Path, centre_ct: ArrayLike = (0.0, 0.0, 0.0)
) -> None:
    """Write the pose as an ITK text transform (``.tfm``) that Slicer loads as it is meant.

    ITK files hold the resampling direction, from the output's points to the input's, in LPS: that
    is the inverse, world to CT. Slicer turns it into a to-parent transform in RAS, which, set on
    the CT, moves the vertebra to its registered place. ``centre_ct`` (3,) mm, the vertebra's centre
    in the CT, becomes the transform's centre (where it goes in the world). Raises ValueError unless
    the matrix (4, 4) is rigid, and OSError where the file does not come out whole.
    """
    _write_transform(_world_to_ct(ct_to_world, centre_ct), path)


def write_itk_bent(
    ct_to_world: ArrayLike, displacement: ArrayLike, index_to_ct: ArrayLike, path: Path
) -> None:
    """Write a rigid pose and displacements as one ITK transform file (``.h5``) for Slicer.

    Like `write_itk_transform` it leads from the world to the CT, in LPS: a point goes by the
    inverse of ``ct_to_world`` (4, 4), then by what ``displacement`` (Z, Y, X, 3) mm says there.
    ``index_to_ct`` (4, 4) leads from indices (x, y, z) of its nodes to mm of the CT. Set on the CT,
    Slicer inverts it. A composite, for Slicer does not find the inverse of a grid that turns by
    140 degrees. Raises ValueError for a pose that is not rigid, for other shapes and
    for what is not finite, and OSError where the file does not come out whole.
    """
    moves, place = np.asarray(displacement, dtype=float), np.asarray(index_to_ct, dtype=float)
    if moves.ndim != 4 or moves.shape[3] != 3 or place.shape != (4, 4):
        raise ValueError(f"displacements {moves.shape} on a grid {place.shape}")
    if not (np.isfinite(moves).all() and np.isfinite(place).all()):
        raise ValueError("displacements are not finite")
    spacing = np.linalg.norm(place[:3, :3], axis=0)
    image = sitk.GetImageFromArray(moves, isVector=True)
    image.SetOrigin(place[:3, 3].tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection((place[:3, :3] / spacing).ravel().tolist())
    rigid = _world_to_ct(ct_to_world, (0.0, 0.0, 0.0))
    # The last acts first.
    bent = sitk.CompositeTransform([sitk.DisplacementFieldTransform(image), rigid])
    _write_transform(bent, path)


def _world_to_ct(ct_to_world: ArrayLike, centre_ct: ArrayLike) -> sitk.AffineTransform:
    matrix = np.asarray(ct_to_world, dtype=float)
    if not is_rigid(matrix):
        raise ValueError("ct_to_world is not rigid")
    world_to_ct = Rigid(matrix).inverse()
    centre = Rigid(matrix).apply(centre_ct)
    transform = sitk.AffineTransform(3)
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(world_to_ct.rotation.ravel().tolist())
    offset = world_to_ct.translation - centre + world_to_ct.rotation @ centre
    transform.SetTranslation(offset.tolist())
    return transform


def _write_transform(transform: sitk.Transform, path: Path) -> None:
    """OSError where it does not come out whole: ITK is silent on a full disk."""
    try:
        with quiet_itk():
            sitk.WriteTransform(transform, str(path))
            kept = sitk.ReadTransform(str(path))
        short = path.suffix == ".tfm" and len(path.read_text().splitlines()) < 5
        if short or not np.allclose(_numbers(kept), _numbers(transform)):
            raise RuntimeError("another transform")
    except (RuntimeError, ValueError) as error:
        raise OSError(errno.ENOSPC, f"{path.name} came out short; is the disk full?") from error


def _numbers(transform: sitk.Transform) -> Array:
    """All that a transform holds."""
    parts = [transform]
    if transform.GetTransformEnum() == sitk.sitkComposite:
        composite = sitk.CompositeTransform(transform)
        parts = [composite.GetNthTransform(n) for n in range(composite.GetNumberOfTransforms())]
    return np.concatenate([n for p in parts for n in (p.GetFixedParameters(), p.GetParameters())])


def write_volume_nifti(volume: Volume, path: Path) -> None:
    """Write a volume as compressed float32 NIfTI (``.nii.gz``) at its place in space."""
    image = volume_to_itk(volume.with_array(volume.array.astype(np.float32)))
    write_itk(image, path)
