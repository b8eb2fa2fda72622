"""The gsplat backend, where it works: the same pictures, and how long they take."""

from __future__ import annotations

from functools import partial

from gaussian_scenes import relative
from measuring import devices, scenes, stages
from measuring.parts import Notes, NotHereError
from measuring.timing import median, take_turns
from setting import Setting

from RadGSRegLib.gaussians import RASTERIZERS, rasterize, rasterize_with_jacobian

# The same kernels on other lists: only sums of another order differ.
SAME = 1e-5


def gsplat(setting: Setting, notes: Notes) -> None:
    """Against the warp backend."""
    problem = RASTERIZERS.problems()["gsplat"]
    if problem:
        raise NotHereError(problem)
    shot = scenes.shot(setting.gaussians, setting.pixels, setting.device)
    scene = (shot.cloud, shot.intrinsic, shot.pose, shot.size)
    images, jacobians = {}, {}
    for name in ("gsplat", "warp"):
        images[name] = rasterize(*scene, backend=name)
        jacobians[name] = rasterize_with_jacobian(*scene, stages.CENTRE, backend=name)[1]
    notes.ran_on = devices.on(images["gsplat"])
    notes.check("gsplat, image", relative(images["gsplat"], images["warp"]), SAME)
    notes.check("gsplat, Jacobian", relative(jacobians["gsplat"], jacobians["warp"]), SAME)
    runs = {name: partial(rasterize, *scene, backend=name) for name in images}
    for name, times in take_turns(runs, setting.device, rounds=setting.rounds).items():
        notes.figure(f"forward, {name}", 1e3 * median(times), "ms")
