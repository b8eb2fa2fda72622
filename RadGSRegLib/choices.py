"""The words that options take, written once: for the command line, the library and 3D Slicer.

Importing this loads nothing.
"""

from typing import Literal, get_args

Effort = Literal["fast", "normal", "careful"]
Device = Literal["auto", "cpu", "cuda"]
Rendering = Literal["auto", "torch", "warp", "gsplat"]
ReconstructionMethod = Literal["learned", "optimize"]
RegistrationMethod = Literal["ours", "published"]
Realism = Literal["clean", "realistic", "hard"]
ViewPath = Literal["biplanar", "circular", "arbitrary", "arc"]
Intensity = Literal["attenuation", "transmission", "display"]
Encoder = Literal["small", "resnet50", "densenet121", "vit12"]
Anchors = Literal["template", "grid"]
MeshFormat = Literal["stl", "ply", "obj"]
BeadLayout = Literal["two-plates", "helix"]
CameraFormat = Literal["matrix", "opencv", "rtk", "mayacam"]

EFFORTS: tuple[str, ...] = get_args(Effort)
DEVICES: tuple[str, ...] = get_args(Device)
BACKENDS: tuple[str, ...] = get_args(Rendering)
RECONSTRUCTION_METHODS: tuple[str, ...] = get_args(ReconstructionMethod)
REGISTRATION_METHODS: tuple[str, ...] = get_args(RegistrationMethod)
REALISMS: tuple[str, ...] = get_args(Realism)
PATHS: tuple[str, ...] = get_args(ViewPath)
INTENSITIES: tuple[str, ...] = get_args(Intensity)
ENCODERS: tuple[str, ...] = get_args(Encoder)
ANCHORS: tuple[str, ...] = get_args(Anchors)
MESH_FORMATS: tuple[str, ...] = get_args(MeshFormat)
BEAD_LAYOUTS: tuple[str, ...] = get_args(BeadLayout)
CAMERA_FORMATS: tuple[str, ...] = get_args(CameraFormat)
