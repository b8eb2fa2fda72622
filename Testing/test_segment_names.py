"""Which segment is meant: code, id and name must agree; numbers get names by a scheme only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ball import ball_case
from test_cases_labels import TAGS, make_ct, save, two_blocks, write_layers

from RadGSRegLib import cli
from RadGSRegLib.cases import (
    Ledger,
    labels_on_ct,
    named_by_scheme,
    read_case,
    read_segmentation,
    write_case,
)
from RadGSRegLib.errors import InputError
from RadGSRegLib.segmentnames import Named, level_of_segment
from RadGSRegLib.vertebrae import LABEL_SCHEMES, LEVELS, SNOMED_CODES, vertebra_level

VERTEBRA = "51282000"  # of no level

# Each segment as (code, id, name); their values are 21, 22.
CONTRADICTIONS = {
    "another has the code": [("", "s2", "L2"), ("L3", "s3", "L4")],
    "code against name": [("L2", "s2", "L2"), ("L4", "s3", "L3")],
    "all codes are of the next": [("L3", "s2", "L2"), ("L4", "s3", "L3")],
    "id against name": [("", "L3", "L2"), ("", "Segment_2", "L3")],
    "id against code": [("", "s2", "L2"), ("L4", "vertebrae_L3", "x")],
    "code of the neck": [("", "s2", "L2"), ("C5", "s3", "L3")],
    "name without a level": [("", "s2", "L2"), ("L3", "vertebrae_L4", "mine")],
}


def write_segments(path: Path, told: list[tuple[str, str, str]], extra: str = "") -> Path:
    """Two blocks, 21 and 22, with code, id and name; ``extra`` is a tag of the second."""
    segments = []
    for value, (code, identifier, name) in zip((21, 22), told, strict=True):
        tags = TAGS.format(code=SNOMED_CODES.get(code, code), name="x") if code else ""
        tags += extra if value == 22 else ""
        fields = {"ID": identifier, "Name": name, "LabelValue": str(value), "Layer": "0"}
        segments.append(fields | {"Tags": tags})
    write_layers(path, [two_blocks()], segments)
    return path


def chosen(path: Path, label: int | str, ledger: Ledger | None = None) -> int:
    """The value of the segment that a label means."""
    return labels_on_ct(read_segmentation(path), label, make_ct(), path, ledger)[1]


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_contradictions_are_refused_with_all_three(tmp_path: Path, kind: str) -> None:
    path = write_segments(tmp_path / "spine.seg.nrrd", CONTRADICTIONS[kind])
    wanted = "mine" if kind == "name without a level" else "L3"
    with pytest.raises(InputError, match=r"spine\.seg\.nrrd: says different vertebrae") as caught:
        chosen(path, wanted)
    wrong = next(
        s for s in read_segmentation(path).segments if level_of_segment(s) is None and s.identifier
    )
    for part in (wrong.code or "no code", f'id "{wrong.identifier}"', f'name "{wrong.name}"'):
        assert part in str(caught.value)
    # A number leaves no doubt; what is odd is noted.
    ledger = Ledger()
    assert chosen(path, wrong.value, ledger) == wrong.value
    assert any("different vertebrae" in note for note in ledger.notes)


def test_what_agrees_is_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "spine.seg.nrrd"
    told = [("L2", "vertebrae_L2", "L2 vertebra"), ("L3", "vertebrae_L3", "L3")]
    ledger = Ledger()
    assert chosen(write_segments(path, told), "L3", ledger) == 22
    assert not ledger.notes
    # A code of any vertebra, and a contradiction elsewhere, say nothing of this one.
    assert chosen(write_segments(path, [("L5", "a", "L4"), (VERTEBRA, "b", "L3")]), "L3") == 22


def test_what_a_person_said_in_slicer_goes_before_an_identifier(tmp_path: Path) -> None:
    """Slicer cannot change an identifier; the level that was set there is in a tag."""
    path = tmp_path / "spine.seg.nrrd"
    told = [("", "a", "L1"), ("L4", "vertebrae_L3", "L4")]
    write_segments(path, told, "RadGSReg.Level:L4|")
    assert chosen(path, "L4") == 22
    with pytest.raises(InputError, match='no segment "L3"'):
        chosen(path, "L3")
    write_segments(path, [told[0], ("L4", "vertebrae_L3", "L2")], "RadGSReg.Level:L4|")
    with pytest.raises(InputError, match="said to be L4"):
        chosen(path, "L4")


def test_several_segments_of_one_level(tmp_path: Path) -> None:
    """An exact name decides, unless another segment has the vertebra's code."""
    path = tmp_path / "spine.seg.nrrd"
    assert chosen(write_segments(path, [("", "a", "L3 vertebra"), ("", "b", "L3")]), "L3") == 22
    for told in (
        [("", "a", "L3"), ("", "b", "L3")],
        [("", "a", "L3 vertebra"), ("", "vertebrae_L3", "b")],
        [("L3", "x", "y"), ("", "b", "L3")],
    ):
        with pytest.raises(InputError, match="more than one segment") as caught:
            chosen(write_segments(path, told), "L3")
        assert "choose by number" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("T13", "T13"),
        ("vertebrae_L6", "L6"),
        ("C7 vertebra", "C7"),
        ("sacrum", "S1"),
        ("T99", None),
        ("L7", None),
        ("L0", None),
        ("C8", None),
        ("disc L3", None),
    ],
)
def test_known_levels(text: str, level: str | None) -> None:
    assert vertebra_level(text) == level
    assert level_of_segment(Named(text, "Segment_1")) == (level and (level, "name"))


