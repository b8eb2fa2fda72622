"""How realistic a simulated case is: ranges of everything that is drawn at random."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..choices import PATHS
from ..errors import InputError

Range = tuple[float, float]


@dataclass(frozen=True)
class SimulationParameters:
    """Ranges (low, high) are drawn from uniformly; a plus-minus value is a symmetric range.

    ``path``: where the C-arm stands: "biplanar" (AP and lateral, two ``views``), or one of
    `path_cameras`. Geometry in mm, degrees and pixels, as in the description of the shared cases:
    AP and lateral views off by up to ``primary_deg`` and ``secondary_deg``, principal point off by
    ``principal_px``; the whole spine turned and shifted by ``spine_deg`` and ``spine_mm`` about
    each axis; each vertebra in itself by ``vertebra_deg`` and ``vertebra_mm`` at most;
    ``center_px`` and the start off by ``center_px``, ``start_deg`` and ``start_mm`` per axis.
    Physics: ``scatter`` is the ratio of scatter to primary behind the patient, ``photons`` the
    detected photons per pixel there, ``blur_mm`` the blur at the detector (one standard deviation),
    ``electronic`` the read-out noise in photons.
    """

    realism: str = "realistic"
    path: str = "biplanar"
    views: int = 2
    source_detector_mm: float = 1124.0
    source_isocentre_mm: float = 750.0
    size_px: int = 488
    pixel_mm: float = 0.61
    primary_deg: float = 15.0
    secondary_deg: float = 10.0
    principal_px: float = 13.0
    spine_deg: float = 20.0
    spine_mm: float = 20.0
    vertebra_deg: float = 5.0
    vertebra_mm: float = 3.0
    center_px: float = 10.0
    start_deg: float = 20.0
    start_mm: float = 50.0
    polychromatic: bool = True
    kvp: Range = (70.0, 95.0)
    filter_mm: Range = (3.0, 6.0)
    trunk: bool = True
    gas: tuple[int, int] = (2, 8)
    wires: tuple[int, int] = (0, 0)
    scatter: Range = (0.15, 0.7)
    photons: Range = (10000.0, 80000.0)
    electronic: Range = (2.0, 10.0)
    blur_mm: Range = (0.25, 0.55)
    display: bool = True
    collimator: tuple[str, ...] = ("none",)
    bits: tuple[int, ...] = (8, 10, 12, 12, 14, 16, 16)

    def __post_init__(self) -> None:
        for name in ("kvp", "filter_mm", "scatter", "photons", "electronic", "blur_mm"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise InputError("simulation", f"{name} {low} to {high} is no range")
        if self.size_px < 16 or self.pixel_mm <= 0:
            raise InputError("simulation", "the detector needs 16 pixels or more, of positive size")
        if not 0 < self.source_isocentre_mm < self.source_detector_mm:
            raise InputError("simulation", "the isocentre must lie between source and detector")
        if self.path not in PATHS:
            raise InputError(
                "simulation", f"no path named {self.path}", f"use one of {list(PATHS)}"
            )
        if self.views < 2 or (self.path == "biplanar" and self.views != 2):
            raise InputError(
                "simulation",
                f"{self.views} views on a {self.path} path",
                "biplanar has two, other paths two or more",
            )
        unknown = set(self.collimator) - {"none", "round", "rectangle"}
        if unknown:
            raise InputError("simulation", f"no collimator named {sorted(unknown)[0]}")

    @classmethod
    def preset(cls, realism: str) -> SimulationParameters:
        """One of "clean", "realistic", "hard". Raises InputError for another name."""
        if realism not in PRESETS:
            raise InputError(
                "simulation", f"no realism named {realism}", f"use one of {list(PRESETS)}"
            )
        return PRESETS[realism]

    def with_field(self, field_mm: float, size_px: int) -> SimulationParameters:
        """Return them with another detector: ``size_px`` pixels along each edge that see
        ``field_mm`` at the isocentre. What is off by pixels stays off by as many mm."""
        pixel_mm = field_mm * self.source_detector_mm / self.source_isocentre_mm / size_px
        narrower = self.pixel_mm / pixel_mm
        return replace(
            self,
            size_px=size_px,
            pixel_mm=pixel_mm,
            principal_px=self.principal_px * narrower,
            center_px=self.center_px * narrower,
        )


_REALISTIC = SimulationParameters()

PRESETS = {
    "clean": replace(
        _REALISTIC,
        realism="clean",
        principal_px=0.0,
        polychromatic=False,
        kvp=(80.0, 80.0),
        trunk=False,
        gas=(0, 0),
        scatter=(0.0, 0.0),
        photons=(0.0, 0.0),
        electronic=(0.0, 0.0),
        blur_mm=(0.0, 0.0),
        display=False,
    ),
    "realistic": _REALISTIC,
    "hard": replace(
        _REALISTIC,
        realism="hard",
        wires=(1, 3),
        scatter=(0.6, 1.6),
        photons=(1500.0, 12000.0),
        electronic=(5.0, 20.0),
        blur_mm=(0.35, 0.7),
        collimator=("round", "round", "round", "rectangle"),
    ),
}
