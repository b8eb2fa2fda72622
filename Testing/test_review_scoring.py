"""Scores and renderings of a pose, and the resident process that gives them."""

from __future__ import annotations

import io
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ball
import numpy as np
import pytest
import registration_scenes

from RadGSRegLib.cases import read_case
from RadGSRegLib.geometry import compose_about, invert_rigid, transform_points
from RadGSRegLib.registration import RegistrationOptions, register_case
from RadGSRegLib.review import PoseScorer, XrayRenderer
from RadGSRegLib.review.server import ReviewServer, overtaken, serve
from RadGSRegLib.simulation import write_simulated_case

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def scorer() -> PoseScorer:
    return PoseScorer(ball.ball_case(), ball.POSE)


def _moved(x: float) -> np.ndarray:
    return compose_about(ball.POSE, [0, 0, 0, x, 0, 0], ball.CENTRE_CT)


def test_the_score_falls_away_from_the_truth_on_either_side(scorer: PoseScorer) -> None:
    scores = [scorer.score(_moved(x)).score for x in (-6.0, -2.0, 0.0, 2.0, 6.0)]
    assert np.argmax(scores) == 2
    assert scores[0] < scores[1] < scores[2] > scores[3] > scores[4]
    assert scores[2] > 0.8
    found = scorer.score(ball.POSE)
    assert set(found.views) == {"AP", "LA"}
    assert found.score == pytest.approx(np.mean(list(found.views.values())))


def test_the_same_pose_has_the_same_score_after_an_excursion(scorer: PoseScorer) -> None:
    before = scorer.score(ball.POSE).score
    scorer.score(_moved(15.0))
    assert scorer.score(ball.POSE).score == pytest.approx(before, abs=0.02)


def test_only_views_across_the_move_see_it(scorer: PoseScorer) -> None:
    rest = scorer.score(ball.POSE).views
    camera = scorer.case.views[0].camera
    along = (
        transform_points(invert_rigid(ball.POSE), camera.view_direction_world[None])[0]
        - transform_points(invert_rigid(ball.POSE), np.zeros((1, 3)))[0]
    )
    deeper = compose_about(ball.POSE, [0, 0, 0, *(4.0 * along)], ball.CENTRE_CT)
    views = scorer.score(deeper).views
    assert rest["AP"] - views["AP"] < 0.25 * (rest["LA"] - views["LA"])


def test_bone_that_is_dark_scores_alike() -> None:
    scorer = PoseScorer(ball.ball_case(dark=True), ball.POSE)
    assert scorer.signs == (-1, -1)
    assert scorer.score(ball.POSE).score > 0.8


def test_refining_finds_the_way_back(scorer: PoseScorer) -> None:
    pose = scorer.refine(_moved(3.0))
    centre = transform_points(pose, ball.CENTRE_CT[None])[0]
    wanted = transform_points(ball.POSE, ball.CENTRE_CT[None])[0]
    assert np.linalg.norm(centre - wanted) < 0.3


@pytest.mark.parametrize("dark", [False, True])
def test_a_rendering_looks_like_its_xray(dark: bool) -> None:
    case = ball.ball_case(dark=dark)
    signs = (-1, -1) if dark else (1, 1)
    vertebra = PoseScorer(case, ball.POSE).vertebra
    renderer = XrayRenderer(case, vertebra, signs)
    for view in case.views:
        for content in ("bones", "vertebra"):
            image = renderer.render(view.name, ball.POSE, content)
            assert image.shape == view.pixels.shape
            assert image.dtype == np.float32
            there = np.isfinite(image)
            rows, columns = np.nonzero(there)
            np.testing.assert_allclose([rows.mean(), columns.mean()], [150, 160], atol=1.0)
            radius = ball.FOCAL * ball.RADIUS / ball.DISTANCE
            assert there.sum() == pytest.approx(np.pi * radius**2, rel=0.12)
            seen = view.pixels[there]
            assert np.corrcoef(image[there], seen)[0, 1] > 0.95
            assert image[there].std() == pytest.approx(seen.std(), rel=0.35)
    with pytest.raises(KeyError):
        renderer.render("PA", ball.POSE)


# The process


