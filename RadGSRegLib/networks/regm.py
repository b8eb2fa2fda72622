"""RegM, from two volumes to a pose: 3-D encoder and head (math.md section 3).

Both volumes are cubes of the same grid: the reconstruction in the box's frame, the CT's vertebra in
centred CT axes. They are seen together, as two channels (Shen et al., RadGS-Reg, 2025). The pose is
centred CT to box. In each pass the CT is moved by the pose so far, and the head corrects that.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from .regm_heads import CELL_VOXELS, HEADS, DisplacementHead, Displacements, PoseHead
from .volume_encoders import check_volume_encoder, make_volume_encoder

# Attenuation of dense bone above soft tissue, 1/mm: volumes are seen in this unit.
_DENSE_BONE = 0.03
_OLD_NAMES = (
    ("stem.", "encoder.stem."),
    ("near.", "encoder.near."),
    ("far.", "encoder.far."),
    ("down.", "head.laterals.1."),
    *((f"head.{n}.", f"head.layers.{n}.") for n in (0, 2)),
)


@dataclass(frozen=True)
class RegMConfig:
    """``voxels`` per edge of a cube of ``box_mm``, a multiple of 8; ``passes``: how often the
    volumes are compared, the CT moved by the pose so far.

    ``encoder``: one of `encoders.ENCODERS`; ``width`` of the small one's first convolution, and
    half that of the displacement head. ``head``: one of `regm_heads.HEADS`. Raises InputError for
    other names, sizes that are too small, and an encoder that cannot see cubes so small.
    """

    voxels: int = 40
    box_mm: float = 100.0
    width: int = 12
    passes: int = 3
    encoder: str = "small"
    head: str = "displacement"

    def __post_init__(self) -> None:
        if self.voxels < 16 or self.width < 1 or self.passes < 1 or not self.box_mm > 0:
            raise InputError("registration network", "a size is too small", "check it")
        if self.voxels % (2 * CELL_VOXELS):
            raise InputError(
                "registration network", f"voxels is {self.voxels}", "take a multiple of 8"
            )
        check_volume_encoder(self.encoder, self.voxels)
        if self.head not in HEADS:
            raise InputError(
                "registration network", f"there is no head {self.head!r}", f"use one of {HEADS}"
            )

    @property
    def spacing_mm(self) -> float:
        """Voxel edge."""
        return self.box_mm / self.voxels

    def index_to_box(self) -> Tensor:
        """Return (4, 4): voxel (i, j, k) to mm, the cube's middle at the origin."""
        out = torch.diag(torch.tensor([self.spacing_mm] * 3 + [1.0], dtype=torch.float64))
        out[:3, 3] = -self.spacing_mm * (self.voxels - 1) / 2.0
        return out


class RegM(nn.Module):
    """Volumes to poses."""

    def __init__(self, config: RegMConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = make_volume_encoder(config.encoder, 2, config.voxels, config.width)
        channels = self.encoder.channels
        self.head: DisplacementHead | PoseHead
        if config.head == "pose":
            self.head = PoseHead(channels[-1], config.voxels // self.encoder.stride)
        else:
            self.head = DisplacementHead(channels, 2 * config.width, config.voxels, config.box_mm)
        self.register_load_state_dict_pre_hook(_with_old_names)

    def forward(self, reconstructed: Tensor, ct: Tensor, passes: int | None = None) -> Tensor:
        """Return poses (B, 4, 4), centred CT to box, of volumes (B, K, J, I) each, 1/mm.

        ``passes`` instead of the configuration's; gradients go through the last one alone.
        """
        return self.trace(reconstructed, ct, passes)[0]

    def trace(
        self, reconstructed: Tensor, ct: Tensor, passes: int | None = None
    ) -> tuple[Tensor, Tensor, Displacements | None]:
        """Return the poses, those before the last pass, and the displacements that the last pass
        saw (None of the head that sees none)."""
        passes = self.config.passes if passes is None else passes
        poses = torch.eye(4, device=ct.device).repeat(len(ct), 1, 1)
        with torch.no_grad():
            for _ in range(passes - 1):
                poses, _ = self._look(reconstructed, ct, poses)
        better, moves = self._look(reconstructed, ct, poses, moved=passes > 1)
        return better, poses, moves

    def _look(
        self, reconstructed: Tensor, ct: Tensor, poses: Tensor, moved: bool = True
    ) -> tuple[Tensor, Displacements | None]:
        """One pass: move the CT by the poses so far, compare, correct them."""
        if moved:
            with torch.autocast(ct.device.type, enabled=False):
                ct = move_volume(ct.float(), poses, self.config.box_mm)
        both = torch.stack([reconstructed, ct], dim=1) / _DENSE_BONE
        # One unit each, whatever the absolute scale of the reconstruction is.
        both = both / both.flatten(2).std(dim=2).clamp_min(1e-6)[..., None, None, None]
        answer: tuple[Tensor, Displacements | None] = self.head(self.encoder(both), ct, poses)
        return answer


def _with_old_names(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Rename the weights of files from when RegM had one encoder and one head."""
    for old, new in _OLD_NAMES:
        start = prefix + old
        for name in [n for n in state if n.startswith(start)]:
            state[prefix + new + name[len(start) :]] = state.pop(name)


def move_volume(volumes: Tensor, poses: Tensor, box_mm: float) -> Tensor:
    """Move cubes (B, K, J, I) by rigid poses (B, 4, 4) about their middles, on the same grid.

    Trilinear, zero beyond; differentiable by both.
    """
    back = poses[:, :3, :3].transpose(1, 2)
    shift = -(back @ poses[:, :3, 3:])
    # grid_sample's unit is half the cube, its axes are (i, j, k) as ours.
    theta = torch.cat([back, shift * (2.0 / box_mm)], dim=2)
    shape = (len(volumes), 1, *volumes.shape[1:])
    grid = functional.affine_grid(theta, list(shape), align_corners=False)
    moved = functional.grid_sample(volumes[:, None], grid, align_corners=False)
    return moved[:, 0]
