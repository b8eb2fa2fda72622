"""``radgsreg segment``: one vertebra of a CT, from a point inside its body, as a label map."""

import argparse
import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..system import ExitStatus, Interrupt, Progress
from .arguments import add_path, add_progress, add_stack, stack_place, whole
from .command import Command, Outcome

_ENDINGS = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "ct", "CT", "the CT: NIfTI, NRRD, MHA, a DICOM folder or a TIFF stack")
    parser.add_argument(
        "--point", metavar="X,Y,Z", required=True, help="inside the vertebra's body, LPS mm"
    )
    parser.add_argument(
        "--out", metavar="MASK.nii.gz", type=Path, required=True, help="where the label map goes"
    )
    parser.add_argument(
        "--label",
        metavar="N",
        type=whole(1, 65535),
        default=1,
        help="its number in the map (default 1)",
    )
    add_stack(parser)
    add_progress(parser)


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Segment the vertebra and write its label map on the CT's grid."""
    point = _point(args.point)
    with _label_map(args.out, interrupt) as part:
        from ..cases import Ledger, read_ct, write_segmentation

        progress(0.0, "reading the CT")
        ledger = Ledger()
        ct = read_ct(args.ct, ledger, stack=stack_place(args))
        import numpy as np

        from ..segmentation import segment_vertebra

        vertebra = segment_vertebra(ct, point, progress=progress.part(0.05, 0.98))
        mask = vertebra.mask
        labels = mask.with_array(mask.array * np.uint16(args.label))
        write_segmentation(part, labels, {args.label: "vertebra"})
    volume = float(mask.array.sum() * ct.spacing.prod() / 1000.0)
    notes = [*vertebra.notes, *ledger.notes]
    first = "; ".join([f"segmented a vertebra of {volume:.0f} cm3", *notes])
    facts = {
        "status": vertebra.status,
        "quality": vertebra.quality,
        "notes": notes,
        "out": str(args.out),
    }
    status = ExitStatus.OK if vertebra.status == "ok" else ExitStatus.NOT_TRUSTED
    return Outcome(status, (first, f"result: {args.out}"), facts)


def _point(text: str) -> list[float]:
    """Read three numbers, mm."""
    try:
        point = [float(part) for part in text.split(",")]
    except ValueError:
        point = []
    if len(point) != 3 or not all(map(math.isfinite, point)):
        raise InputError("--point", f"'{text}' is not X,Y,Z", "give three numbers in mm, LPS")
    return point


@contextlib.contextmanager
def _label_map(out: Path, interrupt: Interrupt) -> Iterator[Path]:
    """Yield a file to write the label map into, which becomes ``out`` once it is whole."""
    from ..cases import output_file

    if not out.name.lower().endswith(_ENDINGS):
        raise InputError(out, "has no ending of a label map", f"use {', '.join(_ENDINGS)}")
    if out.is_dir():
        raise InputError(out, "is a folder", "name a file")
    if not out.parent.is_dir():
        raise InputError(out, "its folder does not exist", "make it first")
    with output_file(out) as part:
        yield part
        interrupt.hold()


COMMAND = Command("segment", "one vertebra of a CT, from a point inside it", add_arguments, run)
