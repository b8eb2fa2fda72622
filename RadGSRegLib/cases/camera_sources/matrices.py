"""An intrinsic and an extrinsic, inline; what of them is missing may be in a DICOM's tags."""

from ...geometry import Camera, intrinsic_problem
from .dicom import camera_from_tags
from .door import SourcedCamera, ViewEntry


class Matrices:
    """``intrinsic`` (3 x 3, pixels) and ``extrinsic`` (4 x 4, world mm to camera)."""

    name = "intrinsic and extrinsic"
    keys: tuple[str, ...] = ("intrinsic", "extrinsic")
    details: tuple[str, ...] = ()

    def camera(self, entry: ViewEntry) -> SourcedCamera:
        """Check both, and complete them from the image's tags."""
        fields = entry.fields
        intrinsic = extrinsic = None
        if "intrinsic" in fields:
            intrinsic = fields.numbers("intrinsic", (3, 3))
            problem = intrinsic_problem(intrinsic)
            if problem:
                fields.refuse(f'"intrinsic" {problem}')
        if "extrinsic" in fields:
            extrinsic = fields.rigid("extrinsic")
        if intrinsic is not None and extrinsic is not None:
            return SourcedCamera(Camera(intrinsic, extrinsic, entry.columns, entry.rows))
        return camera_from_tags(entry, intrinsic, extrinsic)
