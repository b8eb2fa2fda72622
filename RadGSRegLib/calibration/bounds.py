"""The numbers that decide what a calibration believes.

Each stands here once: its value, its unit, and what it was measured on.
"""

# Phantoms, in files and in CTs

# Beads without which there is no camera: a direct linear transform has 11 unknowns, a bead gives
# two equations.
FEWEST_BEADS = 6

# Diameters of beads. Smaller ones are less than a pixel of a C-arm, larger ones are no beads; a
# diameter in metres or micrometres lies outside. No evidence for the exact values.
SMALLEST_MM, LARGEST_MM = 0.3, 25.0

# How far beads reach to either side of the plane that fits them best, at least: with less
# depth, focal length and distance can hardly be told apart. No evidence for the exact value.
THINNEST_MM = 5.0

# How far apart beads may be: more is no phantom in front of a C-arm but another unit.
FURTHEST_MM = 1500.0

# From here a voxel is metal: above cortical bone (1,600) and below what bone plates, screws and
# steel beads have (3,000 and more, where the scanner does not cut off).
STEEL_HU = 2000.0

# How far around its voxels of metal a bead is blurred: what is within counts for its centre, and
# what is as far outside again is its surroundings. Blur of 0.35 mm (one standard deviation) was
# tried in Testing/test_calibration_ct_beads.py.
BLUR_MM = 1.0

# Quantile of what surrounds a bead above which it counts. In voxels of 0.5 mm, where the scanner
# cuts steel off, beads half in plastic came out 0.12 mm too deep, 0.18 mm with the median.
DENSER = 0.95

# Share of a bead's brightness below which a voxel counts nothing: noise of the surroundings adds
# up over many. No evidence for the exact value.
FAINT_SHARE = 0.05

# How much the longest and shortest axes of a bead's bright voxels may differ, as a share of its
# diameter, beyond what the voxels' own size does. No evidence for the exact value.
ROUND = 0.2

# How much a lump's volume may be more or less than that of a ball as wide as it is. No
# evidence for the exact value.
SOLID = 0.3

# Spots

# "Drawn" are the pictures of Testing/bead_pictures.py (docs/experiments/calibration.md has the
# figures); "the wrist" is a real pair. It was looked at while the search was made: two of its beads
# that were lost led to `FAINT` and to a first fit that judges less. No value was fitted to it.

# Scales of the search are so much apart, a factor of the radius. (Drawn: 98 to 100 % of the beads
# are candidates. Other factors were not tried.)
SCALE_STEP = 1.4
# A candidate's curvature exceeds the mean about it by this factor. No evidence.
CLEAR_CURVATURE = 5.0
# To that mean this share of the strongest curvature is added, that of the strongest ten thousandth
# of the pixels. (Realistic simulated X-rays of seeds 0 to 5, 192 beads: 0.03 lists 88 % of them,
# 0.01 97 %, 0.003, 0.001 and 0.0003 99 %; what is wrong is then told by `VAGUE_PX`.)
FAINT = 0.002
STRONG = 0.9999
# How far "about it" reaches, radii. No evidence.
ABOUT_RADII = 8.0
# Candidates nearer than this share of the larger radius are of one place. No evidence.
SAME_PLACE = 0.7
# So many times as many candidates are fitted as spots are wanted. No evidence.
CANDIDATES = 3
# A fit takes the pixels within so many radii and pixels of the candidate. (Drawn, cluttered: errors
# of 0.15 px, with 1.7 radii 0.16, with 2.2 radii 0.19, with 2 px 0.14, but 0.54 of large beads
# instead of 0.45. A curved background instead of a plane changed nothing.)
REACH_RADII = 1.4
REACH_PX = 3.0
# Steps of the first fit and of the second. No evidence; what is not there yet is not ready to be a
# spot.
FIRST_STEPS = 8
FIT_STEPS = 20
# The second fit takes this times the first one's radius for the outline's. (Drawn, cluttered: 1.0
# errs by 0.143 px, 1.2 by 0.154; of large beads by 0.409 and 0.401, of clean ones by 0.013, 0.006.)
OUTLINE = 1.1
# Radii whose logarithms differ by less are fitted together, over as many pixels. Only saves time.
SIZE_STEP = 0.15
# Residuals above so many robust standard deviations lose weight. No evidence: a usual value.
OUTLYING = 2.5
# What a fit's own covariance, with as many independent pixels as its residuals have, is too small
# by. (Drawn: errors were 1.3 to 1.55 times as large, in noise and over bones.)
CENTRE_DOUBT = 1.35
# A spot whose centre is less well known is none, pixels. (Realistic, seeds 0 to 5: 98.9 % of the
# beads are better, and five wrong spots a view; 0.5 98.4 and one; 1.0 99.5 and 13. Drawn, radius 2
# to 2.5: a hundredth of the beads is above 0.79.)
VAGUE_PX = 0.75
# A spot exceeds what its fit leaves by this factor. (Drawn: a hundredth of the beads is below 5.5
# at worst; half of what is wrong is below 6 in noise. The wrist's beads have 11 to 46, clutter up
# to 8.)
LEAST_SCORE = 4.0
# Where beads cannot be told by those, so faint ones are taken too. (Realistic, seeds 30 to 41: of
# 24 views over a trunk the one that was refused is told then, 15 of its 16 beads in the end. Used
# for all it put one of the others on a wrong camera.)
FAINT_SCORE = 3.0
# Its edge is no wider than this share of its radius. No evidence.
SOFTEST = 0.8
# A radius may exceed the limits by this share. (Drawn: the radius at half height is 0.75 of a
# bead's where the display is logarithmic.)
RADIUS_MARGIN = 0.3
# Two spots nearer than this share of the larger radius are the same. No evidence.
SAME_SHARE = 0.7
# So many of the clearest spots say which polarity a picture has, by the sum of their scores. (Right
# in all that were drawn and simulated, and on the wrist. Other numbers were not tried.)
VOTERS = 20
# The share of a spot that lies in the picture. No evidence.
IN_PICTURE = 0.6
# Beads looked for where a camera predicts them lie within this share of their radius from there. A
# camera of ten beads predicts the others to a few tenths of a pixel. No evidence.
GUIDED_SHARE = 0.5
# Their radius differs from the predicted one by this factor at the most. (In the flank of a display
# that clips it is 0.6 of the others'.)
GUIDED_SIZE = 1.8
# What hardly stands out is a bead where a camera predicts one: where its place is within this share
# of the outline's radius (realistic, seeds 30 to 41, 61 beads that were missed and 754 places
# without a bead: docs/experiments/calibration.md, "The beads that are missed"),
PREDICTED_SHARE = 0.15
# its height is so many of its own standard deviations,
PREDICTED_CLEAR = 2.2
# its centre is known to so many pixels,
PREDICTED_VAGUE_PX = 1.5
# its edge is no wider than this share of its radius,
PREDICTED_SOFT = 0.3
# and this share of it is neither upon another bead nor outside the picture.
PREDICTED_SHOWN = 0.45
# Where a display clips a shadow it is wider than the bead's outline by about so many pixels (0.9 to
# 1.4 on the same seeds), and by no more than twice as many.
CLIPPED_PX = 1.0
# A click on a bead's shadow is looked for from itself and from so many radii around it. (Simulated
# X-rays, 48 beads in air and 32 over a trunk: of clicks 0.5 radii beside the middle 96 and 100 %
# meet their shadow, of those 1 radius beside 92 and 94 %; with 0.75 alone 96 and 100, 90 and 84 %,
# with 0.5 alone 94 and 100, 17 and 6 %. Of 240 clicks up to 1 radius beside, two met another.)
CLICK_RADII = (0.5, 1.0)
# Spots of several views are of one bead where its radius would differ by no more than this factor.
# (The wrist, display clipped in one view: up to 1.2.)
SAME_SIZE = 1.5

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

