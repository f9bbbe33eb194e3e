"""What docs/operations.md tells an administrator to do: restore a backup, and renew a certificate."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lib.dicom.scan.scan import scan_folder
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.processes import REPOSITORY, running_server, write_users

pytestmark = [pytest.mark.server, pytest.mark.slow]

SMALL = PhantomSettings(slices=4, ct_matrix=32, ct_pixel_mm=12.8, pet_matrix=32, pet_pixel_mm=12.8)


def made_certificate(folder: Path) -> tuple[Path, Path]:
    folder.mkdir()
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ct2pet -addext subjectAltName=IP:127.0.0.1"
    command = [*made.split(), "-out", "server.crt", "-keyout", "server.key"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (folder / "server.key").chmod(0o600)
    return folder / "server.crt", folder / "server.key"


def left_out_of_a_backup() -> list[str]:
    """Return the names in the row of docs/operations.md that says what need not be copied."""
    (row,) = re.findall(
        r"(?m)^\| (.*) \| made again; leave them out \|$", (REPOSITORY / "docs/operations.md").read_text()
    )
    return [name.removeprefix("NAME/") for name in re.findall(r"`([^`]+)`", row)]


def test_a_restored_server_with_a_new_certificate_has_everything(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "studies", patients=1, settings=SMALL)
    ct = scan_folder(tmp_path / "studies").usable("CT")[0].series.uid
    conf = {"models": "unet", "width": "2", "users": str(write_users(tmp_path))}
    (tmp_path / "first").mkdir()
    certificate = made_certificate(tmp_path / "certificate")
    with running_server("ct2pet_app", tmp_path / "studies", tmp_path / "first", tls=certificate, **conf) as first:
        ada = first.logged_in_as("ada")
        for suv in (2.0, 3.0):
            model = save_constant_model(tmp_path / "unet.safetensors", suv, stages=1)
            assert ada.request("PUT", "/model/unet", files={"file": model.read_bytes()}).status_code == 200
        stored = ada.infer("unet", image=ct, params='{"save_label": true, "label_tag": "kept"}', output="json")
        assert stored.status_code == 200, stored.text
        models = ada.json("/ct2pet/models")
        label = ada.request("GET", f"/datastore/label?label={ct}&tag=kept").content

    ignored = shutil.ignore_patterns(*left_out_of_a_backup())
    shutil.copytree(tmp_path / "first" / "models", tmp_path / "second" / "models", ignore=ignored)
    renewed = made_certificate(tmp_path / "renewed")
    with running_server("ct2pet_app", tmp_path / "studies", tmp_path / "second", tls=renewed, **conf) as second:
        restored = dataclasses.replace(second, token=ada.token)  # the login outlives both
        assert restored.json("/ct2pet/models") == models
        assert restored.request("GET", f"/datastore/label?label={ct}&tag=kept").content == label
        assert label.startswith(b"NRRD")
        answer = restored.infer("unet", image=ct, output="json").json()
        assert answer["suv"]["mean"] == pytest.approx(3.0, rel=1e-2)
