"""Register several vertebrae of a CT to X-rays together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from RadGSRegLib.errors import InputError

from ..exchange.refinedviews import RefinedCamera, readCameras
from ..exchange.spineresults import SpineResult, loadSpine
from ..process.runs import WorkFolder
from ..scene.registeredspine import levelsOf
from ..scene.segments import findSegment, labelValues
from .registration import RegisterRequest
from .requests import Argument


@dataclass
class RegisterSpineRequest(RegisterRequest):
    """Register several vertebrae together; the transform that bends the CT by all is set on it.

    ``segment`` is the one that clicks and the start are of; ``segments``: all, by segment ID, name
    or level. The rest is as in `RegisterRequest`, without what is of one vertebra alone (the method
    as published, a model).
    """

    segments: Sequence[str] = ()

    def check(self) -> None:
        super().check()
        for wrong, what in (
            (self.method != "ours", "the method as published"),
            (self.model is not None, "a model"),
            (len(self.xrayNodes) == 1, "one X-ray alone"),
        ):
            if wrong:
                raise InputError("segments", f"several cannot go with {what}", "register one")
        if self.segmentationNode is not None:
            self._identifiers()

    def _identifiers(self) -> list[str]:
        """The segments' identifiers, each once, the first one's first."""
        every = [findSegment(self.segmentationNode, s) for s in (self.segment, *self.segments)]
        return list(dict.fromkeys(every))

    def toArguments(self, folder: WorkFolder) -> list[Argument]:
        return [*super().toArguments(folder), "--labels", ",".join(map(str, self._labels))]

    def _stage(self, folder: WorkFolder) -> Iterator[None]:
        prepare = super()._stage(folder)
        # By number: names in files may be shared, or hold a comma.
        values = labelValues(self.segmentationNode)
        self._labels = [values[id_] for id_ in self._identifiers()]
        return prepare

    def _cameras(self, path: Path) -> list[RefinedCamera]:
        from RadGSRegLib.cases import read_spine_json

        record = read_spine_json(path / "spine.json")
        own = path / record.levels[record.begun_with].folder
        return readCameras(path, len(self.xrayNodes), own)

    def _brought(self, path: Path) -> SpineResult:
        return loadSpine(path, self.ctNode, self._early.outputs, self.segmentationNode)

    def _kept(self, result: Any) -> Any:
        for level in result.levels.values() if self.outputFolder is None else ():
            level.outputFolder = None
        return super()._kept(result)

    def _segments(self, result: Any) -> tuple[str, ...]:
        return tuple(level.segment for level in levelsOf(result.transformNode))


def registrationRequest(
    ctNode: Any,
    segmentationNode: Any,
    segment: str | Sequence[str],
    xrayNodes: Sequence[Any],
    **options: Any,
) -> RegisterRequest:
    """The request of one segment, or of a list of them, of which the first is clicked.

    Raises InputError for an option that there is none of, or an empty list.
    """
    if isinstance(segment, str):
        return RegisterRequest.of(ctNode, segmentationNode, segment, xrayNodes, **options)
    every = list(segment)
    if not every:
        raise InputError("segments", "there is none", 'name one or several, as in ["L3", "L2"]')
    nodes = ctNode, segmentationNode, every[0], xrayNodes
    return RegisterSpineRequest.of(*nodes, **{"segments": every, **options})
