# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""X-rays of beads calibrated from the console and in the panel, corrected by clicks, and used."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import panel_scene
import slicer_startup
from panel_scene import Library, wait_until

from RadGSRegLib import cli
from RadGSRegLib.calibration import LAYOUTS, layout
from RadGSRegLib.cases import read_views
from RadGSRegLib.choices import BEAD_LAYOUTS
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Distortion, distort

slicer_startup.start()

from RadGSRegSlicer.exchange import casefolder, xraysources
from RadGSRegSlicer.operations.calibration import CalibrateRequest
from RadGSRegSlicer.panel import calibrate_tools
from RadGSRegSlicer.process.driver import TaskError
from RadGSRegSlicer.process.runs import WorkFolder
from RadGSRegSlicer.review import views
from RadGSRegSlicer.scene import beadcircles, xray
from RadGSRegSlicer.scene.drawing import DRAWING

import RadGSReg

BEADS = layout("two-plates")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated X-rays of the phantom, with their true cameras."""
    folder = tmp_path_factory.mktemp("beads") / "phantom"
    words = ["simulate", "--beads", "two-plates", "--no-patient", "--views", "2"]
    assert cli.main([*words, "--seed", "3", "--out", str(folder)]) == 0
    return folder


def _nominal(phantom: Path) -> list[Any]:
    """The pictures as X-rays of which nothing is known but the usual numbers."""
    entries = json.loads((phantom / "views.json").read_text())["views"]
    return [xraysources.fromFile(phantom / entry["image"]).nodes[0] for entry in entries]


@pytest.fixture
def spacing(phantom: Path) -> float:
    return float(read_views(phantom / "views.json")[0].pixel_spacing_mm[0])


def _distortion(entry: dict[str, Any]) -> Distortion:
    """What a calibration's record says of a view's."""
    said = entry["distortion"]
    lists = {key: tuple(said[key]) for key in ("centre_px", "radial", "spiral")}
    return Distortion(unit_px=said["unit_px"], **lists)


def _models(kind: str) -> list[Any]:
    nodes = slicer.util.getNodesByClass("vtkMRMLModelNode")
    return [node for node in nodes if node.GetAttribute(DRAWING) == kind]


# The console


def test_the_console_calibrates_and_corrects(phantom: Path, spacing: float, tmp_path: Path) -> None:
    slicer_startup.start()
    logic, nodes = RadGSReg.RadGSRegLogic(), _nominal(phantom)
    before = [xray.getGeometry(node).camera for node in nodes]
    out = tmp_path / "out"
    first = logic.calibrate(
        nodes, "two-plates", pixelMm=spacing, use=False, outputFolder=out, sharedIntrinsics=True
    )
    assert first.status == "ok"
    assert first.outputFolder == out
    assert read_views(out / "views.json")[0].pixels.shape == xray.getPixels(nodes[0]).shape
    assert [xray.getGeometry(n).camera.focal_px for n in nodes] == [c.focal_px for c in before]
    editing = first.editing()
    assert editing.options.shared_intrinsics
    bead = next(iter(editing.residuals_px(0)))
    result = logic.calibrate(
        nodes, "two-plates", pixelMm=spacing, pairs=editing.removed(0, bead).pairs()
    )
    assert result.outputFolder is None
    assert bead not in result.record["views"][0]["beads"]
    for node, entry in zip(nodes, result.record["views"], strict=True):
        geometry = xray.getGeometry(node)
        assert not geometry.nominal
        assert geometry.patientAxes is None
        assert geometry.metalPx
        assert geometry.cameraCovariance is not None
        assert geometry.pixelSpacing == pytest.approx((spacing, spacing))
        assert node.GetAttribute(xraysources.GUESSED_SPACING) is None
        shown = geometry.camera.project(BEADS.centres_mm[entry["beads"]])
        away = np.hypot(*(shown - np.array(entry["spots_px"])).T)
        assert np.sqrt(np.mean(away**2)) < 0.5
    assert casefolder.patientAxes(nodes) is None
    with pytest.raises(TaskError, match="beads"):
        logic.calibrate(nodes, "helix")  # of another phantom


def test_each_x_ray_may_have_its_own_grid(tmp_path: Path) -> None:
    slicer_startup.start()
    folder = tmp_path / "bent"
    words = ["simulate", "--beads", "two-plates", "--no-patient", "--views", "2", "--seed", "3"]
    words += ["--distortion-px", "5", "--grid", "--principal-px", "0"]
    assert cli.main([*words, "--out", str(folder)]) == 0
    nodes = _nominal(folder)
    spacing = read_views(folder / "views.json")[0].pixel_spacing_mm[0]
    # Each grid's picture bears its X-ray's name.
    for node, grid in zip(nodes, sorted((folder / "grid").iterdir()), strict=True):
        assert grid.stem == casefolder.viewName(node)
    result = RadGSReg.RadGSRegLogic().calibrate(
        nodes, "two-plates", pixelMm=spacing, grid=folder / "grid", use=False
    )
    editing = result.editing()
    for view, entry in zip(editing.views, result.record["views"], strict=True):
        assert view.distortion == _distortion(entry)
    assert editing.views[0].distortion != editing.views[1].distortion
    assert max(editing.rms_px(0), editing.rms_px(1)) < 0.5


def test_cameras_calibrated_together_replace_what_was_known(phantom: Path, spacing: float) -> None:
    slicer_startup.start()
    nodes = [*_nominal(phantom), *_nominal(phantom)[:1]]
    first, second, other = nodes
    old = np.eye(9) * 0.5
    for node, of in ((first, second), (second, first), (other, first)):
        own = {
            "cameraCovariance": np.eye(9),
            "cameraCovarianceWith": {casefolder.viewName(of): old},
        }
        xray.setGeometry(node, dataclasses.replace(xray.getGeometry(node), **own))
    result = RadGSReg.RadGSRegLogic().calibrate(
        nodes[:2], "two-plates", pixelMm=spacing, sharedIntrinsics=True
    )
    assert any(view.camera_covariance_with for view in result.views)
    for node, view in zip(nodes[:2], result.views, strict=True):
        together = xray.getGeometry(node).cameraCovarianceWith
        assert set(together) == set(view.camera_covariance_with)
        for name, covariance in view.camera_covariance_with.items():
            np.testing.assert_allclose(together[name], covariance)
    # Another X-ray says nothing of a camera that is no more.
    assert xray.getGeometry(other).cameraCovarianceWith == {}
    np.testing.assert_array_equal(xray.getGeometry(other).cameraCovariance, np.eye(9))
    assert len(casefolder.viewsFromXrays(nodes[:2])) == 2  # they agree
    # Under another name in the scene, the covariance is under that.
    second.SetName("elsewhere")
    result.use()
    assert set(xray.getGeometry(first).cameraCovarianceWith) <= {"elsewhere"}
    assert len(casefolder.viewsFromXrays(nodes[:2])) == 2


def test_a_bent_picture_becomes_a_straight_one(tmp_path: Path) -> None:
    slicer_startup.start()
    folder, beads = tmp_path / "bent", layout("helix")
    words = ["simulate", "--beads", "helix", "--no-patient", "--views", "2", "--seed", "3"]
    assert cli.main([*words, "--distortion-px", "6", "--out", str(folder)]) == 0
    nodes = _nominal(folder)
    before = [xray.getPixels(node).copy() for node in nodes]
    spacing = read_views(folder / "views.json")[0].pixel_spacing_mm[0]
    clicked = (30.0, 40.0)
    xray.setCenterPx(nodes[0], clicked)
    options = {"pixelMm": spacing, "sharedIntrinsics": True, "fitDistortion": True}
    result = RadGSReg.RadGSRegLogic().calibrate(nodes, "helix", **options)
    for node, pixels, view in zip(nodes, before, result.views, strict=True):
        assert not np.array_equal(xray.getPixels(node), pixels)
        assert np.array_equal(xray.getPixels(node), view.pixels)
    # What was clicked in the bent picture is at the same bone in the straight one.
    moved = xray.getGeometry(nodes[0]).centerPx
    bent = Distortion(**result.record["views"][0]["distortion"])
    assert distort([moved], bent)[0] == pytest.approx(clicked, abs=1e-6)
    assert moved != pytest.approx(clicked, abs=0.1)
    assert xray.getGeometry(nodes[1]).centerPx is None
    editing = result.editing()
    assert editing.options.distortion == "fit"
    assert editing.views[0].distortion is not None
    for view, node in enumerate(nodes):
        assert editing.rms_px(view) < 0.5
        away = editing.views[view].camera.project(beads.centres_mm)
        away -= xray.getGeometry(node).camera.project(beads.centres_mm)
        assert np.hypot(*away.T).max() < 0.5


def test_what_cannot_be_calibrated_is_said(tmp_path: Path, phantom: Path) -> None:
    slicer_startup.start()
    nodes = _nominal(phantom)
    for words, change in (
        ("there are 1", {"xrayNodes": nodes[:1]}),
        ("give the pixel size", {"pixelMm": None}),
        ("pixel size: -1.0 is no positive number", {"pixelMm": -1.0}),
        ("is no positive number", {"sourceDetectorMm": -3.0}),
        (
            "leave the estimate from the beads out",
            {"fitDistortion": True, "grid": phantom / "truth.json"},
        ),
        ("beads: the file is not there", {"beads": str(tmp_path / "no.json")}),
        ("beads: the file is not there", {"beads": ""}),
        ("grid: the file is not there", {"grid": tmp_path / "no"}),
        ("beads: the file is not there", {"beads": tmp_path}),
        ("preset: the file is not there", {"preset": tmp_path / "no.json"}),
        ("pairs: the file is not there", {"pairs": tmp_path / "no.json"}),
    ):
        request = CalibrateRequest(nodes, "two-plates", pixelMm=0.6)
        problem = dataclasses.replace(request, **change).problem()
        assert words in problem
        assert problem.count("\n") == 0
    nodes[1].SetName(nodes[0].GetName())
    assert "same name" in CalibrateRequest(nodes, "two-plates", pixelMm=0.6).problem()
    with pytest.raises(InputError, match="is no option here"):
        CalibrateRequest.of(nodes, "two-plates", model="x")


def test_each_option_is_on_the_command_line(phantom: Path, tmp_path: Path) -> None:
    slicer_startup.start()
    nodes, file = _nominal(phantom), tmp_path / "known.json"
    file.write_text("{}")
    folder = WorkFolder()
    try:
        request = CalibrateRequest(
            nodes,
            file,
            pixelMm=0.6,
            sourceDetectorMm=1010.0,
            sharedIntrinsics=True,
            fitDistortion=True,
            preset=file,
            pairs=file,
        )
        arguments = [str(a) for a in request.toArguments(folder)]
        for option in ("--beads", "--preset", "--pairs"):
            assert arguments[arguments.index(option) + 1] == str(file)
        assert arguments[arguments.index("--source-detector-mm") + 1] == "1010"
        assert {"--shared-intrinsics", "--fit-distortion"} <= set(arguments)
        plain = [a for a in arguments if a != "--fit-distortion"]
        at = plain.index("--preset")
        parsed = cli.build_parser().parse_args(plain[:at] + plain[at + 2 :])
        assert parsed.pairs == file
        grid = dataclasses.replace(request, fitDistortion=False, grid=file, preset=None)
        cli.build_parser().parse_args([str(a) for a in grid.toArguments(folder)])
        of_each = dataclasses.replace(grid, grid=tmp_path)
        assert of_each.problem() == ""
        told = [str(a) for a in of_each.toArguments(folder)]
        assert told[told.index("--grid") + 1] == str(tmp_path)
        # The usual distance of a usual C-arm is no knowledge; a distance that was set is.
        guess = dataclasses.replace(request, sourceDetectorMm=None)
        assert "--source-detector-mm" not in guess.toArguments(folder)
        for node in nodes:
            geometry = xray.getGeometry(node)
            xray.setGeometry(node, dataclasses.replace(geometry, nominal=False))
        assert "--source-detector-mm" in guess.toArguments(folder)
    finally:
        folder.remove()


def test_layouts_have_the_same_names_everywhere() -> None:
    assert tuple(LAYOUTS) == BEAD_LAYOUTS


# The panel


@pytest.fixture
def panel(widget: Any, phantom: Path, spacing: float) -> Any:
    """The panel with two X-rays of the phantom, of which the pixel size is known."""
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(slicer.mrmlScene)
    for name in views.XRAY_VIEWS:
        view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        layers = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode", f"{name} layers")
        for node in (view, layers):
            node.SetLayoutName(name)
    widget.ui.calibrateGroupBox.collapsed = False
    widget._parameterNode.xrays = _nominal(phantom)
    return widget


def _tools(panel: Any) -> Any:
    return panel.steps["xray"]._calibration


def _calibrate(panel: Any) -> None:
    assert panel.ui.calibrateButton.enabled, panel.ui.calibrateButton.toolTip
    panel.ui.calibrateButton.click()
    assert panel.ui.calibrateButton.text == "Cancel"
    wait_until(lambda: panel.ui.calibrateButton.text == "Calibrate", 120.0)
    assert panel.steps["xray"].problem == ""


def _click(panel: Any, mode: str, *places: Any) -> None:
    """Press the button and click in the selected X-ray."""
    tools, ui = _tools(panel), panel.ui
    ui.calibrateModeComboBox.setCurrentIndex(ui.calibrateModeComboBox.findData(mode))
    node = tools._result.xrayNodes[tools._view]
    for column, row in places:
        ui.calibrateClickButton.checked = True
        markups = calibrate_tools.starts.markupsOf(node, calibrate_tools.CLICK_ROLE)
        panel_scene.click_in_slice(node, markups, float(column), float(row))


def _far_from_all(editing: Any, view: int) -> Any:
    """A pixel more than four radii from every bead's middle and shadow."""
    shadows = editing.shadows_px(view)
    spots = [editing.spot_of(view, bead) for bead in range(len(shadows))]
    places = np.concatenate([shadows[:, :2], [spot for spot in spots if spot is not None]])
    columns, rows = editing.exposures[view].size
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2)
    away = np.linalg.norm(grid[:, None] - places[None], axis=2).min(axis=1)
    assert away.max() > 4.0 * shadows[:, 2].max()
    return grid[np.argmax(away)]


