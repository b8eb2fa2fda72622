"""Warp kernel of the noise of a batch: each pixel's numbers follow from its picture's seed alone,
whatever the device and whatever else is in the batch."""

import warp as wp

wp.set_module_options({"enable_backward": False})

# From so many photons on, a normal variate stands for a Poisson's, whose skewness is 0.13 there.
_MANY = wp.constant(60.0)


@wp.kernel
def add_noise(
    signal: wp.array(dtype=float),  # type: ignore[valid-type]
    scale: wp.array(dtype=float),  # type: ignore[valid-type]
    electronic: wp.array(dtype=float),  # type: ignore[valid-type]
    seeds: wp.array(dtype=int),  # type: ignore[valid-type]
    pixels: int,
    begin: int,
    result: wp.array(dtype=float),  # type: ignore[valid-type]
) -> None:
    """Detect signals: ``scale`` photons to a unit, and the read-out's deviation, in photons."""
    i = begin + int(wp.tid())  # type: ignore[arg-type]
    picture = i // pixels
    factor = scale[picture]
    if factor <= 0.0:
        result[i] = signal[i]
        return
    state = wp.rand_init(seeds[picture], i - picture * pixels)
    photons = wp.max(signal[i], 0.0) * factor
    more = electronic[picture]
    # By the inverse of its distribution: the cosine of wp.randn takes slow memory on CUDA.
    share = wp.clamp(2.0 * wp.randf(state) - 1.0, -0.99999994, 0.99999994)
    normal = 1.41421356 * wp.erfinv(share)
    if photons > _MANY:
        counts = photons + wp.sqrt(photons + more * more) * normal
    else:
        # As many factors as a product of uniform variates has before it falls below this.
        counts = more * normal
        product = wp.randf(state)
        while product >= wp.exp(-photons):
            product *= wp.randf(state)
            counts += 1.0
    result[i] = counts / factor
