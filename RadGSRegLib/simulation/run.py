"""A run of fluoroscopy: a case whose patient moves from frame to frame, with the truth of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..cases import Case, View
from ..errors import InputError
from ..geometry import Array, Rigid, Volume
from ..system import Progress, ProgressCallable
from .case import Prepared, SetUp, set_up
from .drawing import Drawn, Trunk
from .geometry import move_about
from .imaging import collimator_mask
from .parameters import SimulationParameters
from .pixels import Image, detected, mass_lengths_of

# Periods of the motion, in frames, and of what vertebrae do beside it.
_PERIODS = (14.0, 40.0)
_OWN_PERIODS = (40.0, 120.0)
# How far vertebrae move against the spine, beside where they are drawn.
_OWN_MM, _OWN_DEG = 0.7, 1.0
_WAVES = 3
# A device's window is set on so many frames across the run.
_WINDOW_FRAMES = 6


@dataclass(frozen=True)
class Motion:
    """How a patient moves through ``frames`` pictures: at most ``motion_mm`` and ``motion_deg``
    from one to the next (the fastest step takes all of it). Frames ``blank`` (first, end) are taken
    without the beam."""

    frames: int
    motion_mm: float = 5.0
    motion_deg: float = 3.0
    blank: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise InputError("simulation", f"{self.frames} frames are no run", "ask for 2 or more")
        if not (0.0 <= self.motion_mm < np.inf and 0.0 <= self.motion_deg < np.inf):
            raise InputError("simulation", "the motion from frame to frame must be 0 or more")
        first, end = self.blank
        if not 0 <= first <= end <= self.frames:
            raise InputError(
                "simulation", f"frames {first} to {end} cannot be blank", f"there are {self.frames}"
            )

    def is_blank(self, frame: int) -> bool:
        """Whether a frame is taken without the beam."""
        return self.blank[0] <= frame < self.blank[1]


@dataclass(frozen=True)
class SimulatedRun:
    """A run and its truth.

    ``case``: as `SimulatedCase`'s, its pictures those of the first frame that is not blank;
    ``truth``: as there, of that frame, with "frames": of each {"ct_to_world", "neighbours" (label
    to ct_to_world), "blank"}. `pictures` makes the frames one by one.
    """

    case: Case
    truth: dict[str, Any]
    motion: Motion
    _made: _Maker = field(repr=False)

    def pictures(
        self, progress: ProgressCallable | None = None
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield each frame's pictures (rows, columns) by the views' names, as a device stores
        them: the same ones each time."""
        report = Progress(progress)
        for frame in range(self.motion.frames):
            report(frame / self.motion.frames, f"exposing frame {frame}")
            yield self._made.frame(frame)


def simulate_run(
    ct: Volume,
    labels: Volume,
    label: int,
    motion: Motion,
    parameters: SimulationParameters | str = "realistic",
    seed: int = 0,
    *,
    label_names: dict[int, str] | None = None,
    device: str = "cpu",
) -> SimulatedRun:
    """Simulate a run of a CT (HU): the body moves as one, bones a little in it, gas and wires stay.

    The C-arm stands still; one curve and one window show all frames. What does not change is
    prepared once. Raises InputError as `simulate_case` does.
    """
    p = SimulationParameters.preset(parameters) if isinstance(parameters, str) else parameters
    rng = np.random.default_rng(seed)
    stage = set_up(ct, labels, label, p, Prepared(device=device), rng)
    moves = _moves(motion, stage, label, np.random.default_rng([seed, 1]))
    made = _Maker(stage, p, motion, moves, seed)
    first = next((n for n in range(motion.frames) if not motion.is_blank(n)), 0)
    shown = made.frame(first)
    there = moves[first]
    truth_pose, pivot = there[label], stage.scene.centroids[label]
    views = []
    centre_world = Rigid(truth_pose).apply(pivot)
    for name, camera in stage.drawn.cameras.items():
        centre = camera.project(centre_world[None])[0] + rng.uniform(-1, 1, 2) * p.center_px
        views.append(
            View(
                name=name,
                pixels=np.asarray(shown[name], np.float32),
                camera=camera,
                pixel_spacing_mm=(p.pixel_mm, p.pixel_mm),
                intensity="display" if p.display else "attenuation",
                center_px=(float(centre[0]), float(centre[1])),
            )
        )
    turn = Rotation.from_euler("xyz", rng.uniform(-1, 1, 3) * p.start_deg, degrees=True)
    start = truth_pose @ move_about(pivot, turn, np.zeros(3))
    start[:3, 3] += rng.uniform(-1, 1, 3) * p.start_mm
    truth: dict[str, Any] = {
        "label": int(label),
        "ct_to_world": truth_pose.tolist(),
        "start_ct_to_world": start.tolist(),
        "level": p.realism,
        "kvp": stage.drawn.kvp,
        "points_ct": stage.points_ct.tolist(),
        "pivot_ct": pivot.tolist(),
        "neighbours": _others(there, label),
        "spine_ct_to_world": there[0].tolist(),
        "seed": int(seed),
        "frames": [
            {
                "ct_to_world": poses[label].tolist(),
                "neighbours": _others(poses, label),
                "blank": motion.is_blank(number),
            }
            for number, poses in enumerate(moves)
        ],
    }
    case = Case(ct, labels, int(label), tuple(views), label_names=dict(label_names or {}))
    return SimulatedRun(case, truth, motion, made)


