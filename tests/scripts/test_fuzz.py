"""scripts/fuzz: a small campaign, and tests that it detects findings."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from scripts.fuzzing import campaign as campaign_module
from scripts.fuzzing.campaign import FINDINGS, KILLED, run_campaign
from scripts.fuzzing.elements import elements_of
from scripts.fuzzing.facts import DOSE, INTERCEPT, PIXEL_DATA, SLOPE, START_DATETIME, START_TIME, contradiction
from scripts.fuzzing.mutant import Mutant
from scripts.fuzzing.oracle import EQUAL, FREE, REFUSED, SILENT, WARNED, Reading, verdict
from scripts.fuzzing.subjects import Subject, make_subjects, save_subjects
from scripts.fuzzing.worker import make_mutant

COUNT, SEED = 250, 11  # half a minute on one core; scripts/fuzz reads 10,000, also from real studies


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    return make_subjects(tmp_path_factory.mktemp("subjects"), None)


@pytest.mark.slow
def test_no_mutant_is_read_differently_without_a_warning(subjects: list[Subject], tmp_path: Path) -> None:
    save_subjects(subjects, tmp_path)
    found = run_campaign(tmp_path, seed=SEED, first=0, count=COUNT, keep=None, progress=lambda done: None)
    assert len(found.lines) == COUNT
    assert found.findings == []
    assert max(line["peak_mib"] for line in found.lines) < 1500  # the libraries use a third of it
    outcomes = {line["outcome"] for line in found.lines}
    assert outcomes >= {REFUSED, EQUAL, WARNED}  # each outcome occurs
    for form in ("compressed", "volume"):  # read in child processes whose limits must accept intact files
        names = {subject.name for subject in subjects if subject.form == form}
        lines = [line for line in found.lines if line["subject"] in names]
        assert len(lines) >= 30 and {line["outcome"] for line in lines} >= {REFUSED, EQUAL}, form


def test_the_elements_of_an_intact_file_have_no_gaps(subjects: list[Subject]) -> None:
    tried = 0
    for subject in subjects:
        if subject.form not in ("dicom", "compressed"):
            continue
        for file in subject.files().values():
            top = [element for element in elements_of(file) if element.depth == 0]
            assert top[0].start == 132 and top[-1].end == len(file), subject.name
            assert all(a.end == b.start for a, b in pairwise(top)), subject.name
            assert top[-1].tag == PIXEL_DATA
            tried += 1
    assert tried >= 12


def test_mutants_are_reproducible(subjects: list[Subject]) -> None:
    for number in range(60):
        (subject, mutant), (again, same) = (make_mutant(subjects, 3, number) for _ in range(2))
        assert (subject, mutant.what, dict(mutant.files)) == (again, same.what, dict(same.files))
        intact = subject.files()
        assert set(mutant.files) <= set(intact)


def volume(factor: float = 1.0, *, shift_mm: float = 0.0, slices: int = 3) -> Volume:
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[2, 3] = shift_mm
    array = np.arange(slices * 4, dtype=np.float32).reshape(slices, 2, 2) * np.float32(factor)
    return Volume(array, Geometry((slices, 2, 2), affine), Unit.HU)


UNTOUCHED = Reading(volume(), frozenset({"an old warning"}))
MUTANT = Mutant("other value", "weight", {}, "the other slices")


@pytest.mark.parametrize(
    ("found", "mutant", "outcome"),
    [
        (Reading(None, frozenset({"damaged"})), MUTANT, REFUSED),
        (UNTOUCHED, MUTANT, EQUAL),
        (Reading(volume(1.00005), UNTOUCHED.messages), MUTANT, EQUAL),
        (Reading(volume(1.001), UNTOUCHED.messages), MUTANT, SILENT),
        (Reading(volume(1.001), UNTOUCHED.messages), replace(MUTANT, tolerance=0.01), FREE),
        (Reading(volume(1.02), UNTOUCHED.messages), replace(MUTANT, tolerance=0.01), SILENT),
        (Reading(volume(2), UNTOUCHED.messages | {"weight 4 kg"}), MUTANT, WARNED),
        (Reading(volume(2), UNTOUCHED.messages), replace(MUTANT, contradiction=""), FREE),
        (Reading(volume(shift_mm=0.02), UNTOUCHED.messages), MUTANT, SILENT),
        (Reading(volume(shift_mm=0.02), UNTOUCHED.messages), replace(MUTANT, place_mm=0.1), EQUAL),
        (Reading(volume(slices=2), UNTOUCHED.messages), MUTANT, SILENT),  # a missing slice without a warning
        (Reading(volume(slices=2), UNTOUCHED.messages | {"3.dcm: truncated"}), MUTANT, WARNED),
    ],
)
def test_the_verdict_depends_on_volume_and_messages(found: Reading, mutant: Mutant, outcome: str) -> None:
    assert verdict(mutant, found, UNTOUCHED)[0] == outcome


@pytest.mark.parametrize(
    ("tag", "modality", "one_slice", "is_value", "is_contradicted"),
    [
        (DOSE, "PT", True, True, True),  # the other slices differ
        (DOSE, "PT", False, True, False),  # all slices agree
        (DOSE, "PT", False, False, True),  # an invalid value
        (SLOPE, "PT", True, True, False),  # may differ between slices of a PET
        (INTERCEPT, "CT", True, True, True),
        (START_TIME, "PT", False, True, True),  # StartDateTime differs
        (PIXEL_DATA, "CT", True, True, False),
    ],
)
def test_contradiction_of_a_changed_attribute(
    tag: int, modality: str, one_slice: bool, is_value: bool, is_contradicted: bool
) -> None:
    reason, _ = contradiction(
        tag, modality=modality, one_slice=one_slice, is_value=is_value, present=frozenset({START_TIME, START_DATETIME})
    )
    assert bool(reason) == is_contradicted


@pytest.mark.parametrize(
    ("ending", "outcome"), [("kill -SEGV $$", KILLED), ("exec sleep 30", campaign_module.HANGS), ("exit 1", KILLED)]
)
def test_a_process_that_dies_or_hangs_affects_one_mutant_which_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, outcome: str
) -> None:
    program = tmp_path / "python"
    line = json.dumps({"number": 5, "kind": "a", "subject": "b", "what": "c", "outcome": EQUAL, "detail": "",
                       "seconds": 0.1, "peak_mib": 9})  # fmt: skip
    program.write_text(f"#!/bin/sh\ncase $7 in 5) ;; *) exit 0 ;; esac\necho '{{\"started\": 5}}'\necho '{line}'\n"
                       f"echo '{{\"started\": 6}}'\n{ending}\n")  # fmt: skip
    program.chmod(0o755)
    monkeypatch.setattr(campaign_module.sys, "executable", str(program))
    monkeypatch.setattr(campaign_module, "MUTANT_TIMEOUT_S", 1.0)
    found = run_campaign(tmp_path, seed=0, first=5, count=2, keep=None, progress=lambda done: None)
    assert [(line["number"], line["outcome"]) for line in found.lines] == [(5, EQUAL), (6, outcome)]
    assert found.findings == [found.lines[1]] and outcome in FINDINGS
