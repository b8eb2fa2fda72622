"""Pictures of the panel, step by step, on the stand-in for Qt.

The form is the module's own, its look is not Slicer's.

A small phantom is trained for and registered for it (some minutes of computing), so that every step
shows what it shows in use.

    python Testing/panel_pictures.py --out DIR
    python Testing/panel_pictures.py --out DIR --volume orbit/views.json  # that step alone
    python Testing/panel_pictures.py --out DIR --several  # several vertebrae at once
    python Testing/panel_pictures.py --out DIR --beads phantom  # step 2 with X-rays of beads

The last one takes what this has made:

    radgsreg simulate --beads two-plates --no-patient --views 2 --seed 3 --out phantom
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_TESTING = Path(__file__).resolve().parent
sys.path[:0] = [str(_TESTING), str(_TESTING.parent)]

import qt_standin  # noqa: E402
import slicer  # noqa: E402
import slicer_startup  # noqa: E402
from registration_scenes import simulated  # noqa: E402

from RadGSRegLib.simulation import (  # noqa: E402
    SimulationParameters,
    simulate_phantom_case,
    write_simulated_case,
)

STEPS = ("ct", "train", "xray", "start", "register", "review", "volume", "about")
WIDTH = 480
LONGEST_CALIBRATION_S = 300.0


def fill(widget: Any, folder: Path, case: Any = None) -> None:
    """A small phantom's CT and segmentation in the scene, and its X-rays through the form."""
    case = case or simulated()
    path = write_simulated_case(case, folder / "case")
    content = json.loads(path.read_text(encoding="utf-8"))
    ct = slicer_startup.load_volume(path.parent / content["ct"])
    ct.SetName("Phantom CT")
    names = case.case.label_names
    segmentation = slicer_startup.load_segmentation(path.parent / content["segmentation"], names)
    segmentation.SetName("Phantom segmentation")
    widget.ui.ctSelector.setCurrentNode(ct)
    widget.ui.segmentSelector.setCurrentNode(segmentation)
    slicer_startup.choose_label(widget, segmentation, case.case.label)
    widget.ui.viewsPathLineEdit.currentPath = str(path.parent / "views.json")
    widget.ui.importButton.click()
    widget.ui.viewsPathLineEdit.currentPath = "views.json"


def train(widget: Any, out: Path) -> None:
    """Pictures of a training once it has measured something, and of its end, made early."""
    ui, step = widget.ui, widget.steps["train"]
    models = Path(tempfile.gettempdir()) / "models"  # its name is in the pictures
    models.mkdir(exist_ok=True)
    slicer.mrmlScene.SetRootDirectory(str(models))
    show(widget, "train", out / "panel-train-ready.png")
    ui.trainButton.click()
    while step._run is not None:
        qt_standin.processEvents(20)
        ready = ui.finishTrainingButton.enabled and "error" in ui.trainProgressLabel.text
        if step._run is not None and ready:
            show(widget, "train", out / "panel-train.png")
            ui.finishTrainingButton.click()
    show(widget, "train", out / "panel-train-done.png")
    # The other pictures are of the way without trained weights.
    widget._parameterNode.method = "optimize"


def without_ct(widget: Any, views: Path, minutes: int, out: Path) -> None:
    """Pictures of a reconstruction of many X-rays alone, while it grows and with its tools."""
    ui, parameters = widget.ui, widget._parameterNode
    ui.viewsPathLineEdit.currentPath = str(views)
    ui.importButton.click()
    ui.viewsPathLineEdit.currentPath = "views.json"
    parameters.aloneMinutes, parameters.aloneHoldOut = minutes, 2
    parameters.aloneStandardize = True
    show(widget, "register", out / "panel-register-ready.png")
    ui.aloneButton.click()
    step = widget.steps["volume"]
    pictured = False
    while step._run is not None:
        qt_standin.processEvents(20)
        if not pictured and step._run is not None and step._run.progress > 0.6:
            pictured = True
            show(widget, "volume", out / "panel-volume-growing.png")
    parameters.volumePercentile = 93.0
    ui.volumeSurfaceButton.click()
    ui.volumeBoxButton.click()
    for name in ("Surface", "Axes", "Rendering"):
        getattr(ui, f"volume{name}GroupBox").collapsed = False
    show(widget, "volume", out / "panel-volume.png")


