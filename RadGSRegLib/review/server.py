"""Answers requests about a case's poses, in lines, until its input ends.

A window (Slicer's) that must not wait keeps a process beside it: ``radgsreg review-server CASE.json
POSE.json FOLDER`` (see `commands.review_server`). Both sides speak lines of JSON.
POSE.json holds the ``ct_to_world`` to begin with and, where a registration gave it, ``registered``:
its ``ct_to_world``, ``shifts_ct`` (see `registration.Arrangement`) and per view's name whether
``bone`` is "bright" or "dark".
The first line out, once all is loaded, is ``{"ready": true, "views": [...], "registered": ...}``,
with what "score" says of the registered pose; loading that fails ends in ``{"error": "..."}``.
Then each line in is a request and gets one line out with its ``id``:

``{"id", "do": "score", "ct_to_world"}``
    ``{"id", "score", "views": {name: score}}``
``{"id", "do": "render", "view", "content": "bones" | "vertebra", "ct_to_world"}``
    ``{"id", "file"}``, an .npy (rows, columns)
``{"id", "do": "refine", "ct_to_world"}``
    ``{"id", "ct_to_world"}``, the best pose nearby
``{"id", "do": "pictures", "ct_to_world"}``
    ``{"id", "files"}``, overlay_<view>.png

A request that is overtaken by a newer one of its kind (and view) is answered ``{"id", "stale":
true}`` and not worked on; one that fails gets ``{"id", "error"}``. Poses are LPS, as in every file.
Files are written into FOLDER, whole, and belong to the reader. When the input ends, so does the
process: it cannot outlive its window.
"""

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..cases import Fields, output_file, read_case, read_json_object
from ..geometry import Array, is_rigid
from ..registration import Arrangement
from ..report import cast_shadow, overlay_png, picture_names, plain_png
from ..system import Progress
from .rendering import XrayRenderer
from .scoring import PoseScorer, Registered

Request = dict[str, Any]


class ReviewServer:
    """Answers requests about one case."""

    def __init__(
        self, case_path: Path, pose_path: Path, folder: Path, progress: Progress | None = None
    ) -> None:
        """Load all. Raises InputError for a case or a pose that cannot be used."""
        self._folder = folder
        self._case = read_case(case_path, least=1)
        fields = Fields(pose_path, read_json_object(pose_path))
        pose, registered = fields.rigid("ct_to_world"), None
        self._registered: Array | None = None
        if "registered" in fields:
            record = Fields(pose_path, fields.data["registered"], '"registered"')
            # Neighbours belong to where the vertebra was registered, not to where it is by now.
            pose = self._registered = record.rigid("ct_to_world")
            registered = _registered(record, pose, self.views)
        self._scorer = PoseScorer(self._case, pose, progress=progress, registered=registered)
        self._renderer = XrayRenderer(self._case, self._scorer.vertebra, self._scorer.signs)

    @property
    def views(self) -> list[str]:
        """The names of the case's views."""
        return [view.name for view in self._case.views]

    @property
    def registered(self) -> dict[str, Any] | None:
        """What "score" says of the registered pose; None where that is not known."""
        return None if self._registered is None else self._score({}, self._registered)

    def answer(self, request: Request) -> dict[str, Any]:
        """Answer one request, without its ``id``. Raises ValueError for an invalid one."""
        kinds: dict[str, Callable[[Request, Array], dict[str, Any]]] = {
            "score": self._score,
            "render": self._render,
            "refine": self._refine,
            "pictures": self._pictures,
        }
        kind = kinds.get(str(request.get("do")))
        if kind is None:
            raise ValueError(f"there is no request {request.get('do')!r}")
        pose = np.array(request.get("ct_to_world"), dtype=float)
        if not is_rigid(pose):
            raise ValueError("the pose is not rigid")
        return kind(request, pose)

    def _score(self, request: Request, pose: Array) -> dict[str, Any]:
        scores = self._scorer.score(pose)
        return {"score": scores.score, "views": scores.views}

    def _render(self, request: Request, pose: Array) -> dict[str, Any]:
        name, content = str(request.get("view")), request.get("content", "bones")
        if name not in self.views or content not in ("bones", "vertebra"):
            raise ValueError(f"there is no view {name!r} or no content {content!r}")
        image = self._renderer.render(name, pose, content)
        path = self._folder / f"render-{request['id']}.npy"
        with output_file(path) as part:
            np.save(part, image, allow_pickle=False)
        return {"file": str(path)}

    def _refine(self, request: Request, pose: Array) -> dict[str, Any]:
        return {"ct_to_world": self._scorer.refine(pose).tolist()}

    def _pictures(self, request: Request, pose: Array) -> dict[str, Any]:
        case = self._case
        files = []
        for view, name in zip(case.views, picture_names(case.views), strict=True):
            try:
                shadow = cast_shadow(
                    case.ct, case.labels, case.label, pose, view.camera, samples=320
                )
                png = overlay_png(view, shadow)
            except ValueError:
                png = plain_png(view)
            path = self._folder / name
            with output_file(path) as part:
                part.write_bytes(png)
            files.append(str(path))
        return {"files": files}


def _registered(record: Fields, ct_to_world: Array, views: list[str]) -> Registered | None:
    """What a result says of everything beside the vertebra; None where it says nothing of use."""
    bone, shifts = record.data.get("bone"), record.data.get("shifts_ct")
    if not isinstance(bone, dict) or not isinstance(shifts, list) or set(bone) != set(views):
        return None
    try:
        matrices = tuple(np.array(shift, dtype=float) for shift in shifts)
    except (TypeError, ValueError):
        return None
    if not all(matrix.shape == (4, 4) and is_rigid(matrix) for matrix in matrices):
        return None
    signs = tuple(1 if bone[name] == "bright" else -1 for name in views)
    return Registered(Arrangement(ct_to_world, matrices), signs)


def overtaken(waiting: list[Request]) -> Iterator[tuple[Request, bool]]:
    """Yield the requests in their order, each with whether a later one makes it stale.

    Scores and renderings are only of use for the newest pose; nothing else goes stale.
    """
    for number, request in enumerate(waiting):
        key = (request.get("do"), request.get("view"))
        later = [(other.get("do"), other.get("view")) for other in waiting[number + 1 :]]
        yield request, key[0] in ("score", "render") and key in later


def serve(server: ReviewServer, lines: IO[str], out: IO[str]) -> None:
    """Answer every line until there are no more."""
    incoming: queue.SimpleQueue[Request | None] = queue.SimpleQueue()

    def read() -> None:
        for line in lines:
            with contextlib.suppress(ValueError):
                request = json.loads(line)
                if isinstance(request, dict):
                    incoming.put(request)
        incoming.put(None)

    threading.Thread(target=read, daemon=True).start()
    waiting: list[Request] = []
    while True:
        taken = [incoming.get()] if not waiting else []
        with contextlib.suppress(queue.Empty):
            while True:
                taken.append(incoming.get_nowait())
        if None in taken:
            return
        waiting += [request for request in taken if request is not None]
        fresh = []
        for request, stale in overtaken(waiting):
            if stale:
                say(out, {"id": request.get("id"), "stale": True})
            else:
                fresh.append(request)
        request, *waiting = fresh
        try:
            answer = server.answer(request)
        except Exception as error:  # one bad request must not end the process
            answer = {"error": str(error) or type(error).__name__}
        say(out, {"id": request.get("id"), **answer})


def say(out: IO[str], content: dict[str, Any]) -> None:
    """Write one line, at once."""
    out.write(json.dumps(content) + "\n")
    out.flush()
