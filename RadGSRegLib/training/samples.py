"""One pair of simulated X-rays as the networks see it, with everything that is known about it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..drr import project_volume
from ..errors import InputError
from ..geometry import Array, Camera, Volume, invert_rigid, transform_points, translation
from ..networks import PIXEL_MM, SIZE_PX, Frame, make_frame
from ..simulation import PRESETS, Prepared, SimulationParameters, simulate_case
from ..views import prepare_views
from .subjects import Subject

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """``images`` (V, H, W) as displayed, ``valid`` (V, H, W) 1 where a pixel shows the patient,
    ``targets`` (V, H, W) the line integrals of the vertebra alone (excess attenuation).

    ``intrinsics`` (V, 3, 3) and ``extrinsics`` (V, 4, 4) box_to_camera; ``centred_to_box`` (4, 4)
    the vertebra's true pose from CT axes about its centre; ``centres`` (N, 3) in the box of all
    labelled vertebrae, the vertebra's own first; all float32, mm.
    """

    images: Images
    valid: Images
    targets: Images
    intrinsics: Images
    extrinsics: Images
    centred_to_box: Images
    centres: Images

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return arrays for an ``.npz``: targets as float16, the rest as it is."""
        return {
            **vars(self),
            "valid": self.valid.astype(np.uint8),
            "targets": self.targets.astype(np.float16),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Sample:
        """Read what `to_arrays` gave. Raises InputError where something is missing."""
        names = [field.name for field in fields(cls)]
        if "centres" not in arrays and "centred_to_box" in arrays:
            # Written before others' centres were kept.
            arrays = {**arrays, "centres": arrays["centred_to_box"][None, :3, 3]}
        missing = [name for name in names if name not in arrays]
        if missing:
            raise InputError("sample", f"holds no {missing[0]}")
        return cls(*(np.asarray(arrays[name], dtype=np.float32) for name in names))


@dataclass(frozen=True)
class SampleOptions:
    """What is drawn for a sample. ``realism`` is a preset of the simulation or "mixed".

    ``centre_mm``: how far the middle of the box may lie from the vertebra (clicks and detectors
    err); ``rotation_deg``, ``primary_deg`` and ``secondary_deg``: the spine's turn about each axis
    and the views' about the nominal AP and lateral (math.md 3: 20 and 15 degrees). ``along_mm``:
    how far it may lie off along the patient's axis besides. ``whole``: whole views, not crops; the
    subjects are wide ones.
    """

    realism: str = "mixed"
    centre_mm: float = 8.0
    rotation_deg: float = 20.0
    primary_deg: float = 15.0
    secondary_deg: float = 10.0
    size_px: int = SIZE_PX
    pixel_mm: float = PIXEL_MM
    along_mm: float = 0.0
    whole: bool = False


def sample_parameters(options: SampleOptions, seed: int) -> SimulationParameters:
    """Choose the simulation's ranges for one sample, its detector as coarse as the crops."""
    realism = options.realism
    if realism == "mixed":
        # Whole views differ more between the realisms than crops do.
        last = ("realistic", "clean")[options.whole]
        mix = ("realistic", "realistic", last, "hard", "realistic", "realistic", "clean", "hard")
        realism = mix[seed % len(mix)]
    base = PRESETS.get(realism)
    if base is None:
        raise InputError(
            "samples", f"there is no realism {realism!r}", "clean, realistic, hard, mixed"
        )
    magnification = base.source_detector_mm / base.source_isocentre_mm
    pixel = options.pixel_mm * magnification
    more = (pixel / base.pixel_mm) ** 2
    return replace(
        base,
        size_px=options.size_px,
        pixel_mm=pixel,
        photons=(base.photons[0] * more, base.photons[1] * more),
        principal_px=0.0,
        center_px=0.0,
        spine_deg=options.rotation_deg,
        primary_deg=options.primary_deg,
        secondary_deg=options.secondary_deg,
        # A whole detector's collimator seldom reaches into a crop.
        collimator=("none", "none", "none", "round") if realism == "hard" else ("none",),
        # A CT may end where the body does not, or the picture may show little of the rest.
        trunk=base.trunk and not (options.whole and seed % 3 == 0),
    )


def draw_offset(options: SampleOptions, rng: np.random.Generator) -> Array:
    """Draw how far (3,) mm the middle of the box lies from the vertebra."""
    offset = rng.standard_normal(3)
    offset *= options.centre_mm * rng.uniform() ** (1.0 / 3.0) / np.linalg.norm(offset)
    offset[2] += options.along_mm * rng.uniform(-1.0, 1.0)
    return offset


def draw_sample(subject: Subject, options: SampleOptions, seed: int) -> Sample:
    """Simulate a pair of X-rays of a subject; the same seed gives the same sample.

    All physics is that of `RadGSRegLib.simulation.simulate_case`, imaged by the virtual cameras of
    `networks.crops` instead of a whole detector.
    """
    offset = draw_offset(options, np.random.default_rng([seed, 77]))
    frames: list[Frame] = []

    def frame(cameras: dict[str, Camera], at: Array) -> dict[str, Camera]:
        size, pixel = options.size_px, options.pixel_mm
        made = make_frame(list(cameras.values()), at + offset, size_px=size, pixel_mm=pixel)
        frames.append(made)
        to_box = invert_rigid(made.box_to_world)
        return {
            name: replace(virtual, world_to_camera=virtual.world_to_camera @ to_box)
            for name, virtual in zip(cameras, made.cameras, strict=True)
        }

    simulated = simulate_case(
        subject.ct,
        subject.labels,
        subject.label,
        sample_parameters(options, seed),
        seed,
        prepared=Prepared(subject.scene, frame),
    )
    ct_to_world = np.asarray(simulated.truth["ct_to_world"])
    made = frames[0]
    ct_to_box = invert_rigid(made.box_to_world) @ ct_to_world
    prepared = prepare_views(simulated.case.views)
    return Sample(
        images=np.stack([view.pixels for view in prepared]),
        valid=np.stack([view.valid for view in prepared]).astype(np.float32),
        targets=project_target(subject.excess, made, ct_to_box),
        intrinsics=made.intrinsics().numpy(),
        extrinsics=made.extrinsics().numpy(),
        centred_to_box=(ct_to_box @ translation(subject.centre_ct)).astype(np.float32),
        centres=_centres(simulated.truth, subject, invert_rigid(made.box_to_world)),
    )


def _centres(truth: dict[str, Any], subject: Subject, world_to_box: Array) -> Images:
    """`Sample.centres`: every vertebra has a pose of its own."""
    poses = {int(label): np.asarray(pose) for label, pose in truth["neighbours"].items()}
    order = [subject.label, *sorted(poses)]
    poses[subject.label] = np.asarray(truth["ct_to_world"])
    centroids = subject.scene.centroids
    points = [transform_points(world_to_box @ poses[n], centroids[n][None])[0] for n in order]
    return np.stack(points).astype(np.float32)


def project_target(excess: Volume, frame: Frame, ct_to_box: Array) -> Images:
    """Project the vertebra alone, at a pose: line integrals (V, H, W) in the virtual cameras."""
    return np.stack(
        [
            project_volume(
                excess,
                camera.intrinsic,
                camera.world_to_camera @ ct_to_box,
                camera.size,
                step_mm=float(excess.spacing.min()),
            ).numpy()
            for camera in frame.cameras
        ]
    )