def _others(poses: dict[int, Array], label: int) -> dict[str, Any]:
    return {str(n): pose.tolist() for n, pose in poses.items() if n not in (0, label)}


def _moves(
    motion: Motion, stage: SetUp, label: int, rng: np.random.Generator
) -> list[dict[int, Array]]:
    """``ct_to_world`` of every label in each frame; 0 is the rest of the body."""
    poses, centroids = stage.drawn.ct_to_world, stage.scene.centroids
    at = Rigid(poses[label]).apply(centroids[label])
    shift = _course(motion.frames, _PERIODS, rng)
    turn = _course(motion.frames, _PERIODS, rng)
    own = {
        number: (
            _OWN_DEG * _course(motion.frames, _OWN_PERIODS, rng, within=True),
            _OWN_MM * _course(motion.frames, _OWN_PERIODS, rng, within=True),
        )
        for number in centroids
    }

    def there(share_mm: float, share_deg: float) -> list[dict[int, Array]]:
        out = []
        for n in range(motion.frames):
            rotation = Rotation.from_rotvec(np.radians(share_deg * turn[n]))
            body = move_about(at, rotation, share_mm * shift[n])
            frame = {0: body @ poses[0]}
            for number, centre in centroids.items():
                degrees, mm = own[number]
                small = move_about(centre, Rotation.from_rotvec(np.radians(degrees[n])), mm[n])
                frame[number] = body @ poses[number] @ small
            out.append(frame)
        return out

    # What vertebrae do beside the body counts too, so the shares are settled by what comes out.
    share = np.ones(2)
    asked = np.array([motion.motion_mm, motion.motion_deg])
    for _ in range(6):
        share *= asked / np.maximum(_fastest(there(*share), label, centroids[label]), 1e-9)
    return there(*share)


def _fastest(frames: list[dict[int, Array]], label: int, centre: Array) -> Array:
    """The largest step of the target's centre, mm, and of its turn, degrees."""
    targets = [Rigid(frame[label]) for frame in frames]
    places = np.array([target.apply(centre) for target in targets])
    turns = Rotation.from_matrix([target.rotation for target in targets])
    turned = (turns[:-1].inv() * turns[1:]).magnitude()
    moved = np.linalg.norm(np.diff(places, axis=0), axis=1)
    return np.array([moved.max(), np.degrees(turned.max())])


def _course(
    frames: int, periods: tuple[float, float], rng: np.random.Generator, *, within: bool = False
) -> Array:
    """A smooth course (frames, 3) that begins at 0: some waves along each axis, with a largest
    length of 1 where it is to stay ``within`` that."""
    n = np.arange(frames)[:, None, None]
    period = rng.uniform(*periods, (_WAVES, 3))
    phase = rng.uniform(0.0, 2.0 * np.pi, (_WAVES, 3))
    waves = (np.sin(2.0 * np.pi * n / period + phase) * period).sum(1) / periods[1]
    course = waves - waves[0]
    if within:
        course = course / max(float(np.linalg.norm(course, axis=1).max()), 1e-9)
    return np.asarray(course)


