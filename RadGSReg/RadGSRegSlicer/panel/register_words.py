"""Step 4, in words: what came of a registration."""

from slicer.i18n import tr as _

from ..exchange.results import RegistrationResult
from ..exchange.spineresults import SpineResult


def verdictText(result: RegistrationResult | SpineResult) -> str:
    """What the program thinks of a result, and where to look at it."""
    if isinstance(result, SpineResult):
        return _severalText(result)
    texts = {
        "ok": _("Registered. Look at the result in step 5 before you rely on it."),
        "uncertain": _("Registered, but uncertain: check it in step 5."),
        "failed": _("The registration failed; the CT was not moved."),
    }
    return texts[result.status]


def _severalText(result: SpineResult) -> str:
    """What came of several vertebrae, in a sentence or two."""
    doubtful = [name for name, level in result.levels.items() if level.status != "ok"]
    count = len(result.levels)
    if not doubtful:
        return _("Registered {count} vertebrae. Look at each in step 5.").format(count=count)
    text = _("Registered {good} of {count} vertebrae well; look at {names} in step 5.")
    return text.format(good=count - len(doubtful), count=count, names=", ".join(doubtful))
