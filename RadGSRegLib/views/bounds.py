"""The numbers that decide which pixels of an X-ray count, and how contrast is measured.

Each stands here once: its value, its unit, and what it was measured on. "No evidence" means that
neither a document nor the history of the code says so: a reasonable value that was never swept.
Where users hold different values for one notion, their results rest on them, and both stand here.
"""

# Cleaning: which pixels show the patient.

# Areas stuck at the lowest or highest value that cover more than this share of a picture are a
# collimator or burnt-out air. No evidence.
STUCK_SHARE = 0.002
# A pixel is stuck within this share of the range from the lowest or highest value. No evidence.
STUCK_RANGE = 2e-4
# So far around a stuck area nothing counts, mm at the detector, but at least so many pixels: the
# edge of a collimator is blurred. No evidence.
STUCK_MARGIN_MM = 3.0
STUCK_MARGIN_PX = 2
# So far around the outline of a bead's shadow nothing counts, mm at the detector, but at least so
# many pixels. Of 101 shadows of steel beads of 3 and 5 mm, for each realism with pixels of 0.61 and
# of 0.3 mm, no pixel further out was changed by more than 0.1 % (realistic) and 0.3 % (hard) of the
# shadow's depth; from 1 mm on it was 0.9 and 1.9 %, at the outline 21 %. A pixel, since what is
# sampled between pixels is of both.
METAL_MARGIN_MM = 1.5
METAL_MARGIN_PX = 1
# Counts below this percentile of the positive ones are taken as that, before the logarithm. No
# evidence.
COUNT_FLOOR_PERCENTILE = 0.1

# Burnt-out air (polarity). Air covers at least this share of a picture. No evidence.
AIR_SHARE = 0.03
# Beside air, values leave its end of the range slowly and steadily, beside a collimator at once,
# and then they stay. From ring to ring (edges at 1/4, 1/2, 1, 2 and 3 of this width, a share of the
# picture's longer side or so many pixels) they grow by a factor between these bounds; the first
# ring is closer than this share of the range. Measured on 66 views (the fifteen cases, twelve other
# phantoms, the real wrist, exported windows): beside air 1.3 to 2.7, beside collimators 0.9 to 1.2
# or 5 and more somewhere.
AIR_WIDTH = 0.012
AIR_LEAST_PX = 6.0
AIR_STEP = 0.15
SKIN_GROWTH = (1.25, 3.2)
# Air is so many times as far as what is stuck at the other end. No evidence; where an export had
# cut off both ends the ratio was 1.9 to 10 (three views).
AIR_AHEAD = 2.5
# Air lies about the patient: more than this share of it is outside the convex hull of the rest. An
# export's window makes dense bone look like air, which lies within. Measured on 64 views of
# phantoms (clean, realistic) in seven windows: more than half outside in 203 of 205 where air was
# stuck, in one of 202 where bone was (the densest fifth of a bare bone).
AIR_OUTSIDE = 0.5
# What is closer to the air's end than this share of the range counts as air there, and pieces
# narrower than twice so many pixels as noise. No evidence.
AIR_LEAST_APART = 0.02
AIR_SPECKS_PX = 2
# The rim of a collimator's opening that does not count, a share of the picture's longer side, and
# the least share of the opening that is air. On the real wrist scatter brightens 0.06 of the side,
# and half of the opening is air; bone that an export cut off is less than a third.
AIR_RIM = 0.08
AIR_SHARE_OF_OPENING = 1 / 3
# A collimator closes no more than this share of a picture; else it is nothing about a CT that was
# cut out, and what looks like air is bone (twelve of 192 such views and windows). A round opening
# leaves a quarter closed, the real wrist's a sixth.
MOST_CLOSED = 0.5
# Larger pictures are looked at with steps: this many pixels along the longer side are enough. A
# picture of 1760 pixels took 0.6 s without.
AIR_PIXELS = 400

# Scale: what becomes 0 and 1 of values whose gain is not known.

# Percentiles of the valid pixels of a whole view (registration, networks) and of a box's part of it
# (reconstruction, where there is less air and metal). No evidence.
VIEW_PERCENTILES = (0.5, 99.5)
BOX_PERCENTILES = (1.0, 99.0)
# What is farther out is cut off, in units of that scale: metal and burnt-out air. No evidence.
VIEW_RANGE = (-1.0, 2.0)

# Resampling: which pixels of a window show valid ones.

# A pixel counts where valid pixels are this share of what it averages. No evidence.
VALID_SHARE = 0.7
# A mean over valid pixels is never divided by less than this share: what a neighbourhood without
# valid pixels yields is finite and counts nowhere. No evidence.
LEAST_SHARE = 1e-3
# The same for blocks of pixels, and for the wide blurs of `polarity`. No evidence.
LEAST_SHARE_OF_BLOCK = 1e-2
LEAST_SHARE_OF_POLARITY = 1e-6
# The same for pictures that are moved in training, where nothing is averaged. No evidence.
WHOLLY_VALID = 0.99
# A box of which a view shows less than this share cannot be reconstructed from it. No evidence.
LEAST_VALID_OF_BOX = 0.1

# Blur before resampling, one standard deviation in pixels of the X-ray. Three users, three values:
# each one's results (and weights, for the networks) rest on its own.

# Windows have the blur that is asked for; linear interpolation has this much of it. Less than
# `WINDOW_LEAST_BLUR_PX` is left out. No evidence.
WINDOW_INTERPOLATION_PX = 0.3
WINDOW_LEAST_BLUR_PX = 0.25
# A box's part: this share of the new pixel, where that is wider than the old. No evidence.
BOX_BLUR_SHARE = 0.4
# A crop: this share of what the new pixel is wider than the old, in quadrature; less than
# `CROP_LEAST_BLUR_PX` is left out. No evidence.
CROP_BLUR_SHARE = 0.5
CROP_LEAST_BLUR_PX = 0.2
# A Gaussian is cut off at so many standard deviations: for windows and boxes; for crops and
# polarity. No evidence.
BLUR_REACH = 3.0
WIDE_BLUR_REACH = 4.0

# Local normalisation (registration).

# Gaussians are summed over cells of this share of their standard deviation: the error of a mean
# stays under 0.01 deviations of the picture (`Testing/test_views_normalization.py`).
CELL_SHARE = 0.5
# Weights below this share of a Gaussian's peak are 0: denormal numbers took a fine evaluation three
# times as long (commit 12267c5).
LEAST_WEIGHT = 1e-9

# Local contrast (networks): what the shipped weights were trained with.

# The neighbourhood, mm, one standard deviation, and where its Gaussian is cut off. No evidence.
CONTRAST_MM = 8.0
CONTRAST_REACH = 2.5
# Added to the local deviation: its mean over the picture divided by this, and the least there is.
# No evidence.
CONTRAST_FLOOR_DIVISOR = 3.0
CONTRAST_LEAST = 1e-6

# Polarity without a prior, mm: the width of a vertebral body, that of the spine with what lies
# beside it, and how far about the centre the two are compared. Right in all 70 simulated views
# tried, from clicked centres (commit 250dc18), where the skewness of detail was right in 40 %.
BODY_MM = 12.0
AROUND_MM = 30.0
POLARITY_CENTRE_MM = 15.0
