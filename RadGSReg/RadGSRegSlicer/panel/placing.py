"""Placing points with the mouse, through Slicer's own place mode."""

from collections.abc import Callable
from typing import Any

import slicer


class Placing:
    """A checkable button that places points of a markups node in the views.

    ``node`` is asked for the markups node when the button is pressed (it may raise; then nothing is
    placed). The button comes up again when Slicer leaves its place mode.
    """

    def __init__(
        self, button: Any, node: Callable[[], Any], context: Any, *, several: bool = False
    ) -> None:
        self._button, self._node, self._context = button, node, context
        self._several = several
        self._observed: Any = None
        button.connect("toggled(bool)", self._onToggled)

    def stop(self) -> None:
        """Leave the place mode if this button entered it."""
        if self._button.checked:
            self._button.checked = False

    def _onToggled(self, checked: bool) -> None:
        interaction = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLInteractionNode")
        if not checked:
            self._unobserve()
            if interaction is not None and (
                interaction.GetCurrentInteractionMode() == interaction.Place
            ):
                interaction.SetCurrentInteractionMode(interaction.ViewTransform)
            return
        node = self._node()
        if node is None or interaction is None:
            self._button.checked = False
            return
        logic = slicer.modules.markups.logic()
        logic.SetActiveList(node)
        logic.StartPlaceMode(self._several)
        self._observed = interaction
        self._context.addObserver(
            interaction, interaction.InteractionModeChangedEvent, self._onModeChanged
        )

    def _onModeChanged(self, caller: Any, event: Any) -> None:
        if caller.GetCurrentInteractionMode() != caller.Place:
            self._unobserve()
            self._button.checked = False

    def _unobserve(self) -> None:
        if self._observed is not None:
            self._context.removeObserver(
                self._observed, self._observed.InteractionModeChangedEvent, self._onModeChanged
            )
            self._observed = None
