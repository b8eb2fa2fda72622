"""A vertebra's own Gaussians, about its centre."""

import torch
from torch import Tensor

from ..gaussians import GaussianCloud, fit_vertebra
from ..geometry import invert_rigid, translation
from ..tensors import applied
from .subjects import Subject


def own_anchors(subject: Subject, count: int) -> GaussianCloud:
    """Fit a subject's own cloud in centred CT axes: the anchors of its patient-specific model."""
    return fit_vertebra(subject.excess, count).transformed(translation(-subject.centre_ct))


def shared_cloud(subject: Subject, count: int) -> GaussianCloud:
    """Fit a subject's own cloud in the axes that anchors of many vertebrae share, float32."""
    centred_to_anchors = torch.from_numpy(invert_rigid(subject.anchors_to_centred)).float()
    return own_anchors(subject, count).transformed(centred_to_anchors)


def anchor_offsets(subject: Subject, anchors: GaussianCloud) -> Tensor:
    """Return how far a deformation took a subject from each of a patient's anchors (N, 3), mm in
    the anchors' axes, float32: zeros for a subject that is none."""
    means = anchors.means.detach().to("cpu", torch.float64)
    if subject.bend is None:
        return torch.zeros(means.shape)
    centred = torch.from_numpy(subject.bend(means.numpy()))
    back = torch.from_numpy(invert_rigid(subject.anchors_to_centred))
    return (applied(back, centred) - means).float()
