"""Writes a picture of a volume without a CT: its surface cut open, and slices along its axes.

    python Testing/slicer_volume_pictures.py RESULT_FOLDER OUT.jpg PERCENTILE R,A,S,DR,DA,DS

The numbers are a box about one bone: its middle (RAS) and how large it is, mm.

RESULT_FOLDER is that of ``radgsreg reconstruct`` on X-rays alone. The views are drawn by Slicer's
own displayable managers; the frame around them is ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import slicer
import slicer_startup
from PIL import Image
from slicer_pictures import Stage, view_3d, view_slice

SIZE_3D, SIZE = (640, 640), (318, 318)


def main(results_folder: Path, out: Path, percentile: float, limits: list[float]) -> None:
    """Write the picture."""
    scene = slicer_startup.start()
    from RadGSRegSlicer.exchange import results
    from RadGSRegSlicer.review import rendering, views
    from RadGSRegSlicer.review.display import showGaussians
    from RadGSRegSlicer.scene import axes, bonesurface, box

    made = results.loadReconstruction(results_folder, scene)
    volume = made.reconstructionNode
    showGaussians(made.gaussiansNode, False)
    stage = Stage(scene)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    views.showLayout(scene)
    green = scene.AddNewNodeByClass("vtkMRMLSliceNode", "Green")
    green.SetLayoutName("Green")
    green.SetOrientation("Coronal")
    sizes = dict.fromkeys(("Red", "Yellow", "Green"), SIZE)
    stage.build(sizes)
    rendering.plain(volume)
    views.showVolumeAlone(scene, volume)
    inBox = box.boxAround(volume)
    inBox.SetCenter(*limits[:3])
    inBox.SetSize(*limits[3:])
    surface = bonesurface.boneSurface(volume, percentile)
    surface.GetDisplayNode().SetVisibility2D(True)
    turned = axes.axesOfVolume(volume, percentile, inBox)
    axes.sliceAlong(scene, turned)
    rendering.clip([surface.GetDisplayNode()], [views.sliceNode(scene, "Yellow")])
    stage.build(sizes)
    view = slicer.util.getNodesByClass("vtkMRMLViewNode")[0]
    large = view_3d(view, SIZE_3D, views.cameraNode(scene))
    small = [view_slice(stage.sliceLogics[name], SIZE) for name in ("Red", "Yellow")]
    gap = np.full((4, SIZE[0], 3), 40, np.uint8)
    column = np.concatenate([small[0], gap, small[1]])
    between = np.full((SIZE_3D[1], 4, 3), 40, np.uint8)
    Image.fromarray(np.concatenate([large, between, column], axis=1)).save(out, quality=88)


if __name__ == "__main__":
    numbers = [float(text) for text in sys.argv[4].split(",")]
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), numbers)
