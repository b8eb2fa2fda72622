"""One pair of simulated X-rays as the networks see it, with everything that is known about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..drr import project_volume
from ..errors import InputError
from ..geometry import Array, Camera, Volume, invert_rigid, transform_points, translation
from ..networks import PIXEL_MM, SIZE_PX, Frame, make_frame
from ..simulation import (
    PRESETS,
    Prepared,
    SimulationParameters,
    Wanted,
    batch_problem,
    path_cameras,
    simulate_case,
    simulate_together,
)
from ..views import prepare_pictures, prepare_views
from .subjects import Subject

# So many pairs are one launch. On two cores 8 took 0.84 of the time a pair that 2 took, and 16 no
# less than 8 (docs/experiments/pairs.md); on CUDA not measured.
_TOGETHER = {"cpu": 8, "cuda": 64}


@dataclass(frozen=True)
class Sample:
    """``images`` (V, H, W) as displayed, ``valid`` (V, H, W) 1 where a pixel shows the patient,
    ``targets`` (V, H, W) the line integrals of the vertebra alone (excess attenuation), or of all
    bone where views are taken from anywhere, all three on the device of the training.

    On the CPU: ``intrinsics`` (V, 3, 3) and ``extrinsics`` (V, 4, 4) box_to_camera;
    ``centred_to_box`` (4, 4) the vertebra's true pose from CT axes about its centre; ``centres``
    (N, 3) in the box of all labelled vertebrae, the vertebra's own first, and ``labels`` (N,) their
    numbers in the label map (none in files written before they were kept). All float32, mm.
    """

    images: Tensor
    valid: Tensor
    targets: Tensor
    intrinsics: Tensor
    extrinsics: Tensor
    centred_to_box: Tensor
    centres: Tensor
    labels: Tensor = field(default_factory=lambda: torch.zeros(0))

    def to(self, device: torch.device | str) -> Sample:
        """Return the same with its pictures on another device."""
        pictures = {n: getattr(self, n).to(device) for n in ("images", "valid", "targets")}
        return replace(self, **pictures)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return arrays for an ``.npz``: targets as float16, the rest as it is."""
        arrays = {name: tensor.cpu().numpy() for name, tensor in vars(self).items()}
        valid, targets = arrays["valid"].astype(np.uint8), arrays["targets"].astype(np.float16)
        return {**arrays, "valid": valid, "targets": targets}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], device: torch.device | str = "cpu") -> Sample:
        """Read what `to_arrays` gave. Raises InputError where something is missing."""
        names = [known.name for known in fields(cls)]
        if "labels" not in arrays:
            arrays = {**arrays, "labels": np.zeros(0)}
        if "centres" not in arrays and "centred_to_box" in arrays:
            # Written before others' centres were kept.
            arrays = {**arrays, "centres": np.asarray(arrays["centred_to_box"])[None, :3, 3]}
        missing = [name for name in names if name not in arrays]
        if missing:
            raise InputError("sample", f"holds no {missing[0]}")
        tensors = {
            name: torch.from_numpy(np.array(arrays[name], dtype=np.float32)) for name in names
        }
        return cls(**tensors).to(device)


