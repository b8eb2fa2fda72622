"""Whether pictures share focal length and principal point, in ``radgsreg calibrate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..calibration import Beads, Calibrating, Calibration, SharedCheck
    from ..cases import Ledger


def checked_sharing(
    done: Sequence[Calibration], beads: Beads, options: Calibrating, ledger: Ledger
) -> SharedCheck | None:
    """Compare views that are to share what each alone says of it; None where that is not to be
    told, with a note, or where there is nothing to share."""
    from ..calibration import check_shared

    if not options.shared_intrinsics or len(done) < 2:
        return None
    check = check_shared(done, beads, options)
    if check is None:
        ledger.note(
            "too few views fix a camera alone to tell whether they share focal length and "
            "principal point"
        )
        return None
    ledger.note(f"shared by {len(check.views)} views: {check.words}")
    left = [c.view.name for c in done if c.view.name not in check.views]
    if left:
        ledger.note(
            f"{', '.join(left)}: too few beads to tell whether focal length and principal point "
            "are those of the other views"
        )
    return check


def sharing_record(options: Calibrating, check: SharedCheck | None) -> dict[str, Any]:
    """What ``calibration.json`` says of it; nothing where views share nothing."""
    if not options.shared_intrinsics:
        return {}
    if check is None:
        return {"sharing": None}
    return {
        "sharing": {
            "views": list(check.views),
            "chance": check.chance,
            "furthest": check.furthest,
            "apart_px": check.apart_px.tolist(),
            "sigma_px": check.sigma_px.tolist(),
        }
    }
