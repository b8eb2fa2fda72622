"""A run of fluoroscopy to the pose of a bone in every frame, with a verdict of each.

`track_case` is the main job: the first frame is registered, the others follow, forwards and
backwards; what is lost is found again; the trajectory is smoothed.
"""

from .motion import Agility as Agility
from .motion import MotionModel as MotionModel
from .motion import Moving as Moving
from .motion import agility_of as agility_of
from .track import track_case as track_case
from .types import Track as Track
from .types import TrackOptions as TrackOptions
