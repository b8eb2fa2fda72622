"""Which software made a result."""

from __future__ import annotations

import platform
from importlib import metadata

from . import __version__

_PACKAGES = ("torch", "numpy", "scipy", "SimpleITK", "pydicom", "warp-lang", "gsplat")


def software_versions() -> dict[str, str]:
    """Names and versions of this package, Python, and the installed packages that compute."""
    versions = {"radgsreg": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
