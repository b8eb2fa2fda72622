"""What the card of a trained model says."""

import math
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

from ..networks import SIGHTED, RadGSReg, shipped_name
from . import bounds
from .compute import Compute
from .config import TrainingConfig
from .loop import History
from .stages import Pretraining

_MOST_ENTRIES = 20


class Done(NamedTuple):
    """How much was trained: steps, the last of them compiled or not, minutes, and how many
    Gaussians the finished model has."""

    steps: int
    minutes: float
    compiled: bool
    gaussians: int


def model_card(
    asked: Pretraining,
    config: TrainingConfig,
    base: RadGSReg | None,
    data: Mapping[str, Any],
    history: History,
    quality: Mapping[str, float],
    done: Done,
) -> dict[str, Any]:
    """Make a card (JSON values) of what was trained on (``data``), measured on the way
    (``history``) and in the end (``quality``)."""
    last = history.best()
    reduced = Compute(asked.device, config.precision).reduced
    known = "Simulated X-rays (the library's own physics)"
    if asked.stage == 2:
        known = "The X-rays of the cases it was given, and what the model knew that it went on from"
    return {
        "what": f"RadGS-Reg, stage {asked.stage}, encoder {config.model.recm.encoder}",
        "use": "Research only, not for clinical decisions.",
        "date": date.today().isoformat(),
        "data": data,
        "training": {
            "minutes": round(done.minutes, 1),
            "steps": done.steps,
            "pairs": int(last.get("pairs", 0)),
            "device": asked.device,
            "networks in": "bfloat16" if reduced else "float32",
            "compiled": done.compiled,
            "seed": config.seed,
            "anchors": _anchors(asked, config, base),
            "Gaussians": done.gaussians,
            "went on from a model": _base_name(asked, base),
        },
        **_figures(asked, config, last, quality, history),
        **_detection_figures(history, asked),
        "limits": f"{known}; lumbar vertebrae; box within 13 "
        "mm of the vertebra's centre, the spine within 20 degrees about each axis.",
        "history": [
            {name: round(value, 3) for name, value in entry.items()}
            for entry in history.entries[:: math.ceil(len(history.entries) / _MOST_ENTRIES) or 1]
        ],
    }


def anchors_of(config: TrainingConfig, base: RadGSReg | None) -> str:
    """Say what the anchors are: those of the model that it goes on from, if any."""
    if base is None:
        return config.model.anchors
    # Before configurations said so, only the card did.
    old = base.card.get("training", {}).get("anchors")
    return "grid" if old == "grid" else base.config.anchors


def _anchors(asked: Pretraining, config: TrainingConfig, base: RadGSReg | None) -> str:
    kind = anchors_of(config, base)
    return "the patient's own" if asked.stage == 3 and kind != "grid" else kind


def _reconstruction_figure(last: Mapping[str, float]) -> dict[str, float]:
    """How good RecM's answers are: the anchors' pose, where there is one, else the volume."""
    if "recm_mm" in last or "recm_volume" not in last:
        return {"RecM, median distance of surface points (mm)": round(last.get("recm_mm", -1.0), 2)}
    return {"RecM, median L1 of the volume over the true one": round(last["recm_volume"], 3)}


def _figures(
    asked: Pretraining,
    config: TrainingConfig,
    last: Mapping[str, float],
    quality: Mapping[str, float],
    history: History,
) -> dict[str, Any]:
    """What the card says of how good the model is. With a decoder that is what it does when it is
    told no shape; poses with the shapes told, as in training, come after that."""
    poses = {
        **_reconstruction_figure(last),
        "RegM, the same (mm)": round(last.get("regm_mm", -1.0), 2),
    }
    shown = {
        "SSIM on the vertebra's box": round(quality["ssim"], 3),
        "PSNR (dB)": round(quality["psnr_db"], 1),
    }
    heading = f"{measured_on(asked)}{_told(asked, config)}"
    if "dice" not in quality:
        return {f"figures on {heading}": {**poses, **{f"RecM, {k}": v for k, v in shown.items()}}}
    untold = {
        "RecM, median distance of surface points (mm)": round(quality["recm_mm"], 2),
        "RegM, the same (mm)": round(quality["regm_mm"], 2),
        **{f"decoder, {name}": value for name, value in shown.items()},
        "decoder, Dice": round(quality["dice"], 3),
    }
    if history.decoding:
        untold["decoder, steps"] = int(history.decoding[-1]["step"])
    return {
        f"figures on {measured_on(asked)}, told nothing": untold,
        f"poses on {heading}": poses,
    }


def _told(asked: Pretraining, config: TrainingConfig) -> str:
    """What the networks are told of the pairs that the figures are about."""
    if asked.stage == 2:
        return ""
    recm = config.model.recm
    told = recm.landmarks and not (recm.residual or recm.stretch) and not config.model.patient
    angles = config.samples
    away = f"{angles.rotation_deg:g}, {angles.primary_deg:g} and {angles.secondary_deg:g} degrees"
    return f", angles within {away}" + (", their shapes known" if told else "")


def measured_on(asked: Pretraining) -> str:
    """Say what the figures of a training are about."""
    if asked.stage == 2 and asked.fold is None:
        return "other crops of the X-rays trained on"
    if asked.stage == 2:
        return "X-rays of the held-out fold"
    unseen = " of phantoms never trained on" if asked.stage == 1 else ""
    if asked.stage == 3 and asked.deformed:
        unseen = " of the vertebra and of it deformed otherwise than in training"
    return f"held-out simulated pairs{unseen}"


def _base_name(asked: Pretraining, base: RadGSReg | None) -> str | bool:
    """What the card says of the base: never a name that somebody typed, nor a path."""
    if asked.base is None or base is None:
        return False
    return shipped_name(asked.base, base.card) or True


def _detection_figures(history: History, asked: Pretraining) -> dict[str, Any]:
    """What the card says of the detector, if there is one."""
    if not history.detection:
        return {}
    last = history.detection[-1]
    views = "held-out simulated pairs of whole views"
    if asked.stage == 2:
        views = f"whole views, {measured_on(asked)}"
    return {
        f"detector on {views}": {
            "steps": int(last["step"]),
            "pairs": int(last["pairs"]),
            "first place, median distance from a wanted vertebra (mm)": round(last["first_mm"], 1),
            f"first place within {bounds.FOUND_MM:.0f} mm of the vertebra (share)": round(
                last["first"], 3
            ),
            f"one of the first {SIGHTED} is (share)": round(last["among"], 3),
        }
    }