def _residuals(panel: Any) -> dict[tuple[str, str], str]:
    table = panel.ui.calibrateTable
    rows = range(int(table.rowCount))
    cells = [[table.item(row, column).text() for column in range(3)] for row in rows]
    return {(bead, view): left for bead, view, left in cells}


def test_calibrate_correct_and_use(
    panel: Any, spacing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    ui, parameters, tools = panel.ui, panel._parameterNode, _tools(panel)
    nodes = list(parameters.xrays)
    assert "give the pixel size" in ui.calibrateButton.toolTip
    assert not ui.calibrateButton.enabled
    assert not ui.calibrateUseButton.enabled
    assert not ui.calibrateClickButton.enabled
    ui.calibratePixelSpinBox.value = spacing
    assert parameters.calibratePixelMm == pytest.approx(spacing)
    _calibrate(panel)
    assert ui.calibrateLabel.text.startswith("ok: ")
    first = tools.editing
    names = [node.GetName() for node in nodes]
    rows = _residuals(panel)
    assert {view for _, view in rows} == set(names)
    met = [bead for bead, view in rows if view == names[0] and rows[bead, view] != "no shadow"]
    assert len(met) >= 12
    assert all(float(left) < 2.0 for left in rows.values() if left != "no shadow")
    assert xray.getGeometry(nodes[0]).nominal  # nothing is taken yet
    green = {m.GetName(): m for m in _models(beadcircles.MET)}[f"{names[0]} bead met"]
    # A circle and a line to its shadow for each bead.
    assert green.GetPolyData().GetNumberOfLines() == 2 * len(met)
    orange = {m.GetName(): m for m in _models(beadcircles.MISSING)}[f"{names[0]} bead missing"]
    lost = orange.GetPolyData().GetNumberOfLines()
    assert green.GetDisplayNode().GetColor() != orange.GetDisplayNode().GetColor()

    bead = int(met[3])
    spot = first.spot_of(0, bead)
    _click(panel, "remove", spot + [1.0, 0.0])
    assert tools.editing.spot_of(0, bead) is None
    assert _residuals(panel)[str(bead), names[0]] == "no shadow"
    assert green.GetPolyData().GetNumberOfLines() == 2 * (len(met) - 1)
    assert orange.GetPolyData().GetNumberOfLines() == lost + 1
    # Drawn in the slice views, which show nothing but this X-ray while it is corrected.
    assert green.GetDisplayNode().GetVisibility2D()
    layers = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {n.GetBackgroundVolumeID() for n in layers} == {nodes[0].GetID()}
    (other_green,) = [m for m in _models(beadcircles.MET) if m is not green]
    assert not other_green.GetDisplayNode().GetVisibility2D()
    assert not ui.calibrateClickButton.checked

    _click(panel, "add", spot + [-1.0, 1.0])
    assert tools.editing.spot_of(0, bead) == pytest.approx(spot, abs=0.3)
    assert _residuals(panel)[str(bead), names[0]] != "no shadow"

    other = int(met[5])
    places = tools.editing.shadows_px(0)[[bead, other], :2]
    _click(panel, "swap", places[0])
    assert f"Bead {bead}: now click the other" in ui.calibrateLabel.text
    _click(panel, "swap", places[1])
    apart = float(np.hypot(*(places[0] - places[1])))
    assert float(_residuals(panel)[str(bead), names[0]]) > 0.5 * apart
    ui.calibrateUndoButton.click()
    assert float(_residuals(panel)[str(bead), names[0]]) < 2.0

    # A click a few radii from the nearest circle is of none.
    before, radius = tools.editing, float(tools.editing.shadows_px(0)[bead, 2])
    far = _far_from_all(tools.editing, 0)
    for mode in ("remove", "swap"):
        _click(panel, mode, far)
        assert tools.editing is before
        assert "no bead is near the click" in ui.xrayStatusLabel.text
        assert "now click the other" not in ui.calibrateLabel.text
    _click(panel, "remove", before.spot_of(0, bead) + [0.0, 2.0 * radius])
    assert tools.editing.spot_of(0, bead) is None
    assert "no bead is near the click" not in ui.xrayStatusLabel.text
    # A click where nothing is changes nothing and says so.
    _click(panel, "add", (3.0, 3.0))
    assert "no bead's shadow is near the click" in ui.xrayStatusLabel.text
    wanted = tools.editing.views[0].camera.project(BEADS.centres_mm)

    renewed: list[bool] = []
    monkeypatch.setattr(panel.steps["review"], "renew", lambda: renewed.append(True))
    # A search that is stopped leaves the corrections.
    corrected = tools.editing
    ui.calibrateButton.click()
    ui.calibrateButton.click()
    wait_until(lambda: ui.calibrateButton.text == "Calibrate", 120.0)
    assert tools.editing is corrected
    assert ui.calibrateUseButton.enabled
    assert not renewed

    ui.calibrateUseButton.click()
    assert not ui.calibrateUseButton.enabled
    wait_until(lambda: ui.calibrateButton.text == "Calibrate", 120.0)
    assert panel.steps["xray"].problem == ""
    assert ui.calibrateLabel.text.startswith("Cameras taken, ok: ")
    assert renewed  # what was registered is not of these cameras
    for node in nodes:
        geometry = xray.getGeometry(node)
        assert not geometry.nominal
        assert geometry.metalPx
        assert geometry.cameraCovariance is not None
    shown = xray.getGeometry(nodes[0]).camera.project(BEADS.centres_mm)
    assert np.hypot(*(shown - wanted).T).max() < 0.3
    assert _models(beadcircles.MET) == _models(beadcircles.MISSING) == []
    assert tools.editing is None
    assert _residuals(panel) == {}
    assert "2 X-rays with geometry" in ui.xrayStatusLabel.text


@pytest.mark.parametrize("end", ["removed", "closed"])
def test_another_x_ray_is_corrected_by_its_row(panel: Any, spacing: float, end: str) -> None:
    ui, tools = panel.ui, _tools(panel)
    ui.calibratePixelSpinBox.value = spacing
    _calibrate(panel)
    name = panel._parameterNode.xrays[1].GetName()
    table = ui.calibrateTable
    rows = [row for row in range(table.rowCount) if table.item(row, 1).text() == name]
    table.setCurrentCell(rows[2], 0)
    assert tools._view == 1
    bead = next(iter(tools.editing.residuals_px(1)))
    _click(panel, "remove", tools.editing.spot_of(1, bead))
    assert tools.editing.spot_of(1, bead) is None
    assert tools.editing.spot_of(0, bead) is not None
    assert table.item(int(table.currentRow()), 1).text() == name
    # An X-ray that goes takes the calibration along, and so does the scene.
    if end == "removed":
        slicer.mrmlScene.RemoveNode(panel._parameterNode.xrays[1])
        panel.update()
    else:
        slicer.mrmlScene.Clear(0)
    assert tools.editing is None
    assert _models(beadcircles.MET) == []
    assert not ui.calibrateUseButton.enabled
    assert _residuals(panel) == {}


def test_cancel_leaves_everything(panel: Any, library: Library) -> None:
    ui = panel.ui
    ui.calibratePixelSpinBox.value = 0.6
    before = [xray.getGeometry(node).camera.focal_px for node in panel._parameterNode.xrays]
    library.behave("hang")
    ui.calibrateButton.click()
    assert not ui.calibrateProgressBar.isHidden()
    assert not ui.aloneButton.enabled
    wait_until(lambda: (library.folder / "arguments").exists())
    ui.calibrateButton.click()
    wait_until(lambda: ui.calibrateButton.text == "Calibrate")
    assert ui.calibrateLabel.text == "Cancelled"
    assert ui.calibrateProgressBar.isHidden()
    after = [xray.getGeometry(node).camera.focal_px for node in panel._parameterNode.xrays]
    assert before == after


def test_choices_reach_the_command(
    panel: Any, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    carms = tmp_path / "settings" / "RadGSReg" / "carms"
    carms.mkdir(parents=True)
    (carms / "theatre 2.json").write_text("{}")
    settings = "slicerUserSettingsFilePath"
    monkeypatch.setattr(slicer.app, settings, str(tmp_path / "settings" / "Slicer.ini"))
    box = ui.calibratePresetComboBox
    panel.update()
    assert [box.itemText(n) for n in range(box.count)] == ["none"]
    ui.calibrateGroupBox.collapsed = True
    ui.calibrateGroupBox.collapsed = False
    assert [box.itemText(n) for n in range(box.count)] == ["none", "theatre 2"]
    box.setCurrentIndex(1)
    assert parameters.calibratePreset == str(carms / "theatre 2.json")
    monkeypatch.setattr(slicer.app, settings, str(tmp_path / "Slicer.ini"))
    _tools(panel).lookForCarms()
    panel.update()
    assert box.currentText == "theatre 2"  # a scene may come from elsewhere
    beads = tmp_path / "beads.json"
    beads.write_text("{}")
    ui.calibrateBeadsComboBox.setCurrentIndex(ui.calibrateBeadsComboBox.findData("file"))
    assert "beads: the file is not there" in ui.calibrateButton.toolTip
    ui.calibrateBeadsPathLineEdit.currentPath = str(beads)
    ui.calibrateGridPathLineEdit.currentPath = str(beads)
    ui.calibratePixelSpinBox.value = 0.6
    ui.calibrateDistanceSpinBox.value = 1050.0
    ui.calibrateSharedCheckBox.checked = True
    ui.calibrateFitCheckBox.checked = True
    assert "leave the estimate from the beads out" in ui.calibrateButton.toolTip
    ui.calibrateFitCheckBox.checked = False
    library.behave("bad")
    ui.calibrateButton.click()
    wait_until(lambda: ui.calibrateButton.text == "Calibrate")
    arguments = json.loads(library.read("arguments"))
    for option, value in (
        ("--preset", str(carms / "theatre 2.json")),
        ("--beads", str(beads)),
        ("--grid", str(beads)),
        ("--source-detector-mm", "1050"),
    ):
        assert arguments[arguments.index(option) + 1] == value
    assert "--shared-intrinsics" in arguments
    assert "X-rays show nothing" in ui.xrayStatusLabel.text


def test_a_folder_of_grids_is_chosen_with_a_button(
    panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PySide6.QtWidgets import QFileDialog

    ui, asked = panel.ui, []
    answers = [str(tmp_path), ""]

    def folder(parent: Any, title: str, path: str) -> str:
        asked.append((title, path))
        return answers.pop(0)

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", staticmethod(folder))
    ui.calibrateGridButton.click()
    assert panel._parameterNode.calibrateGridPath == str(tmp_path)
    ui.calibrateGridButton.click()  # cancelled
    assert ui.calibrateGridPathLineEdit.currentPath == str(tmp_path)
    assert asked[1] == ("Folder with a picture of the grid for each X-ray", str(tmp_path))
