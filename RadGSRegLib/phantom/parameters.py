"""What describes a phantom: plain numbers, random on demand."""

from dataclasses import dataclass, field, fields, replace

import numpy as np

from ..errors import InputError
from .sizes import MOBILE_LEVELS, SACRUM_TILT, SIZES, LevelSize


@dataclass(frozen=True)
class VertebraParameters:
    """One vertebra: its sizes (mm), its bone (HU, mm) and its lean in the spine (degrees).

    ``asymmetry`` (left minus right, as a share) bends pairs of processes apart; ``osteophytes`` are
    (angle in degrees from the front, towards the left; end plate +1 or -1; radius in mm) each.
    """

    size: LevelSize
    waist: float = 0.10
    concavity_upper: float = 1.6
    concavity_lower: float = 2.2
    transverse_sweep: float = 14.0
    transverse_rise: float = 3.0
    spinous_drop: float = 9.0
    spinous_height: float = 18.0
    asymmetry: float = 0.0
    shell_mm: float = 0.45
    end_plate_mm: float = 0.55
    posterior_shell_mm: float = 1.3
    cortical_hu: float = 1500.0
    trabecular_hu: float = 140.0
    osteophytes: tuple[tuple[float, float, float], ...] = ()
    sagittal_deg: float = 0.0
    coronal_deg: float = 0.0
    axial_deg: float = 0.0


@dataclass(frozen=True)
class SpineParameters:
    """A whole phantom. ``seed`` fixes textures and noise; everything else is in the numbers.

    ``sacrum_tilt_deg`` is the forward lean of the sacral end plate; ``trunk_width_mm`` and
    ``trunk_depth_mm`` the body's outer ellipse; ``gas`` the number of gas pockets in the bowel;
    ``noise_hu`` the standard deviation of the scanner's noise.
    """

    seed: int = 0
    vertebrae: dict[str, VertebraParameters] = field(
        default_factory=lambda: {
            name: VertebraParameters(SIZES[name], sagittal_deg=SIZES[name].sagittal_tilt)
            for name in MOBILE_LEVELS
        }
    )
    sacrum_tilt_deg: float = SACRUM_TILT
    trunk_width_mm: float = 340.0
    trunk_depth_mm: float = 235.0
    fat_mm: float = 18.0
    muscle_fat: float = 0.15
    gas: int = 5
    noise_hu: float = 22.0
    roughness_mm: float = 0.6

    def __post_init__(self) -> None:
        missing = [name for name in MOBILE_LEVELS if name not in self.vertebrae]
        if missing:
            raise InputError("phantom", f"no parameters for {', '.join(missing)}")
        for name, vertebra in self.vertebrae.items():
            if any(getattr(vertebra.size, f.name) <= 0 for f in fields(LevelSize)[:-2]):
                raise InputError("phantom", f"{name} has a size that is not positive")


def random_spine(seed: int | np.random.Generator) -> SpineParameters:
    """A random adult lumbar spine; a third each has osteophytes, scoliosis, osteoporosis.

    The same seed gives the same spine. Persons differ in overall size by about 8 % (one standard
    deviation), each length of each vertebra by 3 % more.
    """
    rng = np.random.default_rng(seed)
    osteophytes, scoliosis, porous = rng.random(3) < 1.0 / 3.0

    def normal(mean: float, deviation: float, limit: float = 2.0) -> float:
        return float(mean + deviation * np.clip(rng.standard_normal(), -limit, limit))

    scale = normal(1.0, 0.06)
    shape = {f.name: normal(1.0, 0.05) for f in fields(LevelSize)}
    for pair in (("width_upper", "width_lower"), ("depth_upper", "depth_lower")):
        shape[pair[1]] = shape[pair[0]]
    shape["height_posterior"] = shape["height_anterior"]
    lordosis = normal(1.0, 0.22)
    lean = normal(0.0, 4.0)
    density = normal(70.0, 15.0) if porous else normal(135.0, 30.0)
    cortical = normal(1300.0, 100.0) if porous else normal(1550.0, 120.0)
    shell = normal(0.42, 0.06) if porous else normal(0.5, 0.08)
    posterior_shell = normal(1.25, 0.2)
    curve = normal(0.0, 7.0) if scoliosis else normal(0.0, 1.2)
    phase = float(rng.uniform(0.0, np.pi))
    twist = 0.6 * curve
    waist = normal(0.10, 0.015)
    rise, sweep, drop = normal(3.0, 2.5), normal(14.0, 3.0), normal(9.0, 3.0)

    vertebrae = {}
    for index, name in enumerate(MOBILE_LEVELS):
        mean = SIZES[name]
        lengths = {}
        for f in fields(LevelSize)[:-2]:
            lengths[f.name] = getattr(mean, f.name) * scale * shape[f.name] * normal(1.0, 0.025)
        # A fracture or a growth disturbance lowers the front of a body.
        if rng.random() < (0.12 if porous else 0.03):
            lengths["height_anterior"] *= float(rng.uniform(0.72, 0.9))
        size = replace(mean, **lengths, facet_angle=mean.facet_angle + normal(0.0, 5.0))
        spurs: list[tuple[float, float, float]] = []
        for _ in range(int(rng.integers(0, 5)) if osteophytes else 0):
            angle, plate = rng.uniform(-110.0, 110.0), rng.choice([-1.0, 1.0])
            spurs.append((float(angle), float(plate), float(rng.uniform(2.0, 4.2))))
        vertebrae[name] = VertebraParameters(
            size=size,
            waist=float(np.clip(waist + normal(0.0, 0.01), 0.05, 0.16)),
            concavity_upper=abs(normal(1.6, 0.4)) * (1.5 if porous else 1.0),
            concavity_lower=abs(normal(2.3, 0.4)) * (1.4 if porous else 1.0),
            transverse_sweep=sweep + normal(0.0, 1.5),
            transverse_rise=rise + normal(0.0, 1.5),
            spinous_drop=drop + normal(0.0, 1.5),
            spinous_height=normal(18.0, 1.8) * scale,
            asymmetry=normal(0.0, 0.04),
            shell_mm=shell * normal(1.0, 0.06),
            end_plate_mm=shell * normal(1.25, 0.1),
            posterior_shell_mm=posterior_shell * normal(1.0, 0.06),
            cortical_hu=cortical,
            trabecular_hu=density * normal(1.0, 0.06),
            osteophytes=tuple(spurs),
            sagittal_deg=mean.sagittal_tilt * lordosis + lean + normal(0.0, 1.2),
            coronal_deg=curve * float(np.sin(phase + 0.9 * index)) + normal(0.0, 0.6),
            axial_deg=twist * float(np.cos(phase + 0.9 * index)) + normal(0.0, 0.8),
        )
    return SpineParameters(
        seed=int(rng.integers(0, 2**31 - 1)),
        vertebrae=vertebrae,
        sacrum_tilt_deg=SACRUM_TILT * lordosis + lean,
        trunk_width_mm=normal(345.0, 28.0),
        trunk_depth_mm=normal(238.0, 22.0),
        fat_mm=abs(normal(18.0, 6.0)) + 5.0,
        muscle_fat=float(rng.uniform(0.05, 0.35)),
        gas=int(rng.integers(2, 9)),
        noise_hu=float(rng.uniform(12.0, 40.0)),
        roughness_mm=float(rng.uniform(0.45, 0.8)),
    )
