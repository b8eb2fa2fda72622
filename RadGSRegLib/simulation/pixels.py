"""What the pixels of one X-ray get: mass lengths along their rays, and the picture made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from ..geometry import Array, Camera, Distortion, undistort
from .beads import PlacedBeads, bead_path
from .drawing import Drawn, Finish
from .imaging import SCATTER_MM, add_noise, add_scatter, collimator_mask
from .materials import DENSITY, mass_attenuation
from .parameters import SimulationParameters
from .parts import Part, line_integrals
from .shapes import cylinder_path, ellipsoid_path
from .spectrum import Spectrum

Image = NDArray[np.float32]
MassLengths = tuple[Image, Image, Image]
"""Of soft tissue, bone and steel, (rows, columns) each, g/cm^2."""

CLEAN_KEV = 60.0
PLASTIC = 0.55
"""g/cm^3, of a post of 8 mm in PLA (1.24) with walls of 0.8 mm around an infill of 15 %; to an
X-ray soft tissue of this density."""


def mass_lengths_of(
    parts: Sequence[Part], drawn: Drawn, camera: Camera, distortion: Distortion | None
) -> MassLengths:
    """Of a drawn case; pixels of a distorted picture see what a pinhole's see elsewhere."""
    soft, bone = _of_parts(parts, drawn.ct_to_world, camera, distortion)
    steel = np.zeros_like(soft)
    rays = pixel_rays(camera, distortion)
    source = camera.source_world
    for centre, axes, radii, density in drawn.ellipsoids:
        path = ellipsoid_path(source, rays, centre, axes, radii)
        soft += (path * density).astype(np.float32)
    for start, end, radius, hollow in drawn.wires:
        path = cylinder_path(source, rays, start, end, radius, hollow)
        steel += (path * DENSITY["iron"]).astype(np.float32)
    # From (g/cm^3) mm to g/cm^2.
    return soft * 0.1, bone * 0.1, steel * 0.1


def with_beads(
    lengths: MassLengths, beads: PlacedBeads, camera: Camera, distortion: Distortion | None
) -> MassLengths:
    """The same with the beads and the posts of a phantom."""
    soft, bone, steel = lengths
    if beads.posts:
        rays = pixel_rays(camera, distortion)
        for start, end, radius, hollow in beads.posts:
            path = cylinder_path(camera.source_world, rays, start, end, radius, hollow)
            soft = soft + (path * (0.1 * PLASTIC)).astype(np.float32)
    path = bead_path(beads, camera, distortion)
    return soft, bone, steel + (path * (0.1 * DENSITY["iron"])).astype(np.float32)


def transmitted(lengths: MassLengths, spectrum: Spectrum | None) -> tuple[Image, Image | None]:
    """The share of the beam that comes through, and for a single energy its attenuation."""
    soft, bone, steel = lengths
    if spectrum is not None:
        return spectrum.intensity(soft, bone, steel), None
    attenuation = soft * float(mass_attenuation("soft", CLEAN_KEV))
    attenuation += bone * float(mass_attenuation("bone", CLEAN_KEV))
    attenuation += steel * float(mass_attenuation("iron", CLEAN_KEV))
    return np.exp(-attenuation).astype(np.float32), attenuation


def expose(
    lengths: MassLengths,
    spectrum: Spectrum | None,
    p: SimulationParameters,
    finish: Finish,
    rng: np.random.Generator,
) -> tuple[Image, NDArray[Any] | None]:
    """The picture (float32), and as stored if it is a display one."""
    signal, attenuation = detected(lengths, spectrum, p, finish, rng)
    if not p.display:
        plain = finish.photons <= 0 and finish.blur_mm <= 0 and not lengths[2].any()
        if plain and attenuation is not None:
            return np.maximum(attenuation, 0.0).astype(np.float32), None
        return -np.log(np.maximum(signal, 1e-6)).astype(np.float32), None
    return displayed(signal, finish, rng)


def detected(
    lengths: MassLengths,
    spectrum: Spectrum | None,
    p: SimulationParameters,
    finish: Finish,
    rng: np.random.Generator,
) -> tuple[Image, Image | None]:
    """What the detector measures, in units of the direct beam, and for a single energy the
    attenuation that it began with."""
    signal, attenuation = transmitted(lengths, spectrum)
    signal = add_scatter(signal, finish.scatter, SCATTER_MM / p.pixel_mm)
    if finish.blur_mm > 0:
        signal = gaussian_filter(signal, finish.blur_mm / p.pixel_mm)
    return add_noise(signal, finish.photons, finish.electronic, rng), attenuation


def displayed(
    signal: Image, finish: Finish, rng: np.random.Generator
) -> tuple[Image, NDArray[Any]]:
    """The picture (float32) of a detector's signal, and as it is stored."""
    mask = collimator_mask(finish.collimator, signal.shape[0], signal.shape[1], rng)
    grey = finish.curve(signal, mask > 0.5)
    grey = np.rint(grey * mask).astype(np.uint8 if finish.curve.bits <= 8 else np.uint16)
    return grey.astype(np.float32), grey


def _of_parts(
    parts: Sequence[Part],
    ct_to_world: Mapping[int, Array],
    camera: Camera,
    distortion: Distortion | None,
) -> tuple[Image, Image]:
    if distortion is None:
        return line_integrals(parts, ct_to_world, camera)
    # The projector knows pinholes alone: a picture with a margin is resampled.
    places = undistort(_grid(camera), distortion)
    last = np.array(camera.size) - 1.0
    margin = int(np.ceil(max(-places.min(), (places - last).max(), 0.0))) + 4
    columns, rows = (n + 2 * margin for n in camera.size)
    wider = camera.window(-margin, -margin, columns, rows)
    at = (places + margin).T[::-1].reshape(2, camera.rows, camera.columns)
    soft, bone = (
        map_coordinates(image, at, order=3, output=np.float32)
        for image in line_integrals(parts, ct_to_world, wider)
    )
    return soft, bone


def _grid(camera: Camera) -> Array:
    v, u = np.mgrid[: camera.rows, : camera.columns]
    return np.stack([u.ravel(), v.ravel()], axis=-1)


def pixel_rays(camera: Camera, distortion: Distortion | None = None) -> Array:
    """Unit directions (rows, cols, 3) of what all pixels see, world."""
    pixels = _grid(camera)
    if distortion is not None:
        pixels = undistort(pixels, distortion)
    return camera.ray_directions(pixels).reshape(camera.rows, camera.columns, 3)
