"""Follow a vertebra through runs of X-rays."""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from RadGSRegLib.choices import EFFORTS
from RadGSRegLib.errors import Cancelled, InputError

from ..exchange.runstaging import stageRun, xraysOfRuns
from ..exchange.staging import CASE
from ..exchange.trackresults import TrackResult, loadTrack
from ..process.jobs import Job
from ..process.runs import WorkFolder
from .requests import Argument, StartRequest, choice


@dataclass
class TrackRequest(StartRequest):
    """Follow a vertebra of a CT through runs of X-rays, which the CT then follows.

    ``segment``: by segment ID, name or level ("L3"). ``xraySequences``: a sequence of volumes for
    each view, with the same index values; a single one needs a start. ``xrayNodes``: X-rays with
    the geometry of each; without them, the volumes by which a browser shows the sequences. The
    start, as in `StartRequest`, is in the first frame that shows something. ``effort``: "fast",
    "normal" or "careful".
    """

    ctNode: Any
    segmentationNode: Any
    segment: str
    xraySequences: Sequence[Any]
    _: KW_ONLY
    xrayNodes: Sequence[Any] = ()
    effort: str = choice("normal", EFFORTS)

    def check(self) -> None:
        super().check()
        if len(self.xraySequences) == 1 and not self.hasStart:
            raise InputError("start", "is missing", "one plane alone needs one")

    def toArguments(self, folder: WorkFolder) -> list[Argument]:
        arguments: list[Argument] = ["track", folder.inputs / CASE, "--out", folder.outputs]
        return [*arguments, "--effort", self.effort, *self._startArguments(folder)]

    def _stage(self, folder: WorkFolder) -> Iterator[None]:
        inputs = self.ctNode, self.segmentationNode, self.segment
        xrays = xraysOfRuns(self.xraySequences, self.xrayNodes)
        return stageRun(inputs, self.xraySequences, xrays, folder.inputs, self.start)

    def _load(self, path: Any, job: Job) -> TrackResult:
        if any(node.GetScene() is None for node in self.xraySequences):
            raise Cancelled("a run of X-rays is no longer in the scene")
        result = loadTrack(path, self.ctNode, self.segmentationNode, self.xraySequences)
        if self.outputFolder is None:
            result.outputFolder = None
        return result


def track(
    ctNode: Any, segmentationNode: Any, segment: str, xraySequences: Sequence[Any], **options: Any
) -> Any:
    """Follow a vertebra through runs of X-rays; the arguments are those of `TrackRequest`.

    Returns a `TrackResult`, or without ``waitForCompletion`` the `CommandRun`.
    """
    return TrackRequest.of(ctNode, segmentationNode, segment, xraySequences, **options).run()
