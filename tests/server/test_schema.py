"""The running server against its own description of the API: schemathesis sends what it makes of it, in each role.

It knows real names: the UIDs of the studies, their labels' tags, and a session.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.conftest import missing
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.processes import REPOSITORY, RunningServer, running_server, write_users

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(600)]

PROGRAM = REPOSITORY / ".venv-schemathesis" / "bin" / "schemathesis"
SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
EXAMPLES = {"": 1, "una": 2, "ann": 2, "ada": 5}  # of each operation
# Boundary values: those of the admin's run reach the furthest, and those without a token the least
PHASES = {"una": "fuzzing,stateful", "ann": "fuzzing,stateful"}
# Without a token an unknown method is refused like any other
EXCLUDED = {"": ["--exclude-checks", "unsupported_method"]}
# 400: a schema cannot say that a file holds a CT, or that a parameter is one of a task's. 422 is not among them: what
# has the wrong type must be known from the schema
CONFIGURATION = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404", "409", "429"]
"""


@pytest.fixture(scope="module")
def program() -> Path:
    if not PROGRAM.is_file():
        missing("schemathesis", "scripts/schemathesis-environment has not been run")
    return PROGRAM


@pytest.fixture(scope="module")
def server(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder, studies = tmp_path_factory.mktemp("server"), tmp_path_factory.mktemp("studies")
    write_phantoms(studies, patients=3, settings=SMALL)
    save_constant_model(folder / "models" / "unet" / "model.safetensors", 2.0, stages=1, trained_on=["PHANTOM_0001"])
    users = write_users(tmp_path_factory.mktemp("users"))
    with running_server("ct2pet_app", studies, folder, models="unet,cascade3", users=users) as running:
        yield running


def with_real_names(description: dict[str, Any], server: RunningServer) -> dict[str, Any]:
    """Return the description with names that the server knows, besides any others."""
    objects = server.json("/datastore/?output=all")["objects"]
    labels = [label["id"] for one in objects.values() for label in one["labels"].values() if "id" in label]
    images = list(objects)
    volume = server.ask("GET", f"/datastore/image?image={images[0]}")
    name = volume.headers["Content-Disposition"].rpartition("filename=")[2].strip('"')
    session = server.ask("PUT", "/session/", files={"files": (name, volume.content)}).json()["session_id"]
    names = {
        "session_id": [session],
        "image": images,
        "id": images,
        "ct": images,
        "label": [*images, *labels],
        "tag": ["final", "synthetic"],
    }
    for item in description["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                schema, known = parameter["schema"], names.get(parameter["name"])
                kinds = [kind.get("type") for kind in schema.get("anyOf", [schema])]
                if known and "string" in kinds:
                    parameter["schema"] = {"anyOf": [{"type": "string", "enum": known}, schema]}
    return description


@pytest.mark.parametrize("name", EXAMPLES, ids=lambda name: name or "nobody")
def test_the_server_does_what_its_description_says(
    server: RunningServer, program: Path, name: str, tmp_path: Path
) -> None:
    admin = server.logged_in_as("ada")
    described = with_real_names(admin.json("/openapi.json"), admin)
    description = tmp_path / "openapi.json"
    description.write_text(json.dumps(described))
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    token = ["-H", f"Authorization: Bearer {server.logged_in_as(name).token}"] if name else []
    words = [
        "--checks", "all", *EXCLUDED.get(name, ()), "--phases", PHASES.get(name, "examples,coverage,fuzzing,stateful"),
        "--continue-on-failure", "--no-color", "--no-shrink", "--generation-deterministic",
        "--max-examples", str(EXAMPLES[name]),
    ]  # fmt: skip
    # it would take away the model with which everything else is tried; tests/server/endpoint_requests.py has it
    left_out = ["--exclude-operation-id", described["paths"]["/model/{model}"]["delete"]["operationId"]]
    ended = subprocess.run(
        [program, "--config-file", configuration, "run", description, "--url", server.url, *words, *left_out, *token],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
    assert server.process.poll() is None
    assert "Traceback" not in server.log.read_text()
