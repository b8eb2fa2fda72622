"""Bodies with gsplat's tiles (optional, CUDA): one call of its rasterizer for each in each view."""

from functools import partial

from . import gsplat_backend, torch_bodies

# See `body_rasterizer.rasterize_bodies` and `body_rasterizer.rasterize_bodies_with_jacobian`.
rasterize = partial(torch_bodies.rasterize, module=gsplat_backend)
rasterize_with_jacobian = partial(torch_bodies.rasterize_with_jacobian, module=gsplat_backend)
