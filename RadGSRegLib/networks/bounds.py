"""The numbers that decide where networks look for a vertebra, and which answer they give.

Each stands here once: its value, its unit, and what it was measured on. "No evidence" means that
neither a document nor the history of the code says so.
"""

from __future__ import annotations

# The model's patient

# Centres nearer than this are of one vertebra, its mask mended, mm: neighbours are 20 mm apart or
# more.
SAME_VERTEBRA_MM = 10.0

# Where to look

# How much a place's logarithm of probability counts beside the agreement of its pictures. No
# evidence.
DETECTOR_WEIGHT = 0.1
# Places this far behind the first (logarithm of probability) are seen by one view alone, or by
# none. No evidence.
HOPELESS = 3.5
# The detector errs by a level, or by half of one: RecM looks there too, mm along the spine.
LEVEL_STEPS_MM = (-36.0, -18.0, 18.0, 36.0)
# Without a detector: a crop about a point this far off still shows the vertebra, if not in its
# middle, mm; so many steps of that to each side of where the views meet, and around a start.
SCAN_MM = 20.0
SCAN_STEPS = 1
START_STEPS = 2
# So often crops are moved to where their answer puts the centre. No evidence.
RECENTRINGS = 2

# Which places are kept

# So many places at most, this far apart, mm. No evidence.
PLACES = 3
APART_MM = 12.0
# Fitted to the X-rays, a place that agrees less than this share of the best one is given up, unless
# it was the likeliest before; where even the best does not agree at all, nothing is. No evidence.
LIKELY = 0.4
# Fitted roughly, places that agree nearly as well as the best (this share) are fitted finely before
# one of them is called the best; the others stay behind them. No evidence.
CLOSE = 0.85
# Places that have run together in the fit are one, mm; neighbours may be 12 mm apart before it. No
# evidence.
SAME_PLACE_MM = 5.0
