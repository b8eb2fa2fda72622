"""The numbers that decide what a reconstruction of the whole beam believes.

Each stands here once: its value, its unit, and what it was measured on.
"""

# Views

# A source nearer to the centre is refused, mm. Acts on wrong geometry. No evidence.
LEAST_DEPTH_MM = 100.0
# A picture is blurred by this share of its new pixel before it is thinned, and a Gaussian ends
# after so many standard deviations. No evidence: usual values.
THINNING_BLUR = 0.5
BLUR_REACH = 3.0
# A thinned pixel says something where at least this share of its neighbourhood does. No evidence.
LEAST_SHARE = 0.25

# A plateau of the lowest or highest value is a shutter where a diamond of this radius fits, and it
# is left out with a rim of one pixel, pixels. No evidence.
PLATEAU_PX = 3

# What fills the beam

# Edge of the cube about the centre that holds what crosses the beam, mm: a trunk with room to
# spare. (The field of the 3 mm CT: 366 mm by 303 mm; drawn trunks: up to 330 mm by 250 mm.)
REGION_MM = 400.0
# Attenuation of soft tissue, 1/mm: of water at 60 keV.
TISSUE_MU = 0.0206
# What is above this share of tissue is pulled to it, the rest to air. No evidence.
TISSUE_SHARE = 0.6

# Display

# Scatter over primary at the median of a picture that the fit starts from. (Realistic X-rays are
# simulated with 0.15 to 0.7.)
SCATTER_TO_PRIMARY = 0.4
# How far scatter spreads: a core and a tail of twice the width, mm at the patient; 50 mm at a
# detector half as far again (B. Ohnesorge et al., Eur Radiol 9, 1999). With half as much again,
# attenuation of a trunk from 40 X-rays correlates by 0.638 with the CT's, with this by 0.669.
SCATTER_MM = 33.0
# Scatter takes no more than this share of the signal. Acts where a fit goes astray. No evidence.
MOST_SCATTER = 0.9

# A curve is bent where this times as much speaks against it: what is not predicted from the other
# X-rays, times the square of how unlike tissue the voxels are. (Trunks: 0.47 to 0.64, and gained.
# By what is predicted alone, a body of 20 X-rays of 32 pixels: 0.94, and lost.)
WORTH_BENDING = 0.9
# From this share of soft tissue on a voxel's difference from tissue or air counts less and less, so
# that bone, which there is anyway, does not decide. (Chosen with the four rows of
# docs/experiments/beam.md, "The bend"; other values were not tried.)
LIKE_TISSUE = 0.1

# Gaussians

# Few views leave Gaussians too free: they are held to the coarse voxels by this weight against the
# images' L1, at so many views, falling with this power of their number. (Ten clean X-rays of a
# trunk: attenuation 0.54 without, 0.66 with; their voxels 0.67. Other numbers were not tried.)
HOLD, HOLD_VIEWS, HOLD_POWER = 0.2, 10.0, 3.0

# Bone

# Bone exceeds soft tissue by this factor: 120 HU. (Bone of a trunk from 40 X-rays correlates by
# 0.82 with 1.0, by 0.83 with 1.12, by 0.78 with 1.2: docs/experiments/standard.md, "Volumes".)
BONE_ABOVE_TISSUE = 1.12
# What exceeds it counts wholly where so many times as much bone was drawn as is usual where there
# is bone. (Once 0.83, twice 0.83, thrice 0.82; where the volume was worse 0.72, 0.75, 0.76.)
WHOLLY_BONE = 3.0

# A guide's shape (docs/experiments/beam.md, "Shape guided")

