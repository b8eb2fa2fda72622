"""The numbers that decide how deep one X-ray puts a bone, and how sure that is.

Measured on simulated X-rays (docs/experiments/one-view.md).
"""

# Places of a profile lie so far apart along the line of sight, mm: those of the first one, at the
# middle stage, and those of the one about its lowest place, at the fine stage. It reaches so far
# to both sides of where it begins, mm.
WIDE_MM = 12.0
PLACE_MM = 4.0
REACH_MM = 96.0
# The fine profile's neighbourhoods are so many times as wide as the fine stage's.
SHARP = 0.5
# And its pixels so many times as large.
PIXELS = 1.25
# A parabola is laid through so many places about the lowest.
PARABOLA_PLACES = 5
# Rounds of a place until its cost falls by less than this share, at the most; and of the first one,
# where neighbours have not settled yet: they took up to eight (three of the shared cases).
PLACE_ROUNDS = 4
FIRST_ROUNDS = 10
SETTLED_SHARE = 5e-4

# The verdict

# The depth's standard deviation is so many times that of the profile's curvature.
CURVED = 2.0
# And outlines in a picture lie so far, mm at the bone, from where the CT's surface puts them: a
# bone that looks larger by so much on all sides looks nearer.
OUTLINE_MM = 0.05
# The standard deviation across the line of sight is so many times what the curvature says.
ACROSS = 1.5
# To hold the depth in the equations, their largest number is taken so many times.
KNOWN_DEPTH = 1e6
# `ok` bets on an error below this, mm: so much in two standard deviations.
BET_MM = 2.0
