"""How far a C-arm's calibration has drifted between two runs.

Source and detector of a view are compared in the detector's own frame, and views with each other:
neither knows where the phantom stood. What is left of all at the patient is told by points there,
shown by the cameras of both runs, with the two worlds laid on each other as well as they can be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.special import log_ndtr, ndtri_exp

from ..cases import (
    CALIBRATION_MM,
    Fields,
    check_schema,
    read_covariance,
    read_covariance_with,
    read_json_object,
)
from ..errors import InputError
from ..geometry import (
    CAMERA_PARAMETERS,
    Array,
    Camera,
    affine,
    exp_se3,
    invert_rigid,
    projection_by_camera,
    projection_by_point,
    skew,
    transform_points,
)
from . import bounds
from .bundle import State, moved

_ROUNDS = 12


@dataclass(frozen=True)
class KnownCamera:
    """A view's camera and how sure it is: ``covariance`` (9, 9) and ``covariance_with`` as of
    `Calibrated`; of two views it is enough that one of them has it."""

    name: str
    camera: Camera
    covariance: Array
    covariance_with: Mapping[str, Array] = field(default_factory=dict)

    def crossed(self, other: KnownCamera) -> Array:
        """The covariance (9, 9) with another view's camera, whose numbers are its columns; zeros
        where they were not calibrated together."""
        if other.name in self.covariance_with:
            return self.covariance_with[other.name]
        if self.name in other.covariance_with:
            return other.covariance_with[self.name].T
        return np.zeros((CAMERA_PARAMETERS, CAMERA_PARAMETERS))


@dataclass(frozen=True)
class ViewDrift:
    """How a view has drifted.

    ``focal_px``, ``principal_px`` (2,): after less before; ``sigmas``: how unlikely these three are
    together by both covariances, as standard deviations of a normal number; ``at_patient_mm``: how
    far it shows a point at the patient elsewhere, the farthest, as nothing but drift can.
    """

    name: str
    focal_px: float
    principal_px: Array
    sigmas: float
    at_patient_mm: float


@dataclass(frozen=True)
class PairDrift:
    """How two views have drifted against each other: the second in the first one's camera axes,
    by an angle, and its source by so far; ``sigmas`` as of `ViewDrift`, of the six together."""

    names: tuple[str, str]
    turn_deg: float
    source_mm: float
    sigmas: float


@dataclass(frozen=True)
class Drift:
    """What has drifted between two runs, of the views that both have.

    ``pairs``: every two views. ``at_patient_mm``: the most of all views, and
    ``sigmas`` how unlikely all of that is by the covariances.
    """

    views: tuple[ViewDrift, ...]
    pairs: tuple[PairDrift, ...]
    at_patient_mm: float
    sigmas: float

    @property
    def most_sigmas(self) -> float:
        """How unlikely the least likely part of it is; of many pairs one is unlikely by chance,
        which is counted."""
        of_pairs = [of_many(pair.sigmas, len(self.pairs)) for pair in self.pairs]
        return max([self.sigmas, *(view.sigmas for view in self.views), *of_pairs])

    @property
    def significant(self) -> bool:
        """Whether anything has drifted by more than the covariances say."""
        return self.most_sigmas > bounds.DRIFT_SIGMAS

    @property
    def matters(self) -> bool:
        """Whether a patient would be seen elsewhere."""
        return self.sigmas > bounds.DRIFT_SIGMAS and self.at_patient_mm > CALIBRATION_MM


def read_cameras(path: str | os.PathLike[str]) -> list[KnownCamera]:
    """Read the cameras of a ``views.json`` that `radgsreg calibrate` wrote, without its pictures.

    Raises InputError for another file, for a view that does not say how sure its camera is, and
    for two of one name.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(source, "does not exist")
    fields = Fields(source, read_json_object(source))
    check_schema(fields, "radgsreg/views", 1)
    entries = fields.need("views")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        fields.refuse('"views" must be a list of objects')
    out = list[KnownCamera]()
    for number, entry in enumerate(entries, start=1):
        view = Fields(source, entry, f"view {number}")
        name = view.text("name")
        if any(known.name == name for known in out):
            view.refuse(f'has the name "{name}" of another view', "give each view its own name")
        covariance = read_covariance(view)
        if covariance is None:
            view.refuse('has no "camera_covariance"', "name the views.json of a calibration")
        columns, rows = (int(n) for n in view.numbers("size", (2,)))
        intrinsic, pose = view.numbers("intrinsic", (3, 3)), view.rigid("extrinsic")
        camera = Camera(intrinsic, pose, columns, rows)
        out.append(KnownCamera(name, camera, covariance, read_covariance_with(view)))
    return out


