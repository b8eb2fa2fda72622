"""X-rays of a phantom of beads alone, as a C-arm is calibrated without a patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ..cases import View
from ..geometry import Camera, Distortion
from ..system import Progress, ProgressCallable
from .beads import BeadPhantom, PlacedBeads, distortion_truth, draw_distortions, place_beads
from .drawing import Finish, draw_cameras, draw_finish
from .parameters import SimulationParameters
from .pixels import Image, displayed, transmitted, with_beads
from .spectrum import Spectrum, tungsten_spectrum


@dataclass(frozen=True)
class SimulatedBeads:
    """X-rays of beads and their truth.

    ``views`` with their true cameras; ``truth`` holds ``beads``, ``beads_to_world`` (4, 4) and
    ``beads_px`` (view to (N, 2) pixels as shown), ``distortion`` where there is some, ``level`` (of
    realism), ``kvp`` and ``seed``; ``grey`` as of `SimulatedCase`.
    """

    views: tuple[View, ...]
    truth: dict[str, Any]
    grey: dict[str, NDArray[Any]]


def simulate_beads(
    phantom: BeadPhantom,
    parameters: SimulationParameters | str = "realistic",
    seed: int = 0,
    *,
    distortion_px: float = 0.0,
    progress: ProgressCallable | None = None,
) -> SimulatedBeads:
    """Simulate X-rays of a phantom of beads on its posts, in air: no patient, and no scatter.

    The same seed gives the same X-rays.

    Args:
        phantom: the beads.
        parameters: of the X-rays, or the name of a preset; ``photons`` are detected in air.
        seed: of how the C-arm and the phantom stand, and of the X-rays.
        distortion_px: how far distortion moves the corners of a picture, pixels.
        progress: told of the share done; may cancel.

    Returns:
        The X-rays and their truth, mm, LPS.

    Raises:
        InputError: for a distortion that is negative or more than a tenth of the picture's edge.
        Cancelled: when ``progress`` says so.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.simulation import BeadPhantom, simulate_beads
        >>> corners = 60.0 * np.indices((2, 2, 2)).reshape(3, -1).T
        >>> simulated = simulate_beads(BeadPhantom("cube", corners, np.full(8, 4.0)), "clean", 3)
        >>> [view.name for view in simulated.views], len(simulated.truth["beads_px"]["AP"])
        (['AP', 'LA'], 8)
    """
    p = SimulationParameters.preset(parameters) if isinstance(parameters, str) else parameters
    report = Progress(progress)
    rng = np.random.default_rng(seed)
    kvp = float(rng.uniform(*p.kvp))
    spectrum = tungsten_spectrum(kvp, float(rng.uniform(*p.filter_mm))) if p.polychromatic else None
    cameras, finish = draw_cameras(p, rng), draw_finish(p, rng)
    beads = place_beads(phantom, seed)
    distortions = draw_distortions(cameras, distortion_px, seed)
    views, grey = [], {}
    for index, (name, camera) in enumerate(cameras.items()):
        report(index / len(cameras), f"projecting {name}")
        signal = _signal(beads, camera, distortions.get(name), spectrum)
        pixels, stored = exposed(signal, p, finish, rng)
        if stored is not None:
            grey[name] = stored
        views.append(
            View(
                name=name,
                pixels=pixels,
                camera=camera,
                pixel_spacing_mm=(p.pixel_mm, p.pixel_mm),
                intensity="display" if p.display else "attenuation",
            )
        )
    truth = {
        "level": p.realism,
        "kvp": kvp,
        "seed": int(seed),
        **distortion_truth(distortions),
        **beads.truth(cameras, distortions),
    }
    report(1.0, "simulated")
    return SimulatedBeads(tuple(views), truth, grey)


def _signal(
    beads: PlacedBeads, camera: Camera, distortion: Distortion | None, spectrum: Spectrum | None
) -> Image:
    nothing = np.zeros((camera.rows, camera.columns), dtype=np.float32)
    lengths = with_beads((nothing, nothing.copy(), nothing.copy()), beads, camera, distortion)
    return transmitted(lengths, spectrum)[0]


def exposed(
    signal: Image, p: SimulationParameters, finish: Finish, rng: np.random.Generator
) -> tuple[Image, NDArray[Any] | None]:
    """The picture of a signal, in units of the beam in air, and as it is stored."""
    if finish.blur_mm > 0:
        signal = gaussian_filter(signal, finish.blur_mm / p.pixel_mm)
    if finish.photons > 0:
        counts = rng.poisson(np.maximum(signal, 0.0) * finish.photons).astype(np.float32)
        counts += np.float32(finish.electronic) * rng.standard_normal(signal.shape).astype("f4")
        signal = counts / np.float32(finish.photons)
    if not p.display:
        return -np.log(np.maximum(signal, 1e-6)).astype(np.float32), None
    return displayed(signal, finish, rng)
