"""The numbers that decide which level a vertebra is given, and whether it is given one at all.

Each stands here once: its value, its unit, and what it was measured on. "No evidence" means that
neither a document nor the history of the code says so.
"""

# The order of the spine

# Mean distance from each of `LEVELS` to the next lower one, mm: centroids of forty phantoms, whose
# sizes follow published ones (phantom/sizes.py), each vertebra moved; that of S1 is 14 mm below its
# end plate.
SPACING_MM = (28.1, 30.5, 32.6, 32.6, 33.7, 34.5, 34.5, 33.6, 34.7)
# How far distances spread about these, as a share (one standard deviation): 8 to 12 % among the
# same phantoms, and candidates err by some 3 mm.
SPREAD = 0.16
# How likely a vertebra between two candidates is none itself. No evidence for the value.
MISSED = 0.03
# Candidates that are no vertebra lie anywhere over so many mm of the spine. No evidence.
ANYWHERE_MM = 100.0
# A candidate is never surely a vertebra, nor surely none. No evidence.
SURE_SHARE = 0.98

# What is named

# Without an anchor that is as sure as this in some view, no level is named. By the same pairs as
# the next.
ANCHOR_LEAST = 0.5
# A level less likely than this is not named. On 192 pairs of phantoms 77800 to 77815 names were
# right with it in 262 of 267, and given without an anchor in none of 41 (with 0.5: 359 of 389 and
# in one; docs/experiments/detector.md).
LEVEL_LEAST = 0.7
