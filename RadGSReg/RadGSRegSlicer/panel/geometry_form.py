"""Step 2: the numbers of one X-ray's geometry."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from ..scene.carm import CArm
from ..scene.xray import XrayGeometry
from .step import fillChoices, selectChoice, setValue


class GeometryForm:
    """The spin boxes, check boxes and the list that say where an X-ray was taken from."""

    def __init__(self, ui: Any, edited: Callable[..., object]) -> None:
        """``edited`` is called whenever one of them is changed by hand."""
        self._ui = ui
        self._numbers = {
            "sourceDetector": ui.sourceDetectorSpinBox,
            "sourcePatient": ui.sourcePatientSpinBox,
            "primary": ui.primarySpinBox,
            "secondary": ui.secondarySpinBox,
            "roll": ui.rollSpinBox,
        }
        self._spacing = (ui.columnSpacingSpinBox, ui.rowSpacingSpinBox)
        self._principal = (ui.principalColumnSpinBox, ui.principalRowSpinBox)
        self._isocentre = (ui.isocentreRSpinBox, ui.isocentreASpinBox, ui.isocentreSSpinBox)
        fillChoices(
            ui.intensityComboBox,
            {
                "display": _("as displayed (unknown curve)"),
                "attenuation": _("attenuation (line integrals)"),
                "transmission": _("transmission (counts)"),
            },
            "display",
        )
        boxes = [*self._numbers.values(), *self._spacing, *self._principal, *self._isocentre]
        for box in boxes:
            box.connect("valueChanged(double)", edited)
        ui.mirroredCheckBox.connect("toggled(bool)", edited)
        ui.nominalCheckBox.connect("toggled(bool)", edited)
        ui.intensityComboBox.connect("currentIndexChanged(int)", edited)

    def show(self, arm: CArm, geometry: XrayGeometry) -> None:
        """Show a geometry."""
        ui = self._ui
        for name, box in self._numbers.items():
            setValue(box, getattr(arm, name))
        for boxes, values in (
            (self._spacing, arm.spacing),
            (self._principal, arm.principal),
            (self._isocentre, (-arm.isocentre[0], -arm.isocentre[1], arm.isocentre[2])),
        ):
            for box, value in zip(boxes, values, strict=True):
                setValue(box, value)
        ui.mirroredCheckBox.checked = arm.mirrored
        ui.nominalCheckBox.checked = geometry.nominal
        selectChoice(ui.intensityComboBox, geometry.intensity)

    def read(self, before: CArm, geometry: XrayGeometry) -> tuple[CArm, XrayGeometry]:
        """Read the form as changes of what was there before."""
        ui = self._ui
        numbers: dict[str, Any] = {
            name: _edited(box, getattr(before, name)) for name, box in self._numbers.items()
        }
        right, anterior, superior = before.isocentre * np.array([-1.0, -1.0, 1.0])
        moved = _editedAll(self._isocentre, (right, anterior, superior))
        arm = replace(
            before,
            **numbers,
            spacing=_editedAll(self._spacing, before.spacing),
            principal=_editedAll(self._principal, before.principal),
            isocentre=(-moved[0], -moved[1], moved[2]),
            mirrored=bool(ui.mirroredCheckBox.checked),
        )
        changed = replace(
            arm.applied(geometry),
            nominal=bool(ui.nominalCheckBox.checked),
            intensity=str(ui.intensityComboBox.currentData),
        )
        return arm, changed


def _edited(box: Any, before: float) -> float:
    """What a spin box says; what was there before if it shows just that, rounded."""
    value = float(box.value)
    return before if abs(value - before) <= 0.51 * 10.0**-box.decimals else value


def _editedAll(boxes: tuple[Any, ...], before: tuple[float, ...]) -> tuple[Any, ...]:
    return tuple(_edited(box, value) for box, value in zip(boxes, before, strict=True))
