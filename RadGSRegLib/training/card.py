"""What the card of a trained model says."""

import math
from collections.abc import Mapping
from datetime import date
from typing import Any

from ..networks import SIGHTED, RadGSReg, shipped_name
from . import bounds
from .compute import Compute
from .config import TrainingConfig
from .loop import History
from .stages import Pretraining

_MOST_ENTRIES = 20


def model_card(
    asked: Pretraining,
    config: TrainingConfig,
    base: RadGSReg | None,
    data: Mapping[str, Any],
    history: History,
    quality: Mapping[str, float],
    done: tuple[int, float, bool],
) -> dict[str, Any]:
    """Make a card (JSON values) of what was trained on (``data``), measured on the way
    (``history``) and in the end (``quality``), after ``done`` steps and minutes, the last of them
    compiled or not."""
    last = history.best()
    steps, minutes, compiled = done
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
            "minutes": round(minutes, 1),
            "steps": steps,
            "pairs": int(last.get("pairs", 0)),
            "device": asked.device,
            "networks in": "bfloat16" if reduced else "float32",
            "compiled": compiled,
            "seed": config.seed,
            "anchors": anchors_of(asked, base) if asked.stage != 3 else "the patient's own",
            "went on from a model": _base_name(asked, base),
        },
        f"figures on {measured_on(asked)}": {
            "RecM, median distance of surface points (mm)": round(last.get("recm_mm", -1.0), 2),
            "RegM, the same (mm)": round(last.get("regm_mm", -1.0), 2),
            "RecM, SSIM on the vertebra's box": round(quality["ssim"], 3),
            "RecM, PSNR (dB)": round(quality["psnr_db"], 1),
        },
        **_detection_figures(history, asked),
        "limits": f"{known}; lumbar vertebrae; box within 13 "
        "mm of the vertebra's centre, the spine within 20 degrees about each axis.",
        "history": [
            {name: round(value, 3) for name, value in entry.items()}
            for entry in history.entries[:: math.ceil(len(history.entries) / _MOST_ENTRIES) or 1]
        ],
    }


def anchors_of(asked: Pretraining, base: RadGSReg | None) -> str:
    """Say what a population's anchors are: those of the model that it goes on from, if any."""
    kept = {} if base is None else base.card.get("training", {})
    return str(kept.get("anchors", asked.anchors))


def measured_on(asked: Pretraining) -> str:
    """Say what the figures of a training are about."""
    if asked.stage == 2 and asked.fold is None:
        return "other crops of the X-rays trained on"
    if asked.stage == 2:
        return "X-rays of the held-out fold"
    unseen = " of phantoms never trained on" if asked.stage == 1 else ""
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
