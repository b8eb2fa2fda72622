"""The numbers that decide where Gaussians end: value, unit, evidence.

"No evidence" means that neither a document nor the history of the code says so. `DEFAULT_CUTOFF` is
what functions take unless told: `bench_bounds.py` does not reach it.
"""

# Gaussians end at so many standard deviations, where their line integral has fallen to
# exp(-k^2 / 2) of its peak: 4e-5.
DEFAULT_CUTOFF = 4.5
# While they are fitted to a volume, and to its X-rays. No evidence.
VOLUME_FIT_CUTOFF = 3.5
VIEW_FIT_CUTOFF = 4.0
# The narrowest Gaussian that samples one apart still see, in sample distances. No evidence.
NARROWEST_SEEN = 0.5
# Clouds kept on disk take so many bytes at most: about 240 vertebrae of 6,000 Gaussians.
KEPT_BYTES = 64_000_000
