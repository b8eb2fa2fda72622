"""Numbers of this room that decide an outcome: the phantom (docs/experiments/bounds.md)."""

FEWEST_BEADS = 6
"""Beads without which there is no camera: a direct linear transform has 11 unknowns, a bead gives
two equations."""

SMALLEST_MM, LARGEST_MM = 0.3, 25.0
"""Diameters of beads. Smaller ones are less than a pixel of a C-arm, larger ones are no beads; a
diameter in metres or micrometres lies outside. No evidence for the exact values."""

THINNEST_MM = 5.0
"""How far beads reach to either side of the plane that fits them best, at least: with less
depth, focal length and distance can hardly be told apart. No evidence for the exact value."""

FURTHEST_MM = 1500.0
"""How far apart beads may be: more is no phantom in front of a C-arm but another unit."""

STEEL_HU = 2000.0
"""From here a voxel is metal: above cortical bone (1,600) and below what bone plates, screws and
steel beads have (3,000 and more, where the scanner does not cut off)."""

BLUR_MM = 1.0
"""How far around its voxels of metal a bead is blurred: what is within counts for its centre, and
what is as far outside again is its surroundings. Blur of 0.35 mm (one standard deviation) was
tried in Testing/test_calibration_ct_beads.py."""

DENSER = 0.95
"""Quantile of what surrounds a bead above which it counts. In voxels of 0.5 mm, where the scanner
cuts steel off, beads half in plastic came out 0.12 mm too deep, 0.18 mm with the median."""

FAINT = 0.05
"""Share of a bead's brightness below which a voxel counts nothing: noise of the surroundings adds
up over many. No evidence for the exact value."""

ROUND = 0.2
"""How much the longest and shortest axes of a bead's bright voxels may differ, as a share of its
diameter, beyond what the voxels' own size does. No evidence for the exact value."""

SOLID = 0.3
"""How much a lump's volume may be more or less than that of a ball as wide as it is. No
evidence for the exact value."""
