"""The numbers that decide where networks look for a vertebra, and which answer they give.

Each stands here once: its value, its unit, and what it was measured on. "No evidence" means that
neither a document nor the history of the code says so.
"""

# The model's patient

# Centres nearer than this are of one vertebra, its mask mended, mm: neighbours are 20 mm apart or
# more. Acts with a patient's model alone.
SAME_VERTEBRA_MM = 10.0

# What the networks' pose says of another

# So many times its median error on held-out pairs may RegM's pose lie away from a registered one
# that is `ok`. Set with right poses in view that lay up to 7.3 times as far away; with networks
# that look for landmarks they lie up to 3.2 times as far (docs/experiments/published.md). Acts with
# --method published alone.
DISAGREEMENT = 8.0

# Where to look

# How much a place's logarithm of probability counts beside the agreement of its pictures. On ten
# pairs of L3 any weight from 0.03 up chose the right place in all ten, 0 in four
# (docs/experiments/detector.md; no command).
DETECTOR_WEIGHT = 0.1
# Places this far behind the first (log probability) are seen by one view or none. No evidence.
HOPELESS = 3.5
# The detector errs by a level, or by half of one: RecM looks there too, mm along the spine. Set
# after a look at the fifteen cases (docs/experiments/patient-model.md).
LEVEL_STEPS_MM = (-36.0, -18.0, 18.0, 36.0)
# So many places of the detector are looked at: as many vertebrae as a picture may show. Among eight
# was the right one in 39 of 40 pairs of phantoms, and in all fifteen cases with a patient's model
# (docs/experiments/detector.md). Acts where `HOPELESS` leaves more.
SIGHTED = 8
# They are peaks on a grid of this, mm, refined between its points. No evidence.
GRID_MM = 5.0
# A rough start's centre is trusted so far (one standard deviation), mm: what a start may be off
# (the contract's +- 50 mm). Acts with such a start alone.
NEAR_MM = 50.0
# Without a detector: a crop about a point this far off still shows the vertebra, if not in its
# middle, mm; so many steps of that to each side of where the views meet, and around a start.
SCAN_MM = 20.0
SCAN_STEPS = 1
START_STEPS = 2
# So often crops are moved to where their answer puts the centre. No evidence.
RECENTRINGS = 2

# Which places are kept

# So many places at most. No evidence.
PLACES = 3
# Places this far apart are two, mm; neighbours are 20 mm apart or more. No evidence for the value.
APART_MM = 12.0
# Fitted to the X-rays, a place that agrees less than this share of the best one is given up, unless
# it was the likeliest before (one of the fifteen cases was lost when it was not: its fit had gone
# astray); where even the best does not agree at all, nothing is. Acts where one of several places
# is plainly wrong. The value: no evidence.
LIKELY = 0.4
# Fitted roughly, places that agree nearly as well as the best (this share) are fitted finely before
# one of them is called the best; the others stay behind them. No evidence.
CLOSE = 0.85
# Places that have run together in the fit are one, mm; neighbours may be 12 mm apart before it. In
# the sweep no two ended 4 to 6 mm apart. No evidence.
SAME_PLACE_MM = 5.0

# What a detector says

# So much of each view's distribution is even: no view alone rules a place out. No evidence.
EVEN_SHARE = 0.02

# How well an answer agrees with the pictures

# Gaussians of what is drawn to be compared, at most. Acts with a patient's model, and with one of
# more than twice as many (the shipped one has 500): they are merged. No evidence.
DRAWN_GAUSSIANS = 400
# Pixels count where the vertebra has more than this share of its greatest integral. No evidence.
DRAWN_SHARE = 0.02

# What RegM trusts

# The logarithm of the head's trust in a cell stays within this of 0: none counts alone, none is
# shut out. The shipped weights were trained with it. In the sweep none that counted
# went beyond 4.8. No evidence.
TRUST_LOG = 6.0

# How far a vertebra is bent

