"""Segments: finding the vertebra that is meant, and label maps on the CT's grid."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike, NDArray
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Volume
from RadGSRegLib.segmentnames import LEVEL_TAG, Named, choose_segment, scheme_remedy
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.util import arrayFromVTKMatrix, vtkMatrixFromArray
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .frames import LPS_RAS, ijkToLps
from .meshes import moved


@dataclass(frozen=True)
class SegmentLabels:
    """Segments on the CT's grid; ``label`` is the value of the chosen one.

    The label map (K, J, I) is ``table[counted]``: that takes long for a whole CT.
    """

    counted: NDArray[Any]
    table: NDArray[np.int16]
    label: int
    names: dict[int, str]

    @property
    def array(self) -> NDArray[np.int16]:
        """The label map (K, J, I), looked up anew."""
        return self.table[self.counted]


def segmentIds(segmentationNode: vtkMRMLSegmentationNode) -> list[str]:
    """The identifiers of all segments, in the segmentation's order."""
    segmentation = segmentationNode.GetSegmentation()
    return [
        segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())
    ]


def namedSegment(segmentationNode: vtkMRMLSegmentationNode, segmentId: str) -> Named:
    """What tells a segment from others."""
    segmentation = segmentationNode.GetSegmentation()
    segment = segmentation.GetSegment(segmentId)
    return Named(
        str(segment.GetName() or ""),
        segmentId,
        code=snomedCode(segmentation, segmentId) or "",
        said=tagOf(segment, LEVEL_TAG),
    )


def findSegment(segmentationNode: vtkMRMLSegmentationNode, wanted: str) -> str:
    """The identifier of the one segment that is meant by ``wanted``.

    That may be an identifier, a segment's name, or a vertebra ("L3"), which is looked for in
    terminology codes, identifiers ("vertebrae_L3") and names ("L3 vertebra"). Raises InputError
    where none or several fit or these disagree, and says which segments there are.
    """
    title = segmentationNode.GetName()
    every = [namedSegment(segmentationNode, id_) for id_ in segmentIds(segmentationNode)]
    # An exact identifier means that segment, whatever others are called.
    exact = [segment for segment in every if segment.identifier == wanted]
    chosen = choose_segment(
        exact or every, wanted, title, "say in step 1 which vertebra it is, or give a segment's ID"
    )
    if chosen is not None:
        return chosen.identifier
    segmentation = segmentationNode.GetSegmentation()
    numbers = {int(segmentation.GetSegment(s.identifier).GetLabelValue()) for s in every}
    there = ", ".join(f"'{segment.name}'" for segment in every) or "none"
    scheme = scheme_remedy(wanted, numbers, "logic.nameLevels(node, '{}')")
    remedy = f"its segments are: {there}" + (f"; {scheme}" if scheme else "")
    raise InputError(title, f"has no segment '{wanted}'", remedy)


def labelValues(segmentationNode: vtkMRMLSegmentationNode) -> dict[str, int]:
    """The value of every segment in a label map of all, by its identifier.

    Its own label value where all are distinct and positive, else its place, counted from 1.
    """
    segmentation, ids = segmentationNode.GetSegmentation(), segmentIds(segmentationNode)
    values = [int(segmentation.GetSegment(id_).GetLabelValue()) for id_ in ids]
    if len(set(values)) != len(values) or min(values) < 1 or max(values) > 32767:
        values = list(range(1, len(ids) + 1))
    return dict(zip(ids, values, strict=True))


def labelsOnCt(
    segmentationNode: vtkMRMLSegmentationNode, segmentId: str, ctNode: vtkMRMLScalarVolumeNode
) -> SegmentLabels:
    """All segments as one label map on the CT's grid, in the CT's own frame.

    The values are those of `labelValues`. Where segments overlap, the chosen one is kept whole. A
    segmentation under no transform, or under the CT's, is taken to be drawn in the CT's own frame;
    one under another transform is taken where it is seen in the scene. Raises InputError where the
    chosen segment is empty on the CT's grid.
    """
    segmentation = segmentationNode.GetSegmentation()
    ids = [id_ for id_ in segmentIds(segmentationNode) if id_ != segmentId] + [segmentId]
    every = labelValues(segmentationNode)
    values = [every[id_] for id_ in ids]
    counted = _pasted(segmentationNode, ids, ctNode)
    if counted is None:
        counted = _export(segmentationNode, ids, ctNode)
    table = np.zeros(len(ids) + 1, dtype=np.int16)
    table[1:] = values
    name = segmentation.GetSegment(segmentId).GetName()
    if not (counted == len(ids)).any():
        raise InputError(
            segmentationNode.GetName(),
            f"its segment '{name}' is empty on the grid of '{ctNode.GetName()}'",
        )
    names = {
        value: str(segmentation.GetSegment(id_).GetName())
        for value, id_ in zip(values, ids, strict=True)
    }
    return SegmentLabels(counted, table, values[-1], names)