def test_transitional_levels_are_in_their_place() -> None:
    assert LEVELS[LEVELS.index("T12") : LEVELS.index("L1") + 1] == ("T12", "T13", "L1")
    assert LEVELS[-2:] == ("L6", "S1")


# ---------------------------------------------------------------- schemes of numbers


def test_schemes_number_every_vertebra() -> None:
    """Against the published tables, at places that tell the schemes apart."""
    verse = {
        1: "C1",
        7: "C7",
        8: "T1",
        19: "T12",
        20: "L1",
        22: "L3",
        24: "L5",
        25: "L6",
        28: "T13",
    }
    total = {26: "S1", 27: "L5", 29: "L3", 31: "L1", 32: "T12", 43: "T1", 44: "C7", 50: "C1"}
    before = {18: "L5", 20: "L3", 22: "L1", 23: "T12", 34: "T1", 35: "C7", 41: "C1"}
    assert set(verse.items()) <= set(LABEL_SCHEMES["verse"].items())
    assert set(total.items()) <= set(LABEL_SCHEMES["totalsegmentator"].items())
    assert set(before.items()) <= set(LABEL_SCHEMES["totalsegmentator-v1"].items())
    assert all(set(known.values()) <= set(LEVELS) for known in LABEL_SCHEMES.values())


def test_numbers_alone_are_refused_with_what_there_is_and_the_schemes(tmp_path: Path) -> None:
    path = save(tmp_path / "seg.nii.gz", make_ct().with_array(two_blocks()))
    with pytest.raises(InputError) as caught:
        chosen(path, "L3")
    said = str(caught.value)
    assert '"label_scheme": "verse" (then L3 is 22)' in said
    assert "the labels are: 21, 22" in said
    assert "totalsegmentator" not in said  # it has neither 29 nor 20 here
    unnamed = [("", "Segment_21", "Segment_21"), ("", "Segment_22", "Segment_22")]
    path = write_segments(tmp_path / "spine.seg.nrrd", unnamed)
    with pytest.raises(InputError, match=r"21 \(Segment_21\), 22 \(Segment_22\).*then L3 is 22"):
        chosen(path, "L3")


@pytest.mark.parametrize("kind", ["numbers", "Segment_N"])
def test_a_named_scheme_names_the_numbers(tmp_path: Path, kind: str) -> None:
    if kind == "numbers":
        path = save(tmp_path / "seg.nii.gz", make_ct().with_array(two_blocks()))
    else:
        unnamed = [("", "Segment_21", "Segment_21"), ("", "Segment_22", "Segment_22")]
        path = write_segments(tmp_path / "spine.seg.nrrd", unnamed)
    segmentation = read_segmentation(path)
    for scheme, level, value in (("verse", "L3", 22), ("totalsegmentator-v1", "L1", 22)):
        named = named_by_scheme(segmentation, scheme, path)
        assert labels_on_ct(named, level, make_ct(), path)[1] == value
    with pytest.raises(InputError, match='no segment "L3"'):
        labels_on_ct(named_by_scheme(segmentation, "totalsegmentator", path), "L3", make_ct(), path)
    with pytest.raises(InputError, match="no scheme of labels; use verse"):
        named_by_scheme(segmentation, "mine", path)


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        (("", "b", "L4"), "L4 of label 22, which in the scheme means L3"),
        (("", "b", "Segment_3"), '"Segment_3" of label 22'),
        (("L3", "b", "L4"), "different vertebrae"),
    ],
)
def test_a_scheme_against_the_names_is_refused(
    tmp_path: Path, told: tuple[str, str, str], problem: str
) -> None:
    path = write_segments(tmp_path / "spine.seg.nrrd", [("", "a", "L2"), told])
    with pytest.raises(InputError, match="does not follow the scheme: it says " + problem):
        named_by_scheme(read_segmentation(path), "verse", path)


def test_the_scheme_of_a_case(tmp_path: Path) -> None:
    case = ball_case()
    path = write_case(tmp_path, case.ct, case.labels, case.label, case.views)
    content = json.loads(path.read_text(encoding="utf-8")) | {"label": "L3"}
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="labels without names"):
        read_case(path)
    scheme = next(n for n, known in LABEL_SCHEMES.items() if known.get(case.label))
    content |= {"label": LABEL_SCHEMES[scheme][case.label], "label_scheme": scheme}
    path.write_text(json.dumps(content), encoding="utf-8")
    read = read_case(path)
    assert (read.label, read.label_name) == (case.label, content["label"])
    path.write_text(json.dumps(content | {"label_scheme": "mine"}), encoding="utf-8")
    with pytest.raises(InputError, match=r'case\.json: "label_scheme" is "mine"; use one of verse'):
        read_case(path)


def test_the_scheme_of_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = ball_case()
    write_case(tmp_path, case.ct, case.labels, case.label, case.views)
    files = ["--ct", str(tmp_path / "ct.nii.gz"), "--segmentation", str(tmp_path / "seg.nii.gz")]
    rest = ["--out", str(tmp_path / "out"), "--realism", "clean"]
    assert cli.main(["simulate", *files, "--label", "L3", *rest]) == 2
    assert "labels without names" in capsys.readouterr().err
    assert cli.main(["simulate", "--label-scheme", "verse", *rest]) == 2
    assert "--label-scheme: is of use only with --segmentation" in capsys.readouterr().err
    scheme = ["--label-scheme", "verse"]
    assert cli.main(["simulate", *files, "--label", "L3", *scheme, *rest]) == 0
    assert read_case(tmp_path / "out").label == 22
