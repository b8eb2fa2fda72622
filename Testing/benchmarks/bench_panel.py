"""How long the panel keeps the event loop from turning, and how fast Cancel is.

A timer ticks every few milliseconds beside a registration through the panel (on the stand-in for
Qt); the longest pauses between two ticks are what a user would feel. The CT has the size of a
clinical one (512 x 512 x 300 by default), with the small phantom in it. A pause is given twice: as
time on the clock, which on a busy computer holds others' work too, and as what the window's own
thread computed meanwhile.

    python Testing/benchmarks/bench_panel.py [--slices 300]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_TESTING = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_TESTING), str(_TESTING.parent)]

import numpy as np  # noqa: E402
import qt_standin  # noqa: E402
import slicer_startup  # noqa: E402
from registration_scenes import simulated  # noqa: E402

from RadGSRegLib.simulation import write_simulated_case  # noqa: E402

_TICK_MS = 3


class Pulse:
    """Ticks in the event loop, and the pauses between the ticks by phase (ms)."""

    def __init__(self) -> None:
        qt = sys.modules["qt"]
        self.phase = ""
        self.pauses: dict[str, list[tuple[float, float]]] = {}
        self._last = (time.perf_counter(), time.thread_time())
        self._timer = qt.QTimer()
        self._timer.setInterval(_TICK_MS)
        self._timer.connect("timeout()", self._tick)
        self._timer.start()

    def _tick(self) -> None:
        now = (time.perf_counter(), time.thread_time())
        pause = tuple(1000.0 * (b - a) for a, b in zip(self._last, now, strict=True))
        self.pauses.setdefault(self.phase, []).append((pause[0] - _TICK_MS, pause[1]))
        self._last = now

    def stop(self) -> None:
        self._timer.stop()


def fill(widget: Any, folder: Path, slices: int) -> None:
    """A small phantom in a CT of clinical size, its segmentation and X-rays."""
    import slicer

    case = simulated()
    path = write_simulated_case(case, folder / "case")
    small = slicer_startup.load_volume(next(path.parent.glob("ct.*")))
    segmentation = slicer_startup.load_segmentation(next(path.parent.glob("seg.*")))
    array = slicer.util.arrayFromVolume(small)
    big = np.full((slices, 512, 512), -1000, np.int16)
    big[: array.shape[0], : array.shape[1], : array.shape[2]] = array
    ct = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer.util.updateVolumeFromArray(ct, big)
    ct.CopyOrientation(small)
    ct.CreateDefaultDisplayNodes()
    slicer.mrmlScene.RemoveNode(small)
    widget.ui.ctSelector.setCurrentNode(ct)
    widget.ui.segmentSelector.setCurrentNode(segmentation)
    slicer_startup.choose_label(widget, segmentation, case.case.label)
    widget.ui.viewsPathLineEdit.currentPath = str(path.parent / "views.json")
    widget.ui.importButton.click()


def run(widget: Any, pulse: Pulse, cancelAt: float | None = None) -> float:
    """One registration; with ``cancelAt`` (a fraction) the seconds from Cancel to the end."""
    step = widget.steps["register"]
    pulse.phase = "click on Apply"
    widget.ui.applyButton.click()
    qt_standin.processEvents(20)
    task = step._run
    if task is None:
        raise SystemExit(widget.ui.registerStatusLabel.text)
    began = 0.0
    while step._run is not None:
        preparing = task.job.processId is None
        pulse.phase = "writing the files" if preparing else "computing"
        if task.progress > 0.99:
            pulse.phase = "loading the results"
        reached = cancelAt is not None and task.progress >= cancelAt
        if reached and not began and not (preparing and cancelAt):
            pulse.phase = "cancelling"
            began = time.perf_counter()
            widget.ui.applyButton.click()
        qt_standin.processEvents(5)
    pulse.phase = "after"
    qt_standin.processEvents(100)
    return time.perf_counter() - began if began else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--cancel", type=float, nargs="*", default=[0.0, 0.02, 0.3, 0.7])
    args = parser.parse_args()
    slicer_startup.start_panel()
    widget = slicer_startup.make_widget()
    with tempfile.TemporaryDirectory() as folder:
        fill(widget, Path(folder), args.slices)
        pulse = Pulse()
        for fraction in args.cancel:
            seconds = run(widget, pulse, fraction)
            print(f"Cancel at {fraction:.0%}: all ended after {seconds:.2f} s", flush=True)
        pulse.pauses.clear()
        run(widget, pulse)
        pulse.stop()
        print(widget.ui.progressLabel.text)
    print(f"{'phase':22} {'longest pause':>14} {'own work in it':>15} {'over 100 ms':>12}")
    for phase, pauses in pulse.pauses.items():
        longest = max(pauses)
        over = sum(clock > 100 for clock, _ in pauses)
        print(f"{phase:22} {longest[0]:11.0f} ms {longest[1]:12.0f} ms {over:12d}")
    widget.cleanup()


if __name__ == "__main__":
    main()
