"""Fitted clouds kept on disk, so that the second registration of a patient need not wait for one.

By content: the key is made of the voxels, the grid, the options, the device and this package's own
code, so that what is read is to the last digit what would be fitted. The folder is made for the
user alone, holds no name, and at most `bounds.KEPT_BYTES`: what was used least recently goes first.
Two processes may use it at once, since files appear whole by a rename; what is broken or gone is
fitted again.

The environment variable ``RADGSREG_CACHE`` names another folder, or is "off".
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..geometry import Volume, cut, mask_box
from ..system import ProgressCallable, device_name
from . import bounds
from .cloud import GaussianCloud
from .fit import fit_vertebra
from .ply import read_ply, write_ply


def fit_vertebra_once(
    volume: Volume,
    count: int = 6000,
    *,
    seed: int = 0,
    progress: ProgressCallable | None = None,
    device: torch.device | str = "cpu",
) -> GaussianCloud:
    """Do what `fit_vertebra` does, or read what it gave before for the same volume and device.

    Raises InputError and Cancelled as that does; a folder that cannot be read or written is no
    error.

    Example:
        >>> from RadGSRegLib.drr import excess_attenuation
        >>> from RadGSRegLib.gaussians import fit_vertebra_once
        >>> excess = excess_attenuation(case.ct, case.labels, case.label)
        >>> len(fit_vertebra_once(excess, 300)) <= 300
        True
    """
    folder = kept_folder()
    if folder is None:
        return fit_vertebra(volume, count, seed=seed, progress=progress, device=device)
    path = folder / f"{_key(volume, count, seed, device)}.ply"
    # Gone, broken, or not ours to read: then it is fitted again.
    with contextlib.suppress(InputError, OSError):
        cloud = read_ply(path)
        os.utime(path)
        return cloud.to(device)
    cloud = fit_vertebra(volume, count, seed=seed, progress=progress, device=device)
    with contextlib.suppress(InputError, OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_ply(path, cloud)
        _make_room(folder)
    return cloud


def kept_folder() -> Path | None:
    """Return where clouds are kept; None where none are."""
    said = os.environ.get("RADGSREG_CACHE", "")
    if said:
        return None if said.lower() == "off" else Path(said)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME", "") or "~/.cache"
    try:
        return Path(base).expanduser() / "radgsreg" / "gaussians" if base else None
    except RuntimeError:  # a user without a home, as in a container
        return None


def _key(volume: Volume, count: int, seed: int, device: torch.device | str) -> str:
    occupied = np.asarray(volume.array) != 0
    # The vertebra's box alone: a whole CT would take longer to digest than the rest.
    part = cut(volume, mask_box(occupied, volume.spacing, 0.0)) if occupied.any() else volume
    array = np.ascontiguousarray(part.array)
    digest = hashlib.sha256(_code())
    digest.update(repr((array.shape, array.dtype.str, count, seed, device_name(device))).encode())
    digest.update(np.ascontiguousarray(part.index_to_physical, dtype=np.float64).tobytes())
    digest.update(array.tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _code() -> bytes:
    """A digest of the code that fits: another version's clouds are not this one's."""
    digest = hashlib.sha256(torch.__version__.encode())
    package = Path(__file__).parent
    for source in sorted([*package.glob("*.py"), *(package.parent / "drr").glob("*.py")]):
        digest.update(source.read_bytes())
    return digest.digest()


def _make_room(folder: Path) -> None:
    """Remove what was used least recently until the rest is small enough."""
    files = []
    for path in folder.glob("*.ply"):
        # Another process may have removed it.
        with contextlib.suppress(OSError):
            stat = path.stat()
            files.append((stat.st_mtime, stat.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= bounds.KEPT_BYTES:
            break
        path.unlink(missing_ok=True)
        total -= size
