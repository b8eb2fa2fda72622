"""The numbers that decide how a run is followed: value, unit, evidence.

Each stands here once. Measured on simulated runs (`Testing/benchmarks/bench_tracking.py`); "No
evidence" means that no measurement says so.
"""

# The motion

# Before a run says itself how it moves: accelerations, mm and degrees per frame and frame. A bone
# that takes 5 mm a frame at its fastest and turns back within 14 frames accelerates by 2.2.
ACCELERATION_MM = 2.0
ACCELERATION_DEG = 1.5
# What the first frame says nothing of: how fast the bone moves, per frame.
VELOCITY_MM = 5.0
VELOCITY_DEG = 3.0
# A run's own acceleration is taken from predictions over so many frames, the worst of them. Smooth
# motion is predicted worse over many frames than over few.
HORIZONS = (1, 2, 4, 8)
# And is no less than this, per frame and frame. No evidence.
LEAST_ACCELERATION_MM = 0.05
LEAST_ACCELERATION_DEG = 0.05

# One frame

# Steps of the last two stages: with three and four instead of five and six the errors of eight
# frames stayed at 0.02 to 0.14 mm, in three quarters of the time (docs/experiments/tracking.md).
MIDDLE_STEPS = 4
FINE_STEPS = 3
# Prediction and last pose are both followed where they put the surface so far apart, mm. No
# evidence.
TWO_STARTS_MM = 0.5
# And go on from the coarse stage where they score so close to each other. No evidence.
CLOSE_START = 0.03
# A picture whose noise is so large, in units of its range, shows nothing else. X-rays had up to
# 0.002 (realistic, trunk, seeds 82300 and 82301).
NOISE_ALONE = 0.09

# Whether a pose that follows from another is that bone's

# Beyond this many deviations of the prediction a pose is no continuation. No evidence.
GATE = 4.0
# Nor one that was judged in full, where it is also so far away, mm: half the way to the next level.
LEVEL_JUMP_MM = 15.0
# Nor where it explains the weakest view, or its edges, worse than the last one that was judged in
# full, by so much. No evidence.
SCORE_DROP = 0.15
# Nor where a view shows less than this share of the bone's surface. Of a run whose window burnt it
# out (trunk, seed 82301) frames with 0.04 to 0.14 in a view were off by up to 2.0 mm and said to be
# by 0.5, with 0.23 and more by up to 0.9.
LEAST_SHOWN = 0.25
# A pose so far from the middle of those beside it, mm, jumps: more than so many times as far as is
# usual in this run.
JUMP_MM = 2.0
JUMP_TIMES = 5.0

# What is uncertain

# Poses that are uncertain are smoothed with so much more of a standard deviation, mm and degrees:
# of five at the end of a run (3 mm CT, seed 82302) all were within 0.94 mm, and the motion carried
# on without them was 17 mm off.
DOUBTFUL_MM = 2.0
DOUBTFUL_DEG = 2.0

# One plane

# By how much a fit to one plane leaves the bone away from its place along the line of sight, mm,
# root mean square: 13.1 begun at the truth, 13.5 begun 15 mm off, of 30 views of the shared cases
# (docs/experiments/one-view.md).
OPEN_DEPTH_MM = 13.5

# A bone that was lost

# It is searched for within so many deviations of the prediction, at least and at most this far, mm
# and degrees. No evidence.
SEARCH_DEVIATIONS = 3.0
SEARCH_MM = (12.0, 45.0)
SEARCH_DEG = (12.5, 25.0)
# At most so many frames pass until a bone that is not `ok` is judged in full again. It saves time.
PAUSE = 7
# So many other frames are tried where the first cannot be registered.
OTHER_ANCHORS = 4
