"""RTK's geometry file."""

from ..json_input import existing_file
from ..rtk import DetectorGrid, read_rtk_matrices, rtk_camera
from .door import SourcedCamera, ViewEntry


class RtkGeometry:
    """``geometry``: the path of the XML file, with the index of one ``projection`` in it."""

    name = "geometry"
    keys: tuple[str, ...] = ("geometry",)
    details: tuple[str, ...] = ("projection", "geometry_frame")

    def camera(self, entry: ViewEntry) -> SourcedCamera:
        """Read the matrix of the projection, on the image's own grid where it has one."""
        fields = entry.fields
        path = existing_file(fields.path("geometry"), fields.source.name)
        matrices = read_rtk_matrices(path)
        entry.ledger.add_file(path)
        index = fields.integer("projection") if "projection" in fields else None
        if index is None and len(matrices) > 1:
            fields.refuse(
                f'"geometry" holds {len(matrices)} projections',
                f'choose one with "projection": 0 to {len(matrices) - 1}',
            )
        if not 0 <= (index or 0) < len(matrices):
            fields.refuse(f'"geometry" has no projection {index}; it has {len(matrices)}')
        frame = fields.text("geometry_frame") if "geometry_frame" in fields else "lps"
        columns, rows = entry.columns, entry.rows
        grid = entry.image.grid or DetectorGrid.centred(columns, rows, entry.spacing_mm)
        return SourcedCamera(rtk_camera(matrices[index or 0], grid, columns, rows, frame))
