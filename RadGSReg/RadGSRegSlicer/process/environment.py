"""Where the library is, which Python runs it, and what that Python still lacks."""

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

from .jobs import Job

REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
TORCH_VERSION = ">=2.4"

# Packages whose import name is not that of the requirement.
_IMPORT_NAMES = {
    "pillow": "PIL",
    "python-gdcm": "gdcm",
    "pyyaml": "yaml",
    "simpleitk": "SimpleITK",
    "warp-lang": "warp",
}


class MissingPackagesError(RuntimeError):
    """The library cannot run here before some Python packages are installed."""


def libraryFolder() -> Path:
    """The folder that holds the package ``RadGSRegLib``."""
    import RadGSRegLib

    return Path(RadGSRegLib.__file__).resolve().parent.parent


def pythonExecutable() -> str:
    """The Python that runs the library: PythonSlicer inside Slicer, else the present one.

    Raises RuntimeError where Slicer's own Python cannot be found.
    """
    try:
        from slicer import app  # noqa: F401
    except ImportError:
        return sys.executable
    launcher = shutil.which("PythonSlicer")
    if launcher is None:
        raise RuntimeError("PythonSlicer, which comes with 3D Slicer, was not found on the path")
    return launcher


def childEnvironment() -> dict[str, str]:
    """The environment of a child process: this one's, with the library on its Python path."""
    environment = dict(os.environ)
    paths = [str(libraryFolder()), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environment


def requirementNames() -> list[str]:
    """The names of the required packages, in the order of ``requirements.txt``, and torch."""
    names = []
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        if text:
            names.append(re.split("[<=>]", text)[0].strip())
    return [*names, "torch"]


def missingPackages() -> list[str]:
    """The required packages that cannot be found; none of them is imported."""
    modules = {name: _IMPORT_NAMES.get(name.lower(), name) for name in requirementNames()}
    return [name for name, module in modules.items() if importlib.util.find_spec(module) is None]


def requirePackages() -> None:
    """Raises `MissingPackagesError`, which names what is missing and how to get it."""
    missing = missingPackages()
    if missing:
        raise MissingPackagesError(
            f"RadGSReg needs Python packages that are not installed: {', '.join(missing)}; "
            "press Apply in the RadGSReg module, or call RadGSRegLogic.installDependencies()"
        )


def infoJob() -> Job:
    """What the library says of itself and of this computer (``radgsreg info``), not started yet."""
    return Job(
        [pythonExecutable(), "-m", "RadGSRegLib", "info"],
        workingFolder=libraryFolder(),
        environment=childEnvironment(),
    )


def installMissing() -> None:
    """Install what is missing, after asking the user. For handlers inside Slicer only.

    torch comes through the PyTorch extension, which picks the build for this computer's graphics
    card; the rest through Slicer's own package helper. Raises `MissingPackagesError` if the user
    declines or the PyTorch extension is not there.
    """
    import slicer.packaging

    try:
        slicer.packaging.pip_ensure(
            slicer.packaging.load_requirements(REQUIREMENTS), requester="RadGSReg"
        )
    except RuntimeError as error:
        raise MissingPackagesError(str(error)) from error
    if importlib.util.find_spec("torch") is None:
        try:
            import PyTorchUtils
        except ImportError as error:
            raise MissingPackagesError(
                "The extension PyTorch is needed; install it in the Extensions Manager"
            ) from error
        torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(
            askConfirmation=True, torchVersionRequirement=TORCH_VERSION
        )
        if torch is None:
            raise MissingPackagesError("PyTorch was not installed")
    importlib.invalidate_caches()
    requirePackages()
