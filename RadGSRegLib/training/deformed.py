"""Vertebrae as other people might have them: a CT's, bent smoothly together with what is around.

A free-form deformation (Rueckert et al., 1999): cubic B-splines over a coarse mesh of random
shifts. None is more than 0.4 of the mesh's step, so that space is never folded (Choi and Lee,
2000).
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ..cases import volume_from_itk, volume_to_itk
from ..errors import InputError
from ..geometry import Array, Volume
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


@dataclass(frozen=True)
class Deformed:
    """A source's vertebra, deformed; the same ``seed`` gives the same.

    Its X-rays are always simulated. Raises InputError, when it is made, where the inner source has
    others.
    """

    inner: Source
    seed: int
    axes_known: bool = False
    simulated: bool = True

    def __post_init__(self) -> None:
        if not self.inner.simulated:
            raise InputError(self.inner.name, "has real X-rays, which show it as it is")

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"{self.inner.name}, deformed {self.seed}"

    def subject(self, wide: bool = False) -> Subject:
        """Return the vertebra; a wide one is deformed alike."""
        subject = self.inner.subject(wide)
        # About a point of the vertebra that does not depend on how much is around it.
        bent_to_ct = free_form(np.round(subject.centre_ct), self.seed)
        ct = _bent(subject.ct, bent_to_ct, sitk.sitkLinear, _AIR_HU)
        labels = _bent(subject.labels, bent_to_ct, sitk.sitkNearestNeighbor, 0.0)
        return make_subject(ct, labels, subject.label, self.name, wide=wide)

    def sample(self, subject: Subject, options: SampleOptions, seed: int) -> Sample:
        """Return a simulated pair; the same seed gives the same."""
        return draw_sample(subject, options, seed)


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


def _bent(volume: Volume, bent_to_ct: sitk.Transform, how: int, beyond: float) -> Volume:
    image = volume_to_itk(volume)
    return volume_from_itk(sitk.Resample(image, image, bent_to_ct, how, beyond))
