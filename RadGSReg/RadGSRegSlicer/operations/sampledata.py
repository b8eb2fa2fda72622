"""Sample data "RadGSReg phantom": made on the spot, nothing is downloaded."""

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .simulated import SimulateRequest

SAMPLE = "RadGSReg phantom"
SEED = 2

_running: list[Any] = []  # runs that no one else holds


def register(category: str, icon: Path) -> None:
    """Offer the phantom in the Sample Data module."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=category,
        sampleName=SAMPLE,
        thumbnailFileName=str(icon),
        # The module asks for a place and a name, even where nothing is downloaded.
        uris="https://github.com/RadGSReg/SlicerRadGSReg",
        fileNames="RadGSReg phantom",
        nodeNames=None,
        loadFiles=False,
        customDownloader=make,
    )


def make(source: Any = None) -> None:
    """Make the phantom in a child process and put it into the scene; returns at once."""
    with slicer.util.tryWithErrorDisplay(_("The phantom could not be made."), waitCursor=False):
        request = SimulateRequest(seed=SEED, progressCallback=_tell, completedCallback=_completed)
        run = request.driver()
        _running.append(run)
        run.start()
        run.startTimer()


def _tell(fraction: float, message: str) -> None:
    text = _("{sample}: {message} ({percent} %)")
    text = text.format(sample=SAMPLE, message=message, percent=round(100 * fraction))
    slicer.util.showStatusMessage(text, 2000)


def _completed(run: Any) -> None:
    _running.remove(run)
    with slicer.util.tryWithErrorDisplay(_("The phantom could not be made."), waitCursor=False):
        if run.error is not None:
            raise run.error
        slicer.util.setSliceViewerLayers(background=run.result.ctNode, fit=True)
        slicer.util.showStatusMessage(_("{sample}: done").format(sample=SAMPLE), 3000)
