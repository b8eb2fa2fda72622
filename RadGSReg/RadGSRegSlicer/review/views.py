"""The biplane layout, in MRML alone: X-rays side by side above, 3-D and slices below."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
from RadGSRegLib.geometry import Array, Camera
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLScene
from slicer.util import vtkMatrixFromArray

from ..process.timers import nextTurn
from ..scene import xray
from ..scene.drawing import detectorCornersRas, pixelsToRas

LAYOUT_ID = 7353
"""Slicer's own layouts end at 100."""
CONVENTIONAL_LAYOUT_ID = 2
BEFORE = "RadGSReg.LayoutBefore"
XRAY_LABELS = ("A", "B")
XRAY_VIEWS = ("RadGSRegA", "RadGSRegB")
SLICE_VIEWS = ("Red", "Yellow")
THREE_D_VIEW = "1"

_SLICE = """<item><view class="vtkMRMLSliceNode" singletontag="{tag}">
<property name="orientation" action="default">{orientation}</property>
<property name="viewlabel" action="default">{label}</property>
<property name="viewcolor" action="default">{color}</property></view></item>"""

LAYOUT_XML = (
    '<layout type="vertical" split="true" ><item splitSize="560"><layout type="horizontal" '
    'split="true">'
    + _SLICE.format(tag=XRAY_VIEWS[0], orientation="Axial", label=XRAY_LABELS[0], color="#FAC024")
    + _SLICE.format(tag=XRAY_VIEWS[1], orientation="Axial", label=XRAY_LABELS[1], color="#A88CFA")
    + '</layout></item><item splitSize="440"><layout type="horizontal" split="true">'
    f'<item><view class="vtkMRMLViewNode" singletontag="{THREE_D_VIEW}">'
    '<property name="viewlabel" action="default">1</property></view></item>'
    + _SLICE.format(tag="Red", orientation="Axial", label="R", color="#F34A33")
    + _SLICE.format(tag="Yellow", orientation="Sagittal", label="Y", color="#EDD54C")
    + "</layout></item></layout>"
)


def layoutNode(scene: vtkMRMLScene) -> Any:
    """The scene's layout node, or None where nothing lays views out."""
    return scene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def addLayout(scene: vtkMRMLScene) -> Any:
    """Make the biplane layout known; returns the layout node (None where there is none)."""
    node = layoutNode(scene)
    if node is not None:
        if node.IsLayoutDescription(LAYOUT_ID):
            node.SetLayoutDescription(LAYOUT_ID, LAYOUT_XML)
        else:
            node.AddLayoutDescription(LAYOUT_ID, LAYOUT_XML)
            if node.GetViewArrangement() == LAYOUT_ID:
                # A scene that was opened before the layout was known shows no views at all.
                node.SetViewArrangement(LAYOUT_ID)
    return node


def keepOutOfFiles(scene: vtkMRMLScene) -> None:
    """Leave the biplane layout out of saved scenes: without this extension it would be no views.

    A scene without a layout opens in the layout that there is. Call it whenever the layout changes.
    """
    node = layoutNode(scene)
    if node is not None:
        node.SetSaveWithScene(node.GetViewArrangement() != LAYOUT_ID)


def showLayout(scene: vtkMRMLScene) -> int | None:
    """Switch to the biplane layout; returns the layout that was there before."""
    node = addLayout(scene)
    if node is None:
        return None
    before = int(node.GetViewArrangement())
    if before == LAYOUT_ID:
        return None
    node.SetAttribute(BEFORE, str(before))
    node.SetViewArrangement(LAYOUT_ID)
    keepOutOfFiles(scene)
    return before


def layoutBefore(scene: vtkMRMLScene) -> int:
    """The layout to go back to from the biplane one, whoever switched to that."""
    node = layoutNode(scene)
    before = None if node is None else node.GetAttribute(BEFORE)
    return int(before) if before and before.isdigit() else CONVENTIONAL_LAYOUT_ID


