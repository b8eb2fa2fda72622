"""A 3x4 projection matrix, inline or in a text file."""

from ..json_input import existing_file
from ..projection_matrix import camera_from_projection, read_projection_matrix
from .door import SourcedCamera, ViewEntry


class ProjectionMatrix:
    """``projection_matrix``: 3 x 4 numbers, or the path of a text file of 12."""

    name = "projection_matrix"
    keys: tuple[str, ...] = ("projection_matrix",)
    details: tuple[str, ...] = ()

    def camera(self, entry: ViewEntry) -> SourcedCamera:
        """Take the matrix apart."""
        fields = entry.fields
        if isinstance(fields.data["projection_matrix"], str):
            path = existing_file(fields.path("projection_matrix"), fields.source.name)
            entry.ledger.add_file(path)
            matrix = read_projection_matrix(path)
        else:
            matrix = fields.numbers("projection_matrix", (3, 4))
        camera = camera_from_projection(matrix, entry.columns, entry.rows)
        return SourcedCamera(camera, either_side=True)
