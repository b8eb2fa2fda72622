"""The numbers that decide what is bone, and which way it faces.

Each stands here once: its value, its unit, and what it was measured on. "No evidence" means that
neither a document nor the history of the code says so.
"""

# What is above this percentile of a reconstruction's values is bone: the published value.
PERCENTILE = 80.0

# A piece larger than this is more than one vertebra, ml, and its axes are no vertebra's: of 30 of
# phantoms the largest had 64; a trunk's bone in a cube of 112 mm had 281. It decides a note.
MOST_ML = 100.0

# Which way a vertebra faces: docs/experiments/beam.md, "Axes of a vertebra"; again by
# Testing/benchmarks/bench_axes.py.

# The plane of symmetry is looked for so far from the patient's, degrees: as far as a patient lies
# askew (25) and a vertebra is turned in the spine (10).
MOST_TURNED_DEG = 35.0
# Blur of the mask while it is compared with its mirror image, mm: one standard deviation.
MIRROR_BLUR_MM = 2.0
# How far from the middle of the body its end plates are looked at, as a share of the largest ball
# inside of it. Further out are rims and pedicles, further in is too little to see a slope.
PLATE_REACH = 0.8
