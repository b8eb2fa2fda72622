"""The numbers that decide which spot is which bead, and what a camera rests on."""

# Correspondence and resection

# Of what tells spots apart: docs/experiments/calibration.md, "Correspondence and resection", and a
# fifth more and less of each in docs/experiments/bounds.md; again by
# Testing/benchmarks/bench_calibration.py, with --bounds. The rest says what it rests on.

# A pose from three pairs predicts the other beads so well, as a share of the picture's larger side:
# what a focal length and a principal point that are only nominal leave over.
COARSE_SHARE = 0.015
# A pair belongs to the refined camera within so many pixels at the least; three robust standard
# deviations of all pairs where that is more.
FINE_PX = 2.0
# Fewer pairs are no calibration: 6 make 12 equations for 9 unknowns.
LEAST_PAIRS = 6
# How often chance alone would match as many beads in all that was tried, at the most. Of random
# spots (15 and 25 for 14 beads, 50 for 40) it is 16 at the least; of true ones, 8 of 14 beads shown
# and a third of the spots false, 3e-6 at the most.
CHANCE = 1e-3
# A second solution with so much of the first one's support, or more, makes it ambiguous.
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

# A pair whose distance is beyond the root of two times so many robust standard deviations is an
# outlier: of normal ones 5 in a million are, so that two standard deviations of a camera stay true.
# Others were not tried.
OUTLIER_SIGMAS = 3.5
# No spot is placed better than this, px: residuals that are smaller by luck are not believed. No
# evidence.
LEAST_NOISE_PX = 0.02
# Pairs, over all views that share it, from which four numbers of distortion may be estimated: twice
# the equations of the 13 unknowns, and a half more. No evidence.
DISTORTION_PAIRS = 25
# Nodes of a grid below which distortion is not told from a tilt of it: 32 equations for 12
# unknowns. No evidence.
GRID_NODES = 16
# A step of a grid may differ from what its neighbours predict by this share of the step. Grids with
# 8 % of barrel and a tenth of their nodes missing are numbered without a fault; others not tried.
GRID_STEP = 0.25
