"""Methods behind one door: what each is asked, what it answers, and which there are."""

from .contract import About as About
from .contract import Answer as Answer
from .contract import Attention as Attention
from .contract import FunctionMethod as FunctionMethod
from .contract import Group as Group
from .contract import Method as Method
from .contract import Task as Task
from .learned import REFINED as REFINED
from .learned import own_name as own_name
from .published import reconstruction_of as reconstruction_of
from .published import register_published as register_published
from .registry import ENTRIES as ENTRIES
from .registry import OURS as OURS
from .registry import Entry as Entry
from .registry import choose_methods as choose_methods
from .settings import Settings as Settings
