"""The numbers that decide which pixels speak for a reconstruction, and what becomes of it.

Each stands here once: its value, its unit, and what it was measured on. "No evidence" means that
neither a document nor the history of the code says so.
"""

# Which views can be used

# A source nearer to the box's corners is refused, mm. Acts on wrong geometry. No evidence.
LEAST_DEPTH_MM = 50.0
# A box of more pixels along an edge is refused. Acts where `pixel_mm` is tiny. No evidence.
MOST_PIXELS = 2048

# Calibration of views

# A curve, scatter and soft tissue are an offset and a gain within this, mm. No evidence.
NEIGHBOURHOOD_MM = 10.0
# A shadow begins where the rendering is above this share of its maximum; a picture whose rim is
# below it shows nothing but the box. No evidence.
SHADOW_SHARE = 0.03
# A shadow of fewer pixels shows nothing: a box that lies almost outside the picture. No evidence.
LEAST_SHADOW_PX = 20
# A local gain stays within these multiples of the whole shadow's. No evidence.
GAIN_RANGE = (0.4, 2.5)

# What a fit to the X-rays may change

# Fits to vertebrae that have not changed move them by up to 0.35 mm, root mean square; a change no
# larger than this cannot be believed (commit 250dc18; no command).
FLOOR_MM = 0.36
# A prediction of the views held out must be this much better before anything changes. Acts where
# views bear a change out only just. No evidence.
LEAST_GAIN = 0.01
# Less than this share of a change is none: one hardly larger than the floor. No evidence.
LEAST_CHANGE = 0.1
# Nodes of the field that reach less than this share of the most are left out. No evidence.
LEAST_REACH = 0.01

# Both fits

# While it is fitted, a Gaussian ends at so many standard deviations. No evidence.
CUTOFF = 3.5

# Without a prior

# Gaussians start where the visual hull has more than this share of its strong places. No evidence.
HULL_SHARE = 0.1
# Split are Gaussians whose mean gradient is above so many medians; dropped are those whose peak is
# below this share of a typical one's, which acts where a fit empties some. No evidence.
SPLIT_ABOVE = 2.0
PRUNE_BELOW = 0.02
