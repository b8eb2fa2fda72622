"""Levels in X-rays: maps fused to names, what training is told, the command, shipped weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import network_scenes as scenes
import numpy as np
import pytest
import torch
from levels_scenes import Shot, shoot, shown_in_all, whole_spine

from RadGSRegLib import cli
from RadGSRegLib.cases import Case, View, middle_of_views, write_case, write_views
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Volume, transform_points
from RadGSRegLib.networks import (
    LEVEL_CLASSES,
    DetectorConfig,
    LevelNetwork,
    clicked_by_level,
    load_levels,
    look_for_levels,
    make_frame,
    name_levels,
    save_levels,
    shipped_weights,
)
from RadGSRegLib.networks.anchors import project
from RadGSRegLib.networks.detector import STRIDE
from RadGSRegLib.networks.naming import LevelSighting, spine_of_maps
from RadGSRegLib.phantom import LABELS
from RadGSRegLib.training.level_views import (
    LAST_RIB,
    SACRUM,
    UNTOLD,
    away_mm,
    class_of,
    levels_loss,
    show_levels,
    tells,
)
from RadGSRegLib.training.samples import SampleOptions, draw_samples
from RadGSRegLib.training.spines import spine_sources
from RadGSRegLib.views import prepare_views

SIZE, PIXEL = 96, 2.5
PLACES = {
    "L2": (0.0, 4.0, 66.0),
    "L3": (3.0, 0.0, 33.0),
    "L4": (0.0, -2.0, 0.0),
    "L5": (-2.0, 3.0, -33.0),
    "S1": (0.0, 10.0, -66.0),
}


def network(width: int = 8, seed: int = 0) -> LevelNetwork:
    """An untrained network whose answers depend on what it sees."""
    torch.manual_seed(seed)
    made = LevelNetwork(DetectorConfig(width=width)).eval()
    torch.nn.init.normal_(made.network.last.weight, std=0.3)
    return made


# What views say together


def sighting_of(
    told: dict[str, float], *, hidden: str = ""
) -> tuple[LevelSighting, torch.Tensor, torch.Tensor]:
    """Maps of two views of `PLACES`: hills at the centres, and how sure the maps are of the levels
    that are ``told``. ``hidden``: a level that no view shows."""
    frame = make_frame(scenes.cameras(), np.zeros(3), size_px=SIZE, pixel_mm=PIXEL)
    points = torch.tensor(list(PLACES.values()))
    pixels = project(points[None], frame.intrinsics()[None], frame.extrinsics()[None])[0]
    cells = STRIDE * torch.arange(SIZE // STRIDE) + 0.5 * (STRIDE - 1)
    along = torch.exp(-0.5 * ((cells - pixels[..., None]) * PIXEL / 5.0) ** 2)
    hills = along[:, :, 1, :, None] * along[:, :, 0, None, :]
    shows = torch.ones(2, SIZE // STRIDE, SIZE // STRIDE)
    classes = torch.zeros(2, len(LEVEL_CLASSES), SIZE // STRIDE, SIZE // STRIDE)
    classes[:, UNTOLD] = 1.0
    for n, level in enumerate(PLACES):
        if level == hidden:
            shows = shows * (hills[:, n] < 0.5)
            hills[:, n] = 0.0
        elif level in told:
            here = hills[:, n] > 0.3
            classes[:, UNTOLD][here] = 1.0 - told[level]
            classes[:, LEVEL_CLASSES.index(level)][here] = told[level]
    there = 0.98 * hills.amax(1)
    sighting = LevelSighting(
        there.clamp_min(0.02).log(),
        frame.intrinsics(),
        frame.extrinsics(),
        SIZE,
        PIXEL,
        frame.box_to_world,
        shows=shows,
    )
    return sighting, there, classes


def test_maps_of_two_views_become_named_places() -> None:
    vague = dict.fromkeys(PLACES, 0.4)
    spine = spine_of_maps(*sighting_of({**vague, "S1": 0.95}))
    assert spine.anchor == "sacrum"
    assert [v.level for v in spine.vertebrae] == list(PLACES)
    for vertebra in spine.vertebrae:
        assert vertebra.level is not None
        assert np.linalg.norm(vertebra.place_world - PLACES[vertebra.level]) < 6.0


def test_a_sure_look_of_any_other_level_names_nothing() -> None:
    """By construction: what is no anchor leads to no name, however sure it is."""
    sure = {level: 1.0 for level in PLACES if level != "S1"}
    for told in (sure, {"L3": 1.0}, {"L5": 1.0}, {}):
        spine = spine_of_maps(*sighting_of(told))
        assert len(spine.vertebrae) == len(PLACES)
        assert spine.anchor is None
        assert [v.level for v in spine.vertebrae] == [None] * len(PLACES)


def test_an_anchor_that_is_out_of_the_pictures_names_nothing() -> None:
    spine = spine_of_maps(*sighting_of(dict.fromkeys(PLACES, 1.0), hidden="S1"))
    assert len(spine.vertebrae) == len(PLACES) - 1
    assert spine.anchor is None


# The network


def test_answers_do_not_depend_on_polarity_or_side() -> None:
    net = network()
    rng = torch.Generator().manual_seed(1)
    pictures = torch.randn(2, 2, 32, 32, generator=rng)
    valid = (torch.rand(2, 32, 32, generator=rng) > 0.1).float()
    frame = make_frame(scenes.cameras(), np.zeros(3), size_px=32, pixel_mm=6.0)
    there, classes = look_for_levels(net, pictures, valid, frame.extrinsics())
    assert classes.sum(1) == pytest.approx(torch.ones(2, 16, 16), abs=1e-5)
    assert there.std() > 1e-3
    for other in (
        look_for_levels(net, -pictures, valid, frame.extrinsics()),
        [
            m.flip(-1)
            for m in look_for_levels(net, pictures.flip(-1), valid.flip(-1), frame.extrinsics())
        ],
    ):
        assert other[0] == pytest.approx(there, abs=1e-5)
        assert other[1] == pytest.approx(classes, abs=1e-5)


def test_a_file_gives_the_same_answers_and_others_are_refused(tmp_path: Path) -> None:
    net, path = network(), tmp_path / "levels.safetensors"
    save_levels(path, net, {"use": "Research only"})
    back = load_levels(path)
    assert back.card["use"] == "Research only"
    assert "Research only" in path.with_suffix(".md").read_text()
    pictures, valid, kind = torch.randn(1, 2, 32, 32), torch.ones(1, 32, 32), torch.zeros(1)
    for a, b in zip(net(pictures, valid, kind), back(pictures, valid, kind), strict=True):
        assert a.detach() == pytest.approx(b.detach(), abs=0.05)
    population = shipped_weights()
    assert population is not None
    with pytest.raises(InputError, match="not a model of levels"):
        load_levels(population)
    broken = network()
    torch.nn.init.constant_(broken.network.last.bias, float("nan"))
    save_levels(path, broken, {})
    with pytest.raises(InputError, match="not finite"):
        load_levels(path)


# What training is told


def test_classes_are_those_of_verse_labels() -> None:
    names = {18: "above", 17: "above", 19: "T12", 20: "L1", 24: "L5", 26: "S1", 25: "untold"}
    assert {n: LEVEL_CLASSES[class_of(n)] for n in names} == names


def test_distance_from_what_a_picture_shows() -> None:
    valid = torch.zeros(20, 30)
    valid[5:15, 10:20] = 1.0
    pixels = torch.tensor([[12.0, 7.0], [19.4, 14.4], [25.0, 10.0], [10.0, 0.0]])
    assert away_mm(pixels, valid, 2.5).tolist() == pytest.approx([0.0, 0.0, 15.0, 12.5])
    assert torch.isinf(away_mm(pixels, torch.zeros(20, 30), 2.5)).all()


@pytest.mark.parametrize(
    ("away", "says"),
    [
        ([0.0, 90.0, 0.0, 50.0], 1),  # the sacrum is in
        ([90.0, 0.0, 0.0, 50.0], 1),  # T12 and a rib are in
        ([90.0, 0.0, 8.0, 8.0], -1),  # T12 is in, its ribs are cut off
        ([10.0, 90.0, 50.0, 50.0], -1),  # the sacrum is cut by the border
        ([90.0, 60.0, 50.0, 50.0], 0),  # neither is in
    ],
)
def test_a_view_tells_levels_only_with_an_anchor(away: list[float], says: int) -> None:
    assert tells([SACRUM, LAST_RIB], torch.tensor(away)) == says
    assert tells([21, 22], torch.tensor([0.0, 0.0])) == 0


@pytest.fixture(scope="module")
def samples():
    """Pairs of a whole spine, and of one that is cut."""
    options = SampleOptions(size_px=160, pixel_mm=2.5, whole=True, along_mm=30.0)
    sources = spine_sources(1, 77_000, cuts=8, pairs=1)
    subjects = [source.subject(True) for source in sources]
    whole = next(s for s in subjects if {SACRUM, LAST_RIB} <= set(s.centroids))
    cut = next(s for s in subjects if SACRUM not in s.centroids)
    return draw_samples([whole, whole, cut], options, [1, 2, 3])


def test_views_are_shown_with_the_levels_at_their_centres(samples) -> None:
    config = DetectorConfig()
    shown = show_levels(samples, config, 128, None)
    assert shown.pictures.shape == (6, 2, 128, 128)
    for n, sample in enumerate(samples):
        pixels = (
            project(sample.centres[None], sample.intrinsics[None], sample.extrinsics[None])[0]
            - (160 - 128) / 2.0
        )
        for view in range(2):
            at = 2 * n + view
            for label, (column, row) in zip(sample.labels, pixels[view].tolist(), strict=True):
                if not (1 <= column <= 126 and 1 <= row <= 126):
                    continue
                i, j = (round((x - 0.5) / STRIDE) for x in (row, column))
                assert shown.wanted[at, i, j] > 0.7
                if shown.told[at] == 1:
                    assert shown.classes[at, i, j] == class_of(int(label))
                elif shown.told[at] == 0:
                    assert shown.classes[at, i, j] == UNTOLD
    assert (shown.told == 1).any()


def test_shutters_hide_anchors_and_the_loss_falls_with_the_right_answer(samples) -> None:
    config = DetectorConfig()
    told = []
    for seed in range(8):
        shown = show_levels(samples, config, 96, np.random.default_rng(seed))
        told += shown.told.tolist()
    assert set(told) == {-1, 0, 1}
    kinds = torch.nn.functional.one_hot(shown.classes, len(LEVEL_CLASSES)).movedim(-1, 1).float()
    where = torch.logit(shown.wanted.clamp(0.01, 0.99))
    right = levels_loss(where, 8.0 * kinds, shown)
    assert right < levels_loss(torch.zeros_like(where), 8.0 * kinds, shown)
    assert right < levels_loss(where, torch.zeros_like(kinds), shown)
    # Where an anchor is cut by the border classes teach nothing.
    cut = replace(shown, told=torch.full_like(shown.told, -1))
    assert levels_loss(where, 8.0 * kinds, cut) == pytest.approx(
        float(levels_loss(where, torch.zeros_like(kinds), cut))
    )


def test_the_command_trains_goes_on_and_names_its_figures(tmp_path: Path, capfd) -> None:
    config = {
        "model": {"detector": {"size_px": 48, "pixel_mm": 5.0, "width": 4}},
        "detection": {
            "steps": 3,
            "batch": 2,
            "pairs": 6,
            "first_pairs": 4,
            "validate": 2,
            "validate_every": 2,
            "checkpoint_every": 1,
        },
    }
    out, asked = tmp_path / "levels.safetensors", tmp_path / "config.json"
    arguments = ["pretrain", "--stage", "1", "--levels", "--phantoms", "1", "--seed", "77000"]
    arguments += ["--out", str(out), "--work", str(tmp_path / "work"), "--config", str(asked)]
    asked.write_text(json.dumps(config))
    assert cli.main(arguments) == 0
    assert load_levels(out).card["training"]["steps"] == 3
    # More steps go on from the checkpoint.
    config["detection"]["steps"] = 4
    asked.write_text(json.dumps(config))
    assert cli.main(arguments) == 0
    assert load_levels(out).card["training"]["steps"] == 4
    capfd.readouterr()
    assert cli.main([*arguments, "--base", str(out)]) == 2
    assert "--base: is of no use with --levels" in capfd.readouterr().err
    assert cli.main([*arguments[:4], "--out", str(out)]) == 2
    assert "give --phantoms" in capfd.readouterr().err


# The command


def test_several_processes_do_not_train_levels(tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    out = tmp_path / "m.safetensors"
    words = ["pretrain", "--levels", "--stage", "1", "--phantoms", "1", "--out", str(out)]
    assert cli.main(words) == 2
    assert "leave torchrun out" in capfd.readouterr().err
    assert not out.exists()


@pytest.fixture(scope="module")
def shot() -> Shot:
    """Two X-rays of a phantom about L4: the sacrum is in them."""
    return shoot(whole_spine(77_903, 2, 3.0), "L4", 3)


def written(views: tuple[View, ...], folder: Path) -> Path:
    folder.mkdir()
    return write_views(folder, views)


def test_levels_of_views_are_written_with_a_picture_each(shot: Shot, tmp_path: Path, capfd) -> None:
    views = written(shot.views, tmp_path / "in")
    out = tmp_path / "out"
    assert cli.main(["levels", str(views), "--out", str(out)]) == 0
    said = capfd.readouterr().out
    record = json.loads((out / "levels.json").read_text())
    assert sorted(p.name for p in out.iterdir()) == [
        "levels.json",
        "overlay_AP.png",
        "overlay_LA.png",
    ]
    assert record["schema"] == "radgsreg/levels"
    assert len(record["vertebrae"]) >= 3
    for entry in record["vertebrae"]:
        assert sum(entry["probabilities"].values()) == pytest.approx(1.0, abs=1e-3)
        for view in shot.views:
            pixel = view.camera.project(np.array([entry["place_world_mm"]]))[0]
            assert entry["centre_px"][view.name] == pytest.approx(pixel.tolist(), abs=0.05)
    names = [entry["level"] for entry in record["vertebrae"]]
    assert " ".join("?" if n == "unknown" else n for n in names) in said
    # A second run replaces the first: both are results of this program.
    assert cli.main(["levels", str(views), "--out", str(out)]) == 0


def test_input_that_tells_nothing_is_refused_and_nothing_written(
    shot: Shot, tmp_path: Path, capfd
) -> None:
    views = written(shot.views, tmp_path / "in")
    content = json.loads(views.read_text())
    out = tmp_path / "out"
    stranger = tmp_path / "mine"
    stranger.mkdir()
    (stranger / "notes.txt").write_text("mine")
    anyhow = views.with_name("any.json")
    anyhow.write_text(json.dumps({**content, "patient_axes": "any"}))
    single = views.with_name("single.json")
    single.write_text(json.dumps({**content, "views": content["views"][:1]}))
    population = shipped_weights()
    for arguments, part in (
        ([str(anyhow), "--out", str(out)], "where the head is"),
        ([str(single), "--out", str(out)], "at least two X-rays"),
        ([str(views), "--out", str(out), "--model", str(population)], "not a model of levels"),
        ([str(views), "--out", str(out), "--model", "nowhere.safetensors"], "no such model"),
        ([str(tmp_path / "nowhere.json"), "--out", str(out)], "nowhere.json"),
        ([str(views), "--out", str(stranger)], "no results of this program"),
    ):
        assert cli.main(["levels", *arguments]) == 2
        captured = capfd.readouterr()
        assert captured.err.count("\n") == 1
        assert part in captured.err
        assert not out.exists()
    assert [p.name for p in stranger.iterdir()] == ["notes.txt"]


# The weights that come with the program


def test_shipped_weights_name_a_spine_that_was_never_trained_on(shot: Shot) -> None:
    path = shipped_weights("levels")
    assert path is not None
    assert path.stat().st_size < 4e6
    net = load_levels(path)
    assert {"what", "use", "data", "training", "limits", "date"} <= set(net.card)
    assert shot.anchor == "whole"
    spine = name_levels(prepare_views(shot.views), net, middle_of_views(shot.views))
    assert spine.anchor is not None
    wanted = [level for level in shown_in_all(shot) if level != "S1"]
    assert len(wanted) >= 3
    for level in wanted:
        first = spine.likeliest(level)[0]
        assert np.linalg.norm(first.place_world - shot.places[level]) < 10.0


def test_shipped_weights_name_nothing_where_no_anchor_is_in_the_pictures() -> None:
    path = shipped_weights("levels")
    assert path is not None
    narrow = shoot(whole_spine(77_904, 2, 3.0), "L3", 5, detector_mm=120.0)
    assert narrow.anchor != "whole"
    spine = name_levels(
        prepare_views(narrow.views), load_levels(path), middle_of_views(narrow.views)
    )
    assert spine.anchor is None
    assert spine.vertebrae
    assert not any(v.level for v in spine.vertebrae)


def test_a_case_is_named_without_its_ct(shot: Shot, tmp_path: Path) -> None:
    write_views(tmp_path, shot.views)
    case = {"ct": "ct.nii.gz", "segmentation": "seg.nii.gz", "label": 1, "views": "views.json"}
    (tmp_path / "case.json").write_text(json.dumps(case))
    assert cli.main(["levels", str(tmp_path / "case.json"), "--out", str(tmp_path / "out")]) == 0
    case["views"] = "others.json"
    (tmp_path / "case.json").write_text(json.dumps(case))
    assert cli.main(["levels", str(tmp_path / "case.json"), "--out", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists()


def test_a_registration_begins_where_the_level_is_named(shot: Shot) -> None:
    path = shipped_weights("levels")
    assert path is not None
    net = load_levels(path)
    voxel = Volume(np.zeros((2, 2, 2), dtype=np.uint8), np.eye(4))
    case = Case(voxel, voxel, 23, shot.views, label_names={23: "vertebrae_L4", 22: "disc"})
    begun = clicked_by_level(case, net)
    assert any("name the L4" in note for note in begun.notes)
    for view in begun.views:
        true = view.camera.project(shot.places["L4"][None])[0]
        assert view.center_px is not None
        # A click may be 10 mm off at the detector.
        assert np.linalg.norm(np.subtract(view.center_px, true)) * view.pixel_spacing_mm[0] < 12.0
    for other, part in (
        (begun, "without clicks"),
        (replace(case, views=(begun.views[0], shot.views[1])), "without clicks"),
        (replace(case, patient_axes=None), "where the head is"),
        (replace(case, label=22), "says no level"),
        (replace(case, label=7), "says no level"),
        (replace(case, label_names={23: "T9"}), "show no T9 for sure"),
    ):
        with pytest.raises(InputError, match=part):
            clicked_by_level(other, net)
    untrained = LevelNetwork(DetectorConfig(width=4)).eval()
    with pytest.raises(InputError, match="neither the sacrum nor the last rib"):
        clicked_by_level(case, untrained)


def test_a_turned_patient_is_named_alike(shot: Shot) -> None:
    """The axes say where the head is: the whole scene turned about, nothing changes."""
    path = shipped_weights("levels")
    assert path is not None
    net = load_levels(path)
    straight = name_levels(prepare_views(shot.views), net, middle_of_views(shot.views))
    turn = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    world = np.eye(4)
    world[:3, :3] = turn.T
    turned = tuple(
        replace(v, camera=replace(v.camera, world_to_camera=v.camera.world_to_camera @ world))
        for v in shot.views
    )
    other = name_levels(prepare_views(turned), net, middle_of_views(turned), turn)
    assert any(v.level for v in straight.vertebrae)
    assert [v.level for v in other.vertebrae] == [v.level for v in straight.vertebrae]
    for a, b in zip(straight.vertebrae, other.vertebrae, strict=True):
        assert b.place_world == pytest.approx(turn @ a.place_world, abs=0.1)


def test_a_registration_by_level_is_repeated_from_its_record(shot: Shot, tmp_path: Path) -> None:
    phantom = whole_spine(77_903, 2, 3.0)
    names = phantom.label_names
    (tmp_path / "in").mkdir()
    case = str(
        write_case(
            tmp_path / "in", phantom.ct, phantom.labels, LABELS["L4"], shot.views, label_names=names
        )
    )
    out, again = tmp_path / "out", tmp_path / "again"
    first = cli.main(["register", case, "--out", str(out), "--by-level", "--effort", "fast"])
    record = json.loads((out / "registration.json").read_text())
    assert record["parameters"]["by_level"] is True
    assert any("name the L4" in note for note in record["parameters"]["notes"])
    assert any(Path(name).name == "levels.safetensors" for name in record["inputs"])
    words = ["register", case, "--out", str(again), "--config", str(out / "registration.json")]
    assert cli.main(words) == first
    repeated = json.loads((again / "registration.json").read_text())
    assert repeated["ct_to_world"] == record["ct_to_world"]
    assert repeated["parameters"]["by_level"] is True
    truth = shot.places["L4"]
    labels = phantom.labels
    centre = labels.physical_points(
        np.argwhere(labels.array == LABELS["L4"])[:, ::-1].mean(0)[None].astype(float)
    )
    pose = np.asarray(record["ct_to_world"])
    assert np.linalg.norm(transform_points(pose, centre)[0] - truth) < 2.0
