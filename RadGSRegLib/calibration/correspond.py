"""Which spot is which bead, from the beads' places and a rough idea of the C-arm alone.

Three spots are three rays. Each ordered triple of beads that may lie on them gives up to four poses
(`three_point_poses`), and each pose predicts all beads: how many of these have a spot nearby is
looked up in one map. The best poses are refined, with the focal length and the principal point
within what is known of them, while pairs are assigned anew under a closing gate. A solution counts
where chance would hardly ever match as many beads in all that was tried (a contrario: L. Moisan,
B. Stival, Int J Comput Vis 57, 2004); one that is nearly as good but other makes it ambiguous.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.stats import binom

from ..errors import InputError
from ..geometry import Array, Camera, affine, pinhole
from . import bounds
from .assignment import Guess, refined_guess
from .p3p import three_point_poses
from .types import Beads, Spots

Index = NDArray[np.int64]

# Best poses refined for each triple of spots, and once one of them holds.
_FIRST, _ALL = 2, 8
# Cells of the map across the coarse gate.
_CELLS = 4
# Triples of spots that are still tried after one that leaves many beads without a spot.
_MORE = 3
# Triples of a solution's own pairs tried.
_AROUND = 30


@dataclass(frozen=True)
class RoughCamera:
    """What is known of a C-arm before: ``size`` (columns, rows) of its pictures, and perhaps more.

    ``focal_px``: source to detector over the size of a pixel; ``spacing_mm`` (column, row) of the
    pixels at the detector; ``mirrored``: whether pictures are seen from the detector's side, None
    where that is not known.
    """

    size: tuple[int, int]
    focal_px: float | None = None
    spacing_mm: tuple[float, float] | None = None
    mirrored: bool | None = None

    def guesses(self) -> list[Array]:
        """The intrinsics (3, 3) to try."""
        columns, rows = self.size
        shares = bounds.FOCAL_SHARES
        focals = [self.focal_px] if self.focal_px else [s * max(self.size) for s in shares]
        signs = [1.0, -1.0] if self.mirrored is None else [-1.0 if self.mirrored else 1.0]
        ratio = np.sqrt(self.spacing_mm[1] / self.spacing_mm[0]) if self.spacing_mm else 1.0
        middle = (columns - 1) / 2.0, (rows - 1) / 2.0
        return [pinhole((s * f * ratio, f / ratio), middle) for f in focals for s in signs]

    @property
    def depth_mm(self) -> tuple[float, float]:
        """Between which depths beads may lie, mm."""
        if self.spacing_mm is None or self.focal_px is None:
            return 0.0, np.inf
        detector = self.focal_px * float(np.sqrt(np.prod(self.spacing_mm)))
        near, far = bounds.DEPTH_SHARE
        return near * detector, far * detector


@dataclass(frozen=True)
class Match:
    """Which spot is which bead, and a first camera.

    ``pairs`` (M, 2): numbers of bead and of spot; ``rms_px``: how far they lie apart;
    ``second_share``: how much of its support the best other solution had, of 1.
    """

    pairs: Index
    camera: Camera
    rms_px: float
    second_share: float


@dataclass(frozen=True)
class _Pose:
    score: float
    intrinsic: Array
    rotation: Array
    move: Array


def _spot_triples(spots: Spots) -> Iterator[Index]:
    """Triples of spots, at random (always the same ones), without the narrowest third."""
    rng = np.random.default_rng(0)
    draws = rng.random((8 * bounds.TRIPLES, len(spots))).argsort(axis=1)[:, :3]
    draws = np.unique(np.sort(draws, axis=1), axis=0)
    rng.shuffle(draws)
    corners = spots.centres_px[draws]
    ab, ac = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.abs(ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0])
    yield from draws[area >= np.percentile(area, 35)][: bounds.TRIPLES]


class _Search:
    """The poses tried so far for one picture."""

    def __init__(self, beads: Beads, spots: Spots, rough: RoughCamera) -> None:
        self.beads, self.spots, self.rough = beads, spots, rough
        self.coarse_px = bounds.COARSE_SHARE * max(rough.size)
        self.tried = 0
        self.step = self.coarse_px / _CELLS
        shape = [int(np.ceil(side / self.step)) + 2 for side in rough.size[::-1]]
        empty = np.ones(shape, dtype=bool)
        cells = np.round(spots.centres_px[:, ::-1] / self.step).astype(int)
        inside = ((cells >= 0) & (cells < shape)).all(axis=1)
        empty[tuple(cells[inside].T)] = False
        apart = np.asarray(distance_transform_edt(empty)) / _CELLS
        near = np.clip(1.0 - apart**2, 0.0, None)
        self.near = np.pad(near, 1)  # what lies outside has no spot
        numbers = np.array(list(permutations(range(len(beads)), 3)))
        corners = beads.centres_mm[numbers]
        sides = [corners[:, j] - corners[:, i] for i, j in ((0, 1), (0, 2), (1, 2))]
        lengths = np.stack([np.linalg.norm(side, axis=1) for side in sides], axis=1)
        height = np.linalg.norm(np.cross(sides[0], sides[1]), axis=1) / lengths.max(axis=1)
        wide = height > 0.05 * np.ptp(beads.centres_mm, axis=0).max()
        self.triples, self.lengths = numbers[wide], lengths[wide]

    def _candidates(self, triple: Index, focal: float, sizes: bool) -> Index:
        """The bead triples (K, 3) that three spots may be."""
        uv = self.spots.centres_px[triple]
        apart = np.linalg.norm(uv[[1, 2, 2]] - uv[[0, 0, 1]], axis=1)
        near, _ = self.rough.depth_mm
        # A side looks shorter where it slants, never longer than at the least depth.
        may = (apart * near <= 1.2 * focal * self.lengths).all(axis=1)
        if sizes:
            ratio = self.spots.radii_px[triple] / self.beads.diameters_mm[self.triples]
            may &= ratio.max(axis=1) <= bounds.SIZE_RATIO * ratio.min(axis=1)
        return np.asarray(self.triples[may])

    def poses(self, triple: Index, sizes: bool) -> list[_Pose]:
        """The best poses that put three beads on three spots, the best first."""
        out = []
        for intrinsic in self.rough.guesses():
            focal = float(np.sqrt(abs(np.linalg.det(intrinsic[:2, :2]))))
            out += self._posed(triple, self._candidates(triple, focal, sizes), intrinsic)
        return sorted(out, key=lambda pose: -pose.score)

    def _posed(self, triple: Index, numbers: Index, intrinsic: Array) -> list[_Pose]:
        """The best poses that put one of bead triples (K, 3) on three spots."""
        uv = np.column_stack([self.spots.centres_px[triple], np.ones(3)])
        rays = np.asarray(np.linalg.solve(intrinsic, uv.T).T)
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        rotation, move, _ = three_point_poses(self.beads.centres_mm[numbers], rays)
        near, far = self.rough.depth_mm
        middle = rotation[:, 2] @ self.beads.centres_mm.mean(0) + move[:, 2]
        keep = (middle > max(near, 0.0)) & (middle < far)
        keep &= np.linalg.det(rotation) > 0.5  # beads in a line have no pose
        rotation, move = rotation[keep], move[keep]
        self.tried += len(move)
        score = self._scores(intrinsic, rotation, move)
        best = np.argsort(-score)[:_ALL]
        return [_Pose(float(score[k]), intrinsic, rotation[k], move[k]) for k in best]

    def around(self, guess: Guess) -> list[_Pose]:
        """The best poses from three of a solution's own pairs, the best first.

        A solution that holds one plate of a phantom, tilted the wrong way, leads to the right one.
        """
        rng = np.random.default_rng(0)
        out = []
        for _ in range(_AROUND):
            pairs = guess.pairs[rng.permutation(len(guess.pairs))[:3]]
            for intrinsic in self.rough.guesses():
                out += self._posed(pairs[:, 1], pairs[None, :, 0], intrinsic)
        return sorted(out, key=lambda pose: -pose.score)[:_ALL]

    def _scores(self, intrinsic: Array, rotation: Array, move: Array) -> Array:
        """How many beads of each pose (K,) have a spot nearby, the nearer the more."""
        place = rotation @ self.beads.centres_mm.T + move[:, :, None]
        depth = np.where(place[:, 2] > 1e-3, place[:, 2], np.inf)
        rows, columns = self.near.shape
        cell = []
        for axis, limit in ((1, rows), (0, columns)):
            at = intrinsic[axis, axis] * place[:, axis] / depth + intrinsic[axis, 2]
            cell.append(np.clip(np.rint(at / self.step) + 1, 0, limit - 1).astype(np.int32))
        near = np.where(np.isfinite(depth), self.near[cell[0], cell[1]], 0.0)
        return np.asarray(near.sum(axis=1))

    def refined(self, poses: list[_Pose]) -> list[Guess]:
        """Those that settle on enough pairs, the best supported first; alike ones once."""
        guesses = []
        for pose in poses:
            start = Camera(pose.intrinsic, affine(pose.rotation, pose.move), *self.rough.size)
            guess = refined_guess(start, self.beads, self.spots, self.coarse_px)
            if guess is not None:
                guesses.append(guess)
        out: list[Guess] = []
        for guess in sorted(guesses, key=lambda guess: (-guess.support, guess.rms_px)):
            if not any(guess.alike(other) for other in out):
                out.append(guess)
        return out

    def whole(self, guess: Guess) -> bool:
        """Whether a solution leaves little to look for."""
        most = min(len(self.beads), len(self.spots))
        return len(guess.pairs) >= bounds.WHOLE_SHARE * most

    def by_chance(self, guess: Guess) -> float:
        """How often, in all that was tried, chance alone would match as many beads."""
        wide = np.ptp(self.spots.centres_px, axis=0) + 2.0 * guess.gate_px
        share = len(self.spots) * np.pi * guess.gate_px**2 / float(np.prod(wide))
        # Four pairs are met by a pose and a focal length in any case.
        pairs, beads = len(guess.pairs) - 4, len(self.beads) - 4
        return self.tried * float(binom.sf(pairs - 1, beads, min(share, 1.0)))


def match_beads(view: str, beads: Beads, spots: Spots, rough: RoughCamera) -> Match:
    """Find which spot is which bead.

    False spots and beads that are not shown are left out. Spots of a picture with distortion have
    to be freed of it first.

    Args:
        view: what the picture is called, for complaints.
        beads: of the phantom.
        spots: of the picture.
        rough: what is known of the C-arm.

    Returns:
        The pairs and a first camera, whose first focal length is negative where the picture is
        mirrored.

    Raises:
        InputError: naming the view, where no solution is better than chance, or two are as good.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.calibration import Beads, RoughCamera, Spots, match_beads
        >>> from RadGSRegLib.geometry import carm_camera
        >>> rng = np.random.default_rng(0)
        >>> places = rng.uniform(-60, 60, (14, 3))
        >>> beads = Beads("cube", places, np.full(14, 3.0))
        >>> camera = carm_camera(1000.0, 600.0, 30.0, 10.0, (1000, 1000), (0.4, 0.4))
        >>> order = rng.permutation(14)[:11]
        >>> spots = Spots(camera.project(places[order]), np.full(11, 6.0), np.ones(11))
        >>> match = match_beads("AP", beads, spots, RoughCamera((1000, 1000), 2500.0, (0.4, 0.4)))
        >>> bool((match.pairs[:, 0] == order[match.pairs[:, 1]]).all()), len(match.pairs)
        (True, 11)
    """
    least = bounds.LEAST_PAIRS
    if len(beads) < least or len(spots) < least:
        few = f"{len(beads)} beads" if len(beads) < least else f"{len(spots)} spots"
        raise InputError(view, f"has {few}, and at least {least} are needed")
    search = _Search(beads, spots, rough)
    usable = (spots.radii_px > 0).all() and np.isfinite(spots.radii_px).all()
    several = np.ptp(beads.diameters_mm) > 0
    for sizes in [True, False] if usable and several else [False]:
        held: list[_Pose] = []
        more = _MORE
        for triple in _spot_triples(spots):
            poses = search.poses(triple, sizes)
            best = search.refined(poses[:_FIRST])
            if best and search.by_chance(best[0]) < bounds.CHANCE:
                held += poses
                if search.whole(best[0]):
                    break
                held += search.around(best[0])
                if search.whole(search.refined(held)[0]):
                    break
            more -= bool(held)
            if not more:
                break
        if held:
            return _settled(view, search.refined(held))
    raise InputError(
        view,
        f"shows {len(spots)} spots, and no camera puts enough of the {len(beads)} beads on them "
        "to tell it from chance",
        "check that the beads' file is of this phantom, and the pixel spacing and the "
        "source-detector distance",
    )


def _settled(view: str, guesses: list[Guess]) -> Match:
    """The best of the solutions. InputError where another one is nearly as good."""
    first = guesses[0]
    share = guesses[1].support / first.support if len(guesses) > 1 else 0.0
    if share >= bounds.SECOND_SHARE:
        raise InputError(
            view,
            f"is ambiguous: {len(first.pairs)} beads fit in one way, and "
            f"{len(guesses[1].pairs)} in another",
            "use a phantom without symmetry, or a picture that shows more of its beads",
        )
    return Match(first.pairs, first.camera, first.rms_px, float(share))
