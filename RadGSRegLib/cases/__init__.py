"""Reading and writing of cases, X-rays and results, as promised in the outside contract."""

from .camera_sources import CAMERA_SOURCES, CameraSource, SourcedCamera, ViewEntry
from .case import (
    is_views_file,
    patient_of,
    read_case,
    read_ct_case,
    read_start,
    write_case,
    write_segmentation,
    write_start,
)
from .clicks import clicked_centre, middle_of_views
from .config import options_from, read_mapping
from .ct import read_ct
from .dicom_file import is_dicom_file, number_of_frames, quiet_pydicom
from .dicom_geometry import nominal_extrinsic, nominal_intrinsic
from .itk_image import read_itk, volume_from_itk, volume_to_itk
from .json_input import Fields, did_you_mean, read_json_object
from .labels import labels_on_ct, read_segmentation
from .ledger import Ledger, sha256_of_file
from .model_card import read_card, read_facts
from .output import OutputFolder, output_file
from .ply import read_vertices
from .projection_matrix import camera_from_projection, read_projection_matrix
from .results import (
    RegistrationRecord,
    Status,
    read_itk_transform,
    read_registration_json,
    software_versions,
    to_json_value,
    write_itk_transform,
    write_json,
    write_registration_json,
    write_volume_nifti,
)
from .rtk import DetectorGrid, read_rtk_matrices, rtk_camera
from .types import Case, CtCase, Intensity, View
from .views import check_views, file_stem, read_views, view_name, write_views
from .xray import XrayImage, read_xray

__all__ = [
    "to_json_value",
    "volume_to_itk",
    "volume_from_itk",
    "read_itk",
    "quiet_pydicom",
    "number_of_frames",
    "is_dicom_file",
    "nominal_intrinsic",
    "nominal_extrinsic",
    "CAMERA_SOURCES",
    "CameraSource",
    "Case",
    "CtCase",
    "DetectorGrid",
    "Fields",
    "Intensity",
    "Ledger",
    "OutputFolder",
    "RegistrationRecord",
    "SourcedCamera",
    "Status",
    "View",
    "ViewEntry",
    "XrayImage",
    "camera_from_projection",
    "check_views",
    "clicked_centre",
    "did_you_mean",
    "file_stem",
    "is_views_file",
    "labels_on_ct",
    "middle_of_views",
    "options_from",
    "output_file",
    "patient_of",
    "read_card",
    "read_case",
    "read_ct",
    "read_ct_case",
    "read_facts",
    "read_itk_transform",
    "read_json_object",
    "read_mapping",
    "read_projection_matrix",
    "read_registration_json",
    "read_rtk_matrices",
    "read_segmentation",
    "read_start",
    "read_vertices",
    "read_views",
    "read_xray",
    "rtk_camera",
    "sha256_of_file",
    "software_versions",
    "view_name",
    "write_case",
    "write_itk_transform",
    "write_json",
    "write_registration_json",
    "write_segmentation",
    "write_start",
    "write_views",
    "write_volume_nifti",
]
