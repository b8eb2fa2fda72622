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
PYTORCH = "PyTorch"
REMEDY = (
    "press 'Install what is missing' under 'About this installation' in the module RadGSReg, "
    "or call RadGSRegLogic().installDependencies()"
)
"""How to get what is missing: the words on the button."""

# Packages whose import name is not that of the requirement.
_IMPORT_NAMES = {
    "pillow": "PIL",
    "python-gdcm": "gdcm",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
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
            f"RadGSReg needs Python packages that are not installed: {', '.join(missing)}; {REMEDY}"
        )


def explained(error: ImportError) -> MissingPackagesError:
    """What to tell of a package that turned out to be missing, or to be damaged."""
    name = (error.name or str(error)).split(".")[0]
    return MissingPackagesError(f"the Python package {name} cannot be loaded; {REMEDY}")


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
    card; the rest through Slicer's own package helper. Where that extension is missing, it is
    offered. Raises `MissingPackagesError` if the user declines, or has to restart Slicer first.
    """
    import slicer.packaging

    try:
        slicer.packaging.pip_ensure(
            slicer.packaging.load_requirements(REQUIREMENTS), requester="RadGSReg"
        )
    except RuntimeError as error:
        raise MissingPackagesError(f"{str(error).rstrip('.')}; {REMEDY}") from error
    if importlib.util.find_spec("torch") is None:
        try:
            import PyTorchUtils
        except ImportError as error:
            raise MissingPackagesError(_offerPyTorch()) from error
        torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(
            askConfirmation=True, torchVersionRequirement=TORCH_VERSION
        )
        if torch is None:
            raise MissingPackagesError(f"PyTorch was not installed; {REMEDY}")
    importlib.invalidate_caches()
    requirePackages()


def _offerPyTorch() -> str:
    """Offer to install the PyTorch extension; returns what there is to say afterwards."""
    import slicer

    why = (
        "RadGSReg computes with PyTorch, which is missing. It comes through the extension "
        f"'{PYTORCH}', which picks the build for this computer's graphics card and is not installed"
    )
    byHand = f"install '{PYTORCH}' in the Extensions Manager, restart Slicer, and {REMEDY}"
    manager = getattr(slicer.app, "extensionsManagerModel", None)
    if manager is None:
        return f"{why}; {byHand}"
    question = f"{why}.\n\nInstall the extension now? Slicer must be restarted afterwards."
    if not slicer.util.confirmYesNoDisplay(question):
        return f"{why}; {byHand}"
    model = manager()
    model.interactive = False  # no further windows
    if not model.installExtensionFromServer(PYTORCH, False):
        return f"the extension '{PYTORCH}' could not be installed; {byHand}"
    return f"the extension '{PYTORCH}' is installed: restart Slicer, then {REMEDY}"