def drift(before: Sequence[KnownCamera], after: Sequence[KnownCamera], place_world: Array) -> Drift:
    """Compare the cameras of two runs, views of the same name, wherever the phantom stood.

    Args:
        before: of the earlier run, in its own world.
        after: of this run; the world counts.
        place_world: (3,) mm, where the patient is, or the middle of the beads.

    Returns:
        What has drifted, in pixels, degrees and mm.

    Raises:
        InputError: where no view is in both, or one has pictures of another size, or is said to be
            exact in both runs.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.calibration import KnownCamera, drift
        >>> view = case.views[0]
        >>> known = [KnownCamera(view.name, view.camera, 1e-4 * np.eye(9))]
        >>> drift(known, known, np.zeros(3)).at_patient_mm < 1e-6
        True
    """
    earlier = {known.name: known for known in before}
    pairs = [(earlier[known.name], known) for known in after if known.name in earlier]
    if not pairs:
        raise InputError(
            "the earlier views", "none has the name of one of these", "name them alike"
        )
    for old, new in pairs:
        if old.camera.size != new.camera.size:
            raise InputError(new.name, "has a picture of another size than in the earlier run")
        if not (old.covariance.any() or new.covariance.any()):
            raise InputError(
                new.name,
                "is said to be exact in both runs (a covariance of zeros), so nothing tells drift "
                "from chance",
                "name the views.json of a calibration",
            )
    at_patient_mm, sigmas = _at_patient(pairs, np.asarray(place_world, dtype=float))
    return Drift(
        tuple(_of_view(*pair, float(mm)) for pair, mm in zip(pairs, at_patient_mm, strict=True)),
        tuple(_of_pair(*both) for both in combinations(pairs, 2)),
        float(at_patient_mm.max()),
        sigmas,
    )


def _of_view(old: KnownCamera, new: KnownCamera, at_patient_mm: float) -> ViewDrift:
    moved_by = _inner(new.camera) - _inner(old.camera)
    covariance = (old.covariance + new.covariance)[6:, 6:]
    square = float(moved_by @ np.linalg.pinv(covariance, hermitian=True) @ moved_by)
    sigmas = normal_sigmas(square, 3.0)
    return ViewDrift(new.name, float(moved_by[0]), moved_by[1:], sigmas, at_patient_mm)


def _inner(camera: Camera) -> Array:
    return np.array([camera.focal_px, *camera.intrinsic[:2, 2]])


def _of_pair(
    first: tuple[KnownCamera, KnownCamera], second: tuple[KnownCamera, KnownCamera]
) -> PairDrift:
    """The second view in the camera axes of the first: before and after."""
    (old_a, new_a), (old_b, new_b) = first, second
    was = _relative(old_a.camera, old_b.camera)
    change = _change(was, _relative(new_a.camera, new_b.camera))
    covariance = _pair_covariance(old_a, old_b) + _pair_covariance(new_a, new_b)
    square = float(change @ np.linalg.pinv(covariance, hermitian=True) @ change)
    turn, source = np.linalg.norm(change[:3]), np.linalg.norm(change[3:])
    names = (new_a.name, new_b.name)
    return PairDrift(names, float(np.degrees(turn)), float(source), normal_sigmas(square, 6.0))


def _pair_covariance(a: KnownCamera, b: KnownCamera) -> Array:
    """The covariance (6, 6) of where b is in the axes of a."""
    at = _relative(a.camera, b.camera)
    by_a = _derivative(lambda camera: _change(at, _relative(camera, b.camera)), a.camera)
    by_b = _derivative(lambda camera: _change(at, _relative(a.camera, camera)), b.camera)
    both = by_a @ a.crossed(b) @ by_b.T
    return np.asarray(by_a @ a.covariance @ by_a.T + by_b @ b.covariance @ by_b.T + both + both.T)


def _relative(a: Camera, b: Camera) -> Array:
    """The camera b in the axes of a (4, 4)."""
    return np.asarray(a.world_to_camera @ invert_rigid(b.world_to_camera))


def _change(was: Array, now: Array) -> Array:
    """How one has turned, and its source moved, in the axes of the other (6,): radians, mm."""
    turn = Rotation.from_matrix(now[:3, :3] @ was[:3, :3].T).as_rotvec()
    return np.concatenate([turn, now[:3, 3] - was[:3, 3]])


def _derivative(of: Callable[[Camera], Array], camera: Camera) -> Array:
    """How what is told of a camera moves with its nine numbers (N, 9)."""
    state = State((camera,), (0,), np.eye(4)[None])
    columns = []
    for step in 1e-4 * np.eye(CAMERA_PARAMETERS):
        there, back = (moved(state, sign * step).cameras[0] for sign in (1.0, -1.0))
        columns.append((of(there) - of(back)) / 2e-4)
    return np.stack(columns, axis=1)


