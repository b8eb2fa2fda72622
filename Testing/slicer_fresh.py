"""The panel in a Slicer where nothing is installed: run by `test_slicer_fresh` in its own process.

    python Testing/slicer_fresh.py CASE_FOLDER

Prints one JSON: what the panel says after each thing that a user may press, and what each call from
the console raises. What the application brings is there; the rest cannot be imported.
"""

from __future__ import annotations

import importlib.abc
import json
import sys
import types
from pathlib import Path
from typing import Any

_TESTING = Path(__file__).resolve().parent
sys.path[:0] = [str(_TESTING), str(_TESTING.parent)]

THERE = {"numpy", "scipy", "SimpleITK", "pydicom", "PIL"}
NAMES = {
    "pillow": "PIL",
    "python-gdcm": "gdcm",
    "PyYAML": "yaml",
    "scikit-image": "skimage",
    "warp-lang": "warp",
}


class Nothing(importlib.abc.MetaPathFinder):
    """Finds none of the packages that a fresh Slicer lacks."""

    def __init__(self) -> None:
        lines = (_TESTING.parent / "RadGSReg" / "Resources" / "requirements.txt").read_text()
        names = [line.split(">=")[0] for line in lines.splitlines() if not line.startswith("#")]
        self.lacking = {NAMES.get(name, name) for name in [*names, "torch", "pytest"]} - THERE

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in self.lacking:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def say(action: Any) -> str:
    """What calling something raises, as a console shows it; "" if nothing."""
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(folder: Path) -> dict[str, Any]:
    sys.meta_path.insert(0, Nothing())
    import qt_standin
    import slicer
    import slicer_startup

    slicer_startup.start_panel()
    packaging: Any = types.ModuleType("slicer.packaging")

    def decline(*args: Any, **options: Any) -> None:
        raise RuntimeError("User declined package installation.")

    packaging.pip_ensure, packaging.load_requirements = decline, Path
    sys.modules["slicer.packaging"] = slicer.packaging = packaging
    from RadGSRegSlicer.process import environment

    # As find_spec of a package that is not there; of the stand-in's finder it would raise.
    find = environment.importlib.util.find_spec
    environment.importlib.util.find_spec = lambda name: (
        None if say(lambda: find(name)) else find(name)
    )
    widget = slicer_startup.make_widget()
    ct = slicer_startup.load_volume(folder / "ct.nii.gz")
    segmentation = slicer_startup.load_segmentation(folder / "seg.nii.gz", {22: "L3"})
    parameters = widget._parameterNode
    parameters.ctVolume, parameters.segmentation = ct, segmentation
    slicer_startup.choose_label(widget, segmentation, 22)
    parameters.method, parameters.modelPath = "learned", str(folder / "case.json")
    ui, texts = widget.ui, {}
    for line in ("viewsPathLineEdit", "geometryPathLineEdit", "exportPathLineEdit"):
        getattr(ui, line).currentPath = str(folder / "views.json")
    point = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "P")
    point.AddControlPointWorld(0.0, 0.0, 0.0)
    parameters.segmentPoint = point
    from PySide6.QtWidgets import QFileDialog
    from RadGSRegSlicer.panel import STEPS

    # A dialog would wait for somebody.
    QFileDialog.getExistingDirectory = staticmethod(lambda *asked: "")  # type: ignore[assignment]
    for name in dir(ui):
        button = getattr(ui, name)
        if not name.endswith("Button") or "Collapsible" in name or name == "finishTrainingButton":
            continue
        if name in ("applyButton", "trainButton", "segmentFromClickButton"):
            button.enabled = True  # as if nothing else were missing in the form
        button.click()
        qt_standin.processEvents(20)
        said = [getattr(ui, f"{kind.name}StatusLabel").text for kind in STEPS]
        texts[name] = "\n".join([*said, ui.aboutLabel.text, ui.progressLabel.text])
    logic = widget.logic
    case = (ct, segmentation, "L3", [])
    calls = {
        "importXray": lambda: logic.importXray(folder / "views.json"),
        "exportCase": lambda: logic.exportCase(*case, folder / "out"),
        "loadResult": lambda: logic.loadResult(folder, ct),
        "loadTrack": lambda: logic.loadTrack(folder, ct),
        "track": lambda: logic.track(*case),
        "register": lambda: logic.register(*case),
        "reconstruct": lambda: logic.reconstruct([]),
        "simulate": logic.simulate,
        "segmentFromClick": lambda: logic.segmentFromClick(ct, [0, 0, 0]),
        "pretrain": lambda: logic.pretrain(*case[:3], folder / "model"),
        "batch": lambda: logic.batch([folder], folder / "out"),
        "installDependencies": logic.installDependencies,
    }
    raised = {name: say(call) for name, call in calls.items()}
    widget.cleanup()
    return {"texts": texts, "raised": raised, "errors": qt_standin.errors}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
