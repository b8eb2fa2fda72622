"""From an X-ray of any display to the line integrals of its bones: a generator, and its file.

A pix2pix generator (P. Isola et al., CVPR 2017), as S. Jecklin et al. standardise radiographs
("IXGS", 2025): MONAI's U-Net. It sees ranks and local contrast, which no monotone display curve
changes, of either polarity. `networks.standardize` applies it to views.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..cases import options_from, output_file
from ..errors import InputError
from ..tensors import load_tensors, save_tensors
from .model import card_text

SCHEMA = "radgsreg/standardizer"
VERSION = 1
# Rank, local contrast, and what is valid.
INPUTS = 3
_DEPTH = 4
MULTIPLE: int = 2**_DEPTH
_GROUPS = 8


@dataclass(frozen=True)
class StandardConfig:
    """Pictures have pixels of ``pixel_mm`` at the patient; ``width`` channels at the finest maps,
    doubled at each of four coarser ones."""

    pixel_mm: float = 1.5
    width: int = 16

    def __post_init__(self) -> None:
        if not self.pixel_mm > 0 or self.width < _GROUPS or self.width % _GROUPS:
            raise InputError(
                "standardisation",
                f"pixels of {self.pixel_mm} mm, width {self.width}",
                "pixels are positive, a width is a multiple of 8",
            )

    @property
    def features(self) -> int:
        """How many numbers say what a picture is like."""
        return self.width * MULTIPLE


class Standardizer(nn.Module):
    """X-rays to the line integrals of all bone, and to what each picture is like.

    ``mean``, ``whitening`` and ``limit`` say what pictures of the training were like, as
    `learn_familiar` tells it; before that every picture is strange.
    """

    mean: Tensor
    whitening: Tensor
    limit: Tensor

    def __init__(self, config: StandardConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = _generator(config)
        self.register_buffer("mean", torch.zeros(config.features))
        self.register_buffer("whitening", torch.zeros(config.features, config.features))
        self.register_buffer("limit", torch.tensor(-1.0))
        self.card: dict[str, Any] = {}
        self.source: Path | str = "the model of standardisation"

    def forward(self, pictures: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Turn pictures (N, 2, H, W) of `views.ranks_and_contrast` and validity (N, H, W) to line
        integrals (N, H, W), not bounded below, and features (N, F). H, W: multiples of 16."""
        net = self.generator
        x0 = net.conv_0(torch.cat([pictures, valid[:, None]], dim=1))
        x1 = net.down_1(x0)
        x2 = net.down_2(x1)
        x3 = net.down_3(x2)
        x4 = net.down_4(x3)
        up = net.upcat_1(net.upcat_2(net.upcat_3(net.upcat_4(x4, x3), x2), x1), x0)
        bone: Tensor = net.final_conv(up)[:, 0]
        share = functional.avg_pool2d(valid[:, None], MULTIPLE)
        features = (x4 * share).sum((-2, -1)) / share.sum((-2, -1)).clamp_min(1e-6)
        return bone, features

    def learn_familiar(self, known: Tensor, held: Tensor, share: float) -> None:
        """Learn what pictures are like from ``known`` features (N, F), and how far the ``share`` of
        ``held`` ones (M, F), of other patients, lie from them.

        The distance is Mahalanobis's, the covariance shrunk towards a multiple of the identity
        (O. Ledoit, M. Wolf, J. Multivar. Anal. 88, 2004).
        """
        known, held = known.to(self.mean), held.to(self.mean)
        centred = known.double() - known.double().mean(0)
        count, size = centred.shape
        covariance = centred.T @ centred / count
        scale = covariance.diagonal().mean()
        target = scale * torch.eye(size).to(covariance)
        spread = (centred.square().sum(1).square().mean() - covariance.square().sum()) / count
        away = (covariance - target).square().sum().clamp_min(1e-12)
        shrunk = float((spread / away).clamp(0.0, 1.0))
        mixed = shrunk * target + (1.0 - shrunk) * covariance
        values, axes = torch.linalg.eigh(mixed)
        self.mean.copy_(known.mean(0))
        self.whitening.copy_((axes / values.clamp_min(1e-8).sqrt()).T.float())
        self.limit.copy_(self.strangeness(held).quantile(share))

    def strangeness(self, features: Tensor) -> Tensor:
        """Return how far (N,) features (N, F) lie from those of the training, in its standard
        deviations (root mean square over directions)."""
        white = (features.to(self.mean) - self.mean) @ self.whitening.T
        return white.square().mean(1).sqrt()


def _generator(config: StandardConfig) -> Any:
    try:
        from monai.networks.nets import BasicUNet
    except ImportError as error:
        raise InputError(
            "standardisation", f"needs MONAI ({error})", "install monai: pip install monai"
        ) from None
    w = config.width
    return BasicUNet(
        spatial_dims=2,
        in_channels=INPUTS,
        out_channels=1,
        features=(w, 2 * w, 4 * w, 8 * w, 16 * w, w),
        act=("leakyrelu", {"negative_slope": 0.1, "inplace": True}),
        norm=("group", {"num_groups": _GROUPS}),
        upsample="nontrainable",
    )


def save_standardizer(path: Path, network: Standardizer, card: dict[str, Any]) -> None:
    """Write a network and its card (JSON values) to one file, and the card for people beside it, as
    ``NAME.md``.

    Raises InputError where they cannot be written.
    """
    path = Path(path)
    card = {**card, "date": date.today().isoformat()}
    kept = {"mean", "whitening", "limit"}
    tensors = {n: t if n in kept else t.half() for n, t in network.state_dict().items()}
    facts = {
        "schema": SCHEMA,
        "version": VERSION,
        "config": asdict(network.config),
        "card": card,
    }
    save_tensors(path, tensors, facts)
    with output_file(path.with_suffix(".md")) as text:
        text.write_text(card_text(path.stem, card), encoding="utf-8")


def load_standardizer(path: Path, device: torch.device | str = "cpu") -> Standardizer:
    """Load a network that `save_standardizer` wrote, ready for inference.

    Raises InputError for a file that is missing, damaged, no such network, or of another version,
    and where MONAI is not installed.
    """
    path = Path(path)
    tensors, facts = load_tensors(path)
    if facts.get("schema") != SCHEMA:
        raise InputError(
            path, "is not a model of standardisation", "train one with pretrain --standard"
        )
    if facts.get("version") != VERSION:
        raise InputError(path, f"is of version {facts.get('version')}, not {VERSION}")
    config = options_from(StandardConfig, facts.get("config", {}), path, StandardConfig())
    network = Standardizer(config)
    try:
        network.load_state_dict({name: t.float() for name, t in tensors.items()})
    except RuntimeError as error:
        line = str(error).splitlines()[-1].strip()
        raise InputError(path, f"does not fit its own configuration ({line})") from None
    if not all(bool(torch.isfinite(t).all()) for t in network.state_dict().values()):
        raise InputError(path, "holds numbers that are not finite", "train it again")
    network.card = dict(facts.get("card", {}))
    network.source = path
    return network.to(device).eval()
