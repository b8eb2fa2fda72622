"""The CT at a pose rendered as an X-ray, in the grey values of the X-ray it is compared with."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..cases import Case, View
from ..drr import SOFT_TISSUE_HU, hu_to_attenuation, project_volume
from ..geometry import Array, Camera, Volume
from ..report import brightness

Content = Literal["bones", "vertebra"]

MOST_PIXELS = 512
_MARGIN_MM = 12.0
_LEAST_BONE_HU = 130.0  # below this it is mostly noise of soft tissue
_LEAST_SHADOW = 0.05  # of the deepest: less than this is no shadow


class XrayRenderer:
    """Renders all bone of a case's CT, or its vertebra alone, as its views would show it."""

    def __init__(self, case: Case, vertebra: Volume, signs: tuple[int, ...]) -> None:
        """``vertebra``: its excess attenuation (1/mm) in the CT frame; ``signs``: per view +1 where
        bone is bright, -1 where it is dark."""
        self._views = {view.name: view for view in case.views}
        self._signs = {view.name: sign for view, sign in zip(case.views, signs, strict=True)}
        # Soft tissue would end where the CT does, and show the CT's box rather than the patient.
        above = hu_to_attenuation(case.ct.array) - float(hu_to_attenuation(SOFT_TISSUE_HU))
        bone = np.where(np.asarray(case.ct.array) > _LEAST_BONE_HU, above, 0.0)
        self._bones = case.ct.with_array(bone.astype(np.float32))
        self._vertebra = vertebra

    def render(
        self, name: str, ct_to_world: ArrayLike, content: Content = "bones"
    ) -> NDArray[np.float32]:
        """A picture (rows, columns) of the view's size, to be shown with the X-ray's own window.

        Contrast and brightness are those of the X-ray about the vertebra; where nothing casts a
        shadow the picture is NaN. Raises KeyError for a view that is not there.
        """
        view = self._views[name]
        pose = np.asarray(ct_to_world, dtype=float)
        camera, zoom = _reduced(view.camera)
        vertebra = _project(self._vertebra, camera, pose)
        attenuation = _project(self._bones, camera, pose) if content == "bones" else vertebra
        seen = _smaller(brightness(view), zoom)[: camera.rows, : camera.columns]
        matched = _match(attenuation, seen, self._about(vertebra, view, zoom), self._signs[name])
        matched[attenuation <= _LEAST_SHADOW * float(attenuation.max())] = np.nan
        if zoom > 1:
            matched = _enlarged(matched, view.camera, zoom)
        if view.intensity == "transmission":
            matched = np.exp(-matched)
        return np.asarray(matched, dtype=np.float32)

    @staticmethod
    def _about(vertebra: Array, view: View, zoom: int) -> NDArray[np.bool_]:
        """The vertebra's shadow and a margin around it."""
        shadow = vertebra > 0.02 * max(float(vertebra.max()), 1e-9)
        # The detector's millimetres are near enough for a margin.
        steps = max(round(_MARGIN_MM / view.pixel_spacing_mm[0] / zoom), 1)
        return np.asarray(ndimage.binary_dilation(shadow, iterations=steps))


def _reduced(camera: Camera) -> tuple[Camera, int]:
    """A camera of at most `MOST_PIXELS` a side, and how many pixels of the view are one of its."""
    zoom = -(-max(camera.columns, camera.rows) // MOST_PIXELS)
    if zoom == 1:
        return camera, 1
    offset = (zoom - 1) / 2.0
    return camera.window(offset, offset, camera.columns // zoom, camera.rows // zoom, zoom), zoom


def _project(volume: Volume, camera: Camera, ct_to_world: Array) -> Array:
    image = project_volume(
        volume,
        camera.intrinsic,
        camera.world_to_camera @ ct_to_world,
        camera.size,
        step_mm=float(volume.spacing.min()),
    )
    return np.asarray(image.cpu().numpy(), dtype=float)


def _smaller(image: Array, zoom: int) -> Array:
    if zoom == 1:
        return image
    rows, columns = (n // zoom * zoom for n in image.shape)
    parts = image[:rows, :columns].reshape(rows // zoom, zoom, columns // zoom, zoom)
    return np.asarray(parts.mean(axis=(1, 3)))


def _match(attenuation: Array, seen: Array, about: NDArray[np.bool_], sign: int) -> Array:
    """Attenuation with the mean and spread of the X-ray where the vertebra is."""
    if not about.any():
        about = np.ones(seen.shape, dtype=bool)
    gain = sign * float(seen[about].std()) / max(float(attenuation[about].std()), 1e-9)
    matched = float(seen[about].mean()) + gain * (attenuation - float(attenuation[about].mean()))
    # Within what the X-ray shows: a CT's edge must not be blacker than any air.
    return np.asarray(np.clip(matched, *np.percentile(seen, [0.5, 99.5])))


def _enlarged(image: Array, camera: Camera, zoom: int) -> Array:
    rows = (np.arange(camera.rows) - (zoom - 1) / 2.0) / zoom
    columns = (np.arange(camera.columns) - (zoom - 1) / 2.0) / zoom
    places = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(ndimage.map_coordinates(image, places, order=1, mode="nearest"))
