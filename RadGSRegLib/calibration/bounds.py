"""The numbers that decide what a calibration believes.

Each stands here once: its value, its unit, and what it was measured on.
"""

# Spots

# Scales of the search are so much apart, a factor of the radius: a disc answers to a scale half a
# step off with 97 % of its best (closed form).
SCALE_STEP = 1.4
# A candidate's curvature exceeds the mean about it by this factor.
CLEAR_CURVATURE = 5.0
FAINT = 0.05
STRONG = 0.9999
SAME_PLACE = 0.7
# How far "about it" reaches, in radii: some beads of a phantom beside it, and more of what is none.
ABOUT_RADII = 8.0
# So many times as many candidates are fitted as spots are wanted.
CANDIDATES = 3
# A fit takes the pixels within so many radii and pixels of the candidate.
REACH_RADII = 1.4
REACH_PX = 3.0
# Steps of the fit.
FIT_STEPS = 20
FIRST_STEPS = 8
OUTLINE = 1.1
SIZE_STEP = 0.15
# Residuals above so many robust standard deviations lose weight.
OUTLYING = 2.5
# A spot exceeds what its fit leaves by this factor.
LEAST_SCORE = 4.0
# Its edge is no wider than this share of its radius.
SOFTEST = 0.8
# A radius may exceed the limits by this share.
RADIUS_MARGIN = 0.3
# Two spots nearer than this share of the larger radius are one.
SAME_SHARE = 0.7
# A share of the pixels about a spot that lie in the picture.
IN_PICTURE = 0.6

# Spots of several views are of one bead where its radius would differ by no more than this factor.
SAME_SIZE = 1.5
