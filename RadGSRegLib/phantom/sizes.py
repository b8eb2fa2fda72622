"""Mean sizes of the lumbar vertebrae, millimetres and degrees, per level.

Sources. A phantom needs means, not a measurement: the values are rounded and, where the sources
differ, lie between them; do not cite them as any one author's.

- end-plate widths and depths, canal, pedicles, span of the transverse processes: M. M. Panjabi et
  al., "Human lumbar vertebrae: quantitative three-dimensional anatomy", Spine 17(3), 1992, and for
  T12 "Thoracic human vertebrae: quantitative three-dimensional anatomy", Spine 16(8), 1991;
- heights of bodies and discs in the living, which are larger than those of dry bones: S. H. Zhou et
  al., "Geometrical dimensions of the lower lumbar vertebrae: analysis of data from digitised CT
  images", Eur Spine J 9(3), 2000;
- spinous and transverse processes and ratios between sizes: J. L. Berry et al., "A
  morphometric study of human lumbar and selected thoracic vertebrae", Spine 12(4), 1987.

Spread between persons is about 7 to 10 % of every length in all of them.
"""

from dataclasses import dataclass

from ..vertebrae import LABEL_SCHEMES

MOBILE_LEVELS = ("T12", "L1", "L2", "L3", "L4", "L5")

LABELS = {
    level: number
    for number, level in LABEL_SCHEMES["verse"].items()
    if level in (*MOBILE_LEVELS, "S1")
}
"""Label numbers as in VerSe and TPTBox; the sacrum is one label."""


@dataclass(frozen=True)
class LevelSize:
    """Mean sizes of one level. Lengths in mm, angles in degrees.

    ``spinous_length`` runs from the body's posterior wall to the tip; ``transverse_span`` from tip
    to tip; ``facet_angle`` is between the facet's plane and the sagittal plane; ``sagittal_tilt``
    is the forward lean of the body's axis when standing (negative: backward).
    """

    width_upper: float
    width_lower: float
    depth_upper: float
    depth_lower: float
    height_anterior: float
    height_posterior: float
    disc_below: float
    canal_width: float
    canal_depth: float
    pedicle_width: float
    pedicle_height: float
    transverse_span: float
    spinous_length: float
    facet_angle: float
    sagittal_tilt: float

    @property
    def half_depth(self) -> float:
        """Half the body's depth: where its posterior wall is."""
        return 0.25 * (self.depth_upper + self.depth_lower)

    @property
    def half_height(self) -> float:
        """Half the body's height: where its end plates are."""
        return 0.25 * (self.height_anterior + self.height_posterior)


SIZES = {
    "T12": LevelSize(
        39.0, 42.1, 32.8, 33.4, 25.2, 26.8, 7.0, 22.2, 18.1, 8.8, 16.7, 47.0, 44.0, 20.0, -13.0
    ),
    "L1": LevelSize(
        41.2, 43.3, 34.1, 35.3, 26.4, 27.8, 8.0, 23.7, 19.0, 8.6, 15.9, 71.2, 47.0, 25.0, -13.0
    ),
    "L2": LevelSize(
        42.6, 45.5, 34.6, 34.9, 27.5, 28.4, 9.3, 23.8, 18.2, 8.9, 15.2, 76.1, 50.0, 30.0, -9.0
    ),
    "L3": LevelSize(
        44.1, 48.0, 35.2, 34.8, 28.2, 28.4, 10.3, 24.3, 17.5, 10.2, 14.6, 85.7, 52.0, 36.0, -1.0
    ),
    "L4": LevelSize(
        46.6, 49.5, 35.5, 33.9, 28.6, 27.6, 11.0, 25.4, 18.6, 13.0, 14.8, 79.4, 49.0, 44.0, 9.0
    ),
    "L5": LevelSize(
        47.3, 49.4, 34.7, 33.2, 29.6, 25.6, 10.5, 27.1, 19.7, 16.0, 15.0, 92.5, 42.0, 50.0, 22.0
    ),
}

SACRUM_TILT = 42.0
"""Forward lean of the sacral end plate's normal when standing, degrees."""
