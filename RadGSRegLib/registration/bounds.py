"""The numbers that decide what a registration does and says: value, unit, evidence.

Each stands here once: its value, its unit, and what it was measured on. "No evidence" means that
neither a document nor the history of the code says so. Scores are weighted local normalised
correlations, at most 1. What was measured was measured on simulated X-rays: the fifteen shared
cases, and phantoms (docs/limits.md). `Testing/benchmarks/bench_bounds.py` changes each by a fifth
either way and says what becomes of it; what steps down the cost is measured by `bench_steps.py`.
"""

# The anatomy

# Fewer voxels of a label within reach than this are no body. No evidence.
LEAST_VOXELS = 50
# Without a label, denser than this is bone, HU. No evidence.
BONE_HU = 180.0

# Bone without a label. Measured on ten cases with all but the target's label dropped, and on tubes
# of 350 HU painted into them (docs/experiments/unlabelled.md).

# It is looked at on a grid of so many steps to the target's largest depth below its surface.
GRID_SHARE = 6.0
# Its marrow counts too: bone is what is denser than this, HU, after a blur, mm.
LEAST_BONE_HU = 90.0
BLUR_MM = 1.0
# Contrast in a lumen varies by less than this within so many mm, HU and mm; it has such a volume
# and is no denser than this, HU.
LUMEN_SPREAD_HU = 45.0
LUMEN_MM = 7.0
LUMEN_MM3 = 500.0
LUMEN_MOST_HU = 600.0
# Around the marrow of a bone more than this share of the surface is denser by so much, HU.
CORTEX_HU = 60.0
CORTEX_SHARE = 0.15
# Thick parts of bone are told apart where they are this deep, in shares of the target's depth, and
# their middles lie so many of its depths apart.
MARKER_DEPTH = 0.45
MARKER_REACH = 1.0
# Parts whose neck has this share of the thinner one's depth are one piece: a shaft.
NECK = 0.8
# A piece has dense voxels as many as this share of the target's voxels; there are at most so many.
PIECE_SHARE = 0.05
MOST_PIECES = 5

# The route

# A pose whose weakest view scores this much needs no neighbouring level tried, and no candidate of
# the search beside the one that it came of. No wrong level has reached it (0.71 in 104 trials with
# a label one level off: 31 cases, with and without a model).
CLEAR_SCORE = 0.8
# And no mirrored or exchanged pictures: these reached 0.86, with edges of 0.85 (14 mirrored clean
# pictures of one vertebra alone, of the phantoms in `Testing/registration_scenes.py`).
CLEAR_PICTURE_SCORE = 0.95
# And its edges agree this well in each view. Correct poses that score 0.8 had 0.68 or more (28
# correct registrations of phantoms and the fifteen cases), a wrong one of a real radius 0.52.
CLEAR_EDGES = 0.6
# Poses that are proposed before a search are finished only where the weakest view of the best one
# scores this much at the middle stage. Set with the fifteen cases in view; no command.
WORTH_FINISHING = 0.5
# And they stand without a search only where, finished, the weakest view scores this much: only
# the neighbouring levels were tried beside them. Set with the fifteen cases in view; no command.
# The search's best candidate is finished before the others where it scores this at the middle
# stage: eleven of the fifteen cases, nine of them beyond doubt then (docs/experiments/steps.md).
STANDS_ALONE = 0.65
# Poses whose surfaces lie this close together are one. No evidence.
SAME_POSE_MM = 1.0
# A pose this far from the best one speaks against it: what `ok` bets on (docs/limits.md).
CLEARLY_APART_MM = 2.0
# Where two poses' sums of both measures differ by less, the one nearer to the start comes first.
# Rounding alone moved scores by up to 0.0022 in fourteen of the fifteen cases.
EQUAL_EVIDENCE = 0.005
# A window shows so much more than the target's radius, for neighbourhoods. No evidence.
MARGIN_MM = 8.0
# Rounds of a stage end where one moved the target less than this. No evidence.
CONVERGED_MM = 0.02
# And where one raised the score by less than this. No evidence.
CONVERGED_SCORE = 0.003
# A step after which less than this share of the pixels counts is no step down. No evidence.
IN_VIEW = 0.3
# Views with fewer pixels are evaluated together: threads would wait for the interpreter.
SMALL_WINDOW_PX = 8000
# So many pixels are evaluated together at most: at the middle stage of the shared cases sixteen
# windows with their Hessians took twice as long each as two.
GROUP_PX = 40000
# A search on a GPU computes at most so many pixels of correlation maps and positions in them
# together: 43 to 89 bytes each where the CPU computed as a GPU does (one case, ranges of clicks and
# of starts), thus 1.4 GB. The 125 rotations about a start, with 91,125 positions each, are less.
SEARCH_PX = 16_000_000
# Rays of clicks that pass each other farther apart are refused as invalid. No evidence.
CLICKS_APART_MM = 30.0

