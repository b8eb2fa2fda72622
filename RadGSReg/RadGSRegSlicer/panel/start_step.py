"""Step 3: where the search for the pose begins."""

from __future__ import annotations

from .step import Step


class StartStep(Step):
    """Clicks in the X-rays, a transform, or pairs of landmarks."""

    name = "start"
