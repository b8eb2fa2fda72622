"""Checkpoints: enough to go on after a kill as if nothing had happened.

Everything random in training follows from the seed and the number of the step, so weights, the
optimiser's state and that number are all there is to keep.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..tensors import load_tensors, save_tensors

SCHEMA = "radgsreg/checkpoint"


def save_checkpoint(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
    best: dict[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint whole or not at all; ``facts`` are JSON values of the trainer's own."""
    tensors = {f"model.{name}": t for name, t in model.state_dict().items()}
    tensors |= {f"best.{name}": t for name, t in (best or {}).items()}
    state = optimizer.state_dict()
    for index, slots in state["state"].items():
        for key, value in slots.items():
            tensors[f"optimizer.{index}.{key}"] = torch.as_tensor(value)
    groups = [{k: v for k, v in g.items() if k != "params"} for g in state["param_groups"]]
    save_tensors(path, tensors, {"schema": SCHEMA, "groups": groups, "trainer": facts})


def load_checkpoint(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Put a checkpoint's state into model and optimiser; returns the trainer's facts and the best
    weights so far (empty if there were none).

    Raises InputError for a file that is no checkpoint, or one of another network.
    """
    path = Path(path)
    tensors, facts = load_tensors(path)
    if facts.get("schema") != SCHEMA:
        raise InputError(path, "is not a checkpoint", "start afresh")

    def part(prefix: str) -> dict[str, Tensor]:
        return {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}

    try:
        model.load_state_dict(part("model."))
    except RuntimeError:
        raise InputError(path, "belongs to another network", "start afresh") from None
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in part("optimizer.").items():
        index, key = name.split(".", 1)
        slots.setdefault(int(index), {})[key] = tensor
    now = optimizer.state_dict()["param_groups"]
    groups = [
        {**saved, "params": group["params"]}
        for saved, group in zip(facts["groups"], now, strict=True)
    ]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
    return facts["trainer"], part("best.")
