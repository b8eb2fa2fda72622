"""Image encoders by name: what they all give is a coarse map of features and a finer one.

``resnet50``, ``densenet121`` and ``vit12`` are MONAI's (the paper's three backbones); ``small`` is
for CPUs, and so is ``unet``, whose finer map is twice as fine. The finer map is for features at the
places where Gaussians project. MONAI's take cubes too, for RegM (`volume_encoders`).
"""

import itertools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..choices import ENCODERS as ENCODERS
from ..errors import InputError

PICTURE_ENCODERS = (*ENCODERS, "unet")
FINE_STRIDE = 4


def norm(channels: int) -> nn.Module:
    """Make a normalisation that does not depend on what else is in the batch."""
    groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut; the first may halve the size (2-D or 3-D)."""

    def __init__(self, inside: int, outside: int, stride: int = 1, *, dims: int = 2) -> None:
        super().__init__()
        conv: Callable[..., nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        self.first = conv(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.norm_first = norm(outside)
        self.second = conv(outside, outside, 3, padding=1, bias=False)
        self.norm_second = norm(outside)
        same = inside == outside and stride == 1
        self.shortcut = (
            nn.Identity() if same else conv(inside, outside, 1, stride=stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, inside, ...) into (N, outside, ... / stride)."""
        y = functional.relu(self.norm_first(self.first(x)))
        y = self.norm_second(self.second(y))
        out: Tensor = functional.relu(y + self.shortcut(x))
        return out


def after_each(stages: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """Return what comes out of each of several stages, one after the other."""
    out = [x]
    for stage in stages:
        out.append(stage(out[-1]))
    return out[1:]


class _Small(nn.Module):
    channels = (24, 48, 96)

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, 16, 5, stride=2, padding=2, bias=False), norm(16), nn.ReLU()
        )
        self.stages = nn.ModuleList([Residual(16, 24, 2), Residual(24, 48, 2), Residual(48, 96, 2)])

    def forward(self, x: Tensor) -> list[Tensor]:
        return after_each(self.stages, self.stem(x))


