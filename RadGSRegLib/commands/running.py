"""What the runs of several commands share."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..choices import MESH_FORMATS
from ..errors import InputError
from ..system import ExitStatus, Interrupt, preferring
from .command import Outcome

if TYPE_CHECKING:
    from ..pipeline import PipelineOptions
    from ..reconstruction import ReconstructionOptions
    from ..registration import Registration, RegistrationOptions


MASK = "vertebra.nii.gz"
BONE, BONE_DENSITY, AXES = "bone.nii.gz", "bone_density.nii.gz", "axes.tfm"
REFINED_VIEWS = "refined_views.json"
SPINE, TRACK = "spine.json", "track.json"
OF_ONE_VERTEBRA = (
    "registration.json",
    "ct_to_world.tfm",
    "reconstruction.nii.gz",
    "gaussians.ply",
)
OF_ITS_VOLUME = (
    MASK,
    BONE,
    BONE_DENSITY,
    AXES,
    REFINED_VIEWS,
    *(f"surface.{suffix}" for suffix in MESH_FORMATS),
)


@contextlib.contextmanager
def results_folder(out: str, interrupt: Interrupt) -> Iterator[Path]:
    """Yield the staging folder for ``out``; moving it into place in the end is not interrupted.

    A mask or a surface of an earlier result goes where this one has none: it is of another volume;
    so do the levels of an earlier ``spine.json``, and one vertebra's pose where this is of several.
    InputError for a folder that holds anything but results of this program.
    """
    from ..cases import OutputFolder, files_of_frames, files_of_levels, refuse_strangers

    refuse_strangers(out)
    with OutputFolder(out) as stage:
        yield stage
        interrupt.hold()
        before = [*map(Path, OF_ITS_VOLUME), *files_of_levels(out), *files_of_frames(out)]
        if (stage / SPINE).exists() or (stage / TRACK).exists():
            before += map(Path, OF_ONE_VERTEBRA)
        earlier = [name for name in before if not (stage / name).exists()]
    for name in earlier:
        place = Path(out) / name
        with contextlib.suppress(OSError):
            place.unlink(missing_ok=True)
            if name.parent != Path():
                place.parent.rmdir()  # only where it is empty


def with_inputs(inputs: Mapping[str, str], *paths: Path | None) -> dict[str, str]:
    """Return the inputs with the hashes of further files, of those that were given."""
    from ..cases import Ledger

    ledger = Ledger()
    for path in paths:
        if path is not None:
            ledger.add_file(path)
    return {**inputs, **ledger.inputs}


def levels_weights(option: str) -> Path:
    """Return the weights of levels that come with the program; InputError, which names the option
    that needs them, where they were not installed."""
    return _weights("levels", option)


def standard_weights(option: str) -> Path:
    """Return the weights of the standardisation that come with the program; InputError likewise."""
    return _weights("standard", option)


def asked_standard(given: Path | bool | None) -> Path | None:
    """Return the weights that ``--standardize`` names, the program's where it names none, or None
    where it was not given. InputError for a file that is not there."""
    if given is None or given is False:
        return None
    if given is True:
        return standard_weights("--standardize")
    path = Path(given)
    if not path.is_file():
        raise InputError(path, "does not exist", "name trained weights, or none for the program's")
    return path


def _weights(name: str, option: str) -> Path:
    from ..networks import shipped_weights

    path = shipped_weights(name)
    if path is None:
        raise InputError(option, f"needs weights ({name}), and none came with the program")
    return path


def torch_device(asked: str) -> str:
    """Return the torch device to use; InputError where cuda was asked for and does not work."""
    import torch

    works = asked != "cpu" and torch.cuda.is_available()
    if asked == "cuda" and not works:
        raise InputError("--device cuda", "no CUDA device works here", "use --device cpu")
    return "cuda" if works else "cpu"


@contextlib.contextmanager
def rendered_by(backend: str, device: str) -> Iterator[None]:
    """Let everything render with the backend that --backend names, while this is entered.

    InputError where it does not work here, or not on what --device names.
    """
    if backend == "auto":
        yield
        return
    from ..gaussians import available_backends

    problem = available_backends()[backend]
    if backend == "gsplat" and device == "cpu":
        problem = "needs a CUDA device, and --device is cpu"
    if problem:
        raise InputError(f"--backend {backend}", problem, "use --backend auto")
    with preferring(backend):
        yield


def reconstruction_options(device: str, seed: int) -> ReconstructionOptions:
    """Return the options of a reconstruction; InputError where there is no CUDA."""
    device = torch_device(device)
    from ..reconstruction import ReconstructionOptions

    return ReconstructionOptions(device=device, seed=seed)


def pipeline_options(
    args: argparse.Namespace, registration: RegistrationOptions | None = None
) -> PipelineOptions:
    """Return the pipeline's options: --device, and ``registration``'s or else --seed's.

    InputError where there is no CUDA.
    """
    from ..pipeline import PipelineOptions
    from ..registration import RegistrationOptions

    registration = registration or RegistrationOptions(seed=args.seed)
    return PipelineOptions(registration, reconstruction_options(args.device, registration.seed))


def registration_outcome(
    registration: Registration, out: str, notes: Sequence[str] = ()
) -> Outcome:
    """Say what a registration's verdict means for a command whose results are in ``out``.

    ``notes``: remarks on what was read.
    """
    trusted = registration.status == "ok"
    summary = [f"status: {registration.status}: {registration.reason}"]
    expected = registration.quality.get("expected_error_mm")
    if expected is not None and math.isfinite(expected):
        summary.append(f"expected error: {float(expected):.2f} mm")
    away = registration.quality.get("networks_distance_mm")
    if away is not None:
        turned = registration.quality["networks_distance_deg"]
        summary.append(f"networks' pose: {away:.1f} mm and {turned:.1f} degrees away")
    summary += [f"note: {note}" for note in notes]
    summary.append(f"results: {out} (open {Path(out) / 'report.html'})")
    if not trusted:
        summary.append("do not rely on this result; look at the pictures")
    facts = {"status": registration.status, "reason": registration.reason, "out": str(out)}
    status = ExitStatus.OK if trusted else ExitStatus.NOT_TRUSTED
    return Outcome(status, tuple(summary), facts)
