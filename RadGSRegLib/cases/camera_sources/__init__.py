"""Where a view's camera comes from: one file per source, tried by the keys of the view's entry.

A guest is added to `CAMERA_SOURCES`; ``views.json`` then knows its keys.
"""

from .dicom import camera_from_tags
from .dlt import Dlt
from .door import CameraSource, SourcedCamera, ViewEntry
from .matrices import Matrices
from .mayacam import MayaCam
from .opencv import OpenCv
from .projection import ProjectionMatrix
from .rtk import RtkGeometry

CAMERA_SOURCES: list[CameraSource] = [
    ProjectionMatrix(),
    RtkGeometry(),
    MayaCam(),
    Dlt(),
    OpenCv(),
    Matrices(),
]


def camera_of(entry: ViewEntry) -> SourcedCamera:
    """The camera from the one source that the entry names, or else from the image's DICOM tags.

    Raises InputError where it names two, or one that cannot be used.
    """
    named = [s for s in CAMERA_SOURCES if any(key in entry.fields for key in s.keys)]
    if len(named) > 1:
        names = " and ".join(source.name for source in named)
        entry.fields.refuse(f"gives its geometry twice ({names})", "keep one of them")
    _refuse_strays(entry, named[0] if named else None)
    if not named:
        return camera_from_tags(entry)
    try:
        return named[0].camera(entry)
    except ValueError as error:
        entry.fields.refuse(str(error))


def _refuse_strays(entry: ViewEntry, source: CameraSource | None) -> None:
    """InputError where the entry holds a detail that only other sources read, as a unit."""
    read = (*source.keys, *source.details) if source else ()
    for key in sorted(source_keys() - set(read)):
        if key in entry.fields:
            names = [f'"{s.name}"' for s in CAMERA_SOURCES if key in s.details]
            with_ = f"its geometry is {source.name}" if source else "it gives no geometry"
            entry.fields.refuse(
                f'"{key}" goes with {" or ".join(names)} only, but {with_}', f'leave out "{key}"'
            )


def source_keys() -> set[str]:
    """All keys of a view's entry that some source reads."""
    return {key for source in CAMERA_SOURCES for key in (*source.keys, *source.details)}


__all__ = [
    "CAMERA_SOURCES",
    "CameraSource",
    "SourcedCamera",
    "ViewEntry",
    "camera_of",
    "source_keys",
]
