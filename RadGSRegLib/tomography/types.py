"""What a reconstruction of the whole beam is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from ..reconstruction import check_at_least
from . import bounds


@dataclass(frozen=True)
class BeamOptions:
    """How to reconstruct; every value is a number or a string, so that JSON holds it.

    ``seed`` and ``steps`` fix the result on one machine. ``minutes`` (None: no limit) ends the fit
    early, with the best so far where views are held out; the learning rate then follows the clock.
    They bound the coarse volume too: what is unfinished is never "ok". ``box_mm``: edge of the
    inner cube, where detail is wanted; ``spacing_mm``: its voxels. ``gaussians``: how many there
    are at most in both clouds. ``pixels``: X-rays are thinned to so many along their longer edge.
    ``hold_out`` views are fitted to nothing and judge the rest. Weights of the losses on images and
    volumes scaled to about [0, 1]: L1 + ``weight_dssim`` (1 - SSIM) + ``weight_tv`` TV.
    """

    seed: int = 0
    device: str = "cpu"
    minutes: float | None = None
    box_mm: float = 112.0
    spacing_mm: float = 1.0
    gaussians: int = 60000
    steps: int = 600
    hold_out: int = 0
    pixels: int = 128
    weight_dssim: float = 0.1
    weight_tv: float = 0.02

    def __post_init__(self) -> None:
        least = {"spacing_mm": 0.1, "gaussians": 500, "steps": 1, "hold_out": 0, "pixels": 32}
        for name in (*least, "weight_dssim", "weight_tv"):
            check_at_least(name, getattr(self, name), least.get(name, 0.0))
        for name in ("seed", "gaussians", "steps", "hold_out", "pixels"):
            if not isinstance(getattr(self, name), int):
                raise InputError("reconstruction options", f"{name} is not a whole number")
        if self.box_mm > bounds.REGION_MM:
            raise InputError(
                "reconstruction options",
                f"box_mm is {self.box_mm:g}, more than the {bounds.REGION_MM:g} mm of the region",
            )
        check_at_least("box_mm", self.box_mm, 16.0 * self.spacing_mm)
        if self.minutes is not None:
            check_at_least("minutes", self.minutes, 0.0)
