"""The warp kernel that turns Gaussians of moving bodies into footprint coefficients.

The same formulas as `splat_setup`, one thread per Gaussian instead of a dozen tensor operations:
with a few thousand Gaussians those cost more than the splatting itself.
"""

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.func
def _write_reach(
    coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
    c: int,
    cut2: float,
    reach: wp.array(dtype=float),  # type: ignore[valid-type]
    r: int,
) -> None:
    e11 = coefficients[c + 3] - cut2 * coefficients[c + 9]
    e12 = coefficients[c + 4] - cut2 * coefficients[c + 10]
    e22 = coefficients[c + 5] - cut2 * coefficients[c + 11]
    e0 = -cut2 * coefficients[c + 6]
    e1 = -cut2 * coefficients[c + 7]
    e2 = -cut2 * coefficients[c + 8]
    shape = e11 * e22 - e12 * e12
    reach[r] = 1.0
    reach[r + 1] = 1.0
    reach[r + 2] = -1.0
    reach[r + 3] = -1.0
    if coefficients[c + 3] > 0.0 and e11 > 0.0 and shape > 0.0:
        u = (e12 * e2 - e22 * e1) / shape
        v = (e12 * e1 - e11 * e2) / shape
        level = -(e0 + e1 * u + e2 * v)
        if level > 0.0:
            # Half a pixel of margin against rounding: what gathers decides pair by pair.
            half_u = wp.sqrt(level * e22 / shape) + 0.5
            half_v = wp.sqrt(level * e11 / shape) + 0.5
            u += coefficients[c]
            v += coefficients[c + 1]
            reach[r] = u - half_u
            reach[r + 1] = v - half_v
            reach[r + 2] = u + half_u
            reach[r + 3] = v + half_v


@wp.kernel
def set_up(
    table: wp.array(dtype=float),  # type: ignore[valid-type]
    body_of: wp.array(dtype=int),  # type: ignore[valid-type]
    body_to_camera: wp.array(dtype=wp.mat44),  # type: ignore[valid-type]
    lenses: wp.array2d(dtype=wp.mat33),  # type: ignore[valid-type]
    cutoff: float,
    place: wp.array(dtype=int),  # type: ignore[valid-type]
    coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
    motion: wp.array(dtype=float),  # type: ignore[valid-type]
    reach: wp.array(dtype=float),  # type: ignore[valid-type]
) -> None:
    """Write coefficients (V N, 12) and motion (V N, 7) of the table's Gaussians (N, 16) in V views.

    A row of the table: mean 3, M = diag(1/s) R' row by row 9, s^2 3, density 1. ``lenses`` (2, V)
    are K^-1 and K; ``place`` (V N,) is set to the number of view and body, view by view, as in
    ``body_to_camera``. ``reach`` (V N, 4), where it is wanted: the first column and row that a
    footprint may cover, and the last ones (`tiles.footprint_boxes`, half a pixel wider).
    """
    g = int(wp.tid())  # type: ignore[arg-type]
    count = body_of.shape[0]
    bodies = body_to_camera.shape[0] // lenses.shape[1]
    view = g // count
    own_row = g - view * count
    r = own_row * 16
    at = view * bodies + body_of[own_row]
    place[g] = at
    pose = body_to_camera[at]
    inverse = lenses[0, view]
    intrinsic = lenses[1, view]
    mean = wp.vec3(table[r], table[r + 1], table[r + 2])
    rotation = wp.mat33(
        pose[0, 0], pose[0, 1], pose[0, 2],
        pose[1, 0], pose[1, 1], pose[1, 2],
        pose[2, 0], pose[2, 1], pose[2, 2],
    )  # fmt: skip
    own = wp.mat33(
        table[r + 3], table[r + 4], table[r + 5],
        table[r + 6], table[r + 7], table[r + 8],
        table[r + 9], table[r + 10], table[r + 11],
    )  # fmt: skip
    centre = rotation * mean + wp.vec3(pose[0, 3], pose[1, 3], pose[2, 3])
    factors = own * wp.transpose(rotation)
    along = wp.vec3(
        factors[0, 2] * table[r + 12], factors[1, 2] * table[r + 13], factors[2, 2] * table[r + 14]
    )
    depth = centre[2]
    valid = depth > cutoff * wp.length(along)
    if not valid:
        depth = 1.0
    pixel = intrinsic * (centre / depth)
    w = factors * inverse
    w1 = wp.vec3(w[0, 0], w[1, 0], w[2, 0])
    w2 = wp.vec3(w[0, 1], w[1, 1], w[2, 1])
    scaled = factors * centre
    w0 = scaled / depth
    b1 = wp.cross(scaled, w1)
    b2 = wp.cross(scaled, w2)
    x = wp.vec3(factors[0, 0], factors[1, 0], factors[2, 0])
    y = wp.vec3(factors[0, 1], factors[1, 1], factors[2, 1])
    c = g * 12
    coefficients[c] = pixel[0]
    coefficients[c + 1] = pixel[1]
    coefficients[c + 2] = table[r + 15] * 2.5066282746310002
    coefficients[c + 3] = wp.dot(b1, b1)
    if not valid:
        coefficients[c + 3] = -1.0
    coefficients[c + 4] = wp.dot(b1, b2)
    coefficients[c + 5] = wp.dot(b2, b2)
    coefficients[c + 6] = wp.dot(w0, w0)
    coefficients[c + 7] = wp.dot(w0, w1)
    coefficients[c + 8] = wp.dot(w0, w2)
    coefficients[c + 9] = wp.dot(w1, w1)
    coefficients[c + 10] = wp.dot(w1, w2)
    coefficients[c + 11] = wp.dot(w2, w2)
    m = g * 7
    motion[m] = depth
    motion[m + 1] = wp.dot(x, w0)
    motion[m + 2] = wp.dot(x, w1)
    motion[m + 3] = wp.dot(x, w2)
    motion[m + 4] = wp.dot(y, w0)
    motion[m + 5] = wp.dot(y, w1)
    motion[m + 6] = wp.dot(y, w2)
    if reach.shape[0] > 0:
        _write_reach(coefficients, c, cutoff * cutoff, reach, g * 4)