def calibrate(widget: Any, phantom: Path, out: Path) -> None:
    """A picture of step 2 with X-rays of beads that have been calibrated."""
    ui, step = widget.ui, widget.steps["xray"]
    views = json.loads((phantom / "views.json").read_text(encoding="utf-8"))["views"]
    for view in views[:2]:
        ui.viewsPathLineEdit.currentPath = str(phantom / view["image"])
        ui.importButton.click()
        # The picture alone says nothing of its geometry; nothing else is wrong with it.
        assert "lacks any geometry" in step.problem, step.problem
    ui.calibratePixelSpinBox.value = float(views[0]["pixel_spacing_mm"][0])
    ui.geometryGroupBox.collapsed, ui.calibrateGroupBox.collapsed = True, False
    ui.calibrateButton.click()
    latest = time.monotonic() + LONGEST_CALIBRATION_S
    while step.calibrating is not None:
        assert time.monotonic() < latest, "the calibration does not end"
        qt_standin.processEvents(20)
    assert step.problem == "", step.problem
    show(widget, "xray", out / "panel-calibrate.png")


def several(widget: Any, folder: Path, out: Path) -> None:
    """Pictures of several vertebrae at once: ticked, registered, under review."""
    ui = widget.ui
    parameters = SimulationParameters.preset("realistic").with_field(250.0, 244)
    fill(widget, folder, simulate_phantom_case(81700, parameters, spacing_mm=2.0, field="trunk"))
    ui.severalGroupBox.collapsed = False
    rows = range(ui.severalTable.rowCount)
    for row in rows:
        item = ui.severalTable.item(row, 0)
        if item.text() in ("L2", "L4"):
            item.setCheckState(qt_standin.QtCore.Qt.CheckState.Checked)
    show(widget, "ct", out / "panel-ct-several.png")
    ui.applyButton.click()
    step = widget.steps["register"]
    while step._run is not None:
        qt_standin.processEvents(20)
    show(widget, "register", out / "panel-register-several.png")
    ui.reviewAcceptButton.click()
    ui.reviewNextLevelButton.click()
    show(widget, "review", out / "panel-review-several.png")


def show(widget: Any, step: str | None, path: Path) -> None:
    """A picture of one step alone, or of the whole panel with all steps folded."""
    for name in STEPS:
        button = getattr(widget.ui, f"{name}CollapsibleButton")
        button.visible = step in (None, name)
        button.collapsed = name != step
    layout = widget.parent.layout()
    layout.activate()
    widget.parent.resize(WIDTH, 100)
    qt_standin.processEvents(50)
    widget.parent.resize(WIDTH, widget.parent.sizeHint.height())
    qt_standin.screenshot(widget.parent, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of the panel, step by step.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--no-training", action="store_true", help="leave its step empty")
    parser.add_argument("--no-registration", action="store_true", help="leave the last steps empty")
    parser.add_argument("--volume", type=Path, help="only the volume without a CT, of a views.json")
    parser.add_argument("--beads", type=Path, help="only step 2, with X-rays of beads")
    parser.add_argument("--several", action="store_true", help="only several vertebrae at once")
    parser.add_argument("--minutes", type=int, default=3, help="for that volume, at most")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    slicer_startup.start_panel()
    widget = slicer_startup.make_widget()
    widget.parent.show()
    show(widget, None, args.out / "panel-empty.png")
    if args.volume is not None:
        without_ct(widget, args.volume.resolve(), args.minutes, args.out)
        widget.cleanup()
        return
    if args.beads is not None:
        calibrate(widget, args.beads, args.out)  # its path is in the picture
        widget.cleanup()
        return
    if args.several:
        with tempfile.TemporaryDirectory() as folder:
            several(widget, Path(folder), args.out)
        widget.cleanup()
        return
    with tempfile.TemporaryDirectory() as folder:
        fill(widget, Path(folder))
        if not args.no_training:
            train(widget, args.out)
        for step in ("ct", "xray", "start"):
            show(widget, step, args.out / f"panel-{step}.png")
        widget.ui.geometryGroupBox.collapsed = False
        show(widget, "xray", args.out / "panel-xray-geometry.png")
        mode = widget.ui.startModeComboBox
        mode.setCurrentIndex(mode.findData("landmarks"))
        show(widget, "start", args.out / "panel-start-landmarks.png")
        mode.setCurrentIndex(mode.findData("clicks"))
        show(widget, "register", args.out / "panel-register-ready.png")
        if not args.no_registration:
            widget.ui.applyButton.click()
            step = widget.steps["register"]
            pictured = False
            while step._run is not None:
                qt_standin.processEvents(20)
                if not pictured and step._run is not None and step._run.progress > 0.45:
                    pictured = True
                    show(widget, "register", args.out / "panel-register.png")
            show(widget, "register", args.out / "panel-register-done.png")
        show(widget, "review", args.out / "panel-review.png")
        show(widget, "about", args.out / "panel-about.png")
        show(widget, None, args.out / "panel.png")
    widget.cleanup()
    for name in sorted(args.out.glob("panel*.png")):
        print(name)


if __name__ == "__main__":
    main()