# In a single X-ray the search looks at depths so far apart, mm, and from a click alone at these
# shares of the distance from source to detector. No evidence.
SIGHT_STEP_MM = 30.0
SIGHT_SHARES = (0.45, 0.9)

# Pictures

# A body is where its rendering has more than this share of its peak. No evidence.
VISIBLE_SHARE = 0.02
# X-rays are normalised with a floor of so many deviations of their noise. No evidence.
NOISE_FACTOR = 3.0
# A search trusts a position with less of its template than this inside the picture not at all, and
# in full only with all of it. No evidence.
TEMPLATE_SHARE = 0.3
# A template's contrast is normalised with a floor of this share of its largest. No evidence.
TEMPLATE_FLOOR = 0.08
# What a neighbour costs at one standard deviation of its prior, beside a mean residual below one.
# Weak: a tenth of what held neighbours so fast that they pulled the target with them.
PRIOR_STRENGTH = 2e-4

# The neighbouring levels

# From a lumbar vertebra's centre to the next one's, where the CT or its labels show no neighbour:
# the usual distance. No evidence of its own.
LEVEL_DISTANCE_MM = 36.0
# A labelled neighbour this far along the body's axis is the next level. No evidence.
LEVEL_RANGE_MM = (15.0, 60.0)
# And steeper than 45 degrees: a rib is no neighbouring level.
LEVEL_STEEPNESS = 0.7
# A neighbouring level that scores this close to the pose at the middle stage is compared finely.
# No evidence.
CLOSE_LEVELS = 0.05
# After one fine round a neighbouring level this far behind is not refined further: more rounds
# have brought up to 0.14 (37 wrong levels, four rounds).
LEFT_BEHIND = 0.2

# Every rotation

# Where the patient may lie in any way: the turns of a cube and turns between them, degrees, and how
# many of these are looked at closely. Two shared cases were right with it; more was not tried.
EVERY_TURN_DEG = 30.0
EVERY_TURN_KEPT = 12

# The bone's scale

# A bone this thick is registered with the lengths that vertebrae were measured with (lumbar ones
# have 19 to 29 mm), a thinner one with lengths that shrink with this power of its thickness. The
# radius of the real wrist (14 mm) was registered from 8 of 8 starts with lengths times 0.5, from 7
# with 0.7, from 2 with 1.
VERTEBRA_THICKNESS_MM = 18.0
SCALE_POWER = 2.0
# No lengths are shorter than this share of a vertebra's. No evidence.
LEAST_SCALE = 0.4

# Of mirrored and exchanged pictures those are looked at closely whose search scores this share of
# the best one's: the right pictures scored best in 69 of 69 trials (23 phantoms and shared cases).
LIKELY_PICTURE = 0.9

# Other pictures are searched with pixels so many times as large: which of them is likely needs less
# than where the bone is.
ROUGH_PIXELS = 1.5

# So many X-rays are exchanged two by two at the most: the number of pairs grows with its square.
EXCHANGED_VIEWS = 3

# Other poses

# The bone is rolled by so much about each of its principal axes, degrees. Four turns of 15 and 30
# degrees took half as long again; the wrist's eight runs ended alike with either.
ROLLS_DEG = (-22.0, 22.0)
# So many of what becomes of these go on from the coarse stage. No evidence.
OTHERS_KEPT = 2
# Edges are compared after blurs of so many pixels of the fine stage. No evidence.
EDGE_SCALES_PX = (1.0, 2.0, 4.0)

# Whether views contradict one another

# Of two views whose rays meet at less than this, degrees, the epipolar plane says too little. No
# evidence.
LEAST_ANGLE_DEG = 5.0
# Steps of the fit to each view alone. Of a camera that was 1 mm off 1 step told 1.4 mm, 2 steps
# 0.86 to 0.89, 3 steps 0.96 to 1.02, 5 steps 0.93 to 1.02.
ALONE_STEPS = 3

# The verdict (what `ok` means)