class _Maker:
    """Exposes frames: what they share is made once."""

    def __init__(
        self,
        stage: SetUp,
        p: SimulationParameters,
        motion: Motion,
        moves: list[dict[int, Array]],
        seed: int,
    ) -> None:
        self._stage, self._p, self._motion = stage, p, motion
        self._moves, self._seed = moves, seed
        self._windows: dict[str, tuple[float, float, float]] = {}
        self._masks: dict[str, Image] = {}

    def frame(self, number: int) -> dict[str, NDArray[Any]]:
        """The pictures of a frame by the views' names."""
        drawn = self._moved(number)
        return {
            name: self._picture(drawn, name, view, number)
            for view, name in enumerate(drawn.cameras)
        }

    def _window(self, name: str, view: int) -> tuple[float, float, float]:
        """The display's window of a view: as wide as frames across the whole run need it."""
        if name not in self._windows:
            last = self._motion.frames - 1
            across = [round(last * n / (_WINDOW_FRAMES - 1)) for n in range(_WINDOW_FRAMES)]
            finish, windows = self._stage.drawn.finish, []
            for number in dict.fromkeys(across):
                rng = np.random.default_rng([self._seed, 4, view, number])
                signal, _ = self._signal(self._moved(number), name, rng)
                windows.append(finish.curve.measured(signal))
            floors, lows, highs = zip(*windows, strict=True)
            self._windows[name] = min(floors), min(lows), max(highs)
        return self._windows[name]

    def _signal(
        self, drawn: Drawn, name: str, rng: np.random.Generator
    ) -> tuple[Image, Image | None]:
        """What the detector measures of a view."""
        lengths = mass_lengths_of(self._stage.parts, drawn, drawn.cameras[name], None)
        return detected(lengths, self._stage.spectrum, self._p, drawn.finish, rng)

    def _moved(self, number: int) -> Drawn:
        poses, drawn = self._moves[number], self._stage.drawn
        if drawn.trunk is None:
            return replace(drawn, ct_to_world=poses)
        body = Rigid(poses[0] @ Rigid(drawn.ct_to_world[0]).inverse().matrix)
        return replace(drawn, ct_to_world=poses, trunk=_carried(drawn.trunk, body))

    def _picture(self, drawn: Drawn, name: str, view: int, number: int) -> NDArray[Any]:
        p, finish = self._p, drawn.finish
        rng = np.random.default_rng([self._seed, 2, view, number])
        blank, attenuation = self._motion.is_blank(number), None
        if blank:
            # The read-out's noise alone, which a device's window then makes large.
            faint = finish.electronic / max(finish.photons, 1.0) * 0.05
            noise = faint * np.abs(rng.standard_normal((p.size_px, p.size_px)))
            signal = np.maximum(noise, 1e-6).astype(np.float32)
        else:
            signal, attenuation = self._signal(drawn, name, rng)
        if not p.display:
            plain = finish.photons <= 0 and finish.blur_mm <= 0
            if blank and plain:
                return np.zeros(signal.shape, np.float32)
            if not blank and plain and attenuation is not None:
                return np.maximum(attenuation, 0.0).astype(np.float32)
            return -np.log(np.maximum(signal, 1e-6)).astype(np.float32)
        if name not in self._masks:
            still = np.random.default_rng([self._seed, 3, view])
            self._masks[name] = collimator_mask(finish.collimator, p.size_px, p.size_px, still)
        mask = self._masks[name]
        own = finish.curve.measured(signal, mask > 0.5) if blank else None
        window = own or self._window(name, view)
        grey = np.rint(finish.curve.shown(signal, window) * mask)
        stored: NDArray[Any] = grey.astype(np.uint8 if finish.curve.bits <= 8 else np.uint16)
        return stored


def _carried(trunk: Trunk, body: Rigid) -> Trunk:
    """A trunk that moves with the body (world to world)."""
    back = body.rotation.T
    organs = tuple(
        (body.apply(centre), axes @ back, radii, density)
        for centre, axes, radii, density in trunk.organs
    )
    return replace(trunk, centre=body.apply(trunk.centre), axes=trunk.axes @ back, organs=organs)
