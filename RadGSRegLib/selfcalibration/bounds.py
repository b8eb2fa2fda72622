"""The numbers that decide what refined cameras are believed.

Each stands here once: its value, its unit, and what it was measured on. "Seeds 81500 to 81507" are
the X-rays of docs/experiments/selfcalibration.md that were looked at while it was made.
"""

# How far a nominal camera may be off about each axis, degrees, and along it, mm, one standard
# deviation. An assumption: no C-arm was measured. Simulated cameras 3 degrees and 10 mm off in all,
# and twice as far, came to lie right with it (docs/experiments/selfcalibration.md).
NOMINAL_DEG = 3.0
NOMINAL_MM = 10.0
# How far its focal length may be off, a share of it, and its principal point, a share of the
# picture's larger side: they are not refined, and the source is off with them. An assumption.
# (Focal lengths 2 % and principal points 4 % off moved no vertebra beside the others:
# docs/experiments/selfcalibration.md.)
NOMINAL_FOCAL_SHARE = 0.01
NOMINAL_PRINCIPAL_SHARE = 0.02
# How far one that was calibrated may be, which holds the others. No evidence.
CALIBRATED_DEG = 0.02
CALIBRATED_MM = 0.1

# Fewer vertebrae are not taken: of one, its motion along the beam and the camera's own can hardly
# be told apart. No evidence for the exact value.
FEWEST_VERTEBRAE = 3

# More are not needed: the nearest to the target. Only saves time.
MOST_VERTEBRAE = 7

# A vertebra whose section at the CT's border is more than this share of its largest one is cut off.
# (Of seed 81506 the tips of L5 lie there. Other values were not tried.)
CUT_SHARE = 0.25

# A vertebra that an X-ray shows less of, a share of its voxels, is left out of all. (With 0.9 one
# of five that all X-rays show whole was left out, as nominal cameras have it 10 mm elsewhere.)
SHOWN_SHARE = 0.7

# A vertebra whose score is lower in a view after the middle stage does not lie there, and is left
# out. (Seeds 81500 to 81507: 0.64 at the least.)
LEAST_SCORE = 0.4

# By how much the spine is tried longer and shorter after the middle stage, with all cameras as much
# further off or nearer: first by these shares, then about the best by the smaller ones. (Seed
# 81524, 23 and 29 mm off along the beams: docs/experiments/selfcalibration.md.)
STRETCHES = (-0.03, -0.015, 0.015, 0.03)
SMALLER_STRETCHES = (-0.007, 0.007)

# Rounds, in each of which windows are cut anew, and steps of a round. (Seed 81507: vertebrae are
# 0.21 mm off in the mean after 4 fine rounds, 0.16 mm after 10. Other numbers of steps were not
# tried.)
COARSE_ROUNDS = 3
MIDDLE_ROUNDS = 4
FINE_ROUNDS = 8
MORE_ROUNDS = 4
STEPS = 12
STEPS_PER_MATRIX = 4

# What the spread of a Hessian is too small by. (Realistic seeds 81512 to 81517: vertebrae are off
# by 3 to 4 of its standard deviations, cameras along the beam by 3 in the median, by 7 at the
# most.)
WIDER = 4.0

# Cameras further from where they were meant to be than so many of the standard deviations of
# nominal ones, along any axis, are not believed. A usual value.
MOST_SIGMAS = 3.0

# Vertebrae have settled where the last round moves no point of them by more in their own frame, mm;
# if not, up to `MORE_ROUNDS` follow. (Seed 81511: the eighth round moved one by 1.0 mm, to where it
# was right.)
SETTLED_MM = 0.25
