"""What a registration of several vertebrae says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..cases import Case, worst_status
from ..geometry import Array
from ..registration import Registration, Status


@dataclass(frozen=True)
class SpineRegistration:
    """Several vertebrae of one CT, registered together.

    ``case``: the CT and the X-rays; ``levels``: of each label the registration of that vertebra, in
    the order along the spine; ``begun_with``: the label of the vertebra that was looked for first.
    ``joint_covariance`` (6 K, 6 K) of all their twists, in the same order, each about its centre
    along the CT's axes, radians and mm; ``timing_s`` of the stages and in ``total``. ``left_out``:
    the labels that were asked for and not registered, and why.
    """

    case: Case
    levels: Mapping[int, Registration]
    begun_with: int
    joint_covariance: Array
    timing_s: Mapping[str, float]
    left_out: Mapping[int, str] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """The worst of the vertebrae's."""
        return worst_status([level.status for level in self.levels.values()])

    def name(self, label: int) -> str:
        """What the segmentation calls a label."""
        return self.case.label_names.get(label, str(label))

    def case_of(self, label: int) -> Case:
        """The case of one of the vertebrae. A click is of the one that was looked for first."""
        if label == self.case.label:
            return self.case
        views = tuple(replace(view, center_px=None) for view in self.case.views)
        return replace(self.case, label=label, views=views)
