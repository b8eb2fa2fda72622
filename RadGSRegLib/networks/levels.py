"""Which vertebra is which in a whole X-ray: a network on one view at a time, and its file.

Beside a map of where any vertebra's centre projects it gives, for every place in the picture, how
likely a vertebra there is of each level, and how likely nothing in the picture tells its level: it
is taught names only where the sacrum or the last rib is in the picture, the anchors from which
levels are counted. What several views say together is in `networks.naming`.
"""

from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..cases import options_from, output_file
from ..errors import InputError
from ..tensors import load_tensors, save_tensors
from .detector import Detector, DetectorConfig, maps_of_case
from .model import card_text

LEVEL_CLASSES = ("above", "T12", "L1", "L2", "L3", "L4", "L5", "S1", "untold")
"""What a vertebra in a picture may be: one above T12, a level, or one whose level nothing tells."""
UNTOLD = LEVEL_CLASSES.index("untold")
ANCHORS = {"sacrum": LEVEL_CLASSES.index("S1"), "last rib": LEVEL_CLASSES.index("T12")}
"""The classes whose vertebrae show where counting begins, by what is to be seen there."""

SCHEMA = "radgsreg/levels"
VERSION = 1


class LevelNetwork(nn.Module):
    """Whole views to maps of vertebrae and their levels; polarity need not be known."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.network = Detector(config, outputs=1 + len(LEVEL_CLASSES))
        self.card: dict[str, Any] = {}
        self.source: Path | str = "the model of levels"

    def forward(self, pictures: Tensor, valid: Tensor, lateral: Tensor) -> tuple[Tensor, Tensor]:
        """Turn inputs as those of `Detector.forward` to logits: whether a vertebra's centre is
        there (N, h, w), and of which of `LEVEL_CLASSES` one there would be (N, C, h, w)."""
        maps = self.network.maps(pictures, valid, lateral)
        return maps[:, 0], maps[:, 1:]


@torch.no_grad()
def look_for_levels(
    network: LevelNetwork, pictures: Tensor, valid: Tensor, extrinsics: Tensor
) -> tuple[Tensor, Tensor]:
    """Ask a network what one case's views show: the share (V, h, w) of a vertebra's centre and the
    shares (V, C, h, w) of `LEVEL_CLASSES`, on the CPU.

    Inputs as for `detector.maps_of_case`, which averages over how pictures may be shown.
    """
    mean = maps_of_case(network.network, pictures, valid, extrinsics)
    return mean[:, 0].sigmoid(), functional.softmax(mean[:, 1:], dim=1)


def save_levels(path: Path, network: LevelNetwork, card: dict[str, Any]) -> None:
    """Write a network and its card (JSON values) to one file, and the card for people beside it, as
    ``NAME.md``.

    Raises InputError where they cannot be written.
    """
    path = Path(path)
    card = {**card, "date": date.today().isoformat()}
    tensors = {name: t.half() for name, t in network.state_dict().items()}
    facts = {
        "schema": SCHEMA,
        "version": VERSION,
        "config": asdict(network.config),
        "card": card,
    }
    save_tensors(path, tensors, facts)
    with output_file(path.with_suffix(".md")) as text:
        text.write_text(card_text(path.stem, card), encoding="utf-8")


def load_levels(path: Path, device: torch.device | str = "cpu") -> LevelNetwork:
    """Load a network that `save_levels` wrote, ready for inference.

    Raises InputError for a file that is missing, damaged, no such network, or of another version.
    """
    path = Path(path)
    tensors, facts = load_tensors(path)
    if facts.get("schema") != SCHEMA:
        raise InputError(path, "is not a model of levels", "train one with pretrain --levels")
    if facts.get("version") != VERSION:
        raise InputError(path, f"is of version {facts.get('version')}, not {VERSION}")
    config = options_from(DetectorConfig, facts.get("config", {}), path, DetectorConfig())
    network = LevelNetwork(config)
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
