"""Calibrate the cameras of X-rays by the beads that they show."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from RadGSRegLib.choices import BEAD_LAYOUTS
from RadGSRegLib.errors import Cancelled, InputError

from ..exchange.casefolder import forgetTogether, viewName
from ..exchange.xraysources import GUESSED_SPACING, isGuess
from ..process.jobs import Job
from ..process.runs import WorkFolder
from ..scene import carm
from ..scene.xray import getGeometry, getPixels, setGeometry
from .requests import Argument, Request

if TYPE_CHECKING:
    from RadGSRegLib.calibration import Editing, Exposure, GivenPairs
    from RadGSRegLib.cases import View
    from RadGSRegLib.geometry import Distortion

LEAST_XRAYS = 2
"""A registration needs two X-rays of one world."""
_ALIKE = 0.05
"""Distances of source and detector that differ by less are one C-arm's, of which about is enough:
half of what the calibration takes for known (`bounds.FOCAL_DOUBT` is one standard deviation)."""
_PAIRS = "pairs.json"


@dataclass
class CalibrationResult:
    """The cameras of X-rays, found or by pairs that were given.

    ``status``: "ok" or "uncertain"; ``views`` as the library reads them, in the X-rays' order;
    ``record`` is the content of ``calibration.json``. ``outputFolder``: None where it was
    temporary.
    """

    status: str
    reason: str
    xrayNodes: list[Any]
    views: list["View"]
    record: dict[str, Any]
    outputFolder: Path | None
    exposures: list["Exposure"] = field(repr=False)
    beads: str | os.PathLike[str]

    def editing(self) -> "Editing":
        """The same, to be corrected by a person: `calibrate` takes its ``pairs()`` again."""
        from RadGSRegLib.calibration import Calibrating, Editing, GivenPairs, read_beads

        entries, how = self.record["views"], self.record["parameters"]
        pairs = {
            e["name"]: GivenPairs(np.array(e["beads"]), np.array(e["spots_px"])) for e in entries
        }
        isFitted = how["distortion"] == "fit"
        exposures = list(self.exposures)
        if not isFitted:
            # Of one grid, or of each picture's own.
            both = zip(exposures, entries, strict=True)
            exposures = [replace(exposure, distortion=_distortion(e)) for exposure, e in both]
        options = Calibrating(how["shared_intrinsics"], "fit" if isFitted else None)
        return Editing.from_pairs(exposures, read_beads(self.beads), pairs, options)

    def use(self) -> None:
        """Put the cameras on the X-rays; a picture with distortion becomes one without."""
        names = [viewName(node) for node in self.xrayNodes]
        named = {view.name: name for view, name in zip(self.views, names, strict=True)}
        entries = self.record["views"]
        for node, view, entry in zip(self.xrayNodes, self.views, entries, strict=True):
            isBent = not np.array_equal(view.pixels, getPixels(node))
            geometry = getGeometry(node)
            together = view.camera_covariance_with.items()
            changed = replace(
                geometry,
                camera=view.camera,
                pixelSpacing=view.pixel_spacing_mm,
                centerPx=_straight(geometry.centerPx, entry) if isBent else geometry.centerPx,
                nominal=False,
                roomNominal=False,
                # The beads' frame is the world: nothing says how a patient lies in it.
                patientAxes=None,
                metalPx=view.metal_px,
                cameraCovariance=view.camera_covariance,
                cameraCovarianceWith={named[n]: c for n, c in together if n in named},
            )
            with slicer.util.NodeModify(node):
                if isBent:
                    slicer.util.updateVolumeFromArray(node, view.pixels[None].copy())
                setGeometry(node, changed)
                node.RemoveAttribute(carm.ISOCENTRE)
                node.RemoveAttribute(GUESSED_SPACING)
        forgetTogether(self.xrayNodes)


@dataclass
class CalibrateRequest(Request):
    """Calibrate X-rays of the scene by the beads that they show.

    ``beads``: a phantom file, or a layout: "two-plates", "helix". ``pixelMm``: the size of a pixel
    at the detector, and ``sourceDetectorMm``: about the distance of source and detector; None:
    what the X-rays say. ``sharedIntrinsics``: all X-rays have one focal length and principal point.
    ``fitDistortion``: estimate the distortion from the beads; ``grid``: the picture of a flat grid,
    for the same, or a folder with one for each X-ray, called like it. ``preset``: what is known of
    the C-arm, as ``radgsreg calibrate --preset``.
    ``pairs``: which shadow is of which bead, as `Editing.pairs` says it, or a file: then nothing is
    looked for. ``use``: put the cameras on the X-rays.
    """

    xrayNodes: Sequence[Any]
    beads: str | os.PathLike[str]
    _: KW_ONLY
    pixelMm: float | None = None
    sourceDetectorMm: float | None = None
    sharedIntrinsics: bool = False
    fitDistortion: bool = False
    grid: str | os.PathLike[str] | None = None
    preset: str | os.PathLike[str] | None = None
    pairs: "Mapping[str, GivenPairs] | str | os.PathLike[str] | None" = None
    use: bool = True

    @property
    def _isLayout(self) -> bool:
        return isinstance(self.beads, str) and self.beads in BEAD_LAYOUTS

    def check(self) -> None:
        super().check()
        if len(self.xrayNodes) < LEAST_XRAYS:
            raise InputError("X-rays", f"there are {len(self.xrayNodes)}", "calibrate two or more")
        for name, value in (("pixel size", self.pixelMm), ("distance", self.sourceDetectorMm)):
            if value is not None and not 0.0 < value < 1e5:
                raise InputError(name, f"{value} is no positive number of mm")
        if self.fitDistortion and self.grid is not None:
            raise InputError(
                "distortion", "is known of the grid", "leave the estimate from the beads out"
            )
        files = {"beads": self.beads, "grid": self.grid, "preset": self.preset}
        if isinstance(self.pairs, str | os.PathLike):
            files["pairs"] = self.pairs
        for name, file in files.items():
            if file is None or (name == "beads" and self._isLayout):
                continue
            # A text of any kind is no error here.
            isFolder = name == "grid" and os.path.isdir(file)  # noqa: PTH112
            if not isFolder and not os.path.isfile(file):  # noqa: PTH113
                raise InputError(name, "the file is not there", "choose one")
        names: list[str] = []
        for node in self.xrayNodes:
            geometry = getGeometry(node)
            if self.pixelMm is None and isGuess(node, geometry.pixelSpacing):
                raise InputError(
                    node.GetName(), "does not say how large its pixels are", "give the pixel size"
                )
            names.append(node.GetName().lower())
        if len(set(names)) < len(names):
            raise InputError("X-rays", "two have the same name", "rename one")

    def toArguments(self, folder: WorkFolder) -> list[Argument]:
        arguments: list[Argument] = ["calibrate"]
        arguments += [folder.outputs / _fileName(node) for node in self.xrayNodes]
        arguments += ["--beads", self.beads if self._isLayout else Path(self.beads).resolve()]
        arguments += ["--out", folder.outputs / "views.json"]
        distance = self._distance()
        if distance is not None:
            arguments += ["--source-detector-mm", f"{distance:.10g}"]
        arguments += ["--shared-intrinsics"] if self.sharedIntrinsics else []
        arguments += ["--fit-distortion"] if self.fitDistortion else []
        # The child works in another folder.
        if self.grid is not None:
            arguments += ["--grid", Path(self.grid).resolve()]
        if self.preset is not None:
            arguments += ["--preset", Path(self.preset).resolve()]
        if isinstance(self.pairs, str | os.PathLike):
            arguments += ["--pairs", Path(self.pairs).resolve()]
        elif self.pairs is not None:
            arguments += ["--pairs", folder.inputs / _PAIRS]
        return arguments

    def _distance(self) -> float | None:
        """About how far the detector is from the source; None where nothing says it for all."""
        if self.sourceDetectorMm is not None:
            return self.sourceDetectorMm
        known = [_distanceOf(node) for node in self.xrayNodes]
        said = [mm for mm in known if mm is not None]
        if len(said) < len(known) or not said or max(said) > (1.0 + _ALIKE) * min(said):
            return None
        return float(np.mean(said))

    def _stage(self, folder: WorkFolder) -> Iterator[None] | None:
        import SimpleITK as sitk  # noqa: N813
        from RadGSRegLib.calibration import Exposure, pairs_to_json
        from RadGSRegLib.cases import write_itk

        # Beside the results, which name them: those may be kept.
        folder.outputs.mkdir()
        self._exposures = []
        for node in self.xrayNodes:
            spacing = getGeometry(node).pixelSpacing
            if self.pixelMm is not None:
                spacing = (self.pixelMm, self.pixelMm)
            pixels = getPixels(node).astype(np.float32)
            self._exposures.append(Exposure(viewName(node), pixels, spacing, self._distance()))
            image = sitk.GetImageFromArray(pixels)
            image.SetSpacing([float(step) for step in spacing])
            write_itk(image, folder.outputs / _fileName(node), compressed=False)
        if self.pairs is not None and not isinstance(self.pairs, str | os.PathLike):
            content = json.dumps(pairs_to_json(self.pairs))
            (folder.inputs / _PAIRS).write_text(content, encoding="utf-8")
        return None

    def _load(self, path: Path, job: Job) -> CalibrationResult:
        if any(node.GetScene() is None for node in self.xrayNodes):
            raise Cancelled("an X-ray is no longer in the scene")
        from RadGSRegLib.cases import read_json_object, read_views

        views = read_views(path / "views.json")
        record = read_json_object(path / "views_calibration" / "calibration.json")
        exposures = [
            replace(exposure, name=entry["name"])
            for exposure, entry in zip(self._exposures, record["views"], strict=True)
        ]
        kept = None if self.outputFolder is None else path
        said = record["status"], record["reason"]
        nodes = list(self.xrayNodes)
        result = CalibrationResult(*said, nodes, views, record, kept, exposures, self.beads)
        if self.use:
            result.use()
        return result


def knownCarms() -> list[Path]:
    """The files of known C-arms, in ``RadGSReg/carms`` beneath the folder of Slicer's settings."""
    application = getattr(slicer, "app", None)
    if application is None:
        return []
    folder = Path(application.slicerUserSettingsFilePath).parent / "RadGSReg" / "carms"
    return sorted(folder.glob("*.json"))


