"""Vertebrae as other people might have them: a CT's, bent smoothly together with what is around.

A free-form deformation (Rueckert et al., 1999): cubic B-splines over a coarse mesh of random
shifts. None is more than 0.4 of the mesh's step, so that space is never folded (Choi and Lee,
2000).
"""

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk  # noqa: N813
from scipy.spatial.transform import Rotation

from ..cases import volume_from_itk, volume_to_itk
from ..errors import InputError
from ..geometry import Array, Volume, affine
from .pool import Source
from .samples import Sample, SampleOptions, draw_sample
from .subjects import Subject, make_subject

# Neither was varied. The step is about half a vertebra's height and depth, so that its parts change
# their sizes, not their surfaces.
_STEP_MM = 20.0
_SHIFT_MM = 5.0
_MOST = 0.4
# Beyond this from the vertebra nothing is bent; a wide subject ends before.
_REACH_MM = 260.0
_AIR_HU = -1000.0
# To a hundredth of a millimetre, and on to spare.
_ROUNDS = 25


@dataclass(frozen=True)
class Deformed:
    """A source's vertebra, deformed; the same ``seed`` gives the same. ``shift_mm`` as in
    `free_form`.

    Its X-rays are always simulated. Raises InputError, when it is made, where the inner source has
    others.
    """

    inner: Source
    seed: int
    simulated: bool = True
    shift_mm: float = _SHIFT_MM

    def __post_init__(self) -> None:
        if not self.inner.simulated:
            raise InputError(self.inner.name, "has real X-rays, which show it as it is")

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"{self.inner.name}, deformed {self.seed}"

    @property
    def axes_known(self) -> bool:
        """Whether the anchors' axes are known, as they are where they were before."""
        return self.inner.axes_known

    def subject(self, wide: bool = False) -> Subject:
        """Return the vertebra; a wide one is deformed alike, to a millimetre or two. Its axes have
        gone with its surface as nearly as rigid axes can (least squares)."""
        subject = self.inner.subject(wide)
        # The centre of a wide one, of coarser voxels, is a little elsewhere.
        bent_to_ct = free_form(np.round(subject.centre_ct), self.seed, self.shift_mm)
        ct = _bent(subject.ct, bent_to_ct, sitk.sitkLinear, _AIR_HU)
        labels = _bent(subject.labels, bent_to_ct, sitk.sitkNearestNeighbor, 0.0)
        made = make_subject(ct, labels, subject.label, self.name, wide=wide)
        undeformed_to_centred = _Bend(bent_to_ct, subject.centre_ct, made.centre_ct)
        points = subject.surface_points_ct - subject.centre_ct
        rigid = _nearest_rigid(points, undeformed_to_centred(points))
        made = made.with_axes(rigid @ subject.anchors_to_centred)
        return replace(made, undeformed_to_centred=undeformed_to_centred)

    def sample(self, subject: Subject, options: SampleOptions, seed: int) -> Sample:
        """Return a simulated pair; the same seed gives the same."""
        return draw_sample(subject, options, seed)


@dataclass(frozen=True)
class _Bend:
    """Where a deformation took points, from about the one centre to about the other."""

    bent_to_ct: sitk.Transform
    centre_before: Array
    centre_after: Array

    def __call__(self, points: Array) -> Array:
        points_ct = np.asarray(points, float) + self.centre_before
        bent = points_ct.copy()
        # Between two points shifts differ by less than these lie apart, so this comes to the one.
        for _ in range(_ROUNDS):
            back_ct = np.array([self.bent_to_ct.TransformPoint(p) for p in bent.tolist()])
            bent = bent + points_ct - back_ct
        return bent - self.centre_after


def _nearest_rigid(before: Array, after: Array) -> Array:
    """The rigid before_to_after (4, 4) that brings points (N, 3) nearest to others."""
    turned = Rotation.align_vectors(after - after.mean(0), before - before.mean(0))[0]
    turn = turned.as_matrix()
    return affine(turn, after.mean(0) - turn @ before.mean(0))


def free_form(centre_ct: Array, seed: int, shift_mm: float = _SHIFT_MM) -> sitk.Transform:
    """Draw a smooth invertible deformation about ``centre_ct`` (3,) mm, physical points to physical
    points, with shifts of the mesh of ``shift_mm`` (one standard deviation)."""
    cells = round(2.0 * _REACH_MM / _STEP_MM)
    transform = sitk.BSplineTransform(3, 3)
    transform.SetTransformDomainOrigin((np.asarray(centre_ct, float) - _REACH_MM).tolist())
    transform.SetTransformDomainPhysicalDimensions([2.0 * _REACH_MM] * 3)
    transform.SetTransformDomainDirection(np.eye(3).ravel().tolist())
    transform.SetTransformDomainMeshSize([cells] * 3)
    count = len(transform.GetParameters()) // 3
    edge = round(count ** (1.0 / 3.0))
    shifts = np.random.default_rng([seed, 79]).normal(0.0, shift_mm, (3, edge, edge, edge))
    shifts = np.clip(shifts, -_MOST * _STEP_MM, _MOST * _STEP_MM)
    # Outside of the mesh nothing moves, so nothing may move at its faces.
    still = np.zeros_like(shifts)
    still[:, 3:-3, 3:-3, 3:-3] = shifts[:, 3:-3, 3:-3, 3:-3]
    transform.SetParameters(still.ravel().tolist())
    return transform


# At the border some millimetres of air come in, as where a CT ends.
def _bent(volume: Volume, bent_to_ct: sitk.Transform, how: int, beyond: float) -> Volume:
    image = volume_to_itk(volume)
    return volume_from_itk(sitk.Resample(image, image, bent_to_ct, how, beyond))
