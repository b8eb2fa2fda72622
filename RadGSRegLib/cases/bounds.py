"""The numbers that decide which files are accepted as a case.

Each stands here once, with its unit. For none of them is there evidence: neither a document nor the
history of the code says what it was measured on.
"""

# X-rays

# Views are equal, or look along one line, where they differ by less than this, degrees; nearer
# views are refused by the panel too.
EQUAL_DEG = 5.0
# A picture with fewer rows or columns is none.
LEAST_PIXELS = 16
# A vertebra's centre may be marked this far outside the picture, and views may meet there, in
# shares of its size. (The fifteen and the wrist meet at 0.39 to 0.75.)
CENTRE_RANGE = (-0.5, 1.5)
# PatientOrientation must agree with the positioner's angles to this cosine, about 60 degrees.
LEAST_ORIENTATION = 0.5
# Angles of a C-arm that differ less are the same, degrees: tags have one or two decimals.
SAME_DEG = 0.02
# Increments of a run's angles whose sizes differ by less than this factor could be steps from frame
# to frame; differences from the first frame grow at least as much.
STEPS_ALIKE = 2.0

# Files of a camera calibration do not say their unit: a source this far from the world's origin is
# taken for mm, others need the unit said. In X-ray units of XROMM laboratories (six cameras of
# Autoscoper's samples) it is 840 to 1480 mm, in cm a tenth of it; of a small C-arm, 300 mm.
SOURCE_MM = (250.0, 5000.0)
# No source lies further from the world's origin than this, mm.
ROOM_MM = 20000.0
# The film of a MayaCam 1.0 repeats its principal point to this, pixels: files with one decimal of
# the scale 0.1 are met.
FILM_PX = 1.5

# Where the views meet is about where the patient is, if two lines of sight differ by so much,
# degrees. Pictures that show the patient 50 mm apart then place it within 150 mm. No evidence.
MEETING_DEG = 20.0
# A source is at least so far from the patient, mm. (The fifteen cases: 727 to 773; a wrist between
# two C-arms: 1036 to 1073. In metres these are about 1, in cm 73 to 107.)
LEAST_SOURCE_MM = 100.0
# The detector is at most so many times as far from the source as the patient. (The fifteen: 1.45 to
# 1.55; the wrist: 1.28 to 1.31. In cm these are more than 12.)
MOST_MAGNIFICATION = 5.0
# All extrinsics go from camera to world where lines of sight miss their meeting by so much, mm, and
# with the inverse extrinsics by less than this share of that; where not all views have a click, the
# middles must then meet to this, mm: not all pictures are centred. The wrist: 67 mm for
# clicks and 99 for middles as against 0 and 3. Of drawn rigs that are right (clicks off by up to 10
# mm) none is refused, of those without clicks whose pictures are off by 300 mm 1 in 1000. Of those
# the other way round 5 % pass with clicks and 14 % without; it was 24 % without this.
REVERSED_MM = 20.0
REVERSED_SHARE = 0.3
REVERSED_MIDDLES_MM = 5.0
# Sources nearer to each other than this are in the same place, mm, whichever way they look. No
# evidence.
SAME_SOURCE_MM = 20.0
# The detector's distance by columns and by rows differs by less than this factor. (The fifteen: not
# at all; calibrations of the wrist: by 0.3 %.)
SAME_FOCAL = 1.05
# The detector's distance over the patient's, where the pixels' size is not said (see above). It
# decides only margins of a few mm, and where Slicer draws.
USUAL_MAGNIFICATION = 1.5
# Matrix and parameters of an RTK file agree where they place no point within 100 mm of the
# isocentre further apart, mm at the detector. RTK refuses elements that differ by 0.001, which is
# less; a tenth of a millimetre is less than a pixel. No other evidence.
RTK_AGREE_MM = 0.1

# A camera whose covariance lets the patient's place in its picture vary by more than this, mm at
# the patient, one standard deviation along the worst direction, is named in the results. It is half
# of the 2 mm that `ok` bets on.
CALIBRATION_MM = 1.0
# A covariance is symmetric, and not negative, to this share of the product of two standard
# deviations: seven digits as they are written lose less.
COVARIANCE_SHARE = 1e-6

# The CT

# What lies below air is padding, HU; a CT's values span at least so much.
AIR_HU = -1024.0
LEAST_SPAN_HU = 100.0
# A CT that holds bone has values above what eight bits hold. (Bone of the two CTs and the phantoms:
# 99 % up to 870 to 1270 HU.)
EIGHT_BITS = 255.0
# Bone has most of its HU between the first two, and less up to the third; fat, muscle and marrow
# lie between the last two after an offset of 1000 or 1024. A CT with more there than between the
# first two, and more than this share of all, is not in HU (a CT + 1024: 0.83; in HU: 0.02).
SHIFTED_HU = (100.0, 850.0, 1250.0)
SHIFTED_SHARE = 0.1
# One value that has more than this share is a background, around a bone or outside the field.
BACKGROUND_SHARE = 0.05
# The median under a bone's label, HU. Vertebrae of the two CTs: 144 to 172, of phantoms: 282; with
# 1024 added: 1177.
BONE_MEDIAN_HU = (-200.0, 1000.0)
# A series has so many slices.
LEAST_SLICES = 3
# A second group of slices in one series is a volume of its own from this share of the first on;
# fewer are left out, and said.
VOLUME_SHARE = 0.2
# A distance between slices this many times the usual one is a hole.
HOLE = 1.5
# Every corner of every slice lies on one even grid to this, mm; and what of that is noted.
# Positions in files have few digits: 0.1 mm at slices of 0.625 mm is met. A quarter of a millimetre
# is small beside the 2 mm that a result must keep.
OFF_GRID_MM = 0.25
NOTED_OFF_GRID_MM = 0.05
# A CT without a rescale is taken as HU only where it holds values below this, HU: what is not
# rescaled is not negative.
LIKE_AIR_HU = -200.0
# A stack's spacing as ImageJ wrote it and as it is given agree to this share: people round.
SAME_SPACING = 0.01
# Places and spacings that differ less are the same, mm.
SAME_MM = 1e-3
# Axes and rotations are at right angles to this.
SKEW = 1e-3

# Voxels of a CT have edges between these, mm: from micro-CT to the thickest slices. What lies
# outside has the wrong unit.
VOXEL_MM = (0.005, 20.0)
# A NIfTI's sform, qform and pixdim agree where they place no voxel further apart, mm. A quaternion
# of float32 may be off by 6e-4 rad, 0.4 mm on 600 mm.
AGREE_MM = 0.5
# A file may hold so many bytes after its pixels.
TRAILING_BYTES = 1024

# Labels

# A voxel of a fractional segment is inside from this share on.
INSIDE_SHARE = 0.5
# A label map has at most so many different values.
MOST_LABELS = 512
# Fewer voxels of a label are no vertebra. (A registration asks for more.)
LEAST_VOXELS = 27
# Less than this share of a label inside the CT is noted.
LEAST_INSIDE = 0.9

# Results

# Where writing fails and a disk has less room than this, it is full, bytes.
FULL_DISK_BYTES = 1 << 20