def _at_patient(
    pairs: Sequence[tuple[KnownCamera, KnownCamera]], place_world: Array
) -> tuple[Array, float]:
    """How far each view (V,) shows points at the patient elsewhere, mm, at the most; and how
    unlikely all of it is (`normal_sigmas`)."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1.0, 1.0, 3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    points = place_world + bounds.PATIENT_MM * grid
    world_to_earlier = _laid_on(pairs, points, place_world)
    rests, by_world, spreads = [], [], []
    for old, new in pairs:
        mm = _mm_per_px(new.camera, place_world)
        rest, by_old = _shown(old, new, world_to_earlier, points)
        parts = (
            (old, projection_by_camera(old.camera, transform_points(world_to_earlier, points))),
            (new, projection_by_camera(new.camera, points)),
        )
        rests.append(mm * rest)
        by_world.append(mm * by_old.reshape(-1, 6))
        spreads.append([(k, mm * by.reshape(-1, CAMERA_PARAMETERS)) for k, by in parts])
    normal = np.concatenate(by_world)
    # What laying the worlds on each other takes out.
    left = np.eye(len(normal)) - normal @ np.linalg.pinv(normal)
    covariance = left @ _shown_covariance(spreads, 2 * len(points)) @ left
    total, mean = sum(float((rest**2).sum()) for rest in rests), float(np.trace(covariance))
    # A sum of squares with this mean and variance is nearly a scaled chi-square (Satterthwaite).
    spread_of = float((covariance**2).sum())
    freedom = mean**2 / max(spread_of, 1e-300)
    sigmas = normal_sigmas(total / max(mean, 1e-300) * freedom, freedom)
    return np.array([np.linalg.norm(rest, axis=1).max() for rest in rests]), sigmas


def _shown_covariance(spreads: Sequence[Sequence[tuple[KnownCamera, Array]]], size: int) -> Array:
    """That of what V views show (size V, size V), of how each run's camera moves it (size, 9)."""
    out = np.zeros((size * len(spreads),) * 2)
    at = [slice(n * size, (n + 1) * size) for n in range(len(spreads))]
    for own, spread in zip(at, spreads, strict=True):
        for known, by in spread:
            out[own, own] += by @ known.covariance @ by.T
    for i, j in combinations(range(len(spreads)), 2):
        # Of the same run: two runs go wrong on their own.
        for (a, by_a), (b, by_b) in zip(spreads[i], spreads[j], strict=True):
            both = by_a @ a.crossed(b) @ by_b.T
            out[at[i], at[j]] += both
            out[at[j], at[i]] += both.T
    return out


def _laid_on(
    pairs: Sequence[tuple[KnownCamera, KnownCamera]], points: Array, place_world: Array
) -> Array:
    """The pose (4, 4) of this world in the earlier one that lets the earlier cameras show points
    most nearly as these do."""
    old, new = pairs[0]
    world_to_earlier = invert_rigid(old.camera.world_to_camera) @ new.camera.world_to_camera
    for _ in range(_ROUNDS):
        normal, pull = np.zeros((6, 6)), np.zeros(6)
        for old, new in pairs:
            rest, by_world = _shown(old, new, world_to_earlier, points)
            scale = _mm_per_px(new.camera, place_world) ** 2
            flat = by_world.reshape(-1, 6)
            normal += scale * flat.T @ flat
            pull += scale * flat.T @ rest.reshape(-1)
        step = np.linalg.pinv(normal, hermitian=True) @ pull
        # About the points' middle: far away turns and shifts look alike.
        middle = transform_points(world_to_earlier, points).mean(axis=0)
        there, back = affine(np.eye(3), middle), affine(np.eye(3), -middle)
        world_to_earlier = there @ exp_se3(step) @ back @ world_to_earlier
    return world_to_earlier


def _shown(
    old: KnownCamera, new: KnownCamera, world_to_earlier: Array, points: Array
) -> tuple[Array, Array]:
    """How much farther points are shown now (N, 2) pixels, and how what was shown before moves
    with the pose of this world in the earlier one (N, 2, 6), about the points' middle."""
    there = transform_points(world_to_earlier, points)
    by_point = projection_by_point(old.camera, there)
    arm = there - there.mean(axis=0)
    by_world = np.concatenate([by_point @ -skew(arm), by_point], axis=2)
    return new.camera.project(points) - old.camera.project(there), by_world


def _mm_per_px(camera: Camera, place_world: Array) -> float:
    """A pixel's size at a place (3,), mm."""
    return float(camera.world_to_camera[2] @ np.append(place_world, 1.0)) / camera.focal_px


def normal_sigmas(square: float, freedom: float) -> float:
    """How many standard deviations a normal number is off that is as unlikely as a chi-square with
    so much freedom (Wilson and Hilferty, 1931); 0 where it is no more than is usual."""
    part = 2.0 / (9.0 * freedom)
    return max(float(((square / freedom) ** (1.0 / 3.0) - 1.0 + part) / np.sqrt(part)), 0.0)


def of_many(sigmas: float, count: int) -> float:
    """How unlikely it is that one of so many is as unlikely by chance (Bonferroni), as standard
    deviations of a normal number; 0 where that is no more than is usual."""
    log_chance = float(log_ndtr(-sigmas)) + float(np.log(count))
    return max(0.0, -float(ndtri_exp(min(log_chance, 0.0))))
