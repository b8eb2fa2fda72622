"""The methods by name: ours, the baselines, and for one run the models that were given."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from ..errors import InputError
from . import baselines
from .contract import Method
from .learned import PUBLISHED, model_entries
from .ours import search_and_refine
from .settings import Settings

Entry: TypeAlias = Callable[[Settings], Method]

OURS = "optimize"

# A new method is one entry here. The tables have them in this order.
ENTRIES: dict[str, Entry] = {
    "start": baselines.start,
    "voxels": baselines.voxels,
    "gaussians": baselines.gaussians,
    "descent": baselines.descent,
    OURS: search_and_refine,
}


def choose_methods(
    names: Sequence[str],
    settings: Settings,
    *,
    models: Sequence[str] = (),
    cases: Sequence[str] = (),
    has_start: bool = True,
) -> list[Method]:
    """Make the methods asked for, in the registry's order; with none named, all that can work,
    but not the published order of a model ("NAME+published"), which takes as long as refining it.

    ``models``: as ``--model`` has them ("NAME=PATH" or "PATH"); ``cases``: the names of those to
    come; ``has_start``: whether they begin from anything. Raises InputError for a name that is
    none, and for models that cannot be used.
    """
    entries = {**ENTRIES, **model_entries(models, cases, settings, taken=ENTRIES)}
    for name in names:
        if name not in entries:
            raise InputError("--method", f"'{name}' is unknown", f"there are {', '.join(entries)}")
    asked = names or [key for key in entries if not key.endswith(PUBLISHED)]
    chosen = [entry(settings) for key, entry in entries.items() if key in asked]
    return [m for m in chosen if names or has_start or not m.about.needs_start]
