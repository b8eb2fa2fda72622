"""CT to X-rays: what proposes poses, what refines them, and how sure the result is.

`register_case` is the main job. `register` conducts it for any scene through four doors:
`BodySource` (what is registered), `Proposer` (where it may be), `Residual` (how a rendering is
compared with an X-ray) and `Stepper` (how to go down the cost).
"""

from .anatomy import Anatomy as Anatomy
from .anatomy import Body as Body
from .anatomy import build_anatomy as build_anatomy
from .bodies import Arrangement as Arrangement
from .bodies import Arrangements as Arrangements
from .bodies import BodySource as BodySource
from .bodies import Drawing as Drawing
from .bodies import Prior as Prior
from .evidence import independent_residuals as independent_residuals
from .followed import Followed as Followed
from .followed import expected_error_mm as expected_error_mm
from .followed import judge_followed as judge_followed
from .followed import register_near as register_near
from .held import judge_case as judge_case
from .held import judge_held as judge_held
from .held import polarities_at as polarities_at
from .held import settled_around as settled_around
from .normal_equations import Evaluation as Evaluation
from .normal_equations import evaluate as evaluate
from .normal_equations import evaluate_each as evaluate_each
from .of_case import register_case as register_case
from .one_view import error_parts_mm as error_parts_mm
from .one_view import sight_ct as sight_ct
from .one_view import with_depth_variance as with_depth_variance
from .options import Places as Places
from .options import RefineOptions as RefineOptions
from .options import RegistrationOptions as RegistrationOptions
from .options import SearchOptions as SearchOptions
from .options import Stage as Stage
from .options import registration_options as registration_options
from .possible import refuse_impossible as refuse_impossible
from .problem import Problem as Problem
from .problem import problem_at as problem_at
from .proposers import Alternative as Alternative
from .proposers import Candidate as Candidate
from .proposers import GivenPoses as GivenPoses
from .proposers import Proposal as Proposal
from .proposers import Proposer as Proposer
from .proposers import Tried as Tried
from .register import register as register
from .residual import Comparison as Comparison
from .residual import LocallyNormalized as LocallyNormalized
from .residual import NormalizedTerm as NormalizedTerm
from .residual import Residual as Residual
from .residual import contrast_floor as contrast_floor
from .rigid_bodies import RigidBodies as RigidBodies
from .rigid_bodies import ct_bodies as ct_bodies
from .rigid_bodies import single_body as single_body
from .scale import fitted as fitted
from .scale import scaled as scaled
from .scene import Scene as Scene
from .scene import case_bodies as case_bodies
from .scene import scene_of as scene_of
from .stages import Hypothesis as Hypothesis
from .stages import Refiner as Refiner
from .steps import Stepper as Stepper
from .steps import StretchedGaussNewton as StretchedGaussNewton
from .types import Registration as Registration
from .types import Status as Status
from .unjudged import unjudged_pose as unjudged_pose
from .verdict import doubted as doubted
from .verdict import with_room as with_room
from .windows import footprint as footprint