@dataclass(frozen=True)
class SampleOptions:
    """What is drawn for a sample. ``realism``: a preset of the simulation, "mixed" or "displayed".

    ``centre_mm``: how far the middle of the box may lie from the vertebra (clicks and detectors
    err); ``rotation_deg``, ``primary_deg`` and ``secondary_deg``: the spine's turn about each axis
    and the views' about the nominal AP and lateral (math.md 3: 20 and 15 degrees). ``along_mm``:
    how far it may lie off along the patient's axis besides. ``whole``: whole views, not crops; the
    subjects are wide ones. ``anywhere``: so many views, as a surgeon may take them, instead of a
    pair (0), upright about the middle of the box, whose axes are the world's.
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
    anywhere: int = 0

    def wider(self, factor: float) -> SampleOptions:
        """Return the same with all angles drawn from so many times as wide ranges."""
        return replace(
            self,
            rotation_deg=factor * self.rotation_deg,
            primary_deg=factor * self.primary_deg,
            secondary_deg=factor * self.secondary_deg,
        )


def sample_parameters(options: SampleOptions, seed: int) -> SimulationParameters:
    """Choose the simulation's ranges for one sample, its detector as coarse as the crops."""
    realism = options.realism
    if realism == "displayed":
        # What a C-arm shows, never line integrals; as often at its worst as usual.
        realism = ("realistic", "hard")[seed % 2]
    elif realism == "mixed":
        # Whole views differ more between the realisms than crops do.
        last = ("realistic", "clean")[options.whole]
        mix = ("realistic", "realistic", last, "hard", "realistic", "realistic", "clean", "hard")
        realism = mix[seed % len(mix)]
    base = PRESETS.get(realism)
    if base is None:
        raise InputError(
            "samples",
            f"there is no realism {realism!r}",
            f"{', '.join(PRESETS)}, mixed or displayed",
        )
    collimator = base.collimator
    if not options.anywhere:
        # A whole detector's collimator seldom reaches into a crop.
        collimator = ("none", "none", "none", "round") if realism == "hard" else ("none",)
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
        collimator=collimator,
        # A CT may end where the body does not, or the picture may show little of the rest.
        trunk=base.trunk and not (options.whole and seed % 3 == 0),
    )


def draw_offset(options: SampleOptions, rng: np.random.Generator) -> Array:
    """Draw how far (3,) mm the middle of the box lies from the vertebra."""
    offset = rng.standard_normal(3)
    offset *= options.centre_mm * rng.uniform() ** (1.0 / 3.0) / np.linalg.norm(offset)
    offset[2] += options.along_mm * rng.uniform(-1.0, 1.0)
    return offset


def draw_samples(
    subjects: Sequence[Subject],
    options: SampleOptions,
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
) -> list[Sample]:
    """Simulate pairs of X-rays of subjects, many at once; the same seed gives the same sample.

    All physics is that of `RadGSRegLib.simulation.simulate_case`, imaged by the virtual cameras of
    `networks.crops` instead of a whole detector, and computed together on ``device``
    (`RadGSRegLib.simulation.simulate_together`).
    """
    if batch_problem():
        if options.anywhere:
            raise InputError("X-rays of all bone", f"are simulated by warp ({batch_problem()})")
        pairs = zip(subjects, seeds, strict=True)
        return [simulate_fully(subject, options, seed).to(device) for subject, seed in pairs]
    framings = [_Framing(options, seed) for seed in seeds]
    wanted = [
        Wanted(
            subject.on(device),
            subject.label,
            sample_parameters(options, seed),
            seed,
            subject.surface_count,
            framing,
        )
        for subject, seed, framing in zip(subjects, seeds, framings, strict=True)
    ]
    most = _TOGETHER[torch.device(device).type]
    samples: list[Sample] = []
    for first in range(0, len(wanted), most):
        part = slice(first, first + most)
        samples += _drawn_together(wanted[part], subjects[part], framings[part])
    return samples


def draw_sample(
    subject: Subject, options: SampleOptions, seed: int, device: torch.device | str = "cpu"
) -> Sample:
    """Simulate one pair alone; see `draw_samples`."""
    return draw_samples([subject], options, [seed], device)[0]


def _drawn_together(
    wanted: Sequence[Wanted], subjects: Sequence[Subject], framings: Sequence[_Framing]
) -> list[Sample]:
    done = simulate_together(wanted)
    count, views = done.pictures.shape[:2]
    images, valid = prepare_pictures(
        done.pictures.flatten(0, 1),
        done.displayed.repeat_interleave(views),
        wanted[0].parameters.pixel_mm,
    )
    shape = (count, views, *images.shape[1:])
    images, valid = images.view(shape), valid.view(shape)
    own = [drawn.ct_to_world for drawn in done.drawn]
    targets = done.bone if framings[0].options.anywhere else done.excess
    return [
        _sample(images[n], valid[n], targets[n], subject, framing.frame, own[n])
        for n, (subject, framing) in enumerate(zip(subjects, framings, strict=True))
    ]