class UNet(nn.Module):
    """Pictures (N, C, H, W) to maps (N, ``coarse``, H / 16, W / 16) and (N, 48, H / 2, W / 2): down
    four times and up again, with shortcuts (Ronneberger et al., 2015)."""

    fine_channels = 48

    def __init__(self, inputs: int, coarse: int) -> None:
        super().__init__()
        stem, *widths = 24, 48, 96, coarse
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, stem, 5, stride=2, padding=2, bias=False), norm(stem), nn.ReLU()
        )
        self.down = nn.ModuleList(
            nn.Sequential(Residual(a, b, 2), *([Residual(b, b)] if n else []))
            for n, (a, b) in enumerate(itertools.pairwise([stem, *widths]))
        )
        beside = [*reversed(widths[:-1]), stem]
        after = [*beside[:-1], self.fine_channels]
        before = [coarse, *after[:-1]]
        self.up = nn.ModuleList(
            Residual(a + b, c) for a, b, c in zip(before, beside, after, strict=True)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coarsest map and the finest."""
        first = self.stem(x)
        *beside, coarse = after_each(self.down, first)
        out = coarse
        for up, there in zip(self.up, [*reversed(beside), first], strict=True):
            out = up(torch.cat([_resized(out, there), there], 1))
        return coarse, out


class _ResNet50(nn.Module):
    channels = (256, 512, 1024, 2048)
    stride = 32

    def __init__(self, inputs: int, size: int, dims: int = 2) -> None:
        super().__init__()
        from monai.networks.nets import resnet50

        self.net = resnet50(
            spatial_dims=dims,
            n_input_channels=inputs,
            num_classes=1,
            conv1_t_stride=2,
        )
        self.net.fc = None  # its classes are not needed

    def forward(self, x: Tensor) -> list[Tensor]:
        net = self.net
        x = net.maxpool(net.act(net.bn1(net.conv1(x))))
        return after_each((net.layer1, net.layer2, net.layer3, net.layer4), x)


class _DenseNet121(nn.Module):
    channels = (256, 512, 1024, 1024)
    stride = 32

    def __init__(self, inputs: int, size: int, dims: int = 2) -> None:
        super().__init__()
        from monai.networks.nets import DenseNet121

        net = DenseNet121(spatial_dims=dims, in_channels=inputs, out_channels=1)
        self.features = net.features

    def forward(self, x: Tensor) -> list[Tensor]:
        out = []
        for name, layer in self.features.named_children():
            x = layer(x)
            # After the last block comes one more normalisation.
            if name in ("denseblock1", "denseblock2", "denseblock3", "norm5"):
                out.append(functional.relu(x))
        return out


class _ViT12(nn.Module):
    channels = (384,)
    stride = patch = 8

    def __init__(self, inputs: int, size: int, dims: int = 2) -> None:
        super().__init__()
        from monai.networks.nets import ViT

        if size % self.patch:
            raise InputError("vit12", f"needs pictures of a multiple of {self.patch} pixels")
        self.net = ViT(
            in_channels=inputs,
            img_size=(size,) * dims,
            patch_size=(self.patch,) * dims,
            hidden_size=self.channels[0],
            mlp_dim=4 * self.channels[0],
            num_layers=12,
            num_heads=6,
            spatial_dims=dims,
        )
        # Each of MONAI's blocks has weights for another sequence to attend to; here there is none.
        for name, weight in self.net.named_parameters():
            if "cross_attn" in name:
                weight.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        tokens, _ = self.net(x)
        patches = [edge // self.patch for edge in x.shape[2:]]
        return [tokens.transpose(1, 2).reshape(len(x), self.channels[0], *patches)]


Monai = _ResNet50 | _DenseNet121 | _ViT12
_MONAI: dict[str, type[Monai]] = {
    "resnet50": _ResNet50,
    "densenet121": _DenseNet121,
    "vit12": _ViT12,
}


def make_monai(name: str, inputs: int, size: int, dims: int) -> Monai:
    """Make one of MONAI's three for pictures (``dims`` 2) or cubes (3) of ``size`` per edge.

    It turns (N, ``inputs``, ...) into maps, finer ones first, whose ``channels`` it knows, and the
    ``stride`` of the last. Raises InputError where MONAI is not installed.
    """
    try:
        made = _MONAI[name](inputs, size, dims)
    except ImportError as error:
        raise InputError(f"encoder {name}", f"needs MONAI ({error})", "install monai") from None
    # A batch of cubes is small, and RegM sees it moved in every pass: what else is in it, or was in
    # the passes before, must not count.
    for part in list(made.modules()) if dims == 3 else ():
        for name, child in part.named_children():
            if isinstance(child, nn.BatchNorm3d):
                setattr(part, name, norm(child.num_features))
    return made


class Encoder(nn.Module):
    """Pictures (N, C, H, W) to a coarse map (N, 96, h, w) and a fine one (N, 32, H / 4, W / 4), or
    (N, 48, H / 2, W / 2) of ``unet``.

    The fine map is a shallow branch's own plus what comes down from the coarser ones (a feature
    pyramid). Raises InputError for a name that is none of `PICTURE_ENCODERS`, and for a backbone
    that needs MONAI where that is not installed.
    """

    coarse_channels = 96
    fine_channels = 32

    def __init__(self, name: str, inputs: int, size_px: int) -> None:
        super().__init__()
        if name not in PICTURE_ENCODERS:
            raise InputError(
                "encoder", f"there is none named {name!r}", f"use one of {PICTURE_ENCODERS}"
            )
        self.name = name
        if name == "unet":
            self.unet = UNet(inputs, self.coarse_channels)
            self.fine_channels = self.unet.fine_channels
            return
        self.backbone = (
            _Small(inputs) if name == "small" else make_monai(name, inputs, size_px, dims=2)
        )
        channels = self.backbone.channels
        coarse, fine = self.coarse_channels, self.fine_channels
        same = channels[-1] == coarse
        self.reduce: nn.Module = nn.Identity() if same else nn.Conv2d(channels[-1], coarse, 1)
        self.laterals = nn.ModuleList([nn.Conv2d(c, fine, 1) for c in channels])
        self.smooth = nn.ModuleList([nn.Conv2d(fine, fine, 3, padding=1) for _ in channels])
        self.shallow = nn.Sequential(
            nn.Conv2d(inputs, fine, FINE_STRIDE + 1, stride=FINE_STRIDE, padding=2, bias=False),
            norm(fine),
            nn.ReLU(),
            nn.Conv2d(fine, fine, 3, padding=1),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coarse and the fine map."""
        if self.name == "unet":
            both: tuple[Tensor, Tensor] = self.unet(x)
            return both
        maps = self.backbone(x)
        fine = self.shallow(x)
        down: Tensor | None = None
        for features, lateral, smooth in reversed(
            list(zip(maps, self.laterals, self.smooth, strict=True))
        ):
            here = lateral(features)
            if down is not None:
                here = here + _resized(down, here)
            down = functional.relu(smooth(here))
        assert down is not None
        return self.reduce(maps[-1]), functional.relu(fine + _resized(down, fine))


def _resized(x: Tensor, like: Tensor) -> Tensor:
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
