"""One X-ray alone: all of a pose but the depth is fitted, and the depth is sought by itself."""

from .conduct import register_one_view as register_one_view
from .sight import error_parts_mm as error_parts_mm
from .sight import sight_ct as sight_ct
from .sight import with_depth_variance as with_depth_variance