# Nodes of the splines that bend a guide lie so far apart over the cube that holds all there is, mm,
# within these numbers along an edge. (17 nodes along 400 mm: no better than 12.)
NODE_MM, LEAST_NODES, MOST_NODES = 16.0, 6, 12
# Against the misfit of line integrals over their root mean square, each squared: log sizes and
# stretches; second differences of the nodes and displacements, mm^2; log gains (0.03: brightness
# took the place of shape).
PLACE_WEIGHT = 0.6
BEND_WEIGHT, MOVE_WEIGHT, GAIN_WEIGHT = 3e-3, 3e-4, 0.3
# A shift counts as a change of size by e over this, mm.
SHIFT_MM = 150.0
# Details are what is left without means over so much, mm. They count by these weights: a trunk's
# soft tissue hides its bones while it is placed (without: 116 mm off along the spine).
DETAIL_MM, DETAIL_PLACING, DETAIL_BENDING = 40.0, 0.3, 0.03
# The voxels of a trunk are pulled to a bent guide by this weight (as `algebraic.Penalty.pull`). (1
# instead: a trunk 0.3 to 0.4 dB worse. Of smaller cubes both penalties fall with their volume.)
SHAPE_PULL = 0.25
# A guide is used where with it X-rays are predicted from the others so much better, dB (right ones
# 2.1 to 6.3, one -0.5; wrong ones -1.6 and -0.5), and where it is bent by no more than so much
# (95 % of what there is of it), mm (right ones up to 7.3; L3 upside down 12.5 and 12.7).
LEAST_GAIN_DB = 1.0
MOST_BENT_MM = 10.0
# Line integrals below this are air: 2 mm of soft tissue. No evidence.
AIR_LINES = 0.05
# Where more than this share of a picture's rim shows something, there is more beyond. (L3 by itself
# in a field of 125 mm: up to 0.07; trunks: nearly all.)
MOST_OF_RIM = 0.25

# The verdict

# A view contradicts the rest where it is so little like what they predict, wherever it is from
# (correlation of details in units of their strength nearby). (Of 10 and 30 realistic X-rays swapped
# ones and those of another patient -0.10 to 0.16; right ones 0.14 and more, beside swapped ones
# 0.07: docs/experiments/beam.md, "Contradictions".)
LIKE_NOTHING = 0.12
# Or where it is less like it than the first, and by more than the second more like what they
# predict of a moved camera. (Turned by 10 degrees: 0.20 to 0.40; right ones up to 0.15, beside
# swapped ones 0.20, once beside a turned one 0.38.)
LIKE_ENOUGH, MOST_GAINED = 0.5, 0.22
# Or where details predicted of it correlate with its own by so much less than those of the median
# view, fit best somewhere else and by less than the second better in their own place than farther
# away, and a moved camera makes up for more than the third of what is missing in likeness. (The
# turned one of 30 with a gain of 0.20: 0.26; swapped ones of a smooth body: 0.20 and 0.26; right
# ones that agree so little: up to 0.10.)
BELOW_MEDIAN, LEAST_LEAD, MOST_GAINED_BESIDE = 0.25, 0.1, 0.15
# They fit in their own place up to so far from it, mm; away from it they are from the second to the
# third on. A view turned by 10 degrees fits best 8 to 12 mm away. Measured with pixels of 4 mm.
BESIDE_MM, AWAY_MM, FARTHEST_MM = 4.0, 16.0, 24.0
# Cameras are moved by these angles, degrees, and these lengths, mm. Others were not tried.
MOVED_DEG = (5.0, 10.0, 15.0)
MOVED_MM = (8.0, 16.0, 24.0)
# So much of a view counts: not where it is steepest. (A right view whose skin lies beside burnt-out
# air has a likeness of 0.29 with all of it, 0.35 so.)
FLAT_SHARE = 0.8
# Where the median view agrees less with the others, none is believed. (Of right X-rays of a trunk
# the median is 0.78 to 0.94, of a phantom 0.69.)
LEAST_AGREEMENT = 0.5
# Fewer views than this do not cover. (The fewest that were measured to the end: 20.)
LEAST_VIEWS = 20
# Nor do those with a wider gap between their directions, degrees. No evidence.
WIDEST_GAP_DEG = 45.0
# Bones that a network drew are believed where they correlate so much with what is dense in the
# volume of all tissue. (Right ones of 40 or 50 X-rays 0.55 to 0.68, of 10 and 20 0.50 and 0.40;
# exchanged, moved and mirrored ones -0.10 to 0.36: docs/experiments/standard.md, "Verdict".)
LEAST_BONE_AGREEMENT = 0.42
