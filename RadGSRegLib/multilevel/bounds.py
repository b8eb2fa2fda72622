"""The numbers that decide how several vertebrae are registered together, and the CT bent by them.

Each stands here once: its value, its unit, and what it was measured on.
"""

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
