"""Presets of C-arms in ``radgsreg calibrate``: ``--preset`` and ``--save-preset``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .arguments import add_path
from .calibrated_files import Pictures

if TYPE_CHECKING:
    from ..calibration import (
        Beads,
        Calibrating,
        Calibration,
        Intrinsics,
        Preset,
        PresetCheck,
        PresetEntry,
    )
    from ..cases import Ledger


def add_preset_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "presets: what is known of a C-arm from before"
    ).add_mutually_exclusive_group()
    add_path(
        group,
        "--preset",
        "FILE",
        "take focal length and principal point at this source-detector distance, and the "
        "distortion, from a preset; the pictures then share them",
    )
    add_path(
        group,
        "--save-preset",
        "FILE",
        "write what is shared by the pictures into a preset; its other distances stay",
    )


@dataclass(frozen=True)
class KnownDevice:
    """What a preset says of the C-arm of the pictures."""

    path: Path
    entry: PresetEntry
    intrinsics: Intrinsics

    def into(self, options: Calibrating, read: Pictures) -> Calibrating:
        """The options with what is known; InputError where a distortion is missing."""
        from ..calibration import Prior
        from ..geometry import Distortion

        bent = options.distortion
        told = bent is not None or all(e.distortion is not None for e in read.exposures)
        if self.entry.distortion == "each" and not told:
            raise InputError(
                self.path,
                "is of pictures that have a distortion of their own each",
                "give their grid's pictures with --grid, or --fit-distortion",
            )
        if isinstance(self.entry.distortion, Distortion) and not told:
            bent = self.entry.distortion
        known = Prior(intrinsics=self.intrinsics)
        return replace(options, shared_intrinsics=True, distortion=bent, prior=known)

    def checked(
        self, done: Sequence[Calibration], beads: Beads, options: Calibrating, ledger: Ledger
    ) -> PresetCheck | None:
        """Compare beads and preset, with a note; None where the beads alone are too few for it."""
        from ..calibration import check_preset

        try:
            check = check_preset(done, beads, self.intrinsics, options)
        except InputError:
            ledger.note(f"{self.path.name}: the beads are too few to tell whether it still holds")
            return None
        ledger.note(f"{self.path.name}: {check.words}")
        return check


def known_device(args: argparse.Namespace, read: Pictures, ledger: Ledger) -> KnownDevice | None:
    """What ``--preset`` says of the pictures; InputError where it says nothing of them."""
    if args.preset is None:
        return None
    from ..calibration import read_preset, refuse_other_pictures

    preset = read_preset(args.preset)
    ledger.add_file(args.preset)
    for exposure in read.exposures:
        refuse_other_pictures(args.preset, preset, exposure.size, exposure.spacing_mm)
    distance_mm = _distance_mm(read, "--preset")
    entry = preset.at(distance_mm)
    ledger.note(
        f"{args.preset.name}: focal length {entry.focal_px:.1f} px and principal point "
        f"{entry.principal_px[0]:.1f}, {entry.principal_px[1]:.1f} px at {distance_mm:g} mm"
    )
    return KnownDevice(args.preset, entry, preset.intrinsics(entry))


def _distance_mm(read: Pictures, option: str) -> float:
    """The source-detector distance of all pictures; InputError where they have none or several."""
    told = {e.name: e.source_detector_mm for e in read.exposures}
    distances = [d for d in told.values() if d is not None]
    if len(distances) < len(told):
        name = next(name for name, d in told.items() if d is None)
        raise InputError(
            option,
            f"needs to know how far the detector was from the source, and {name} does not say",
            "give --source-detector-mm",
        )
    if max(distances) - min(distances) > 1e-3:
        raise InputError(
            option,
            f"is of one source-detector distance, and the pictures have {min(distances):g} to "
            f"{max(distances):g} mm",
            "calibrate those of one distance at a time",
        )
    return distances[0]


def refuse_preset(args: argparse.Namespace) -> None:
    """InputError where ``--save-preset`` cannot be written."""
    if args.save_preset is None:
        return
    from ..calibration import read_preset
    from ..inputs import guarded_inputs

    if args.save_preset.suffix.lower() != ".json":
        raise InputError(args.save_preset, "is no .json file", "name the preset's file")
    if args.save_preset.resolve() == args.out.resolve():
        raise InputError(args.save_preset, "is named by --out too", "name another file")
    if args.save_preset.exists():
        with guarded_inputs():
            read_preset(args.save_preset)


def preset_to_save(
    args: argparse.Namespace, read: Pictures, done: Sequence[Calibration]
) -> Preset | None:
    """What ``--save-preset`` is to write; InputError where that is not one C-arm's."""
    if args.save_preset is None:
        return None
    from ..calibration import Intrinsics, Preset, PresetEntry, joined_preset

    view, exposure = done[0].view, read.exposures[0]
    known = Intrinsics.of(view.camera, view.covariance[6:, 6:])
    each = any(e.distortion is not None for e in read.exposures)
    covariance = 0.5 * (known.covariance + known.covariance.T)
    focal, column, row = (float(x) for x in known.mean_px)
    entry = PresetEntry(
        _distance_mm(read, "--save-preset"), focal, (column, row), covariance,
        "each" if each else view.distortion,
    )  # fmt: skip
    preset = Preset(
        args.save_preset.stem, known.size, exposure.spacing_mm, known.mirrored, (entry,)
    )
    return joined_preset(args.save_preset, preset)


def refuse_unshared(args: argparse.Namespace, read: Pictures) -> None:
    """InputError where there is no one C-arm to save: pictures that share nothing."""
    if args.save_preset is None:
        return
    if len(read.exposures) > 1 and not args.shared_intrinsics:
        raise InputError(
            "--save-preset",
            "is of one focal length and principal point",
            "give --shared-intrinsics, or one picture",
        )
    _distance_mm(read, "--save-preset")


def check_record(known: KnownDevice | None, check: PresetCheck | None) -> dict[str, Any]:
    """What ``calibration.json`` says of the preset; nothing where there is none."""
    if known is None:
        return {}
    said = None
    if check is not None:
        said = {
            "apart_px": check.apart_px.tolist(),
            "sigma_px": check.sigma_px.tolist(),
            "chance": check.chance,
        }
    entry = asdict(replace(known.entry, covariance=known.entry.covariance.tolist()))
    return {"preset": {"file": known.path.name, "taken": entry, "beads_alone": said}}
