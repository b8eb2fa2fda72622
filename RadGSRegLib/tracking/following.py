"""From frame to frame: where the bone should be next, whether it is there, and what if not."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..cases import Found
from ..geometry import Array
from ..registration import Arrangement, Registration, RegistrationOptions, Status
from ..system import Progress
from . import bounds
from .fitting import (
    Fit,
    Frames,
    Picture,
    followed,
    judged_in_full,
    leads_of,
    least_shown,
    searched,
)
from .motion import Agility, MotionModel, Moving
from .types import rank_of

_EVIDENCE = (
    "weakest_score",
    "weakest_edge_score",
    "own_share",
    "disagreement_mm",
    "lead",
    "epipolar_mm",
    "confidence",
    "neighbour_shift_mm",
    "level_lead",
    "picture_lead",
    "polarity_lead",
    "depth_error_mm",
    "in_plane_error_mm",
)


@dataclass(frozen=True)
class Measured:
    """What one frame says by itself. ``fit`` None: no picture, or nothing was found."""

    status: Status
    reason: str
    found: Found
    fit: Fit | None = None
    surprise: float | None = None
    in_full: bool = False


@dataclass(frozen=True)
class Reference:
    """The last pose of a chain that was judged in full: what others are ahead of, and by how much
    it explains the weakest view and its edges. ``trusted``: it was `ok`."""

    leads: dict[str, float]
    score: float
    edges: float
    trusted: bool

    @classmethod
    def of(cls, registration: Registration) -> Reference:
        """Return that of a registration."""
        quality = registration.quality
        return cls(
            leads_of(registration),
            float(quality["weakest_score"]),
            float(quality["weakest_edge_score"]),
            registration.status == "ok",
        )


@dataclass
class _Chain:
    """Where following stands: the frame of the last pose, its fit, the motion up to it."""

    frame: int
    fit: Fit
    motion: Moving
    reference: Reference
    lost: int = 0
    # Frames until a frame is judged in full again, and how many that were the last time.
    wait: int = 0
    pause: int = 0


class Follower:
    """Follows a bone through frames from one whose pose is known, in either direction."""

    def __init__(
        self,
        frames: Frames,
        times: list[float],
        centre_ct: Array,
        signs: tuple[int, ...],
        options: RegistrationOptions,
    ) -> None:
        """``times`` in frames; ``options`` are scaled."""
        self._frames, self._times, self._signs, self._options = frames, times, signs, options
        self.model = MotionModel(centre_ct, Agility.usual())
        self._centre_ct = centre_ct

    def follow(
        self,
        begun: int,
        fit: Fit,
        reference: Reference,
        path: list[int],
        progress: Progress,
        search: bool = True,
    ) -> dict[int, Measured]:
        """Return what the frames of a path say, one after the other, from a fit of frame ``begun``.

        The next frame is read while the last one is refined. Without ``search`` the way ends where
        the bone is lost.
        """
        registration = fit.registration
        motion = self.model.begun(registration.ct_to_world, registration.covariance)
        chain = _Chain(begun, fit, motion, reference)
        out: dict[int, Measured] = {}
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="radgsreg-frames") as reader:
            ahead: Future[Picture | None] | None = None
            try:
                for number, frame in enumerate(path):
                    progress(number / len(path), f"following the bone: frame {frame}")
                    waiting = ahead or reader.submit(self._frames.picture, frame)
                    picture = waiting.result()
                    following = path[number + 1] if number + 1 < len(path) else None
                    if following is not None:
                        ahead = reader.submit(self._frames.picture, following)
                    out[frame] = self._step(chain, frame, picture, search, progress)
                    if not search and out[frame].fit is None:
                        break
            finally:
                if ahead is not None:
                    ahead.cancel()
        return out

    def _step(
        self,
        chain: _Chain,
        frame: int,
        picture: Picture | None,
        search: bool,
        progress: Progress,
    ) -> Measured:
        passed = self._times[frame] - self._times[chain.frame]
        predicted, _ = self.model.after(chain.motion, passed)
        if picture is None:
            chain.lost, chain.wait, chain.pause = chain.lost + 1, 0, 0
            return Measured("failed", "the frame shows no picture", "no picture")
        found: Found = "forwards" if passed > 0 else "backwards"
        done = self._near(chain, picture, predicted, found)
        if done.status != "ok" and search:
            if chain.wait > 0:
                chain.wait -= 1
            else:
                again = self._in_full(chain, picture, predicted, done, progress)
                if rank_of(again.status) >= rank_of(done.status):
                    done = again
                chain.pause = 0 if again.status == "ok" else min(2 * chain.pause + 1, bounds.PAUSE)
                chain.wait = chain.pause
        if done.fit is None or done.status == "failed":
            chain.lost += 1
            return replace(done, fit=None, found="not found", status="failed")
        self._take(chain, frame, done, predicted)
        return done

    def _near(self, chain: _Chain, picture: Picture, predicted: Moving, found: Found) -> Measured:
        """Refine a frame from the prediction and from the last pose, and judge it by the chain."""
        last = chain.fit.arrangement
        starts = [Arrangement(predicted.ct_to_world, last.shifts_ct)]
        apart = picture.scene.distance_mm(predicted.ct_to_world, last.ct_to_world)
        if apart > bounds.TWO_STARTS_MM:
            starts.append(last)
        leads = chain.reference.leads
        fit = followed(picture, starts, self._signs, leads, self._options)
        done = self._judged(chain, picture, fit, predicted, found)
        # After a gap a search is of more use than more rounds.
        if done.status != "ok" and not chain.lost:
            fit = followed(picture, starts, self._signs, leads, self._options, thorough=True)
            again = self._judged(chain, picture, fit, predicted, found)
            if rank_of(again.status) >= rank_of(done.status):
                return again
        return done

    def _judged(
        self, chain: _Chain, picture: Picture, fit: Fit, predicted: Moving, found: Found
    ) -> Measured:
        """Whether a fit goes on with the chain: its own verdict, and that it is no other bone's."""
        registration, reference = fit.registration, chain.reference
        status, reason = registration.status, registration.reason
        surprise = self.model.surprise(predicted, registration.ct_to_world, registration.covariance)
        doubt = self._doubt(chain, registration, surprise, reference)
        if status == "ok" and doubt:
            status, reason = "uncertain", doubt
        return _shown(Measured(status, reason, found, fit, surprise), picture)

    def _doubt(
        self,
        chain: _Chain,
        registration: Registration,
        surprise: float,
        reference: Reference,
    ) -> str:
        """Why a pose that fits may still be another bone's; empty where nothing says so."""
        quality = registration.quality
        if not reference.trusted:
            return "it follows from a pose that is not ok itself"
        if surprise > bounds.GATE:
            return (
                f"the pose is {surprise:.1f} standard deviations from where the motion so far leads"
            )
        if quality["beyond_doubt"]:
            return ""
        if chain.lost:
            return "the bone was lost before, and this pose was not judged by itself"
        score = float(quality["weakest_score"])
        if score < reference.score - bounds.SCORE_DROP:
            return (
                f"the weakest view's correlation has fallen from {reference.score:.2f} to "
                f"{score:.2f}"
            )
        edges = float(quality["weakest_edge_score"])
        if edges < reference.edges - bounds.SCORE_DROP:
            return f"the edges' correlation has fallen from {reference.edges:.2f} to {edges:.2f}"
        return ""

    def _in_full(
        self,
        chain: _Chain,
        picture: Picture,
        predicted: Moving,
        done: Measured,
        progress: Progress,
    ) -> Measured:
        """Judge a frame as a registration by itself is judged: the pose that follows where it fits,
        else what a search around where the bone may have gone brings."""
        quiet = progress.part(0.0, 0.0)
        if done.fit is not None and done.fit.registration.status == "ok":
            fit = judged_in_full(picture, done.fit, self._signs, self._options, quiet)
            found: Found = done.found
        else:
            fit, found = self._searched(chain, picture, predicted, done, quiet), "searched"
        registration = fit.registration
        surprise = self.model.surprise(predicted, registration.ct_to_world, registration.covariance)
        status, reason = registration.status, registration.reason
        moved_mm = picture.scene.distance_mm(registration.ct_to_world, predicted.ct_to_world)
        if status == "ok" and surprise > bounds.GATE and moved_mm > bounds.LEVEL_JUMP_MM:
            status = "uncertain"
            reason = (
                f"the pose is {moved_mm:.0f} mm from where the motion so far leads; it may be "
                "another bone's"
            )
        return _shown(Measured(status, reason, found, fit, surprise, in_full=True), picture)

    def _searched(
        self,
        chain: _Chain,
        picture: Picture,
        predicted: Moving,
        done: Measured,
        progress: Progress,
    ) -> Fit:
        spread = bounds.SEARCH_DEVIATIONS * np.sqrt(np.diag(predicted.pose_covariance))
        mm = float(np.clip(spread[3:].max(), *bounds.SEARCH_MM))
        degrees = float(np.clip(np.degrees(spread[:3].max()), *bounds.SEARCH_DEG))
        starts = [predicted.ct_to_world, chain.fit.arrangement.ct_to_world]
        if done.fit is not None and done.status != "failed":
            starts.insert(0, done.fit.arrangement.ct_to_world)
        return searched(picture, starts, self._signs, (mm, degrees), self._options, progress)

    def _take(self, chain: _Chain, frame: int, done: Measured, predicted: Moving) -> None:
        """Go on from a frame's pose. One that is not `ok` is gone on from, but not believed."""
        assert done.fit is not None
        registration = done.fit.registration
        measured = registration.ct_to_world, registration.covariance
        if done.surprise is not None and done.surprise > bounds.GATE:
            # It goes on elsewhere: what was known of the velocity is of no use.
            chain.motion = self.model.begun(*measured)
        else:
            chain.motion = self.model.corrected(predicted, *measured)
        if done.in_full:
            reference = Reference.of(registration)
            chain.reference = replace(reference, trusted=done.status == "ok")
        elif done.status != "ok":
            chain.reference = replace(chain.reference, trusted=False)
        chain.frame, chain.fit, chain.lost = frame, done.fit, 0


def _shown(measured: Measured, picture: Picture) -> Measured:
    """No `ok` where a view shows too little of the bone to say where it is."""
    if measured.status != "ok" or measured.fit is None:
        return measured
    share, name = least_shown(picture.scene, measured.fit.arrangement.ct_to_world)
    if share >= bounds.LEAST_SHOWN:
        return measured
    reason = f"{name} shows only {100 * share:.0f} % of the bone; the rest is outside or burnt out"
    return replace(measured, status="uncertain", reason=reason)


def evidence_of(measured: Measured) -> dict[str, Any]:
    """The numbers that led to a frame's status."""
    if measured.fit is None:
        return {}
    quality = measured.fit.registration.quality
    known = {name: quality[name] for name in _EVIDENCE if quality.get(name) is not None}
    return {**known, "surprise": measured.surprise, "judged_in_full": measured.in_full}