def simulate_fully(subject: Subject, options: SampleOptions, seed: int) -> Sample:
    """Simulate a pair by `RadGSRegLib.simulation.simulate_case`, one X-ray after the other.

    What `draw_samples` is held against, and what stands in for it where warp does not start. The
    same seed gives both the same pose, bodies and device, but noise and collimator of their own.
    """
    framing = _Framing(options, seed)
    simulated = simulate_case(
        subject.ct,
        subject.labels,
        subject.label,
        sample_parameters(options, seed),
        seed,
        prepared=Prepared(subject.take_apart(), framing),
    )
    ct_to_world = {int(label): np.asarray(p) for label, p in simulated.truth["neighbours"].items()}
    ct_to_world[subject.label] = np.asarray(simulated.truth["ct_to_world"])
    ct_to_box = invert_rigid(framing.frame.box_to_world) @ ct_to_world[subject.label]
    prepared = prepare_views(simulated.case.views)
    return _sample(
        torch.from_numpy(np.stack([view.pixels for view in prepared])),
        torch.from_numpy(np.stack([view.valid for view in prepared])).float(),
        project_target(subject.excess, framing.frame, ct_to_box),
        subject,
        framing.frame,
        ct_to_world,
    )


class _Framing:
    """Replaces drawn cameras by virtual ones about a point off the vertebra's centre, and keeps
    the frame."""

    frame: Frame

    def __init__(self, options: SampleOptions, seed: int) -> None:
        self.options, self.seed = options, seed
        self.offset_mm = draw_offset(options, np.random.default_rng([seed, 77]))

    def __call__(self, cameras: dict[str, Camera], centre_world: Array) -> dict[str, Camera]:
        if self.options.anywhere:
            return self._anywhere(centre_world + self.offset_mm)
        self.frame = make_frame(
            list(cameras.values()),
            centre_world + self.offset_mm,
            size_px=self.options.size_px,
            pixel_mm=self.options.pixel_mm,
        )
        to_box = invert_rigid(self.frame.box_to_world)
        return {
            name: replace(virtual, world_to_camera=virtual.world_to_camera @ to_box)
            for name, virtual in zip(cameras, self.frame.cameras, strict=True)
        }

    def _anywhere(self, middle_world: Array) -> dict[str, Camera]:
        box = translation(middle_world)
        drawn = path_cameras(
            sample_parameters(self.options, self.seed),
            "arbitrary",
            self.options.anywhere,
            np.random.default_rng([self.seed, 83]),
        )
        self.frame = Frame(box, tuple(drawn.values()))
        return dict(zip(drawn, self.frame.cameras_world(), strict=True))


def _sample(
    images: Tensor,
    valid: Tensor,
    targets: Tensor,
    subject: Subject,
    frame: Frame,
    ct_to_world: Mapping[int, Array],
) -> Sample:
    """Put a sample together; ``ct_to_world`` (4, 4) of every vertebra by label."""
    world_to_box = invert_rigid(frame.box_to_world)
    centred_to_box = world_to_box @ ct_to_world[subject.label] @ translation(subject.centre_ct)
    # Every vertebra has a pose of its own.
    order = [subject.label, *sorted(n for n in subject.centroids if n != subject.label)]
    centres = [
        transform_points(world_to_box @ ct_to_world[n], subject.centroids[n][None])[0]
        for n in order
    ]
    return Sample(
        images=images,
        valid=valid,
        targets=targets,
        intrinsics=frame.intrinsics(),
        extrinsics=frame.extrinsics(),
        centred_to_box=torch.from_numpy(centred_to_box).float(),
        centres=torch.from_numpy(np.stack(centres)).float(),
        labels=torch.tensor(order, dtype=torch.float32),
    )


def project_target(excess: Volume, frame: Frame, ct_to_box: Array) -> Tensor:
    """Project the vertebra alone, at a pose: line integrals (V, H, W) in the virtual cameras."""
    return torch.stack(
        [
            project_volume(
                excess,
                camera.intrinsic,
                camera.world_to_camera @ ct_to_box,
                camera.size,
                step_mm=float(excess.spacing.min()),
            )
            for camera in frame.cameras
        ]
    )
