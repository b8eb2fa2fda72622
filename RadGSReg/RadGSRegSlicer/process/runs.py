"""A command of the library in a child process, and the folder where its files are."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import Array, is_rigid, lps_to_ras
from RadGSRegLib.system import ExitStatus

from .driver import Driver, Result, TaskError
from .environment import childEnvironment, libraryFolder, pythonExecutable
from .jobs import Job, JobState, Pose, ProgressCallback

PoseCallback = Callable[[Array], object]


class WorkFolder:
    """Where a run keeps its files: temporary, and results moved to a folder of the user's choice.

    The child never writes into the user's folder itself: one that is ended by force leaves nothing.
    ``scratch``, which is not made here, is for what the child itself keeps on the way.
    """

    def __init__(
        self, outputFolder: str | os.PathLike[str] | None = None, *, isShared: bool = False
    ) -> None:
        """Raises InputError where ``outputFolder`` holds other people's files, unless it
        ``isShared``, as for a file of one's own among others."""
        self._isShared = isShared
        if outputFolder is not None and not str(outputFolder).strip():
            raise InputError("outputFolder", "is empty", "name a folder for the results")
        self._check(outputFolder)
        self._temporary = Path(tempfile.mkdtemp(prefix="radgsreg-"))
        self._target = None if outputFolder is None else Path(outputFolder).resolve()
        self.inputs = self._temporary / "case"
        self.outputs = self._temporary / "results"
        self.scratch = self._temporary / "scratch"
        self.inputs.mkdir()

    def publish(self) -> Path:
        """Put the results where the user wants them, all or none; returns where they are now."""
        if self._target is None:
            return self.outputs
        from RadGSRegLib.cases import OutputFolder

        self._check(self._target)  # it may have been filled meanwhile
        with OutputFolder(self._target) as stage:
            shutil.copytree(self.outputs, stage, dirs_exist_ok=True)
        return self._target

    def _check(self, folder: str | os.PathLike[str] | None) -> None:
        if folder is not None and not self._isShared:
            from RadGSRegLib.cases import refuse_strangers

            refuse_strangers(folder)

    def remove(self) -> None:
        """Remove everything temporary."""
        shutil.rmtree(self._temporary, ignore_errors=True)


class CommandRun(Driver[Result]):
    """One command of the library, from its input folder to nodes in the scene.

    ``arguments`` follow ``python -m RadGSRegLib``; ``load`` turns the results into nodes and runs
    on the thread that polls. `poseCallback` gets the best pose so far (4, 4), RAS, whenever the
    command tells of one, and `reconstructionCallback` the folder of a reconstruction that is there
    before the end. After a Cancel `keepCallback` may give what there is as the result (None: there
    is nothing). `takeBackCallback` is told where `end` leaves nothing of what the other callbacks
    brought. After the end exactly one of `result` and `error` is set. The folder is
    the run's own: it is removed at the end, and where the run cannot be made (RuntimeError, no
    Python is found).
    """

    def __init__(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        folder: WorkFolder,
        load: Callable[[Path], Result],
        *,
        prepare: Iterator[object] | None = None,
        progressCallback: ProgressCallback | None = None,
        completedCallback: Callable[[Any], object] | None = None,
    ) -> None:
        self.folder = folder
        self._load = load
        self.poseCallback: PoseCallback | None = None
        self.reconstructionCallback: Callable[[Path], object] | None = None
        self.keepCallback: Callable[[], Result | None] | None = None
        self.takeBackCallback: Callable[[], object] | None = None
        self._isLoaded = False
        self._removal: threading.Thread | None = None
        try:
            python = pythonExecutable()
        except RuntimeError:
            folder.remove()
            raise
        job = Job(
            [python, "-m", "RadGSRegLib", *arguments, "--progress"],
            workingFolder=libraryFolder(),
            environment=childEnvironment(),
            progressCallback=progressCallback,
            poseCallback=self._onPose,
            reconstructionCallback=self._onReconstruction,
        )
        super().__init__(job, prepare, completedCallback)

    @property
    def bestPose(self) -> Array | None:
        """The best pose (4, 4) that the command has told of, CT to world, RAS; or None."""
        if self.job.bestPose is None:
            return None
        pose = np.array(self.job.bestPose)
        return lps_to_ras(pose) if is_rigid(pose) else None

    @property
    def figures(self) -> dict[str, float]:
        """What the command has measured so far, by name (a training's errors, mm)."""
        return dict(self.job.figures)

    def wait(self) -> Result:
        """Wait for the end as `Driver.wait`, and until no file is left."""
        try:
            return super().wait()
        finally:
            if self._removal is not None:
                self._removal.join()

    def end(self) -> None:
        isOver = self.isFinished or self.result is not None
        super().end()
        if not isOver and self.takeBackCallback is not None:
            self.takeBackCallback()

    def _launch(self) -> None:
        try:
            super()._launch()
        except Exception:
            self._clean()
            raise

    def _advance(self) -> bool:
        if not super()._advance():
            return False
        if self._isLoaded:
            return True
        # The end is told at the next poll: loading alone takes as long as a window may wait.
        self._isLoaded = True
        try:
            self.error = self.error or self._failure()
            if isinstance(self.error, Cancelled):
                self.result = self._kept()
                self.error = self.error if self.result is None else None
            elif self.error is None:
                self.result = self._load(self.folder.publish())
        except Exception as error:
            self.error = error
        finally:
            self._removeFolder()
        return False

    def _clean(self) -> None:
        self.folder.remove()

    def _removeFolder(self) -> None:
        if self._timer is None:
            self.folder.remove()
        else:
            # A CT's worth of files takes a slow disk longer than a window may wait.
            self._removal = threading.Thread(target=self.folder.remove)
            self._removal.start()

    def _onPose(self, pose: Pose) -> None:
        if self.poseCallback is not None and self.bestPose is not None:
            self.poseCallback(self.bestPose)

    def _onReconstruction(self, folder: str) -> None:
        if self.reconstructionCallback is not None:
            self.reconstructionCallback(Path(folder))

    def _kept(self) -> Result | None:
        return None if self.isDiscarded or self.keepCallback is None else self.keepCallback()

    def _failure(self) -> Exception | None:
        if self.isDiscarded:
            return Cancelled("discarded")
        code = self.job.returnCode
        # A Cancel may come when all is done: the job calls that cancelled, unless it ended with 0.
        if code == ExitStatus.NOT_TRUSTED and self.folder.outputs.exists():
            return None
        if self.job.state is JobState.CANCELLED or code == ExitStatus.CANCELLED:
            return Cancelled(self.job.message or "cancelled")
        if code in (ExitStatus.OK, ExitStatus.NOT_TRUSTED):
            return None
        reason = self.job.errorText.removeprefix("radgsreg: ") or "it gave no reason"
        if code == ExitStatus.INPUT:
            return TaskError(reason)
        return TaskError(f"the computation ended unexpectedly (exit status {code}): {reason}")
