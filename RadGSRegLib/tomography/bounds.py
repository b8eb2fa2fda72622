"""The numbers that decide what a reconstruction of the whole beam believes.

Each stands here once: its value, its unit, and what it was measured on.
"""

# Views

# A source nearer to the centre is refused, mm. Acts on wrong geometry. No evidence.
LEAST_DEPTH_MM = 100.0
# A picture is blurred by this share of its new pixel before it is thinned, and a Gaussian ends
# after so many standard deviations. No evidence: usual values.
THINNING_BLUR = 0.5
BLUR_REACH = 3.0
# A thinned pixel says something where at least this share of its neighbourhood does. No evidence.
LEAST_SHARE = 0.25

# What fills the beam

# Edge of the cube about the centre that holds what crosses the beam, mm: a trunk with room to
# spare. (The trunk of the 3 mm CT: 330 mm by 250 mm; drawn trunks: up to 330 mm by 250 mm.)
REGION_MM = 400.0
# Attenuation of soft tissue, 1/mm: of water at 60 keV.
TISSUE_MU = 0.0206
# What is above this share of tissue is pulled to it, the rest to air: half way, nearer to tissue as
# lungs and fat are. No evidence.
TISSUE_SHARE = 0.6

# Display

# Scatter over primary at the median of a picture that the fit starts from. (C-arms with a grid:
# about 0.3 to 1; both simulators draw 0.15 to 0.7.)
SCATTER_TO_PRIMARY = 0.4
# How far scatter spreads at the detector: a core and a tail of twice the width, mm at the
# patient. No evidence: scatter is smooth (B. Ohnesorge et al., Eur Radiol 9, 1999).
SCATTER_MM = 50.0
# Scatter takes no more than this share of the signal. Acts where a fit goes astray. No evidence.
MOST_SCATTER = 0.9

# The verdict

# A view agrees with the rest where its details and those of its rendering correlate by more than
# the median view's correlation less so much.
BELOW_MEDIAN = 0.25
# Fewer views than this, or a wider gap between their directions, do not cover, degrees.
LEAST_VIEWS = 15
WIDEST_GAP_DEG = 30.0
