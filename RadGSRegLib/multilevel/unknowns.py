"""What is unknown of several vertebrae: where they are and, where cameras are only nominal, where
those stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..geometry import Array, compose_about, invert_rigid, skew, transform_points
from ..registration import Arrangement, RigidBodies
from ..views import PreparedView

BACKGROUND = "background"


@dataclass(frozen=True)
class Target:
    """A vertebra whose pose is sought, with what is around it."""

    label: int
    name: str
    bodies: RigidBodies


@dataclass(frozen=True)
class Piece:
    """Something that moves as one: a vertebra, or all that is none. It turns about ``centre_ct``
    (3,), mm."""

    name: str
    centre_ct: Array


@dataclass(frozen=True)
class Setup:
    """Cameras and pieces as they are so far.

    ``world_to_nominal`` (V, 4, 4): where each view's nominal camera has a point of the world, so
    that its world-to-camera is the nominal one times this; ``ct_to_world`` (M, 4, 4) of the pieces.
    """

    world_to_nominal: Array
    ct_to_world: Array

    def views(self, nominal: Sequence[PreparedView]) -> list[PreparedView]:
        """The views with their cameras as they are so far."""
        out = []
        for view, shift in zip(nominal, self.world_to_nominal, strict=True):
            camera = view.camera
            there = replace(camera, world_to_camera=camera.world_to_camera @ shift)
            out.append(view.taken_by(view.name, there))
        return out


@dataclass(frozen=True)
class Unknowns:
    """All that is unknown, in its order: a twist of six for each camera, along the world's axes
    about ``pivot_world`` (3,); then one for each piece, about its centre along the CT's axes.

    The first pieces are the ``targets``. With ``alone`` nothing but these moves by itself: the
    others follow the target that they are nearest to. With ``held`` no camera moves, and none is
    among the unknowns.
    """

    targets: tuple[Target, ...]
    cameras: int
    pivot_world: Array
    alone: bool = False
    held: bool = False

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The targets, other vertebrae beside them, and everything else as one."""
        known = {target.name: target.bodies.centre_ct for target in self.targets}
        for target in self.targets:
            for body in target.bodies.neighbours:
                if body.vertebra:
                    known.setdefault(body.name, body.centre_ct)
        known[BACKGROUND] = np.mean([target.bodies.centre_ct for target in self.targets], axis=0)
        return tuple(Piece(name, centre) for name, centre in known.items())

    @cached_property
    def around(self) -> tuple[tuple[int, ...], ...]:
        """For each target the piece that each of its neighbours, and the background last, is."""
        number = {piece.name: n for n, piece in enumerate(self.pieces)}
        return tuple(
            tuple(
                number[body.name if body.vertebra else BACKGROUND]
                for body in target.bodies.neighbours
            )
            + (number[BACKGROUND],)
            for target in self.targets
        )

    @property
    def count(self) -> int:
        """How many unknowns there are."""
        pieces = len(self.targets if self.alone else self.pieces)
        return 6 * (pieces if self.held else self.cameras + pieces)

    def of_camera(self, number: int) -> slice:
        """Where a camera's are; nowhere where cameras are held."""
        return slice(0, 0) if self.held else slice(6 * number, 6 * number + 6)

    def of_piece(self, number: int) -> slice:
        """Where a piece's are; the targets are the first pieces."""
        first = 0 if self.held else self.cameras
        return slice(6 * (first + number), 6 * (first + number) + 6)

    def as_in_ct(self, world_to_nominal: Array, ct_to_world: Array) -> Setup:
        """The setup with all pieces as in the CT, at a pose (4, 4)."""
        return Setup(world_to_nominal, np.tile(ct_to_world, (len(self.pieces), 1, 1)))

    def arrangement(self, number: int, setup: Setup) -> Arrangement:
        """A target and all around it as its bodies have them."""
        pose = setup.ct_to_world[number]
        back = invert_rigid(pose)
        shifts = tuple(back @ setup.ct_to_world[piece] for piece in self.around[number])
        return Arrangement(pose, shifts)

    def moved(self, setup: Setup, step: Array) -> Setup:
        """The setup after a step (P,)."""
        cameras = [
            shift if self.held else compose_about(shift, step[self.of_camera(n)], self.pivot_world)
            for n, shift in enumerate(setup.world_to_nominal)
        ]
        poses: list[Array] = []
        for number, (piece, pose) in enumerate(zip(self.pieces, setup.ct_to_world, strict=True)):
            if self.alone and number >= len(self.targets):
                poses.append(poses[self.nearest(piece)])
            else:
                poses.append(compose_about(pose, step[self.of_piece(number)], piece.centre_ct))
        return Setup(np.array(cameras), np.array(poses))

    def nearest(self, piece: Piece) -> int:
        """The number of the target that a piece lies nearest to in the CT."""
        away = [np.linalg.norm(t.bodies.centre_ct - piece.centre_ct) for t in self.targets]
        return int(np.argmin(away))

    def by_camera(self, number: int, ct_to_world: Array) -> Array:
        """How a piece at a pose moves in front of a camera, as a twist of its own, with that
        camera's twist (6, 6).

        The camera sees what it would see if the world moved by its twist (w, t): a piece at R
        turns by R^T w about its own axes, and its centre c moves by R^T (t + w x (c - pivot)).
        """
        back = ct_to_world[:3, :3].T
        centre = transform_points(ct_to_world, self.pieces[number].centre_ct[None])[0]
        out = np.zeros((6, 6))
        out[:3, :3] = out[3:, 3:] = back
        out[3:, :3] = -back @ skew(centre - self.pivot_world)
        return out

    def to_bodies(self, number: int, view: int, setup: Setup) -> Array:
        """How the unknowns of a target's bodies, as `BodySource` has them, move with all unknowns
        (B, P) in front of a view's camera."""
        bodies, arrangement = self.targets[number].bodies, self.arrangement(number, setup)
        around = () if self.alone else self.around[number]
        out = np.zeros((6 * (1 + len(around)), self.count))
        if not self.held:
            out[:6, self.of_camera(view)] = self.by_camera(number, arrangement.ct_to_world)
        out[:6, self.of_piece(number)] = np.eye(6)
        for n, piece in enumerate(around):
            shift, centre = arrangement.shifts_ct[n], bodies.movable_centres_ct[n]
            row = slice(6 + 6 * n, 12 + 6 * n)
            # It follows the piece that it is, along the axes that it has turned to,
            own = np.zeros((6, 6))
            own[:3, :3] = own[3:, 3:] = shift[:3, :3]
            own[3:, :3] = -shift[:3, :3] @ skew(centre - self.pieces[piece].centre_ct)
            out[row, self.of_piece(piece)] += own
            # and stays where it is while the target moves, which takes all else along.
            now = transform_points(shift, centre[None])[0]
            against = -np.eye(6)
            against[3:, :3] = skew(now - bodies.centre_ct)
            out[row, self.of_piece(number)] += against
        return out
