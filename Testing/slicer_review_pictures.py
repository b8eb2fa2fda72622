"""Writes pictures of the review (biplane layout, 3-D) of a case: no window, no application.

    python Testing/slicer_review_pictures.py CASE_FOLDER OUT_FOLDER

CASE_FOLDER holds case.json and truth.json, or results (registration.json, ...) in ``results/``.
The views are drawn by Slicer's own displayable managers; the frame around them is ours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer_startup
from PIL import Image
from slicer_pictures import Stage, view_3d, view_slice

SIZES = {
    "RadGSRegA": (640, 480),
    "RadGSRegB": (640, 480),
    "1": (640, 420),
    "Red": (318, 420),
    "Yellow": (318, 420),
}


def load(case_folder: Path) -> tuple[Any, Any, str, list[Any], Any]:
    """CT, segmentation, label as segment name, X-rays and a transform at the true pose."""
    slicer_startup.start()
    from RadGSRegSlicer.exchange import casefolder

    from RadGSRegLib.geometry import lps_to_ras

    case = json.loads((case_folder / "case.json").read_text())
    ct = slicer_startup.load_volume(case_folder / case["ct"])
    names = {int(case["label"]): "vertebra"}
    segmentation = slicer_startup.load_segmentation(case_folder / case["segmentation"], names)
    xrays = casefolder.importViews(case_folder / case["views"])
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "ct-to-world")
    pose = json.loads((case_folder / "truth.json").read_text())["ct_to_world"]
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(lps_to_ras(pose)))
    ct.SetAndObserveTransformNodeID(transform.GetID())
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    return ct, segmentation, "vertebra", xrays, transform


def biplane(stage: Stage, camera: Any) -> np.ndarray:
    """The five views of the biplane layout as one picture."""
    tiles = {
        name: view_slice(stage.sliceLogics[name], SIZES[name]) for name in SIZES if name != "1"
    }
    view = slicer.util.getNodesByClass("vtkMRMLViewNode")[0]
    tiles["1"] = view_3d(view, SIZES["1"], camera)

    def row(*names: str) -> np.ndarray:
        gap = np.full((tiles[names[0]].shape[0], 4, 3), 40, np.uint8)
        parts = [part for name in names for part in (tiles[name], gap)][:-1]
        return np.concatenate(parts, axis=1)

    above, below = row("RadGSRegA", "RadGSRegB"), row("1", "Red", "Yellow")
    width = max(above.shape[1], below.shape[1])
    padded = [np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0))) for r in (above, below)]
    gap = np.full((4, width, 3), 40, np.uint8)
    return np.concatenate([padded[0], gap, padded[1]])


def main(case_folder: Path, out: Path) -> None:
    """Write the pictures."""
    out.mkdir(parents=True, exist_ok=True)
    ct, segmentation, segment, xrays, transform = load(case_folder)
    from RadGSRegSlicer.exchange import results
    from RadGSRegSlicer.review.review import Review
    from RadGSRegSlicer.scene.drawing import XrayDrawings

    reconstruction = gaussians = None
    if (case_folder / "results").is_dir():
        found = results.loadReconstruction(case_folder / "results", slicer.mrmlScene)
        reconstruction, gaussians = found.reconstructionNode, found.gaussiansNode
    stage = Stage(slicer.mrmlScene)
    review = Review(ct, segmentation, segment, xrays, transform, reconstruction, gaussians)
    drawings = XrayDrawings()
    drawings.show(xrays)
    stage.build(SIZES)
    review.showLayout()
    stage.build(SIZES)
    review.showLayout()
    camera = review.layout.camera
    review.layout.overview(SIZES["1"][0] / SIZES["1"][1])
    view = slicer.util.getNodesByClass("vtkMRMLViewNode")[0]
    for name, shown in (("volume", (False, False, True, False)), ("gaussians", (0, 0, 0, 1))):
        review.show3d(*map(bool, shown))
        Image.fromarray(view_3d(view, (800, 600), camera)).save(out / f"3d-{name}.png")
    review.show3d(before=False, after=True, volume=False, gaussians=False)
    Image.fromarray(biplane(stage, camera)).save(out / "biplane.png")
    client = review.startScoring()
    client.wait(120)
    for mode in ("blend", "checkerboard", "rendering"):
        review.setComparison(mode)
        client.wait(60)
        Image.fromarray(biplane(stage, camera)).save(out / f"biplane-{mode}.png")
    review.setComparison("xray")
    review.nudge("right", 4.0, xrays[0])
    client.wait(60)
    Image.fromarray(biplane(stage, camera)).save(out / "biplane-nudged.png")
    review.layout.lookAlong(xrays[0], SIZES["1"][0] / SIZES["1"][1])
    Image.fromarray(view_3d(view, (800, 600), camera)).save(out / "along-beam.png")
    (out / "card.html").write_text(review.card().toHtml(), encoding="utf-8")
    review.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
