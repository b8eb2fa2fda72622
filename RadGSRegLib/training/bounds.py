"""The numbers that decide what is trained on and what is said of it: value, unit, evidence.

"No evidence" means that neither a document nor the history of the code says so. Sizes of networks,
rates and steps are no bounds but configuration (`config.TrainingConfig`).
"""

# What is said of a detector

# A place this near a vertebra's centre has found it, mm: less than half the distance of lumbar
# neighbours (about 36 mm), so that a place belongs to one vertebra at most.
# `radgsreg pretrain --stage 1 --phantoms 12` writes the shares to the card.
FOUND_MM = 15.0

# Which vertebrae are trained on

# Fewer voxels of a label than this are a remnant of a vertebra. No evidence.
LEAST_VOXELS = 200
# A phantom's spines that nothing is trained on, for the best weights and the card of the first
# stage; pairs of the card's SSIM and PSNR at most. No evidence.
UNSEEN_SPINES = 2
MEASURED_PAIRS = 12
# So many vertebrae, evenly chosen, make the mean that anchors are fitted to. No evidence.
AVERAGED = 20
# Gaussians are fitted where the mean has more than this share of its peak. No evidence.
MEAN_SHARE = 0.04

# How many vertebrae the modes of shape are learned from

# There are at least so many to a mode. No evidence.
VERTEBRAE_PER_MODE = 3
# And at most so many phantoms (five vertebrae each, about 1 s of a free core) and vertebrae of the
# stage (4 ms an epoch) per minute of the budget, so that most of it is left for the networks
# (docs/learning.md).
PHANTOMS_PER_MINUTE = 4
SOURCES_PER_MINUTE = 20

# How much of a moved CT is left

# Of a pair made from a CT, this share of the vertebra's surface lies in RegM's cube, if it can. Of
# 400 poses of phantoms within 20 degrees and 50 mm all left more in the paper's cube of 128 mm, two
# thirds in one of 96 mm (docs/experiments/networks.md). The value: no evidence.
LEFT_IN_CUBE = 0.5

# Polarity

# A pair's polarity is told where the vertebra's line integrals exceed this share of their greatest.
# No evidence.
TARGET_SHARE = 0.05

# The budget

# Minutes that are left where preparing the data has used them up: a few steps all the same.
LEAST_MINUTES = 0.02

# What tells levels

# An anchor nearer to the picture's border than this is cut by it, mm: the picture is neither said
# to tell levels nor not to. About half a vertebra and a disc. No evidence for the value.
ANCHOR_CUT_MM = 25.0
# How much more a cell at a vertebra's centre counts than one without: some ten vertebrae of some
# six cells each among two thousand. No evidence for the value.
CENTRES_WEIGHT = 10.0
