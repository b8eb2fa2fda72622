"""The numbers that decide whether a click shows a vertebra, and which voxels are its own.

Each stands here once: its value, its unit, and what it was measured on. "No evidence" means that
neither a document nor the history of the code says so.
"""

# What is refused before a search

# Nothing shows a vertebra in a CT that is thinner, or whose voxels are wider, mm. Acts on small or
# coarse CTs alone. No evidence.
LEAST_EXTENT_MM = 30.0
MOST_SPACING_MM = 6.0
# About a click in fat or air is less than this, HU (mean over 2 mm). No evidence.
FAT_HU = -30.0

# What a search keeps

# So many places are refined, the best of those that lie this far apart, mm. The count acts where
# the right place is not among the first few. No evidence.
KEPT = 6
APART_MM = 5.0

# What is refused, or called uncertain, after it: none of 68 points was refused (docs/benchmarks.md,
# "Segment from a click").

# Below these correlations of the placed and of the bent template no vertebra is there; below the
# second two the mask is uncertain. They act where the template fits badly: no vertebra, one that is
# much deformed or turned too far, metal. Of the bent template, on the two CTs: twelve masks of Dice
# 0.89 to 0.93 had 0.606 to 0.668, four of 0.73 to 0.75 (a patient turned too far) had 0.492 to
# 0.593. No evidence for the other three.
LEAST_SCORE = 0.3
LEAST_FIT = 0.4
SURE_SCORE = 0.4
SURE_FIT = 0.6
# Less than this share of the vertebra inside the CT is refused, less than the second is noted as
# cut. Acts where the CT ends in the vertebra, as the next does. No evidence.
LEAST_INSIDE = 0.6
WHOLE_INSIDE = 0.995
# More of the mask on the CT's edge is noted as cut, mm2; less is the tip of a process that happens
# to end there. No evidence for the value.
CUT_MM2 = 40.0
# A click this near the mask is inside it, mm: as a hand, and the mask's edge, are exact. Acts on
# clicks at a body's edge. No evidence for the value.
NEAR_MM = 3.0
# A click so far beside the mean body is in a spur of it, mm (x, y, z): osteophytes reach far to the
# sides. Acts on clicks beside a body. No evidence for the values.
BODY_MARGIN_MM = (8.0, 4.0, 6.0)

# Where the bone ends, in mm and in shares of the step from soft tissue to cortical bone

# The fit averages over a cortex that lies just inside the surface. No evidence for the value.
OUTWARD_MM = 0.5
# How far the CT may move the surface: votes per mm, and those of the CT at most. No evidence.
STEEPNESS = 0.6
EVIDENCE = 0.8
# Bone begins at this share of the step, which is at least so many HU: acts where bone is hardly
# denser than what is around it. No evidence.
EDGE_SHARE = 0.4
LEAST_STEP_HU = 100.0
# Darkness speaks against bone only this close to the surface, mm: marrow is dark too. No evidence.
MARROW_MM = 2.0
# Votes are smoothed by this, one standard deviation. No evidence.
SMOOTH_MM = 0.6
