"""The numbers that decide which spot is which bead, and what a camera rests on."""

# Correspondence and resection
# Measured: docs/experiments/calibration.md, "Correspondence and resection"; again by
# Testing/benchmarks/bench_calibration.py.

# A pose from three pairs predicts the other beads so well, as a share of the picture's larger side:
# what a focal length and a principal point that are only nominal leave over.
COARSE_SHARE = 0.015
# A pair belongs to the refined camera within so many pixels at the least; three robust standard
# deviations of all pairs where that is more.
FINE_PX = 2.0
# Fewer pairs are no calibration: 6 make 12 equations for 9 unknowns.
LEAST_PAIRS = 6
# How often chance alone would match as many beads in all that was tried, at the most.
CHANCE = 1e-3
# A second solution with so much of the first one's pairs, or more, makes it ambiguous.
SECOND_SHARE = 0.85
# A solution with so much of the beads, or of the spots where these are fewer, ends the search.
WHOLE_SHARE = 0.6
# Triples of spots tried before giving up; with 40 % of false spots a fifth of them are all true.
TRIPLES = 40
# How much the radii of three spots, over the diameters of their beads, may differ among themselves.
SIZE_RATIO = 1.4
# Source to bead over source to detector, of what a C-arm can take.
DEPTH_SHARE = (0.3, 1.0)
# Focal lengths tried where none is given, as shares of the picture's larger side: source-detector
# distances of 0.8 to 1.5 m and detectors of 20 to 43 cm make 2 to 6.
FOCAL_SHARES = (2.3, 3.2, 4.5)
# A nominal focal length and the middle of the picture as the principal point are right to so much,
# one standard deviation: a share of the focal length, and of the picture's larger side.
FOCAL_DOUBT = 0.05
MIDDLE_DOUBT = 0.03
# A residual beyond so many robust standard deviations is an outlier.
OUTLIER_SIGMAS = 3.5
# No spot is placed better than this, px: residuals that are smaller by luck are not believed.
LEAST_NOISE_PX = 0.02
# Pairs, over all views that share it, from which four numbers of distortion may be estimated.
DISTORTION_PAIRS = 25
# A grid of fewer nodes does not tell distortion from a tilt of the grid.
GRID_NODES = 16
# A step of a grid may differ from what its neighbours predict by this share of the step.
GRID_STEP = 0.25
