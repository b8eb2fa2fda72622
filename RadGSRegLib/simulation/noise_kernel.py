"""Warp kernel of the noise of a batch: each pixel's numbers follow from its picture's seed alone,
whatever the device and whatever else is in the batch."""

import warp as wp

wp.set_module_options({"enable_backward": False})

# From so many photons on, a normal variate stands for a Poisson's: the skewness is below 0.1.
_MANY = wp.constant(100.0)


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
    if photons > _MANY:
        counts = photons + wp.sqrt(photons + more * more) * wp.randn(state)
    else:
        counts = float(wp.poisson(state, photons)) + more * wp.randn(state)
    result[i] = counts / factor
