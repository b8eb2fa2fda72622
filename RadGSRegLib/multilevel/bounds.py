"""The numbers that decide how several vertebrae are registered together.

Each stands here once: its value, its unit, and what it was measured on.
"""

# A step after which less of the vertebrae's pixels is in view is none. No evidence.
STILL_SEEN = 0.7

# The share of its diagonal that is added to the matrix of a step. How long the spine is, and with
# that how far all cameras stand, is told only by how large each vertebra looks. (Seed 81502, begun
# 8 mm off along the beams: 1e-3, as in other registrations, left 4 mm of it, 1e-5 0.4 mm, and 1e-7
# stuck 2 to 3 mm off, with other pieces.)
DAMPING = 1e-5