def _fileName(node: Any) -> str:
    return f"{viewName(node)}.mha"


def _distortion(entry: Mapping[str, Any]) -> "Distortion | None":
    """What the record of a calibration says of a view's; None where its picture has none."""
    from RadGSRegLib.geometry import Distortion

    said = entry["distortion"]
    if said is None:
        return None
    numbers = {key: tuple(said[key]) for key in ("centre_px", "radial", "spiral")}
    return Distortion(unit_px=float(said["unit_px"]), **numbers)


def _straight(
    centerPx: tuple[float, float] | None, entry: Mapping[str, Any]
) -> tuple[float, float] | None:
    """Where a pixel of a picture with distortion lies in the one without; None where nowhere."""
    from RadGSRegLib.geometry import undistort

    bent = _distortion(entry)
    if centerPx is None or bent is None:
        return None
    try:
        ((column, row),) = undistort([centerPx], bent)
    except ValueError:
        return None
    return float(column), float(row)


def _distanceOf(node: Any) -> float | None:
    """How far a node's geometry says that the detector is; None where that is the usual C-arm."""
    geometry = getGeometry(node)
    distance = abs(float(geometry.camera.intrinsic[0, 0])) * geometry.pixelSpacing[0]
    usual = carm.nominalCArm(*geometry.camera.size, geometry.pixelSpacing).sourceDetector
    return None if geometry.nominal and np.isclose(distance, usual) else distance
