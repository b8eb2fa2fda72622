"""What a source of cameras is shown, and what it answers."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ...geometry import Camera
from ..json_input import Fields
from ..ledger import Ledger
from ..xray import XrayImage


@dataclass(frozen=True)
class ViewEntry:
    """One entry of a ``views.json`` with its image.

    ``known_spacing_mm`` (column step, row step); None where nothing says it.
    """

    fields: Fields
    image: XrayImage
    known_spacing_mm: tuple[float, float] | None
    ledger: Ledger

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """The pixels' size, for what needs it. InputError where nothing says it."""
        if self.known_spacing_mm is None:
            self.fields.need("pixel_spacing_mm")
        assert self.known_spacing_mm is not None
        return self.known_spacing_mm

    @property
    def columns(self) -> int:
        """Pixels in a row of the image."""
        return int(self.image.pixels.shape[1])

    @property
    def rows(self) -> int:
        """Pixels in a column of the image."""
        return int(self.image.pixels.shape[0])


class SourcedCamera(NamedTuple):
    """A camera, and whether any of it is only nominal: an uncalibrated guess.

    ``either_side``: whether what it was made from does not say on which side of the source the
    detector is.
    """

    camera: Camera
    nominal: bool = False
    either_side: bool = False


class CameraSource(Protocol):
    """A camera from what a view's entry says.

    ``name``: how complaints call it; ``keys``: those that mean this source, where one of them is
    there; ``details``: others that it reads.
    """

    name: str
    keys: tuple[str, ...]
    details: tuple[str, ...]

    def camera(self, entry: ViewEntry) -> SourcedCamera:
        """Read the camera. Raises InputError, or ValueError with what is wrong with the view."""