def closeLayout(scene: vtkMRMLScene) -> None:
    """Leave the biplane layout, and the names of X-rays that its views show."""
    node = layoutNode(scene)
    if node is not None and node.GetViewArrangement() == LAYOUT_ID:
        node.SetViewArrangement(layoutBefore(scene))
        keepOutOfFiles(scene)
    for name, label in zip(XRAY_VIEWS, XRAY_LABELS, strict=True):
        view = sliceNode(scene, name)
        if view is not None:
            view.SetLayoutLabel(label)


def restoreLayout(scene: vtkMRMLScene, before: int | None) -> None:
    """Go back to the layout that `showLayout` left."""
    node = layoutNode(scene)
    if node is not None and before is not None:
        node.SetViewArrangement(before)
        keepOutOfFiles(scene)


def viewByName(scene: vtkMRMLScene, className: str, layoutName: str) -> Any:
    """The slice, composite, view or camera node of a view, or None."""
    nodes = slicer.util.getNodesByClass(className, scene)
    return next((node for node in nodes if node.GetLayoutName() == layoutName), None)


def sliceNode(scene: vtkMRMLScene, layoutName: str) -> Any:
    """The slice node of a slice view, or None."""
    return viewByName(scene, "vtkMRMLSliceNode", layoutName)


def compositeNode(scene: vtkMRMLScene, layoutName: str) -> Any:
    """The composite node (layers) of a slice view, or None."""
    return viewByName(scene, "vtkMRMLSliceCompositeNode", layoutName)


def cameraNode(scene: vtkMRMLScene, layoutName: str = THREE_D_VIEW) -> Any:
    """The camera of a 3-D view, or None."""
    return viewByName(scene, "vtkMRMLCameraNode", layoutName)


def sliceToRas(node: vtkMRMLScalarVolumeNode) -> Array:
    """The slice (4, 4) that shows an X-ray upright: its first row on top, its first column left."""
    camera = xray.getGeometry(node).camera
    middle = [(camera.columns - 1) / 2.0, (camera.rows - 1) / 2.0]
    centre, right, below = pixelsToRas(
        node, [middle, [middle[0] + 1, middle[1]], [middle[0], middle[1] + 1]]
    )
    matrix = np.eye(4)
    matrix[:3, 0] = (right - centre) / np.linalg.norm(right - centre)
    up = centre - below
    up -= (up @ matrix[:3, 0]) * matrix[:3, 0]
    matrix[:3, 1] = up / np.linalg.norm(up)
    matrix[:3, 2] = np.cross(matrix[:3, 0], matrix[:3, 1])
    matrix[:3, 3] = centre
    return matrix


def showXray(scene: vtkMRMLScene, layoutName: str, node: vtkMRMLScalarVolumeNode) -> bool:
    """Show an X-ray, whole and upright, in a slice view; returns whether that view is there."""
    view, layers = sliceNode(scene, layoutName), compositeNode(scene, layoutName)
    if view is None or layers is None:
        return False
    with slicer.util.NodeModify(layers):
        layers.SetLinkedControl(False)
        layers.SetBackgroundVolumeID(node.GetID())
        layers.SetForegroundVolumeID(None)
        layers.SetLabelVolumeID(None)
    view.SetLayoutLabel(node.GetName())
    fitXray(view, node)
    return True


def showXrays(scene: vtkMRMLScene, nodes: Sequence[vtkMRMLScalarVolumeNode]) -> None:
    """Switch to the biplane layout and show one or two X-rays whole, the first on the left."""

    def show() -> None:
        for name, node in zip(XRAY_VIEWS, nodes, strict=False):
            if xray.isXray(node) and node.GetScene() is scene:
                showXray(scene, name, node)

    switched = showLayout(scene) is not None
    show()
    if switched:
        # Slice widgets that the layout has just made reset their offset in their first turn.
        nextTurn(show)