def test_what_a_newer_request_overtakes() -> None:
    waiting: list[dict[str, Any]] = [
        {"id": 1, "do": "score"},
        {"id": 2, "do": "render", "view": "AP"},
        {"id": 3, "do": "refine"},
        {"id": 4, "do": "render", "view": "LA"},
        {"id": 5, "do": "score"},
        {"id": 6, "do": "render", "view": "AP"},
        {"id": 7, "do": "refine"},
    ]
    stale = [request["id"] for request, old in overtaken(waiting) if old]
    assert stale == [1, 2]


class _Quick:
    """In the place of `ReviewServer`: answers at once, or fails."""

    views = ("AP",)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("do") == "wait":
            time.sleep(0.2)
        if request.get("do") == "fail":
            raise ValueError("senseless")
        return {"done": request.get("do")}


def test_every_line_is_answered_and_bad_ones_do_not_end_it() -> None:
    lines = [
        {"id": 1, "do": "wait"},
        {"id": 2, "do": "score"},
        {"id": 3, "do": "fail"},
        {"id": 4, "do": "score"},
    ]
    read, write = os.pipe()
    text = "\n".join(["no json", "[1, 2]", *(json.dumps(line) for line in lines)]) + "\n"
    with open(read) as source, open(write, "w") as sink:  # noqa: PTH123 (pipes have no path)
        out = io.StringIO()
        thread = threading.Thread(target=serve, args=(_Quick(), source, out))
        thread.start()
        sink.write(text)
        sink.flush()
        deadline = time.monotonic() + 10.0
        while out.getvalue().count("\n") < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        sink.close()
        thread.join(5.0)
        assert not thread.is_alive()
    answers = {answer["id"]: answer for answer in map(json.loads, out.getvalue().splitlines())}
    assert answers[1] == {"id": 1, "done": "wait"}
    assert answers[3] == {"id": 3, "error": "senseless"}
    assert answers[4] == {"id": 4, "done": "score"}
    assert answers[2] in ({"id": 2, "stale": True}, {"id": 2, "done": "score"})


def test_senseless_requests_are_refused(tmp_path: Path) -> None:
    case = ball.write_ball(tmp_path / "case")
    server = ReviewServer(case, case.with_name("truth.json"), tmp_path)
    pose = ball.POSE.tolist()
    for request, reason in (
        ({"do": "dance", "ct_to_world": pose}, "no request 'dance'"),
        ({"do": "score", "ct_to_world": [[1, 2], [3, 4]]}, "not rigid"),
        ({"do": "score", "ct_to_world": (2 * np.eye(4)).tolist()}, "not rigid"),
        ({"id": 1, "do": "render", "view": "PA", "ct_to_world": pose}, "no view 'PA'"),
    ):
        with pytest.raises(ValueError, match=reason):
            server.answer(request)
    answer = server.answer({"id": 7, "do": "render", "view": "AP", "ct_to_world": pose})
    assert np.load(answer["file"], allow_pickle=False).shape == (300, 320)
    files = server.answer({"id": 8, "do": "pictures", "ct_to_world": pose})["files"]
    assert [Path(file).name for file in files] == ["overlay_AP.png", "overlay_LA.png"]
    assert all(Path(file).read_bytes().startswith(b"\x89PNG") for file in files)
    assert not list(tmp_path.glob("*.part"))


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "RadGSRegLib", "review-server", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_process_speaks_lines_and_ends_with_its_input(tmp_path: Path) -> None:
    case = ball.write_ball(tmp_path / "case")
    process = _start(str(case), str(case.with_name("truth.json")), str(tmp_path))
    assert process.stdout is not None
    assert process.stdin is not None
    lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    stream = process.stdout

    def read() -> None:
        for line in stream:
            lines.put(json.loads(line))

    threading.Thread(target=read, daemon=True).start()
    try:
        while "ready" not in (line := lines.get(timeout=60)):
            assert 0.0 <= line["progress"] <= 1.0
        assert line["views"] == ["AP", "LA"]
        request = {"id": 1, "do": "score", "ct_to_world": ball.POSE.tolist()}
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answer = lines.get(timeout=30)
        assert answer["id"] == 1
        assert answer["score"] > 0.8
        process.stdin.close()
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
        stream.close()


def test_a_case_that_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    process = _start(str(tmp_path / "case.json"), str(tmp_path / "p.json"), str(tmp_path))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = out.splitlines()
    assert "case.json" in json.loads(line)["error"]