def _pasted(
    segmentationNode: vtkMRMLSegmentationNode, ids: list[str], ctNode: vtkMRMLScalarVolumeNode
) -> NDArray[Any] | None:
    """`_export` for segments that are drawn on the CT's own voxels, as most are.

    Without resampling it is many times faster, and a window does not wait for it. None where the
    segments lie on another grid, under another transform, or are no label maps.
    """
    parent = segmentationNode.GetTransformNodeID()
    if parent not in (None, ctNode.GetTransformNodeID()) or len(ids) > 255:
        return None
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segmentation = segmentationNode.GetSegmentation()
    # Segments that do not overlap share one image, in which each has its own value.
    layers: dict[str, tuple[Any, dict[int, int]]] = {}
    for count, id_ in enumerate(ids, start=1):
        segment = segmentation.GetSegment(id_)
        image = segment.GetRepresentation(name)
        if image is None:
            return None
        key = image.GetAddressAsString("vtkObject")
        _, values = layers.pop(key, (image, {}))
        layers[key] = (image, {**values, int(segment.GetLabelValue()): count})
    counted = np.zeros(ctNode.GetImageData().GetDimensions()[::-1], np.uint8)
    for image, values in layers.values():
        if image.GetNumberOfPoints() == 0:
            continue
        voxels = _voxels(image)
        first = _firstVoxel(image, ctNode)
        if voxels is None or first is None:
            return None
        low = np.maximum(first, 0)
        high = np.minimum(first + voxels.shape[::-1], counted.shape[::-1])
        if (high <= low).any():
            continue
        (i, j, k), (iEnd, jEnd, kEnd) = low - first, high - first
        table = np.zeros(2 ** (8 * voxels.itemsize), np.uint8)
        for value, count in values.items():
            table[value] = count
        counts = table[voxels[k:kEnd, j:jEnd, i:iEnd]]
        place = counted[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
        if len(layers) == 1:
            place[...] = counts
        else:
            np.copyto(place, counts, where=counts > 0)
    return counted


def _voxels(image: Any) -> NDArray[Any] | None:
    """The voxels (K, J, I) of a label map, as unsigned numbers; None for other kinds."""
    scalars = image.GetPointData().GetScalars()
    if scalars is None or scalars.GetNumberOfComponents() != 1:
        return None
    array = vtk_to_numpy(scalars)
    if array.dtype.kind not in "iu" or array.itemsize > 2:
        return None
    unsigned = array.view(f"u{array.itemsize}")
    return np.asarray(unsigned.reshape(image.GetDimensions()[::-1]))


def _firstVoxel(image: Any, ctNode: Any) -> NDArray[np.int64] | None:
    """The CT's index (i, j, k) of a label map's first voxel; None unless on the CT's voxels."""
    toRas, ctToRas = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(toRas)
    ctNode.GetIJKToRASMatrix(ctToRas)
    between = np.linalg.inv(arrayFromVTKMatrix(ctToRas)) @ arrayFromVTKMatrix(toRas)
    if np.abs(between[:3, :3] - np.eye(3)).max() > 1e-4:
        return None
    first = between[:3, 3] + np.array(image.GetExtent()[::2])
    whole = np.round(first)
    return whole.astype(np.int64) if np.abs(first - whole).max() < 0.01 else None


def _export(
    segmentationNode: vtkMRMLSegmentationNode, ids: list[str], ctNode: vtkMRMLScalarVolumeNode
) -> NDArray[Any]:
    """Label map (K, J, I) with 1, 2, ... for the segments in the given order, the later on top."""
    scene = segmentationNode.GetScene()
    reference = ctNode
    if ctNode.GetParentTransformNode() is not None and (
        segmentationNode.GetParentTransformNode() is None
    ):
        # Slicer would look for the segments where the moved CT is; they belong to the unmoved one.
        reference = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "RadGSReg reference")
        reference.SetAndObserveImageData(ctNode.GetImageData())
        reference.CopyOrientation(ctNode)
    array = vtk.vtkStringArray()
    for id_ in ids:
        array.InsertNextValue(id_)
    labelmap = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "RadGSReg export")
    try:
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        if not logic.ExportSegmentsToLabelmapNode(segmentationNode, array, labelmap, reference):
            raise InputError(
                segmentationNode.GetName(),
                f"cannot be turned into a label map on the grid of '{ctNode.GetName()}'",
            )
        dimensions = ctNode.GetImageData().GetDimensions()
        exported = labelmap.GetImageData()
        if (
            exported is None
            or exported.GetDimensions() != dimensions
            or not np.allclose(ijkToLps(labelmap), ijkToLps(ctNode), atol=1e-4)
        ):
            raise InputError(
                segmentationNode.GetName(),
                f"its label map does not come out on the grid of '{ctNode.GetName()}'",
            )
        return np.array(slicer.util.arrayFromVolume(labelmap))
    finally:
        display = labelmap.GetDisplayNode()
        colors = None if display is None else display.GetColorNode()
        for node in (labelmap, display, colors):
            # The application takes a display node out with its volume.
            if node is not None and node.GetScene() is not None:
                scene.RemoveNode(node)
        if reference is not ctNode:
            scene.RemoveNode(reference)


