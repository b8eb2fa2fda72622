"""``radgsreg surface``: the bone of a volume: a mask, its own axes and its surface.

`reconstruct --surface` does the same for what it has just made.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import MESH_FORMATS
from ..errors import InputError
from ..system import ExitStatus, Interrupt, Progress
from .arguments import add_out, add_path, add_progress, positive_mm
from .command import Command, Outcome
from .running import AXES, BONE, results_folder

if TYPE_CHECKING:
    from ..bones import BoneMask
    from ..geometry import Array, Volume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "volume", "VOLUME", "bright in bone: NIfTI, NRRD or MHA")
    add_out(parser)
    level = parser.add_mutually_exclusive_group()
    _add_percentile(level)
    level.add_argument(
        "--threshold", type=_number, metavar="T", help="bone is above it, in the volume's unit"
    )
    parser.add_argument(
        "--box-mm",
        type=positive_mm,
        metavar="MM",
        help="only in a cube with this edge, about the label, or else about the volume's middle",
    )
    add_path(parser, "--labels", "SEG", "a segmentation in the volume's frame, for the axes")
    parser.add_argument("--label", metavar="L3", help="the vertebra in it: a number or a name")
    parser.add_argument(
        "--format", choices=MESH_FORMATS, default="stl", help="of the surface (default stl)"
    )
    add_progress(parser)


def add_surface(parser: argparse.ArgumentParser) -> None:
    """Add ``--surface`` and ``--percentile``, of a reconstruction."""
    group = parser.add_argument_group("the bone of the volume")
    group.add_argument(
        "--surface", choices=MESH_FORMATS, help="write its surface, its mask and its axes too"
    )
    _add_percentile(group)


def _add_percentile(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--percentile",
        type=_percentile,
        metavar="P",
        help="bone is above this percentile of the volume's values (default 80)",
    )


def check_surface(args: argparse.Namespace) -> None:
    """Refuse ``--percentile`` where it decides nothing."""
    if args.percentile is None:
        return
    if args.surface is None:
        raise InputError("--percentile", "is of use only with --surface")
    if args.method == "learned" or args.ct_prior:
        raise InputError("--percentile", "is of use only with X-rays alone")


def check(args: argparse.Namespace) -> None:
    """Refuse a segmentation without a label, and the other way round."""
    if (args.labels is None) != (args.label is None):
        raise InputError("--labels", "and --label belong together")


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Find the bone, and write its mask, its axes, its surface and a record."""
    from ..bones import bone_axes, bone_mask
    from ..cases import (
        Ledger,
        label_mask,
        read_segmentation,
        read_volume,
        software_versions,
        write_json,
    )

    progress(0.0, "reading the volume")
    ledger = Ledger()
    volume = read_volume(args.volume, ledger)
    label = None
    if args.labels is not None:
        label = label_mask(read_segmentation(args.labels, ledger), args.label, args.labels)
    with results_folder(args.out, interrupt) as stage:
        progress(0.3, "looking for bone")
        lower, upper = _box(args.box_mm, volume, label)
        percentile = _given(args.percentile)
        bone = bone_mask(
            volume, percentile, threshold=args.threshold, lower_world=lower, upper_world=upper
        )
        progress(0.5, "axes and surface")
        axes_to_world = bone_axes(bone.mask if label is None else label)
        notes = [*ledger.notes, *(remarks_on(bone) if label is None else [])]
        figures = write_bone(stage, args.format, volume, bone, axes_to_world)
        record = {
            "schema": "radgsreg/surface",
            "version": 1,
            "threshold": bone.threshold,
            **figures,
            "inputs": ledger.inputs,
            "software": software_versions(),
            "parameters": {
                "percentile": percentile if args.threshold is None else None,
                "box_mm": args.box_mm,
                "label": args.label,
                "notes": notes,
            },
        }
        write_json(record, stage / "surface.json")
    lines = (
        f"bone of {bone.volume_ml:.1f} ml above {bone.threshold:.4g}",
        *(f"note: {note}" for note in notes),
        f"results: {args.out}",
    )
    facts = {"out": str(args.out), "threshold": bone.threshold, "bone_ml": bone.volume_ml}
    return Outcome(ExitStatus.OK, lines, facts)


