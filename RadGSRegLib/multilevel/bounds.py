"""The numbers that decide how several vertebrae are registered together, and the CT bent by them.

Each stands here once: its value, its unit, and what it was measured on.
"""

# A step after which less of the vertebrae's pixels is in view is none. No evidence.
STILL_SEEN = 0.7

# The share of its diagonal that is added to the matrix of a step. How long the spine is, and with
# that how far all cameras stand, is told only by how large each vertebra looks. (Seed 81502, begun
# 8 mm off along the beams: 1e-3, as in other registrations, left 4 mm of it, 1e-5 0.4 mm, and 1e-7
# stuck 2 to 3 mm off, with other pieces.)
DAMPING = 1e-5

# Vertebrae of which an X-ray shows less, a share of their voxels, are not registered. As in
# `selfcalibration.SHOWN_SHARE`.
SHOWN_SHARE = 0.7

# Rounds of the first vertebra's own fine stage, before all are refined together. Only saves time.
FIRST_ROUNDS = 1

# Rounds, in each of which windows are cut anew, and steps of a round: seeds 81611 and 81641
# (docs/experiments/multilevel.md, "Rounds").
MIDDLE_ROUNDS = 1
FINE_ROUNDS = 10
STEPS = 6
STEPS_PER_MATRIX = 6

# Vertebrae have settled where a round moves no point of them by more, mm.
SETTLED_MM = 0.1

# Two vertebrae that lie beside one another are at least this share of their distance in the CT
# apart, along the same direction. No evidence for the exact value.
LEAST_STEP = 0.5

# A vertebra of whose surface a larger share lies so deep (mm) in the one beside it, beyond what
# does in the CT, is nowhere that a vertebra can be. (True poses of seeds 81611 to 81618: 0.022.)
DEEP_MM = 2.0
MOST_OVERLAP = 0.1

# Where the last round still moves a point by more, mm, nothing is `ok`. No evidence.
MOST_UNSETTLED_MM = 0.5

# The CT bent (docs/experiments/bounds.md, "Not swept")

# Distances from a bone are kept at every voxel so near it, mm, and on a coarse grid beyond.
NEAR_MM = 16.0
# The coarse grid's voxels, mm.
FAR_STEP_MM = 4.0
# Nodes of the field of displacements that is written lie so far apart, mm. On phantoms 82100 to
# 82103, neighbours moved by up to 5 degrees and 3 mm, 2.0 to 3.5 % of the bones' voxels are off by
# more than 0.05 mm (4 mm: 3.3 to 5.2 %, 2 mm: 0.9 to 1.9 % in a file three times as large;
# docs/experiments/bent.md).
GRID_STEP_MM = 3.0
# Points are led back from the world to the CT until they come out so near, mm.
INVERSE_MM = 0.01
# In at most so many steps.
INVERSE_STEPS = 60