# Residuals next to each other are not independent: one independent residual per this area.
CORRELATION_AREA_MM2 = 9.0
# With a label one level off (104 trials: 31 cases, with and without a model) the confidence
# reached 0.245; of fourteen correct poses in hard X-rays eleven had 0.28 or more, one 0.25, two
# 0.03.
SURE_CONFIDENCE = 0.25
# Confidence is the weakest view's score less so much per millimetre of expected error.
ERROR_WEIGHT = 1.5
# Correct poses had up to 1.5 mm, wrong levels 0.2 to 3.5 mm: it tells of a loosely held pose, not
# of a wrong level, and is bounded near the 2 mm that `ok` bets on.
SURE_DISAGREEMENT_MM = 1.6
# Ahead of the best clearly different pose, at the fine stage. No evidence.
SURE_LEAD = 0.03
# Ahead of neighbouring levels and of other pictures. Correct poses were 0.03 and more ahead of
# mirrored and exchanged pictures, wrong ones 0.09 and more behind the right pictures (23 phantoms
# and shared cases). With either X-ray of a wrist inverted, mixed polarity led by 0.08. No evidence
# for levels.
SURE_ALTERNATIVE_LEAD = 0.02
# A weakest view below this shows no vertebra at the pose. No evidence.
FAILED_SCORE = 0.25
# Below this the edges of a view do not agree. Correct poses in hard X-rays had 0.30 to 0.47.
SURE_EDGES = 0.25
# Views that contradict one another by more than this across the epipolar lines, mm at the target:
# as much as a calibration may be off there (cases.CALIBRATION_MM). With true cameras 0.00 to 0.06
# (realistic, seeds 81300 to 81304), with one 2 mm off 1.98 to 2.12, with one 3 mm off 2.59 to 4.24.
SURE_EPIPOLAR_MM = 1.0
# From so many pairs of a view on their median decides, below the largest: the median of two is
# their mean, which halves a contradiction that one of them alone can show.
MEDIAN_PAIRS = 3
# An expected error above this is no registration. No evidence.
FAILED_ERROR_MM = 1.0

# How much higher the correlation of each view is with the target in the rendering than without it:
# what does not raise it is not shown. (Of 22 simulated vertebrae in five cases and of 17 other
# cases, two of them real, 0.05 at the least; of three vertebrae that the X-rays lack -0.10 at the
# most: docs/experiments/multilevel.md.)
LEAST_OWN_SHARE = 0.01

# One X-ray (docs/experiments/one-view.md)

# So many levels up or down from where the bone was taken first, at the most: a start is up to
# 50 mm off.
OTHER_LEVELS = 2
# Places of a profile lie so far apart along the line of sight, mm: those of the first one, at the
# middle stage, and those of the one about its lowest place, at the fine stage. It reaches so far
# to both sides of where it begins, mm.
DEPTH_WIDE_MM = 12.0
DEPTH_PLACE_MM = 4.0
DEPTH_REACH_MM = 96.0
# The second one's neighbourhoods are so many times as wide as the fine stage's, and its pixels so
# many times as large.
DEPTH_SHARP = 0.5
DEPTH_PIXELS = 1.25
# A parabola is laid through so many places about the lowest.
DEPTH_PARABOLA = 5
# Rounds of a place of the first one.
DEPTH_WIDE_ROUNDS = 2
# Rounds of a place of the second one until its cost falls by less than this share, at the most;
# and of a profile's first place, where neighbours have not settled yet: they took up to eight
# (three of the shared cases).
DEPTH_ROUNDS = 4
DEPTH_FIRST_ROUNDS = 10
DEPTH_SETTLED = 5e-4
# The depth's standard deviation is so many times that of the profile's curvature. And outlines in
# a picture lie so far, in edges of the CT's voxels, from where the CT puts them: a bone that looks
# larger by so much on all sides looks nearer. With both, errors of 27 X-rays of the shared cases
# are 1.07 times as large as is said, in the root mean square.
DEPTH_CURVED = 1.5
OUTLINE_SHARE = 0.02
# The standard deviation across the line of sight is so many times what the curvature says: errors
# of the same X-rays are 0.78 times as large as is said.
ACROSS_TIMES = 1.5
# To hold the depth in the equations, their largest number is taken so many times.
KNOWN_DEPTH = 1e6
# `ok` bets on an error below this, mm: so much in two standard deviations.
BET_MM = 2.0
# A depth that is known to no more than this, mm, is no registration: right poses had up to 14, one
# at a wrong level 96, where the profile had no lowest place.
LOST_DEPTH_MM = 40.0
