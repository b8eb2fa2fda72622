"""A vertebra's own Gaussians, about its centre."""

import torch

from ..gaussians import GaussianCloud, fit_vertebra
from ..geometry import invert_rigid, translation
from .subjects import Subject


def own_anchors(subject: Subject, count: int) -> GaussianCloud:
    """Fit a subject's own cloud in centred CT axes: the anchors of its patient-specific model."""
    return fit_vertebra(subject.excess, count).transformed(translation(-subject.centre_ct))


def shared_cloud(subject: Subject, count: int) -> GaussianCloud:
    """Fit a subject's own cloud in the axes that anchors of many vertebrae share, float32."""
    centred_to_anchors = torch.from_numpy(invert_rigid(subject.anchors_to_centred)).float()
    return own_anchors(subject, count).transformed(centred_to_anchors)
