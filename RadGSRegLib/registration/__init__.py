"""CT to X-rays: what proposes poses, what refines them, and how sure the result is.

`register_case` is the main job. `register` conducts it for any scene through four doors:
`BodySource` (what is registered), `Proposer` (where it may be), `Residual` (how a rendering is
compared with an X-ray) and `Stepper` (how to go down the cost).
"""

from .anatomy import Anatomy, Body, build_anatomy
from .bodies import Arrangement, BodySource, Drawing, Prior
from .options import (
    Places,
    RefineOptions,
    RegistrationOptions,
    SearchOptions,
    Stage,
    registration_options,
)
from .possible import refuse_impossible
from .proposers import Candidate, GivenPoses, Proposal, Proposer, Tried
from .refine import Problem, evaluate
from .register import register, register_case
from .residual import Comparison, LocallyNormalized, NormalizedTerm, Residual, contrast_floor
from .rigid_bodies import RigidBodies, ct_bodies, single_body
from .scene import Scene, case_bodies, scene_of
from .stages import Hypothesis, Refiner
from .steps import Stepper, StretchedGaussNewton
from .types import Registration, Status
from .windows import footprint

__all__ = [
    "Anatomy",
    "Arrangement",
    "Body",
    "BodySource",
    "Candidate",
    "Comparison",
    "Drawing",
    "GivenPoses",
    "Hypothesis",
    "LocallyNormalized",
    "NormalizedTerm",
    "Places",
    "Prior",
    "Problem",
    "Proposal",
    "Proposer",
    "RefineOptions",
    "Refiner",
    "Registration",
    "RegistrationOptions",
    "Residual",
    "RigidBodies",
    "Scene",
    "SearchOptions",
    "Stage",
    "Status",
    "Stepper",
    "StretchedGaussNewton",
    "Tried",
    "build_anatomy",
    "case_bodies",
    "contrast_floor",
    "ct_bodies",
    "evaluate",
    "footprint",
    "refuse_impossible",
    "register",
    "register_case",
    "registration_options",
    "scene_of",
    "single_body",
]
