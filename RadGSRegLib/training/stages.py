"""The three stages: what is asked for, and what each is trained on (math.md section 3)."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..cases import Ledger, patient_of, read_ct_case, sha256_of_file
from ..errors import InputError
from ..networks import CENTRE
from . import bounds
from .config import TrainingConfig
from .deformed import Deformed
from .layouts import ctspine1k_sources, totalsegmentator_sources, verse_sources
from .patient import patient_source
from .pool import Source
from .readers import ct_sources, folds, phantom_sources, real_sources

# Numbers of deformations that no training uses, and how many of them it is measured on: a fifth of
# the held-out pairs show the vertebra as it is.
_UNSEEN = 10**6
_UNSEEN_BENDS = 4
# What a training of a decoder that goes on must have in common with itself.
_OF_DECODER = ("batch", "pairs", "first_pairs", "steps_per_pair", "rate", "averaged")


@dataclass(frozen=True)
class Pretraining:
    """What `pretrain` is asked for.

    ``stage`` 1: ``phantoms`` (how many spines), ``cts`` (a folder), ``verse``,
    ``totalsegmentator`` and ``ctspine1k`` (the folders of these data sets), ``deformed`` (so many
    copies of each vertebra of a CT are bent at random; in stage 3 of the patient's);
    2: ``cases``, a folder of X-ray cases with truth, of which fold ``fold`` of five is held out,
    for choosing the best weights and for the card (None: nothing is, and both know no X-rays but
    those trained on); 3: ``case``, a case.json. ``base``: a model to go on from. ``minutes``: the
    budget (None: all steps). ``work``: a folder for checkpoints and data, from which an interrupted
    run goes on (None: a temporary one). ``stop``: a file; once it is there, training ends as if the
    minutes were over. ``board``: a folder for TensorBoard.
    """

    stage: int
    out: Path
    case: Path | None = None
    phantoms: int = 0
    cts: Path | None = None
    verse: Path | None = None
    totalsegmentator: Path | None = None
    ctspine1k: Path | None = None
    deformed: int = 0
    cases: Path | None = None
    fold: int | None = None
    base: Path | None = None
    minutes: float | None = None
    work: Path | None = None
    stop: Path | None = None
    board: Path | None = None
    device: str = "cpu"

    def check(self) -> None:
        """Raise InputError where the model could not be written, or training would end at once."""
        if self.out.suffix != ".safetensors":
            raise InputError(self.out, "is not a model's name", "let it end in .safetensors")
        if not self.out.parent.is_dir():
            raise InputError(self.out, "its folder does not exist")
        if not os.access(self.out.parent, os.W_OK):
            raise InputError(self.out, "its folder cannot be written to", "name another one")
        if self.stop is not None and self.stop.exists():
            raise InputError(self.stop, "is there already and would end the training", "remove it")

    def is_enough(self) -> bool:
        """Ask whether the file is there that ends training."""
        return self.stop is not None and self.stop.exists()


@dataclass(frozen=True)
class TrainingData:
    """The sources of a stage: ``train``, those ``unseen`` in training (none: other X-rays of the
    same vertebrae are), and the ``facts`` that the card says of them (no patient's name). The
    ``ledger`` collects remarks while they are read."""

    train: list[Source]
    unseen: list[Source] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)


def training_data(asked: Pretraining, config: TrainingConfig, work: Path) -> TrainingData:
    """Gather the sources of a stage; phantoms are kept in ``work``.

    Raises InputError for data that is missing or unusable.
    """
    if asked.stage == 3:
        return _of_patient(asked)
    return _of_cases(asked) if asked.stage == 2 else _of_population(asked, config, work)


def _of_patient(asked: Pretraining) -> TrainingData:
    if asked.case is None:
        raise InputError("--stage 3", "needs a case", "name a case.json")
    case = read_ct_case(asked.case)
    source = patient_source(case)
    train: list[Source] = [source, *(Deformed(source, n) for n in range(asked.deformed))]
    unseen: list[Source] = []
    if asked.deformed:
        # Others than those that it has learned from.
        unseen = [source, *(Deformed(source, _UNSEEN + n) for n in range(_UNSEEN_BENDS))]
    centre = [round(float(x), 2) for x in source.subject().centre_ct]
    facts: dict[str, Any] = {"patient": patient_of(case), "label": case.label_name, CENTRE: centre}
    if asked.deformed:
        facts["deformed copies"] = asked.deformed
    ledger = Ledger(notes=list(case.notes))
    return TrainingData(train, unseen, facts, ledger)


def _of_cases(asked: Pretraining) -> TrainingData:
    if asked.cases is None:
        raise InputError("--stage 2", "needs a folder of X-ray cases with truth", "--cases DIR")
    cases = real_sources(asked.cases)
    held: Sequence[int] = ()
    if asked.fold is not None:
        held = folds([patient_of(source.case) for source in cases])[asked.fold]
    train: list[Source] = [source for n, source in enumerate(cases) if n not in held]
    unseen: list[Source] = [cases[n] for n in held]
    counts = {"X-ray cases": len(train), "X-ray cases held out": len(unseen)}
    ledger = Ledger()
    for source in cases:
        for note in source.case.notes:
            ledger.note(f"{source.name}: {note}")
    return TrainingData(train, unseen, {**counts, "held-out fold": asked.fold}, ledger)


def _of_population(asked: Pretraining, config: TrainingConfig, work: Path) -> TrainingData:
    """Trained on what is named, measured on phantoms that are never trained on."""
    train: list[Source] = []
    facts: dict[str, Any] = {}
    ledger = Ledger()
    folder = work / "phantoms"
    if asked.phantoms:
        train += phantom_sources(asked.phantoms, config.seed, folder=folder)
        facts["phantom spines"] = asked.phantoms
    phantoms = len(train)
    for name, place, read in (
        ("CT vertebrae", asked.cts, ct_sources),
        ("VerSe'20 vertebrae", asked.verse, verse_sources),
        ("TotalSegmentator vertebrae", asked.totalsegmentator, totalsegmentator_sources),
        ("CTSpine1K vertebrae", asked.ctspine1k, ctspine1k_sources),
    ):
        if place is not None:
            vertebrae = read(place, ledger)
            train += vertebrae
            facts[name] = len(vertebrae)
    if asked.deformed:
        known = train[phantoms:]
        if not known:
            raise InputError("--deformed", "is of CTs' vertebrae", "give --cts or a data set")
        train += [Deformed(source, n) for n in range(asked.deformed) for source in known]
        facts["deformed copies of each vertebra of a CT"] = asked.deformed
    if not train:
        raise InputError("--stage 1", "has no data", "give --phantoms, --cts or a data set")
    unseen = phantom_sources(bounds.UNSEEN_SPINES, config.seed + 2 * 10**6, folder=folder)
    return TrainingData(train, unseen, facts, ledger)


def identity(asked: Pretraining, config: TrainingConfig, data: TrainingData) -> dict[str, Any]:
    """Say what an interrupted training must have in common with the one that goes on."""
    fixed: tuple[str, ...] = (
        *("model", "samples", "shapes", "gaussians", "seed", "batch", "extra", "rate"),
        *("halve_every", "rendered", "render_every", "joint_cases", "ct_pairs"),
    )
    values = asdict(config)
    if config.model.decoder is None:
        # As before there were any.
        del values["model"]["decoder"]
    else:
        fixed = (*fixed, "decoding")
        values["decoding"] = {name: values["decoding"][name] for name in _OF_DECODER}
    return {
        "data": [asked.stage, data.facts, [source.name for source in data.train]],
        "base": None if asked.base is None else sha256_of_file(asked.base),
        "options": {name: values[name] for name in fixed},
    }
