"""Suite `files`: mutated compressed DICOM series and mutated volume files, by the addresses that take uploads."""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from requests_toolbelt import MultipartDecoder

from lib.errors import CT2PETError
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit
from scripts.attacking.cases import Notify
from scripts.attacking.result import Result, find_violation
from scripts.attacking.target import Target, target
from scripts.fuzzing.mutant import Mutant
from scripts.fuzzing.oracle import SILENT, Reading, verdict
from scripts.fuzzing.subjects import Subject, make_subjects
from scripts.fuzzing.uploads import upload_of
from scripts.fuzzing.worker import make_mutant

COUNT = 2000  # of each form
FORMS = ("compressed", "volume")
WORKERS = 2
LISTED = 12  # violations whose files are kept
MODEL = "unet"
PHANTOM_NETWORK = ("base_channels=2", "depth=1", "context_slices=1", "pixel_mm=6.4")  # the pixels of the phantom
# outcomes: refused in a sentence; a picture as of the untouched files; another picture that nothing contradicts;
# another picture that the untouched files contradict; no proper response
REFUSED, KEPT, WRONG, NO_PICTURE = "refused", "kept", "wrong status", "no picture"


def files_suite(folder: Path, *, said: Notify, count: int = COUNT, seed: int = 0, latency: bool = True) -> Result:
    """Return what the server makes of `count` mutants of each form, two at a time."""
    result = Result("files")
    subjects = make_subjects(folder / "subjects", None)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        to = stack.enter_context(target(folder, network=PHANTOM_NETWORK))
        session = threading.local()
        untouched = {subject.name: _untouched(to, subject) for subject in subjects if subject.form in FORMS}
        with to.watched() as measured:
            for form in FORMS:
                own = [subject for subject in subjects if subject.form == form]
                numbers = range(count)
                with ThreadPoolExecutor(WORKERS) as pool:
                    attempts = pool.map(lambda n, o=own: _attempt(to, session, o, seed, n, untouched), numbers)
                    for number, attempt in zip(numbers, attempts, strict=True):
                        result.rows.append({"form": form, "number": number, **attempt})
                        if attempt["wrong"]:
                            _keep(folder / "violations", own, seed, number, form, attempt)
                        if (number + 1) % 100 == 0:
                            said(f"{form}: {number + 1} of {count}, {_counts(result.rows, form)}")
                        if not to.is_alive():
                            break
                if not to.is_alive():
                    result.violations.append(f"the server ended with {to.server.process.returncode} ({form})")
                    break
    seconds = time.monotonic() - began
    bad = [row for row in result.rows if row["wrong"]]
    result.violations += [
        f"{row['form']} {row['number']} ({row['subject']}, {row['what']}): {row['wrong']}" for row in bad
    ]
    result.violations += measured.violations(latency=latency)
    result.figures = {
        **measured.figures(),
        "count_of_each": count,
        "seconds": round(seconds, 1),
        "per_second": round(len(result.rows) / seconds, 2),
        "outcomes": {form: _counts(result.rows, form) for form in FORMS},
        "subjects": sorted({row["subject"] for row in result.rows}),
    }
    result.rows = bad[:LISTED]  # a report of thousands of lines is not read
    return result


def _counts(rows: Sequence[dict[str, Any]], form: str) -> dict[str, int]:
    return dict(sorted(Counter(row["outcome"] for row in rows if row["form"] == form).items()))


def _untouched(to: Target, subject: Subject) -> Reading:
    name, content = upload_of(subject, Mutant("", "", {}, ""))
    response = _infer(to, requests, name, content)
    if response.status_code != 200:
        raise RuntimeError(f"{subject.name}, untouched, is refused: {response.status_code} {response.text[:300]}")
    reading = _reading(response)
    volume = reading.volume
    assert volume is not None
    if volume.array.max() == volume.array.min():
        raise RuntimeError("the network of this attack shows nothing of the CT; no picture could be told from another")
    return reading


def _attempt(
    to: Target, local: threading.local, subjects: list[Subject], seed: int, number: int, untouched: dict[str, Reading]
) -> dict[str, Any]:
    if not hasattr(local, "session"):
        local.session = requests.Session()
    subject, mutant = make_mutant(subjects, seed, number)
    name, content = upload_of(subject, mutant)
    way = ("infer", "session", "datastore")[number % 3]
    row: dict[str, Any] = {"subject": subject.name, "kind": mutant.kind, "what": mutant.what[:160], "way": way}
    try:
        response = WAYS[way](to, local.session, name, content)
    except requests.RequestException as error:
        return {**row, "status": 0, "outcome": NO_PICTURE, "wrong": f"no response: {type(error).__name__}"}
    row["status"] = response.status_code
    wrong = find_violation(response)
    if wrong:
        return {**row, "outcome": WRONG, "wrong": wrong}
    if response.status_code >= 400:
        return {**row, "outcome": REFUSED, "wrong": ""}
    try:
        reading = _reading(response)
    except (CT2PETError, ValueError, KeyError) as error:
        return {**row, "outcome": NO_PICTURE, "wrong": f"200 without a picture: {error}"}
    outcome, detail = verdict(mutant, reading, untouched[subject.name])
    return {**row, "outcome": outcome, "wrong": detail if outcome == SILENT else ""}


def _reading(response: requests.Response) -> Reading:
    """Return the picture of a response, and what its parameters warn of."""
    params, image = (part.content for part in MultipartDecoder.from_response(response).parts)
    with tempfile.NamedTemporaryFile(suffix=".nrrd") as file:
        file.write(image)
        file.flush()
        picture = read_volume_file(Path(file.name), unit=Unit.SUV_BW)
    return Reading(picture, frozenset(json.loads(params)["warnings"]))


def _infer(to: Target, client: Any, name: str, content: bytes) -> requests.Response:
    return to.request("POST", f"/infer/{MODEL}", client=client, files={"file": (name, content)})


def _by_session(to: Target, client: Any, name: str, content: bytes) -> requests.Response:
    query = {"uncompress": name.endswith(".zip")}
    made = to.request("PUT", "/session/", client=client, params=query, files={"files": (name, content)})
    if made.status_code != 200:
        return made
    session_id = made.json()["session_id"]
    try:
        return to.request("POST", f"/infer/{MODEL}?session_id={session_id}", client=client)
    finally:
        to.request("DELETE", f"/session/{session_id}", client=client)


IMAGES = itertools.count()


def _by_datastore(to: Target, client: Any, name: str, content: bytes) -> requests.Response:
    image = f"mutant-{next(IMAGES)}"
    kept = to.request("PUT", f"/datastore/image?image={image}", client=client, files={"file": (name, content)})
    if kept.status_code != 200:
        return kept
    try:
        return to.request("POST", f"/infer/{MODEL}?image={image}", client=client)
    finally:
        to.request("DELETE", f"/datastore/image?id={image}", client=client)


WAYS = {"infer": _infer, "session": _by_session, "datastore": _by_datastore}


def _keep(folder: Path, subjects: list[Subject], seed: int, number: int, form: str, attempt: dict[str, Any]) -> None:
    """Write the file of a violation, and what came of it."""
    folder.mkdir(parents=True, exist_ok=True)
    if len(list(folder.glob("*.json"))) >= LISTED:
        return
    name, content = upload_of(*make_mutant(subjects, seed, number))
    (folder / f"{form}-{seed}-{number}-{name}").write_bytes(content)
    (folder / f"{form}-{seed}-{number}.json").write_text(json.dumps(attempt, indent=2))