def remarks_on(bone: BoneMask) -> list[str]:
    """What to know of the axes of a bone that no label gives."""
    if bone.is_one_vertebra:
        return []
    return [
        f"the bone of {bone.volume_ml:.0f} ml is more than one vertebra, so that its axes are no "
        "vertebra's; cut one out (radgsreg surface --box-mm) or give a label (--labels, --label)"
    ]


def write_bone(
    stage: Path, suffix: str, volume: Volume, bone: BoneMask, axes_to_world: Array
) -> dict[str, Any]:
    """Write a bone's mask, axes and surface into a folder, and return its figures."""
    from ..bones import bone_surface, write_mesh
    from ..cases import write_itk_transform, write_segmentation

    mesh = bone_surface(volume, bone.threshold, bone.mask)
    write_segmentation(stage / BONE, bone.mask)
    write_itk_transform(axes_to_world, stage / AXES)
    write_mesh(stage / f"surface.{suffix}", mesh)
    return {
        "bone_ml": bone.volume_ml,
        "surface_ml": mesh.enclosed_ml,
        "triangles": len(mesh.triangles),
        "axes_to_world": axes_to_world,
    }


def write_reconstructed(
    stage: Path,
    args: argparse.Namespace,
    volume: Volume,
    inside: Volume | None,
    patient_to_world: Array | None,
) -> tuple[dict[str, Any] | None, list[str]]:
    """Write the bone of a reconstruction where ``--surface`` asks for it: its figures and remarks.

    ``inside``: how much of each voxel is inside of the vertebra, [0, 1], where a model or the CT's
    label says so; the bone is then that. ``patient_to_world`` (3, 3), None where it is unknown.
    Where there is no bone, a remark says so: what took minutes to reconstruct is written all the
    same.
    """
    if args.surface is None:
        return None, []
    if args.method == "learned" and inside is None:
        return None, ["no surface: the model has no decoder, so nothing says what is bone"]
    from ..bones import bone_axes, bone_mask

    try:
        if inside is None:
            bone = bone_mask(volume, _given(args.percentile))
        else:
            volume = _on_grid(inside, volume)
            bone = bone_mask(volume, threshold=0.5)
        axes_to_world = bone_axes(bone.mask, patient_to_world)
        figures = write_bone(stage, args.surface, volume, bone, axes_to_world)
    except InputError as error:
        return None, [f"no surface: {error}"]
    by_percentile = inside is None
    said = {
        "threshold_per_mm": bone.threshold if by_percentile else None,
        "percentile": _given(args.percentile) if by_percentile else None,
    }
    remarks = remarks_on(bone)
    if patient_to_world is None:
        remarks.append(
            "nothing says how the patient lies, so that the bone's axes are named by those of the "
            "world that they are nearest to"
        )
    return {**said, **figures}, remarks


def _on_grid(inside: Volume, like: Volume) -> Volume:
    import numpy as np

    from ..measures import resample

    return like.with_array(resample(inside, like, np.eye(4)))


def _box(
    box_mm: float | None, volume: Volume, label: Volume | None
) -> tuple[Array | None, Array | None]:
    """The corners of a cube along the world's axes; None where there is none."""
    if box_mm is None:
        return None, None
    from ..geometry import centroid

    if label is None:
        middle = volume.physical_points([[(n - 1) / 2.0 for n in volume.size]])[0]
    else:
        middle = centroid(label, label.array != 0)
    return middle - 0.5 * box_mm, middle + 0.5 * box_mm


def _given(percentile: float | None) -> float:
    from ..bones import PERCENTILE

    return PERCENTILE if percentile is None else percentile


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def _percentile(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 100.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentile from 0 to 100")
    return value


COMMAND = Command(
    "surface", "the bone of a volume: mask, axes and surface", add_arguments, run, check
)
