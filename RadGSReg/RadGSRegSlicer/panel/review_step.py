"""Step 5: looking at the result, and accepting it or not."""

from __future__ import annotations

from slicer.i18n import tr as _

from ..results import RegistrationResult
from .step import Step


class ReviewStep(Step):
    """What the registration gave; its widgets stand in ``ui.reviewContent``."""

    name = "review"

    def setResult(self, result: RegistrationResult | None) -> None:
        """A registration has ended with this result (step 4 calls this)."""

    def missing(self) -> str:
        if not self.parameters.ctToWorld:
            return _("Register first")
        return ""
