"""The numbers that decide what a registration does and says: value, unit, evidence.

Scores are weighted local normalised correlations, at most 1. What was measured was measured on
simulated X-rays: the fifteen shared cases, and phantoms (docs/limits.md).
`Testing/benchmarks/bench_bounds.py` changes each by a fifth either way and says what becomes of it.
"""

from __future__ import annotations

# The route

CLEAR_SCORE = 0.8
"""A pose whose weakest view scores this much needs no neighbouring level tried. No wrong level has
reached it (0.71 in 104 trials with a label one level off: 31 cases, with and without a model)."""

WORTH_FINISHING = 0.5
"""Poses that are proposed before a search are finished only where the weakest view of the best one
scores this much at the middle stage. Set with the fifteen cases in view; no command."""

STANDS_ALONE = 0.65
"""And they stand without a search only where, finished, the weakest view scores this much: only the
neighbouring levels were tried beside them. Set with the fifteen cases in view; no command."""

SAME_POSE_MM = 1.0
"""Poses whose surfaces lie this close together are one. No evidence."""

CLEARLY_APART_MM = 2.0
"""A pose this far from the best one speaks against it: what `ok` bets on (docs/limits.md)."""

MARGIN_MM = 8.0
"""A window shows so much more than the target's radius, for neighbourhoods. No evidence."""

CONVERGED_MM = 0.02
"""Rounds of a stage end where one moved the target less than this. No evidence."""

CONVERGED_SCORE = 0.003
"""And where one raised the score by less than this. No evidence."""

IN_VIEW = 0.3
"""A step after which less than this share of the pixels counts is no step down. No evidence."""

SMALL_WINDOW_PX = 8000
"""Views with fewer pixels are evaluated together: threads would wait for the interpreter."""

CLICKS_APART_MM = 30.0
"""Rays of clicks that pass each other farther apart are refused as invalid. No evidence."""

# The neighbouring levels

LEVEL_DISTANCE_MM = 36.0
"""From a lumbar vertebra's centre to the next one's, where the CT or its labels show no neighbour:
the usual distance. No evidence of its own."""

LEVEL_RANGE_MM = (15.0, 60.0)
"""A labelled neighbour this far along the body's axis is the next level. No evidence."""

LEVEL_STEEPNESS = 0.7
"""And steeper than 45 degrees: a rib is no neighbouring level."""

CLOSE_LEVELS = 0.05
"""A neighbouring level that scores this close to the pose at the middle stage is compared finely.
No evidence."""

LEFT_BEHIND = 0.2
"""After one fine round a neighbouring level this far behind is not refined further: more rounds
have brought up to 0.14 (37 wrong levels, four rounds)."""

# The verdict (what `ok` means)

CORRELATION_AREA_MM2 = 9.0
"""Residuals next to each other are not independent: one independent residual per this area."""

SURE_CONFIDENCE = 0.25
"""With a label one level off (104 trials: 31 cases, with and without a model) the confidence
reached 0.245; of fourteen correct poses in hard X-rays eleven had 0.28 or more, one 0.25, two
0.03."""

ERROR_WEIGHT = 1.5
"""Confidence is the weakest view's score less so much per millimetre of expected error."""

SURE_DISAGREEMENT_MM = 1.6
"""Correct poses had up to 1.5 mm, wrong levels 0.2 to 3.5 mm: it tells of a loosely held pose, not
of a wrong level, and is bounded near the 2 mm that `ok` bets on."""

SURE_LEAD = 0.03
"""Ahead of the best clearly different pose, at the fine stage. No evidence."""

SURE_LEVEL_LEAD = 0.02
"""Ahead of the neighbouring levels. No evidence."""

FAILED_SCORE = 0.25
"""A weakest view below this shows no vertebra at the pose. No evidence."""

FAILED_ERROR_MM = 1.0
"""An expected error above this is no registration. No evidence."""