def test_a_pose_from_one_xray_is_scored_by_it(tmp_path: Path) -> None:
    case = ball.write_ball(tmp_path / "case")
    views = case.with_name("views.json")
    content = json.loads(views.read_text())
    views.write_text(json.dumps({**content, "views": content["views"][:1]}))
    pose = tmp_path / "pose.json"
    pose.write_text(json.dumps({"ct_to_world": ball.POSE.tolist()}))
    server = ReviewServer(case, pose, tmp_path)
    assert server.views == ["AP"]
    there = server.answer({"do": "score", "ct_to_world": ball.POSE.tolist()})
    assert list(there["views"]) == ["AP"]
    # Upwards, which an AP sees.
    aside = compose_about(ball.POSE, [0, 0, 0, 0, 0, 3.0], ball.CENTRE_CT)
    assert server.answer({"do": "score", "ct_to_world": aside.tolist()})["score"] < there["score"]


def test_the_score_is_the_registrations_own(tmp_path: Path) -> None:
    simulated = registration_scenes.simulated()
    path = write_simulated_case(simulated, tmp_path / "case")
    places = registration_scenes.QUICK.click_places
    options = RegistrationOptions(rotation_range_deg=12.5, click_places=places)
    found = register_case(read_case(path), options=options)
    quality = found.quality
    before = {name: view["score"] for name, view in quality["views"].items()}
    moved = compose_about(found.ct_to_world, [0, 0, 0, 3.0, 0, 0], found.centre_ct)
    registered = {
        "ct_to_world": found.ct_to_world.tolist(),
        "shifts_ct": quality["shifts_ct"],
        "bone": {name: view["bone"] for name, view in quality["views"].items()},
    }
    pose = tmp_path / "pose.json"
    pose.write_text(json.dumps({"ct_to_world": moved.tolist(), "registered": registered}))
    server = ReviewServer(path, pose, tmp_path)
    said = server.registered
    assert said is not None
    for name, score in before.items():
        # Measured about its own place, not about that of the round before.
        assert said["views"][name] == pytest.approx(score, abs=1e-3)
    asked = {"do": "score", "ct_to_world": moved.tolist()}
    assert server.answer(asked)["score"] < said["score"] - 0.01
    for x in (20.0, 4.0, 0.0):
        there = compose_about(found.ct_to_world, [0, 0, 0, x, 0, 0], found.centre_ct)
        last = server.answer({"do": "score", "ct_to_world": there.tolist()})
    assert last == said

    # Everything beside the vertebra stays where the registration left it.
    shifts = np.array(quality["shifts_ct"])
    shifts[:, 2, 3] += 8.0
    told = {**registered, "shifts_ct": shifts.tolist()}
    pose.write_text(json.dumps({"ct_to_world": moved.tolist(), "registered": told}))
    elsewhere = ReviewServer(path, pose, tmp_path).registered
    assert elsewhere is not None
    assert max(abs(elsewhere["views"][name] - said["views"][name]) for name in before) > 1e-3

    # Placed anew, the neighbours are elsewhere, and the score is another.
    pose.write_text(json.dumps({"ct_to_world": moved.tolist()}))
    anew = ReviewServer(path, pose, tmp_path)
    assert anew.registered is None
    scores = anew.answer({"do": "score", "ct_to_world": found.ct_to_world.tolist()})["views"]
    assert max(abs(scores[name] - said["views"][name]) for name in before) > 1e-3


@pytest.mark.parametrize(
    "wrong",
    [
        {"shifts_ct": []},
        {"shifts_ct": "none"},
        {"shifts_ct": [[[2.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]]},
        {"bone": {"AP": "bright", "PA": "bright"}},
    ],
)
def test_a_registration_of_something_else_is_not_used(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    path = ball.write_ball(tmp_path / "case")
    registered = {
        "ct_to_world": ball.POSE.tolist(),
        "shifts_ct": [np.eye(4).tolist()],
        "bone": {"AP": "bright", "LA": "bright"},
        **wrong,
    }
    pose = tmp_path / "pose.json"
    pose.write_text(json.dumps({"ct_to_world": ball.POSE.tolist(), "registered": registered}))
    server = ReviewServer(path, pose, tmp_path)
    answer = server.answer({"do": "score", "ct_to_world": ball.POSE.tolist()})
    assert answer == server.registered
    assert answer["score"] > 0.8
