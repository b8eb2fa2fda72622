"""Everything that a result shows on disk: overlays, pages, pictures.

What draws (matplotlib) takes a third of a second to load, so each name brings its file along only
when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calibration import BeadPicture as BeadPicture
    from .calibration import Table as Table
    from .calibration import beads_png as beads_png
    from .calibration import calibration_html as calibration_html
    from .canvas import bare as bare
    from .canvas import blank_figure as blank_figure
    from .canvas import png_bytes as png_bytes
    from .drawing import Drawing as Drawing
    from .film import film_webp as film_webp
    from .levels import Mark as Mark
    from .levels import levels_png as levels_png
    from .overlay import brightness as brightness
    from .overlay import overlay_png as overlay_png
    from .overlay import picture_names as picture_names
    from .overlay import plain_png as plain_png
    from .overlay import polarity as polarity
    from .overlay import unlike_stems as unlike_stems
    from .overlay import windowed as windowed
    from .page import ReportPictures as ReportPictures
    from .page import report_html as report_html
    from .results import draw_views as draw_views
    from .results import write_reconstruction as write_reconstruction
    from .results import write_results as write_results
    from .shadow import Shadow as Shadow
    from .shadow import cast_shadow as cast_shadow
    from .spine import LevelOutline as LevelOutline
    from .spine import level_outlines as level_outlines
    from .spine import spine_overlay_png as spine_overlay_png
    from .spine_page import spine_report_html as spine_report_html
    from .spine_results import write_spine_results as write_spine_results
    from .standard import standard_png as standard_png
    from .track import track_png as track_png
    from .track_page import track_report_html as track_report_html
    from .track_results import write_track_results as write_track_results

_FILES = {
    "calibration": "BeadPicture Table beads_png calibration_html",
    "canvas": "bare blank_figure png_bytes",
    "drawing": "Drawing",
    "levels": "Mark levels_png",
    "overlay": "brightness overlay_png picture_names plain_png polarity unlike_stems windowed",
    "page": "ReportPictures report_html",
    "results": "draw_views write_reconstruction write_results",
    "shadow": "Shadow cast_shadow",
    "spine": "LevelOutline level_outlines spine_overlay_png",
    "spine_page": "spine_report_html",
    "spine_results": "write_spine_results",
    "film": "film_webp",
    "standard": "standard_png",
    "track": "track_png",
    "track_page": "track_report_html",
    "track_results": "write_track_results",
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names.split()}

__all__ = list(_FILE_OF)


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_FILE_OF[name]}", __name__), name)
