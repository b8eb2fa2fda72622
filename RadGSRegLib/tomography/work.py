"""What a folder keeps of a reconstruction, so that an interrupted one goes on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..cases import claim
from ..errors import InputError
from ..geometry import Array
from ..reconstruction import cube
from ..tensors import load_tensors, save_tensors
from ..views import PreparedView
from . import bounds
from .beams import Beams
from .coarse import Coarse
from .display import Display
from .types import BeamOptions

OWNER, COARSE, FIT = "beam.json", "coarse.safetensors", "fit.safetensors"
# In the order of `Display.tensors`.
_DISPLAY = ("near", "log_span", "log_scatter", "knots")
# Seconds of the fit after which its state is written again.
EVERY_S = 20.0
# Raised whenever the coarse volume or the fit of the same X-rays becomes another.
_WAY = 2
# What may differ between the runs that a folder serves.
_FREE = ("minutes", "steps", "device")


class BeamWork:
    """Keeps the coarse volume once it is finished, and now and then the state of the fit.

    Files are written whole or not at all. Raises InputError for a folder of other X-rays, another
    place or other options (minutes, steps and device may differ), or one that cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        views: Sequence[PreparedView],
        held: Sequence[int],
        centre_world: Array,
        options: BeamOptions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self._centre = folder, centre_world
        self._clock = clock
        self._last = clock()
        fixed = {name: value for name, value in asdict(options).items() if name not in _FREE}
        claim(
            folder / OWNER,
            "reconstruction",
            {
                "X-rays": [*map(_digest, views), *held],
                "place": centre_world.tolist(),
                "way of computing": _WAY,
                "options": fixed,
            },
        )

    def coarse(self, beams: Beams) -> Coarse | None:
        """Return the finished coarse volume of X-rays, or None. InputError for a damaged file."""
        path = self.folder / COARSE
        if not path.is_file():
            return None
        with _undamaged(path):
            tensors, facts = load_tensors(path)
            tensors = {name: tensor.to(beams.values.device) for name, tensor in tensors.items()}
            rest = [int(n) for n in facts["fitted"]]
            lines = beams.some(rest).with_values(tensors["lines"])
            display = None
            if "knots" in tensors:
                near, log_span, log_scatter, knots = (tensors[name] for name in _DISPLAY)
                display = Display(near, log_span, log_scatter, knots, lines.device)
            return Coarse(
                display,
                lines,
                tensors["voxels"],
                cube(self._centre, bounds.REGION_MM, float(facts["spacing_mm"])),
                tensors["sign"],
                tuple(tensors["agreement"].tolist()),
                tuple(name for n, name in enumerate(beams.names) if n not in rest),
            )

    def keep_coarse(self, coarse: Coarse, beams: Beams) -> None:
        """Write the finished coarse volume of X-rays, those that were left out among them."""
        tensors = {"lines": coarse.lines.values, "voxels": coarse.voxels, "sign": coarse.sign}
        tensors["agreement"] = torch.tensor(coarse.agreement, dtype=torch.float64)
        if coarse.display is not None:
            tensors |= dict(zip(_DISPLAY, coarse.display.tensors(), strict=True))
        rest = [n for n, name in enumerate(beams.names) if name not in coarse.odd]
        facts = {"fitted": rest, "spacing_mm": coarse.grid.spacing_mm}
        save_tensors(self.folder / COARSE, tensors, facts)

    @property
    def due(self) -> bool:
        """Whether the state of the fit is to be written again."""
        return self._clock() - self._last >= EVERY_S

    def keep_fit(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Write the state of the fit."""
        save_tensors(self.folder / FIT, tensors, facts)
        self._last = self._clock()

    @contextmanager
    def fit(self) -> Iterator[tuple[dict[str, Tensor], dict[str, Any]] | None]:
        """Give the state of the fit, or None; InputError where it is damaged, or turns out to be
        while it is taken up."""
        path = self.folder / FIT
        self._last = self._clock()
        with _undamaged(path):
            yield load_tensors(path) if path.is_file() else None


@contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except (InputError, KeyError, IndexError, TypeError, ValueError, RuntimeError):
        problem, remedy = "is damaged", "remove the work folder, or name another --work"
        raise InputError(path, problem, remedy) from None


def _digest(view: PreparedView) -> str:
    """What makes a view the same to a reconstruction, as a digest."""
    camera = view.camera
    known = (view.name, view.sign, view.gain_known, view.offset_known, view.device, view.bone_alone)
    digest = hashlib.sha256(repr((*known, camera.size, view.values.shape)).encode())
    for array in (view.values, view.valid, camera.intrinsic, camera.world_to_camera):
        digest.update(array.tobytes())
    return digest.hexdigest()
