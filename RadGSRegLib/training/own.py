"""A vertebra's own Gaussians, about its centre."""

from pathlib import Path

import torch

from ..gaussians import GaussianCloud, fit_vertebra
from ..geometry import invert_rigid, translation
from .kept import keep, read_kept
from .subjects import Subject

_TENSORS = ("means", "scales", "quaternions", "densities")


def own_anchors(subject: Subject, count: int) -> GaussianCloud:
    """Fit a subject's own cloud in centred CT axes: the anchors of its patient-specific model."""
    return fit_vertebra(subject.excess, count).transformed(translation(-subject.centre_ct))


def shared_cloud(subject: Subject, count: int) -> GaussianCloud:
    """Fit a subject's own cloud in the axes that anchors of many vertebrae share, float32."""
    centred_to_anchors = torch.from_numpy(invert_rigid(subject.anchors_to_centred)).float()
    return own_anchors(subject, count).transformed(centred_to_anchors)


def kept_cloud(subject: Subject, count: int, path: Path | None) -> GaussianCloud:
    """Do what `shared_cloud` does, or read what it gave before from ``path`` (None: it is not
    kept). Raises InputError for a damaged file."""
    arrays = None if path is None else read_kept(path)
    if arrays is not None:
        return GaussianCloud(*(torch.from_numpy(arrays[name]) for name in _TENSORS))
    cloud = shared_cloud(subject, count).detach()
    if path is not None:
        tensors = zip(_TENSORS, cloud.tensors, strict=True)
        keep(path, {name: tensor.numpy() for name, tensor in tensors})
    return cloud
