"""Whether X-rays and CT are of one patient, as far as DICOM says so.

What the tags say is compared and forgotten: it stands in no text, no file and no log.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from .dicom_file import is_dicom_file, value_of
from .ledger import Ledger
from .quiet import quiet_readers

THE_CT = "the CT"


@dataclass(frozen=True)
class Patient:
    """Whose a DICOM file is; nothing of it can be printed.

    ``identity`` (as its ``issuer`` counts), the words of the ``name``, the date of birth; each
    empty where the file does not say it.
    """

    identity: str = field(repr=False)
    issuer: str = field(repr=False)
    name: frozenset[str] = field(repr=False)
    born: str = field(repr=False)

    def differs_from(self, other: "Patient") -> bool:
        """Whether something that both files say is different.

        Writing does not count: case, leading zeros, titles, a second script. Identities of two
        issuers are not compared.
        """
        issuers = {self.issuer, other.issuer} - {""}
        identities = {self.identity, other.identity}
        births = {self.born, other.born}
        names = (self.name, other.name)
        return (
            (len(issuers) < 2 and "" not in identities and len(identities) > 1)
            or ("" not in births and len(births) > 1)
            or (all(names) and not (names[0] <= names[1] or names[1] <= names[0]))
        )


def patient_in(path: Path) -> Patient | None:
    """Read whose a DICOM file is; None for any other file, and where nothing says so."""
    if not is_dicom_file(path):
        return None
    tags = ["PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate"]
    with quiet_readers():
        try:
            data = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
            identity, issuer, name, born = (
                str(value_of(data, tag) or "").strip().casefold() for tag in tags
            )
        except Exception:  # bytes from anywhere make the parser raise anything
            return None
    words = frozenset(re.findall(r"\w+", name.replace("_", " ")))
    patient = Patient(identity.lstrip("0"), issuer, words, "".join(re.findall(r"\d", born)))
    return patient if patient.identity or patient.name or patient.born else None


def other_patients(patients: Mapping[str, Patient]) -> list[str]:
    """Say which of several things ("the CT", 'the X-ray "AP"') are of another patient.

    They are compared with the CT, or with the first where that is not among them.
    """
    first = THE_CT if THE_CT in patients else next(iter(patients), "")
    return [
        f"{what} belongs to another patient than {first}"
        for what, patient in patients.items()
        if patient.differs_from(patients[first])
    ]


def remember_patient(ledger: Ledger, what: str, path: Path) -> None:
    """Have the ledger know whose a file is, while a case is read."""
    patient = patient_in(path)
    if patient is not None:
        ledger.patients[what] = patient


def note_other_patients(ledger: Ledger) -> None:
    """Note what belongs to another patient."""
    for text in other_patients(ledger.patients):
        ledger.note(text)
