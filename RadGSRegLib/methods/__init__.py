"""Methods behind one door: what each is asked, what it answers, and which there are."""

from .contract import About, Answer, Attention, FunctionMethod, Group, Method, Task
from .learned import REFINED, own_name
from .registry import ENTRIES, OURS, Entry, choose_methods
from .settings import Settings

__all__ = [
    "ENTRIES",
    "OURS",
    "REFINED",
    "About",
    "Answer",
    "Attention",
    "Entry",
    "FunctionMethod",
    "Group",
    "Method",
    "Settings",
    "Task",
    "choose_methods",
    "own_name",
]
