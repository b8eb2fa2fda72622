"""Encoders of cubes for RegM by the names of `encoders.ENCODERS`: maps of features, finer first."""

from torch import Tensor, nn

from ..errors import InputError
from .encoders import ENCODERS, Monai, Residual, after_each, make_monai, norm

# Below this MONAI's, which halve a cube's edge five times, have nothing left to pool.
LEAST_VOXELS = 32


class SmallVolumes(nn.Module):
    """For CPUs: maps of stride 4 and 8."""

    stride = 8

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.channels = (2 * width, 4 * width)
        self.stem = nn.Sequential(
            nn.Conv3d(inputs, width, 5, stride=2, padding=2, bias=False), norm(width), nn.ReLU()
        )
        self.near = Residual(width, 2 * width, 2, dims=3)
        self.far = nn.Sequential(
            Residual(2 * width, 4 * width, 2, dims=3), Residual(4 * width, 4 * width, dims=3)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Turn (B, inputs, K, J, I) into the maps (B, channels, K / 4, ...) and half of that."""
        return after_each((self.near, self.far), self.stem(x))


def check_volume_encoder(name: str, voxels: int) -> None:
    """Raise InputError for a name that is none of `ENCODERS`, and for cubes that it cannot see."""
    if name not in ENCODERS:
        raise InputError(
            "registration network", f"there is no encoder {name!r}", f"use one of {ENCODERS}"
        )
    if name != "small" and voxels < LEAST_VOXELS:
        raise InputError(
            "registration network",
            f"{name} sees nothing in cubes of {voxels} voxels per edge",
            f"take {LEAST_VOXELS} or more, or the encoder small",
        )


def make_volume_encoder(name: str, inputs: int, voxels: int, width: int) -> SmallVolumes | Monai:
    """Make the encoder ``name`` for cubes (B, ``inputs``, K, J, I) of ``voxels`` per edge.

    Its ``channels`` are those of the maps that it returns: of "small" at strides 4 and 8 (``width``
    of its first convolution), of "resnet50" and "densenet121" at 4, 8, 16 and 32, of "vit12" at 8.
    Raises InputError as `check_volume_encoder`, and where MONAI is needed and not installed.
    """
    check_volume_encoder(name, voxels)
    if name == "small":
        return SmallVolumes(inputs, width)
    return make_monai(name, inputs, voxels, dims=3)