# From pictures to cameras

# So many times as many spots as there are beads are looked at, the clearest: the correspondence
# stands a third of false ones for sure, and bones have round shadows too. (Simulated X-rays of a
# patient, 16 beads: docs/experiments/calibration.md.)
CLEAREST = 2
# Source to bead, mm, where nothing is known of a C-arm.
DISTANCE_MM = (350.0, 1200.0)

# What is trusted

# More than this between beads and their shadows is no noise: shadows are met within 0.3 px over
# bones (docs/experiments/calibration.md, "Spots").
MOST_RMS_PX = 1.0
# With fewer pairs one that is wrong may go unnoticed. No evidence for the exact value.
TRUSTED_PAIRS = 8
# A picture that does not show this share of the beads that lie within it may be of another phantom.
# (Simulated X-rays of a trunk, 16 beads: 12 at the least in 20 views. Where 7 of 16 beads stood
# elsewhere than the file says the others were met all the same, and that is not noticed.)
LEAST_MET = 0.6
# Radii of a grid's beads or holes, as shares of the picture's larger side (and a pixel more), and
# how many are looked at. No evidence for the exact values.
GRID_RADIUS = (0.002, 0.02)
GRID_SPOTS = 2000

# Presets of C-arms

# A source-detector distance is said to so much, mm: pictures whose distances differ by no more are
# of one, and so much is added to what a distance between two entries tells. Tags of DICOM and the
# scales of C-arms have whole millimetres.
SAME_DISTANCE_MM = 1.0
# How seldom true beads would differ so much from a preset by chance, below which the preset is
# doubted. (docs/experiments/calibration.md, "Presets", has what of moved detectors is noticed.)
PRESET_CHANCE = 0.01

# Shared intrinsics

# How seldom views of one C-arm would differ so much by chance, below which they are not believed to
# share focal length and principal point. (Simulated, 4 devices over a trunk and in air, 112 sets of
# 2 to 8 views that share: 4 are below 0.01, none below 0.001, as spots of some beads are worse than
# they say. docs/experiments/calibration.md, "Shared or not".)
SHARED_CHANCE = 0.001

# Drift between two runs

# What is less likely than this many standard deviations has drifted. (Simulated pairs of runs
# without drift: Testing/test_calibration_drift.py.)
DRIFT_SIGMAS = 3.0
# Points that stand for a patient lie so far to either side of the beads' middle, along each axis. A
# lumbar vertebra reaches about as far. No evidence for the exact value.
PATIENT_MM = 40.0