def fitXray(view: Any, node: vtkMRMLScalarVolumeNode, window: Any = None) -> None:
    """Fit a slice view to an X-ray, or to a part of it (left, right, top, bottom), in pixels."""
    camera: Camera = xray.getGeometry(node).camera
    left, right, top, bottom = window or (-0.5, camera.columns - 0.5, -0.5, camera.rows - 0.5)
    column, row = (left + right) / 2.0, (top + bottom) / 2.0
    centre, beside, below = pixelsToRas(node, [[column, row], [right, row], [column, bottom]])
    matrix = sliceToRas(node)
    matrix[:3, 3] = centre
    width = 2.0 * float(np.linalg.norm(beside - centre))
    height = 2.0 * float(np.linalg.norm(below - centre))
    columns, rows = (max(int(n), 1) for n in view.GetDimensions()[:2])
    step = max(width / columns, height / rows)
    with slicer.util.NodeModify(view):
        view.GetSliceToRAS().DeepCopy(vtkMatrixFromArray(matrix))
        view.SetFieldOfView(step * columns, step * rows, max(view.GetFieldOfView()[2], 1.0))
        view.UpdateMatrices()


def aspectOf3d(layoutName: str = THREE_D_VIEW) -> float:
    """The width of a 3-D view over its height, as it is on the screen; 1.5 where there is none."""
    application = getattr(slicer, "app", None)
    manager = None if application is None else application.layoutManager()
    if manager is None:
        return 1.5
    for index in range(manager.threeDViewCount):
        widget = manager.threeDWidget(index)
        node = widget.mrmlViewNode()
        if node is not None and node.GetLayoutName() == layoutName:
            view = widget.threeDView()
            return float(max(view.width, 1)) / max(view.height, 1)
    return 1.5


def lookAtGeometry(
    scene: vtkMRMLScene, xrayNodes: Sequence[vtkMRMLScalarVolumeNode], aspect: float | None = None
) -> bool:
    """Look at the sources, beams and detectors of X-rays; returns whether there is a camera."""
    camera = cameraNode(scene)
    if camera is None or not xrayNodes:
        return False
    sources = [xray.sourcePositionRas(xray.getGeometry(node)) for node in xrayNodes]
    detectors = np.concatenate([detectorCornersRas(node) for node in xrayNodes])
    points = np.concatenate([sources, detectors])
    centre = (points.min(axis=0) + points.max(axis=0)) / 2.0
    lookFromBetween(camera, xrayNodes, centre, aspect or aspectOf3d(), withSources=True)
    return True


def lookFromBetween(
    camera: Any,
    xrayNodes: Sequence[vtkMRMLScalarVolumeNode],
    centreRas: Array,
    aspect: float = 1.5,
    *,
    withSources: bool = False,
) -> None:
    """Put a camera between the sources, a little above, so that every X-ray is seen from before.

    ``centreRas`` (3,), the vertebra, is in the middle of the view; all detectors are inside, and
    the sources too if that is wanted.
    """
    rays = [xray.sourcePositionRas(xray.getGeometry(node)) - centreRas for node in xrayNodes]
    towards = sum((ray / np.linalg.norm(ray) for ray in rays), np.zeros(3))
    if np.linalg.norm(towards) < 1e-3:  # sources opposite one another
        towards = np.cross(rays[0], [0.0, 0.0, 1.0])
    towards = towards / np.linalg.norm(towards) + [0.0, 0.0, 0.45]
    towards /= np.linalg.norm(towards)
    up = np.array([0.0, 0.0, 1.0])
    up -= (up @ towards) * towards
    if np.linalg.norm(up) < 1e-3:
        up = np.array([0.0, 1.0, 0.0]) - towards[1] * towards
    up /= np.linalg.norm(up)
    right = np.cross(up, towards)
    half = np.tan(np.radians(15.0))
    corners = np.concatenate([detectorCornersRas(node) for node in xrayNodes]) - centreRas
    if withSources:
        corners = np.concatenate([corners, rays])
    needed = np.maximum(np.abs(corners @ up) / half, np.abs(corners @ right) / half / aspect)
    distance = 1.05 * float((needed + corners @ towards).max())
    with slicer.util.NodeModify(camera):
        camera.GetCamera().ParallelProjectionOff()
        camera.SetPosition(*(centreRas + distance * towards))
        camera.SetFocalPoint(*centreRas)
        camera.SetViewUp(*up)
        camera.SetViewAngle(30.0)
    camera.ResetClippingRange()


