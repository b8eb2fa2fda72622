"""The vertebra as a closed surface in the CT's own frame."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, transform_points
from scipy import ndimage
from slicer.util import arrayFromVTKMatrix
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..scene.frames import transformMatrix
from ..scene.meshes import moved
from ..scene.segments import findSegment

MOST_TRIANGLES = 24_000  # keeps an outline within a few milliseconds and shows every process


@dataclass(frozen=True)
class VertebraSurface:
    """A closed surface (``polyData``) and the centroid (3,) of the mask, RAS mm of the CT itself.

    ``points`` (N, 3) and ``triangles`` (M, 3) are those of ``polyData``, whose normals point
    outwards.
    """

    polyData: vtk.vtkPolyData
    points: Array
    triangles: NDArray[np.int64]
    centre: Array

    @property
    def size_mm(self) -> float:
        """The longest side of the box about the surface."""
        return float(np.ptp(self.points, axis=0).max())

    def movedBy(self, matrix: Array) -> Self:
        """This surface moved by a matrix (4, 4), RAS."""
        centre = transform_points(matrix, self.centre[None])[0]
        return self.of(moved(self.polyData, matrix), centre)

    @classmethod
    def of(cls, polyData: vtk.vtkPolyData, centre: Array | None = None) -> Self:
        """A closed triangle mesh as a surface; its centre is that of its points unless given."""
        points = np.asarray(vtk_to_numpy(polyData.GetPoints().GetData()), dtype=float)
        cells = vtk_to_numpy(polyData.GetPolys().GetConnectivityArray())
        triangles = np.asarray(cells, dtype=np.int64).reshape(-1, 3)
        middle = points.mean(axis=0) if centre is None else np.asarray(centre, dtype=float)
        return cls(polyData, points, triangles, middle)


def vertebraSurface(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    segment: str,
    ctNode: slicer.vtkMRMLScalarVolumeNode,
) -> VertebraSurface:
    """The surface of a segment (ID, name or level), in the frame of the CT itself (no transform).

    The mask is rounded by less than a voxel, as it is for the report's pictures. A segmentation
    under no transform, or under the CT's, is taken to be drawn in the CT's own frame; one under
    another transform is taken where it is seen in the scene. Raises InputError where the segment
    is not there or empty.
    """
    segmentId = findSegment(segmentationNode, segment)
    key = _stateOf(segmentationNode, segmentId, ctNode)
    if key and key == _last.key:
        return _last.surface
    surface = _made(segmentationNode, segment, segmentId, ctNode)
    _last.key, _last.surface = key, surface
    return surface


class _Last:
    """The surface that was made last: the preview's is the review's too, and takes 0.2 s."""

    key: tuple[object, ...] = ()
    surface: Any = None


_last = _Last()


def _stateOf(segmentationNode: Any, segmentId: str, ctNode: Any) -> tuple[object, ...]:
    """What a surface depends on, to be compared; empty for a segment without a label map."""
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    image = segment.GetRepresentation(name)
    if image is None:
        return ()
    place = _segmentationToCt(segmentationNode, ctNode).tobytes()
    # Modification times are counted over all objects: no two images share one.
    return image.GetMTime(), image.GetAddressAsString(""), int(segment.GetLabelValue()), place


def _made(segmentationNode: Any, segment: str, segmentId: str, ctNode: Any) -> VertebraSurface:
    image = slicer.vtkOrientedImageData()
    if not segmentationNode.GetBinaryLabelmapRepresentation(segmentId, image):
        raise InputError(segmentationNode.GetName(), f"its segment '{segment}' has no label map")
    mask, lowest = _mask(image)
    if mask is None:
        raise InputError(segmentationNode.GetName(), f"its segment '{segment}' is empty")
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    indexToCt = _segmentationToCt(segmentationNode, ctNode) @ arrayFromVTKMatrix(matrix)
    indices = np.argwhere(mask)[:, ::-1] + lowest
    centre = transform_points(indexToCt, indices.mean(axis=0)[None])[0]
    return VertebraSurface.of(_mesh(mask, lowest, indexToCt), centre)


def _mask(image: Any) -> tuple[NDArray[np.bool_] | None, NDArray[np.int64]]:
    """The occupied box of a label map (K, J, I), with its first index (i, j, k)."""
    extent = image.GetExtent()
    scalars = image.GetPointData().GetScalars()
    if scalars is None or min(image.GetDimensions()) < 1:
        return None, np.zeros(3, dtype=np.int64)
    occupied = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1]) > 0
    boxes = ndimage.find_objects(occupied.astype(np.uint8))
    if not boxes:
        return None, np.zeros(3, dtype=np.int64)
    lowest = np.array([part.start for part in boxes[0]][::-1]) + np.array(extent[::2])
    return occupied[boxes[0]], lowest


def _segmentationToCt(segmentationNode: Any, ctNode: Any) -> Array:
    parent = segmentationNode.GetParentTransformNode()
    if parent is None or parent is ctNode.GetParentTransformNode():
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        raise InputError(segmentationNode.GetName(), "is under a transform that is not linear")
    ctParent = ctNode.GetParentTransformNode()
    ctToWorld = np.eye(4) if ctParent is None else transformMatrix(ctParent)
    return np.asarray(np.linalg.inv(ctToWorld) @ transformMatrix(parent))


def _mesh(mask: NDArray[np.bool_], lowest: NDArray[np.int64], indexToRas: Array) -> vtk.vtkPolyData:
    spacing = np.linalg.norm(indexToRas[:3, :3], axis=0)
    sigma = 0.8 * float(spacing.min()) / spacing[::-1]
    padded = np.pad(mask.astype(np.float32), 3)
    smooth = ndimage.gaussian_filter(padded, sigma, truncate=3.0)
    image = vtk.vtkImageData()
    image.SetDimensions(smooth.shape[::-1])
    image.SetOrigin((lowest - 3).astype(float))
    image.GetPointData().SetScalars(numpy_to_vtk(smooth.ravel(), deep=True))
    contour = vtk.vtkFlyingEdges3D()
    contour.SetInputData(image)
    contour.SetValue(0, 0.5)
    contour.ComputeNormalsOff()
    contour.ComputeScalarsOff()
    contour.Update()
    mesh = moved(contour.GetOutput(), indexToRas)
    count = mesh.GetNumberOfPolys()
    if count > MOST_TRIANGLES:
        fewer = vtk.vtkQuadricDecimation()
        fewer.SetInputData(mesh)
        fewer.SetTargetReduction(1.0 - MOST_TRIANGLES / count)
        fewer.VolumePreservationOn()
        fewer.Update()
        mesh = fewer.GetOutput()
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputData(mesh)
    normals.SplittingOff()
    normals.ConsistencyOn()
    normals.AutoOrientNormalsOn()
    normals.Update()
    out = vtk.vtkPolyData()
    out.DeepCopy(normals.GetOutput())
    return out
