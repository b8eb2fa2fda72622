"""Step 4, the pose so far while a registration runs."""

from __future__ import annotations

import logging
from typing import Any

import slicer
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array

from ..review.preview import PosePreview
from ..review.surface import vertebraSurface


class PreviewControls:
    """Shows the poses of one run after the other."""

    def __init__(self) -> None:
        self._preview: PosePreview | None = None

    def begin(self, parameters: Any) -> None:
        """Be ready for the poses of what is chosen, if the user wants to see them."""
        self.end()
        if not parameters.showPreview:
            return
        try:
            surface = vertebraSurface(
                parameters.segmentation, parameters.segmentId, parameters.ctVolume
            )
            nodes = [node for node in parameters.xrays if node is not None]
            self._preview = PosePreview(slicer.mrmlScene, surface, nodes)
        except InputError as error:
            # The registration itself says what is wrong; without a preview it goes on.
            logging.info("RadGSReg: no preview (%s)", error)

    def show(self, ctToWorld: Array) -> None:
        """Show a pose (4, 4), RAS."""
        if self._preview is not None:
            self._preview.show(ctToWorld)

    def end(self) -> None:
        """Take what was drawn out of the scene."""
        if self._preview is not None:
            self._preview.close()
            self._preview = None