# How much the squares of coefficients count where shapes are read off an answer (no evidence), and
# beside the mean robust residual (below one) where they are fitted: chosen with the three below by
# twelve deformations of L3, six of L2 and six phantoms (docs/experiments/networks.md, "A shape
# that the CT did not have"; `Testing/benchmarks/bench_shape.py`).
RIDGE = 0.3
PRIOR = 1.5e-4
# Positions are read off an answer up to this share of how far a Gaussian may move. Acts where the
# stretch carries one farther. No evidence.
REACHED_SHARE = 0.95
# Of a lumbar vertebra with its processes, and what is around it, mm to each side of its middle.
HALF_WIDTH_MM = 55.0
# A trial with coarser pixels first brought nothing (commit 4b2773e).
BEND_PIXEL_MM = 1.0
BEND_BLUR_MM = 0.6
# Images are compared in neighbourhoods of this many mm.
BEND_NEAR_MM = 2.0
BEND_STEPS = 60

# How a patient's own vertebra may have changed: over how many mm displacements are alike, and how
# far points move along each axis (one standard deviation): those of random B-splines (`training.
# deformed`), whose mesh is about half a vertebra wide. So many modes, from so many points.
SMOOTH_MM = 16.3
SMOOTH_CHANGE_MM = 1.7
SMOOTH_MODES = 200
SMOOTH_NODES = 200
# X-rays ask for some change of every vertebra, by what lies before and behind it: 0.55 mm of L3,
# 0.66 at most, and 0.85 of L2, 1.48 at most (eight pairs each), where one deformed by 3 mm asks for
# 1.6 and more (docs/experiments/networks.md). Less than this is not shown.
LEAST_CHANGE_MM = 1.5

# A predicted vertebra moved as one piece

# Its middle is that of voxels (mm) with more than this share of the densest. No evidence.
OCCUPIED_SHARE = 0.1
VOXEL_MM = 3.0

# What a view says of levels

# So many candidates at most: peaks of where vertebrae may be, and their least share. With 0.1 the
# likeliest place of a level was right in 78 % on the pairs below, with 0.2 and 0.3 in 83 and 84 %.
CANDIDATES = 16
CANDIDATE_LEAST = 0.25
# No view rules a place or a level out by itself: the least share of a vertebra's centre, and of a
# level beside that of a vertebra of which nothing is told. No evidence for the values.
SHARE_FLOOR = 0.02
LOOKS_FLOOR = 0.1
# How much looks count beside the order of the spine: those of neighbours in one picture err alike.
# 0.3 to 1.0 changed 1 % of the levels on the same pairs.
LOOKS_WEIGHT = 0.75
# The logit of how likely names are right that are counted from an anchor: a constant, and how much
# the surest cell of all views counts, with its share of the anchor's class and of a centre. Fitted
# on 192 pairs of phantoms 77800 to 77815 with the weights that come with the program.
SACRUM_TRUST = (-2.63, 6.69)
RIB_TRUST = (-4.73, 9.76)

# A vertebra decoded voxel by voxel

# Voxels with more than this share of `decoder.UNIT` that are inside at least so likely (the logit)
# become Gaussians, as wide (one standard deviation) as this share of a voxel. Chosen with half-done
# weights by five phantoms and eight of the fifteen cases: SSIM 0.743, 0.656 and 0.690, with all
# dense voxels and 0.6 of a voxel 0.726, 0.651 and 0.682 (docs/experiments/decoder.md).
DENSE_SHARE = 0.05
INSIDE_LEAST = -0.7
VOXEL_SIGMA = 0.45
# Bent to the X-rays, the mean vertebra's Gaussians have this share of the density, those decoded
# the rest. With weights that had not seen the CT, of 0.3, 0.5, 0.7 and 1: SSIM 0.69, 0.69, 0.68
# and 0.64 on L2's four cases; on L3 no difference; more is better on phantoms
# (docs/experiments/decoder.md).
BENT_SHARE = 0.7

# Standardisation

# A source nearer to the patient is refused, mm. Acts on wrong geometry. No evidence.
LEAST_DEPTH_MM = 100.0
# A picture is blurred by this share of what its pixels grow by before it is thinned. No evidence: a
# usual value.
THINNING_BLUR = 0.5
# Answers to the picture as it is, and mirrored and inverted, that differ by more than this share of
# what they show are doubted. (Of 32 simulated X-rays of phantoms and of the published CTs 0.14 to
# 0.62; noise, stripes and a ramp 0.92 and more: docs/experiments/standard.md.)
MOST_DOUBT = 0.75
