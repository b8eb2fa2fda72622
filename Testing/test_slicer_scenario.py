# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""The whole way of a clinician, on real MRML nodes and files, without the application.

DICOM X-rays in, a click for the vertebra, the transform on the CT, the volume shown, the scene to
.mrb and back with everything restored.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")

import registration_scenes
import slicer_startup
from test_dicom_xray import IDENTITY, NAME, write_dicom

from RadGSRegLib.simulation import write_simulated_case

slicer_startup.start()

from RadGSRegSlicer.exchange import results
from RadGSRegSlicer.operations import clicked, simulated
from RadGSRegSlicer.review.display import showVolumeRendering
from RadGSRegSlicer.scene import frames, levels, xray

import RadGSReg

pytestmark = pytest.mark.slow


def as_dicom(case: Path) -> Path:
    """The X-rays of a simulated case as XA files beside it; returns a views.json that names them.

    Patient's name and identity are in the files, so that the test sees them if they get out.
    """
    content = json.loads((case / "views.json").read_text(encoding="utf-8"))
    folder = case / "dicom"
    folder.mkdir()
    for view in content["views"]:
        pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(case / view["image"]))).astype(float)
        slope = float(pixels.max()) / 65000.0
        view["image"] = f"{view['name']}.dcm"
        write_dicom(
            folder / view["image"],
            np.rint(pixels / slope).astype(np.uint16),
            bits=16,
            RescaleSlope=f"{slope:.9g}",
            RescaleIntercept="0",
        )
    path = folder / "views.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def shown(scene: Any) -> Any:
    """The display node by which a volume of the scene is rendered in 3-D, and shown, or None."""
    for node in slicer.util.getNodesByClass("vtkMRMLVolumeRenderingDisplayNode", scene):
        if node.GetVisibility():
            return node
    return None


@pytest.mark.usefixtures("brief_children")
def test_from_dicom_to_a_scene_that_comes_back(tmp_path: Path) -> None:
    scene = slicer_startup.start()
    logic = RadGSReg.RadGSRegLogic()
    case = tmp_path / "case"
    write_simulated_case(registration_scenes.simulated(region=("L2", "L3", "L4")), case)
    made = simulated._loadPhantom(case)
    ctNode, truthNode = made.ctNode, made.truthNode
    for node in made.xrayNodes:
        scene.RemoveNode(node)
    scene.RemoveNode(made.segmentationNode)

    # The X-rays, from DICOM with the geometry of views.json.
    xrays = logic.importXray(as_dicom(case))
    assert [xray.getGeometry(node).intensity for node in xrays] == ["attenuation"] * 2

    # The vertebra, from a click.
    center = np.array(json.loads((case / "truth.json").read_text())["points_ct"]).mean(axis=0)
    labels = sitk.ReadImage(str(case / "seg.seg.nrrd"))
    body = sitk.GetArrayFromImage(labels) == 22
    place = np.argwhere(body)
    place = place[place[:, 1] < np.percentile(place[:, 1], 35)].mean(axis=0)[::-1]
    point = np.array(labels.TransformContinuousIndexToPhysicalPoint(place.tolist()))
    assert np.linalg.norm(point - center) < 40
    segmentationNode, segmentId = logic.segmentFromClick(ctNode, point * [-1.0, -1.0, 1.0], "L3")

    # The registration, with the centres that a person would click.
    result = logic.register(ctNode, segmentationNode, "L3", xrays, device="cpu", effort="fast")
    assert ctNode.GetParentTransformNode() == result.transformNode
    assert segmentationNode.GetParentTransformNode() == result.transformNode
    error = logic.errorAgainstTruth(ctNode, segmentationNode, "L3")
    assert error is not None
    assert error < 2.0
    showVolumeRendering(result.reconstructionNode, True)
    assert shown(scene) is not None

    parameters = logic.getParameterNode()
    parameters.ctVolume = ctNode
    parameters.segmentation = segmentationNode
    parameters.segmentId = segmentId
    parameters.xrays = xrays
    parameters.effort = "fast"
    parameters.ctToWorld = result.transformNode
    parameters.reconstruction = result.reconstructionNode
    parameters.gaussians = result.gaussiansNode
    before = {
        "matrix": frames.transformMatrix(result.transformNode),
        "truth": frames.transformMatrix(truthNode),
        "geometry": [xray.getGeometry(node) for node in xrays],
        "pixels": [xray.getPixels(node).copy() for node in xrays],
        "placed": [frames.ijkToLps(node) for node in xrays],
        "points": slicer.util.arrayFromModelPoints(result.gaussiansNode).copy(),
        "volume": slicer.util.arrayFromVolume(result.reconstructionNode).copy(),
    }
    bundle = tmp_path / "scene.mrb"
    assert scene.WriteToMRB(str(bundle))

    # Another day, another scene.
    scene = slicer_startup.start()
    assert not xray.xrayNodes(scene)
    assert scene.ReadFromMRB(str(bundle))
    parameters = RadGSReg.RadGSRegLogic().getParameterNode()
    ctNode, segmentationNode = parameters.ctVolume, parameters.segmentation
    assert parameters.effort == "fast"
    assert levels.segmentLevel(segmentationNode, parameters.segmentId).level == "L3"
    assert clicked.clickInfo(segmentationNode, parameters.segmentId) is not None
    assert ctNode.GetParentTransformNode() == parameters.ctToWorld
    assert segmentationNode.GetParentTransformNode() == parameters.ctToWorld
    assert parameters.ctToWorld.GetAttribute(results.STATUS) == result.status
    np.testing.assert_allclose(
        frames.transformMatrix(parameters.ctToWorld), before["matrix"], atol=1e-6
    )
    np.testing.assert_allclose(
        frames.transformMatrix(simulated.truthFor(ctNode)), before["truth"], atol=1e-6
    )
    assert len(parameters.xrays) == 2
    for number, node in enumerate(parameters.xrays):
        geometry, kept = xray.getGeometry(node), before["geometry"][number]
        np.testing.assert_array_equal(geometry.camera.intrinsic, kept.camera.intrinsic)
        np.testing.assert_array_equal(geometry.camera.world_to_camera, kept.camera.world_to_camera)
        assert (geometry.centerPx, geometry.intensity) == (kept.centerPx, kept.intensity)
        np.testing.assert_allclose(xray.getPixels(node), before["pixels"][number])
        np.testing.assert_allclose(frames.ijkToLps(node), before["placed"][number], atol=1e-4)
    np.testing.assert_allclose(
        slicer.util.arrayFromModelPoints(parameters.gaussians), before["points"], atol=1e-4
    )
    np.testing.assert_allclose(
        slicer.util.arrayFromVolume(parameters.reconstruction), before["volume"]
    )
    rendering = shown(scene)
    assert rendering is not None
    assert rendering.GetVolumeNode() == parameters.reconstruction
    again = RadGSReg.RadGSRegLogic().errorAgainstTruth(ctNode, segmentationNode, "L3")
    assert again == pytest.approx(error, abs=1e-3)

    # Nothing of the patient whose DICOM files these were has gone into the scene.
    text = str(scene)
    for node in slicer.util.getNodesByClass("vtkMRMLNode", scene):
        text += f"{node.GetName()}{[node.GetAttribute(key) for key in node.GetAttributeNames()]}"
    assert IDENTITY not in text
    assert NAME not in text
