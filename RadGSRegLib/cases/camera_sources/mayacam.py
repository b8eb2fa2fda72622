"""MayaCam files of XROMM and XMALab, told apart as Autoscoper does: 2.0 begins "image size"."""

from .calibration import DETAILS, calibrated, calibration_text
from .door import SourcedCamera, ViewEntry
from .mayacam1 import read_mayacam1
from .mayacam2 import HEADING, read_mayacam2


class MayaCam:
    """``mayacam``: the path of a MayaCam file, 1.0 (CSV) or 2.0 (text)."""

    name = "mayacam"
    keys: tuple[str, ...] = ("mayacam",)
    details: tuple[str, ...] = DETAILS

    def camera(self, entry: ViewEntry) -> SourcedCamera:
        """Read the file in the version that it is."""
        path, text = calibration_text(entry, "mayacam")
        second = text.lstrip().lower().startswith(HEADING)
        calibration = (read_mayacam2 if second else read_mayacam1)(text, path)
        return calibrated(entry, calibration, path)
