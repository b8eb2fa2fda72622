"""The tags of a DICOM image: a nominal camera."""

from ...geometry import Array, Camera
from ..dicom_geometry import nominal_extrinsic, nominal_intrinsic
from .door import SourcedCamera, ViewEntry

_REMEDY = 'give "intrinsic" and "extrinsic"'


def camera_from_tags(
    entry: ViewEntry, intrinsic: Array | None = None, extrinsic: Array | None = None
) -> SourcedCamera:
    """The camera of an image's DICOM tags, or what of it the matrices do not say already.

    Raises InputError where the image has no tags, or not those that are needed.
    """
    fields, tags = entry.fields, entry.image.tags
    if tags is None:
        fields.need("intrinsic")
        fields.need("extrinsic")
        raise AssertionError("unreachable: one of the two is missing")
    title = f'image "{fields.data["image"]}"'
    missing = [] if intrinsic is not None else tags.missing_for_intrinsic()
    if "pixel_spacing_mm" in fields and "ImagerPixelSpacing" in missing:
        missing.remove("ImagerPixelSpacing")
    missing += [] if extrinsic is not None else tags.missing_for_extrinsic()
    if missing:
        fields.refuse(f"{title} has no usable {' or '.join(missing)} tag", _REMEDY)
    try:
        if intrinsic is None:
            intrinsic = nominal_intrinsic(tags, entry.spacing_mm, entry.columns, entry.rows)
        if extrinsic is None:
            extrinsic = nominal_extrinsic(tags)
    except ValueError as error:
        fields.refuse(f"{title}: {error}", _REMEDY)
    if tags.source_detector_mm and extrinsic[2, 3] >= tags.source_detector_mm:
        fields.refuse(
            f"{title} puts the patient behind the detector "
            "(DistanceSourceToPatient is not below DistanceSourceToDetector)"
        )
    name = fields.data["name"]
    lies = f" (patient {tags.patient_position})" if tags.patient_position else ""
    entry.ledger.note(f"{name}: geometry from DICOM tags{lies}, a nominal and uncalibrated guess")
    if tags.orientation is None:
        entry.ledger.note(
            f"{name}: the DICOM has no PatientOrientation; its picture is taken as heads-up and "
            "seen facing the source"
        )
    return SourcedCamera(Camera(intrinsic, extrinsic, entry.columns, entry.rows), nominal=True)
