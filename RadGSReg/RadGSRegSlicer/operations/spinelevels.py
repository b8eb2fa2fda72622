"""Name the levels of the vertebrae in X-rays."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from RadGSRegLib.choices import DEVICES
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.spine import SpineLevels, levels_from_record

from ..exchange.casefolder import writeViews
from ..process.jobs import Job
from ..process.runs import WorkFolder
from ..scene.spinelevels import showLevels
from .requests import Argument, Request, choice


@dataclass
class LevelsRequest(Request):
    """Say which vertebrae X-rays show and of which level each is, and draw the names over them.

    ``device``: "auto", "cpu" or "cuda". ``model``: the file of a network of levels; without one the
    weights that come with the program are taken.
    """

    xrayNodes: Sequence[Any]
    device: str = choice("auto", DEVICES)
    model: str | os.PathLike[str] | None = None

    def toArguments(self, folder: WorkFolder) -> list[Argument]:
        arguments: list[Argument] = ["levels", folder.inputs / "views.json"]
        arguments += ["--out", folder.outputs, "--device", self.device]
        if self.model is not None:
            # The child works in another folder.
            arguments += ["--model", Path(self.model).resolve()]
        return arguments

    def _stage(self, folder: WorkFolder) -> Iterator[None] | None:
        writeViews(self.xrayNodes, folder.inputs)
        return None

    def _load(self, path: Path, job: Job) -> SpineLevels:
        if any(node.GetScene() is None for node in self.xrayNodes):
            raise Cancelled("an X-ray is no longer in the scene")
        file = path / "levels.json"
        try:
            spine = levels_from_record(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise InputError(file, f"cannot be read ({error})") from error
        showLevels(self.xrayNodes, spine)
        return spine