def tagOf(segment: Any, name: str) -> str:
    """What a segment's tag says, "" where it has none of that name."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""


def snomedCode(segmentation: Any, segmentId: str) -> str | None:
    """The SNOMED CT code of a segment's type, from its terminology tag."""
    name = slicer.vtkSegment.GetTerminologyEntryTagName()
    fields = tagOf(segmentation.GetSegment(segmentId), name).split("~")
    code = fields[2].split("^") if len(fields) > 2 else []
    return code[1] if len(code) > 1 and code[0] in ("SCT", "SRT") else None


def addSegment(
    segmentationNode: vtkMRMLSegmentationNode, mask: Volume, name: str, segmentId: str
) -> str:
    """Add a mask (non-zero inside) as a segment; returns its identifier. InputError if empty."""
    where = np.argwhere(mask.array)
    if not len(where):
        raise InputError(name, "is empty and can be no segment")
    mask = mask.crop(where.min(0)[::-1], where.max(0)[::-1] + 1)
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*mask.size)
    voxels = np.ascontiguousarray(mask.array != 0).astype(np.uint8).ravel()
    image.GetPointData().SetScalars(numpy_to_vtk(voxels, deep=True))
    image.SetImageToWorldMatrix(vtkMatrixFromArray(LPS_RAS @ mask.index_to_physical))
    wanted = segmentationNode.GetSegmentation().GenerateUniqueSegmentID(segmentId)
    added = segmentationNode.AddSegmentFromBinaryLabelmapRepresentation(image, name, None, wanted)
    if not added:
        raise InputError(name, "was not taken as a segment")
    return str(added)


def moveSegments(segmentationNode: vtkMRMLSegmentationNode, matrix: ArrayLike) -> None:
    """Move the segments themselves by a rigid matrix (4, 4), RAS, with one update of the views.

    Closed surfaces are moved along: to make them anew takes seconds for a whole spine, and each
    segment would be drawn several times.
    """
    converter = slicer.vtkSegmentationConverter
    surface = converter.GetSegmentationClosedSurfaceRepresentationName()
    segmentation = segmentationNode.GetSegmentation()
    source = segmentation.GetSourceRepresentationName()
    move = vtk.vtkTransform()
    move.SetMatrix(vtkMatrixFromArray(matrix))
    kept = {}
    if source != surface and segmentation.ContainsRepresentation(surface):
        every = {id_: segmentation.GetSegment(id_) for id_ in segmentIds(segmentationNode)}
        surfaces = {id_: segment.GetRepresentation(surface) for id_, segment in every.items()}
        kept = {every[id_]: moved(s, matrix) for id_, s in surfaces.items() if s is not None}
    with slicer.util.NodeModify(segmentationNode):
        segmentation.ApplyLinearTransform(move)
        # Whatever else was made from the source no longer holds, and is made anew when needed.
        segmentation.InvalidateNonSourceRepresentations()
        for segment, polyData in kept.items():
            segment.AddRepresentation(surface, polyData)


def newSegmentation(name: str, ctNode: vtkMRMLScalarVolumeNode) -> vtkMRMLSegmentationNode:
    """An empty segmentation on a CT's grid, under the same transform as the CT."""
    node = ctNode.GetScene().AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(ctNode)
    node.SetAndObserveTransformNodeID(ctNode.GetTransformNodeID())
    return node


def segmentationFromLabels(
    name: str, labels: Volume, ctNode: vtkMRMLScalarVolumeNode
) -> vtkMRMLSegmentationNode:
    """A segmentation with one segment "label_N" for every number N of a label map."""
    node = newSegmentation(name, ctNode)
    for number in np.unique(labels.array):
        if number != 0:
            mask = labels.with_array(labels.array == number)
            addSegment(node, mask, f"label {number}", f"label_{number}")
    return node
