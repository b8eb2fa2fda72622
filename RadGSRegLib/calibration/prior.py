"""What is known of a camera's focal length and principal point before its beads are looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import Array, Camera


@dataclass(frozen=True)
class Intrinsics:
    """A focal length and a principal point, pixels, and how well they are known together.

    ``mean_px`` (3,): focal length, principal point's column and row; ``covariance`` (3, 3) px^2;
    ``size`` (columns, rows) of the picture, and whether it is ``mirrored``: the principal point of
    one that is mirrored otherwise is mirrored.
    """

    mean_px: Array
    covariance: Array
    size: tuple[int, int]
    mirrored: bool

    @classmethod
    def of(cls, camera: Camera, covariance: Array) -> Intrinsics:
        """Those of a camera, of a covariance (3, 3)."""
        mean = np.array([camera.focal_px, *camera.intrinsic[:2, 2]])
        return cls(mean, np.asarray(covariance), camera.size, is_mirrored(camera))

    def as_of(self, camera: Camera) -> Intrinsics:
        """The same in pictures that are mirrored as this camera's are."""
        if is_mirrored(camera) == self.mirrored:
            return self
        mean = self.mean_px.copy()
        mean[1] = self.size[0] - 1.0 - mean[1]
        turn = np.diag([1.0, -1.0, 1.0])
        return Intrinsics(mean, turn @ self.covariance @ turn, self.size, not self.mirrored)


@dataclass(frozen=True)
class Prior:
    """What is known of a camera before: means and standard deviations, pixels; None: nothing."""

    focal_px: tuple[float, float] | None = None
    principal_px: tuple[tuple[float, float], float] | None = None
    intrinsics: Intrinsics | None = None

    def residual(self, camera: Camera) -> tuple[Array, Array]:
        """How far a camera is from it, in standard deviations (Q,), and how that moves with the
        focal length and the principal point (Q, 3)."""
        now = np.array([camera.focal_px, *camera.intrinsic[:2, 2]])
        values, rows = [np.zeros(0)], [np.zeros((0, 3))]
        if self.focal_px:
            mean, sigma = self.focal_px
            values.append((now[:1] - mean) / sigma)
            rows.append(np.eye(3)[:1] / sigma)
        if self.principal_px:
            middle, sigma = self.principal_px
            values.append((now[1:] - middle) / sigma)
            rows.append(np.eye(3)[1:] / sigma)
        if self.intrinsics is not None:
            known = self.intrinsics.as_of(camera)
            whiten = np.linalg.inv(np.linalg.cholesky(known.covariance))
            values.append(whiten @ (now - known.mean_px))
            rows.append(whiten)
        return np.concatenate(values), np.concatenate(rows)


def is_mirrored(camera: Camera) -> bool:
    """Whether a camera's picture is mirrored."""
    return bool(np.linalg.det(camera.intrinsic[:2, :2]) < 0)
