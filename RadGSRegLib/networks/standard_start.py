"""Where standardised X-rays put a vertebra: a pose that is proposed to the X-rays as they are."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike

from ..cases import Case
from ..registration import (
    Candidate,
    GivenPoses,
    Registration,
    RegistrationOptions,
    register_case,
)
from ..system import Progress
from ..views import prepare_views, sign_choices
from .standardize import Standardization


def standardised_start(
    case: Case,
    bones: Standardization,
    start_ct_to_world: ArrayLike | None = None,
    options: RegistrationOptions | None = None,
    progress: Progress | None = None,
    device: torch.device | str = "cpu",
) -> tuple[GivenPoses, Registration]:
    """Register a case to its standardised X-rays, and propose the pose to a registration to the
    X-rays themselves.

    A network may draw bones that are not there: its answer says where to look, and only the X-rays
    as they are decide and judge.

    Args:
        case: CT, labels and X-rays.
        bones: what standardises the X-rays.
        start_ct_to_world: (4, 4), an approximate pose.
        options: of the registration; None: the defaults.
        progress: told of the share done; may cancel.
        device: where to compute.

    Returns:
        What proposes the pose, with either polarity where that is not known (nothing where none
        was right enough to be a pose), and the registration to the standardised X-rays.

    Raises:
        InputError: where there is nothing to start from or nothing to be seen there.
        Cancelled: when ``progress`` says so.

    Example:
        >>> from RadGSRegLib import pipeline
        >>> from RadGSRegLib.networks import Standardization, load_standardizer, shipped_weights
        >>> from RadGSRegLib.networks import standardised_start
        >>> network = load_standardizer(shipped_weights("standard"))
        >>> bones = Standardization(network, pipeline.centre_of_views(case.views))
        >>> proposer, registration = standardised_start(case, bones)
        >>> proposer.name
        'standardised'
    """
    chosen = options or RegistrationOptions()
    done = register_case(case, start_ct_to_world, chosen, progress, (), [bones], device)
    candidates = [
        Candidate(done.ct_to_world, 0.0, signs)
        for signs in sign_choices(prepare_views(case.views))
        if done.status != "failed"
    ]
    return GivenPoses(candidates, chosen.learned_places, name="standardised"), done