def showReconstruction(scene: vtkMRMLScene, reconstruction: vtkMRMLScalarVolumeNode) -> None:
    """Show a reconstruction alone in the slice views, cut through its middle."""
    bounds = np.zeros(6)
    reconstruction.GetRASBounds(bounds)
    for name in SLICE_VIEWS:
        layers, view = compositeNode(scene, name), sliceNode(scene, name)
        if layers is None or view is None:
            continue
        with slicer.util.NodeModify(layers):
            layers.SetForegroundVolumeID(reconstruction.GetID())
            layers.SetForegroundOpacity(1.0)
        view.JumpSliceByCentering(*(float(x) for x in (bounds[::2] + bounds[1::2]) / 2.0))


def showVolumeAlone(scene: vtkMRMLScene, volume: vtkMRMLScalarVolumeNode) -> None:
    """Show a volume alone and whole in the slice views, and in the middle of the 3-D view."""
    bounds = np.zeros(6)
    volume.GetRASBounds(bounds)
    centre = (bounds[::2] + bounds[1::2]) / 2.0
    size = max(float(np.ptp(bounds.reshape(3, 2), axis=1).max()), 1.0)
    for name in (*SLICE_VIEWS, "Green"):
        layers, view = compositeNode(scene, name), sliceNode(scene, name)
        if layers is None or view is None:
            continue
        with slicer.util.NodeModify(layers):
            layers.SetBackgroundVolumeID(volume.GetID())
            layers.SetForegroundVolumeID(None)
            layers.SetLabelVolumeID(None)
        view.JumpSliceByCentering(*(float(x) for x in centre))
        columns, rows = (max(int(n), 1) for n in view.GetDimensions()[:2])
        step = 1.1 * size / min(columns, rows)
        view.SetFieldOfView(step * columns, step * rows, max(view.GetFieldOfView()[2], 1.0))
    camera = cameraNode(scene)
    if camera is not None:
        with slicer.util.NodeModify(camera):
            camera.SetPosition(*(centre + size * np.array([0.6, 2.6, 0.6])))
            camera.SetFocalPoint(*centre)
            camera.SetViewUp(0.0, 0.0, 1.0)
            camera.SetViewAngle(30.0)
        camera.ResetClippingRange()


def showSlices(
    scene: vtkMRMLScene,
    reconstruction: vtkMRMLScalarVolumeNode | None,
    ct: vtkMRMLScalarVolumeNode,
    centreRas: Array,
    width_mm: float,
) -> None:
    """Show the reconstruction over the CT, where it now is, in the slice views.

    ``centreRas`` (3,): the place to cut at; ``width_mm``: how much of it to see.
    """
    for name in SLICE_VIEWS:
        layers, view = compositeNode(scene, name), sliceNode(scene, name)
        if layers is None or view is None:
            continue
        with slicer.util.NodeModify(layers):
            layers.SetBackgroundVolumeID(ct.GetID())
            layers.SetForegroundVolumeID(None if reconstruction is None else reconstruction.GetID())
            layers.SetForegroundOpacity(0.5)
        view.JumpSliceByCentering(*(float(x) for x in centreRas))
        columns, rows = (max(int(n), 1) for n in view.GetDimensions()[:2])
        step = width_mm / min(columns, rows)
        view.SetFieldOfView(step * columns, step * rows, view.GetFieldOfView()[2])
