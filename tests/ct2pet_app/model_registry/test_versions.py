"""Versions are kept complete, serving another one is atomic, and rolling back is always possible."""

from __future__ import annotations

import errno
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ct2pet_app.advice import detail_of
from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.model_registry.model_info import describe_model
from ct2pet_app.model_registry.registry import ModelRegistry
from ct2pet_app.model_registry.serving_log import Served, add_line, read_lines, served_before
from ct2pet_app.model_registry.versions import PUT_BY_HAND, UPLOADED, Verdict, Version
from ct2pet_app.settings import AppSettings
from lib.errors import CheckpointError, ModelNotTrainedError, OutputError
from lib.files import file_checksum
from tests.ct2pet_app.constant_model import save_constant_model


@pytest.fixture
def models(tmp_path: Path) -> ModelRegistry:
    return open_store(tmp_path)


def open_store(folder: Path) -> ModelRegistry:
    """Return the store of a server that starts, which knows nothing but what is on disk."""
    conf = {"models": "unet,cascade3", "models_folder": str(folder / "models"), "device": "cpu"}
    return ModelRegistry(AppSettings.from_conf(conf, app_folder=folder))


def constant(folder: Path, suv: float, *, stages: int = 1) -> Path:
    return save_constant_model(folder / f"{suv}.safetensors", suv, stages=stages)


def keep(models: ModelRegistry, folder: Path, suv: float) -> Version:
    return models.keep("unet", constant(folder, suv), origin="training run 1")


def publish(models: ModelRegistry, folder: Path, *suvs: float) -> list[str]:
    """Publish constants and return their checksums."""
    return [models.publish("unet", constant(folder, suv)).checksum for suv in suvs]


def served(models: ModelRegistry) -> int | None:
    published = models.published("unet")
    return None if published is None else published.version


def test_a_version_is_kept_with_its_record_and_not_served(models: ModelRegistry, tmp_path: Path) -> None:
    version = keep(models, tmp_path, 1.0)
    assert (version.number, version.origin, version.verdict, served(models)) == (1, "training run 1", None, None)
    assert version.checksum == file_checksum(tmp_path / "1.0.safetensors") == file_checksum(version.checkpoint)
    assert open_store(tmp_path).versions("unet") == (version,)


def test_the_same_checkpoint_is_the_same_version(models: ModelRegistry, tmp_path: Path) -> None:
    assert keep(models, tmp_path, 1.0) == keep(models, tmp_path, 1.0)
    assert keep(models, tmp_path, 2.0).number == 2


def test_a_verdict_is_written_down(models: ModelRegistry, tmp_path: Path) -> None:
    verdict = Verdict(False, "kept, and not served", {"patients": 5})
    models.judged("unet", keep(models, tmp_path, 1.0), verdict)
    assert open_store(tmp_path).version("unet", 1).verdict == verdict


def test_an_unserved_model_reports_its_kept_versions(models: ModelRegistry, tmp_path: Path) -> None:
    keep(models, tmp_path, 1.0)
    message = r'nothing is served, but 1 version\(s\) are kept; POST /ct2pet/models/unet/serve with {"version": 1}'
    with pytest.raises(ModelNotTrainedError) as raised:
        models.synthesizer("unet")
    assert re.search(message, detail_of(raised.value))
    models.judged("unet", models.version("unet", 1), Verdict(False, "version 1 is kept. It does not beat any baseline"))
    with pytest.raises(ModelNotTrainedError, match="It does not beat any baseline"):
        models.synthesizer("unet")


def test_any_version_can_be_served_and_the_history_says_so(models: ModelRegistry, tmp_path: Path) -> None:
    checksums = publish(models, tmp_path, 1.0, 2.0)
    models.serve("unet", 1, action="served", why="requested")
    assert models.synthesizer("unet").checksum == checksums[0]
    actions = [(line.version, line.action) for line in open_store(tmp_path).history("unet")]
    assert actions == [(1, "uploaded"), (2, "uploaded"), (1, "served")]


def test_rolling_back_twice_goes_back_twice(models: ModelRegistry, tmp_path: Path) -> None:
    checksums = publish(models, tmp_path, 1.0, 2.0, 3.0)
    assert [models.roll_back("unet").version for _ in range(2)] == [2, 1]
    assert models.synthesizer("unet").checksum == checksums[0]
    with pytest.raises(RequestError) as raised:
        models.roll_back("unet")
    message = r'no version was served before .* one of \[1, 2, 3\] as {"version": 1}'
    assert re.search(message, detail_of(raised.value))
    assert models.roll_back("unet", 3).checksum == checksums[2]


@pytest.mark.parametrize(
    ("lines", "kept", "before"),
    [
        ([], {1}, None),
        ([(1, "published")], {1}, None),
        ([(1, "published"), (2, "published")], {1, 2}, 1),
        ([(1, "published"), (2, "published"), (1, "rolled back"), (3, "published")], {1, 2, 3}, 1),
        ([(1, "published"), (2, "published"), (3, "published"), (2, "rolled back")], {1, 2, 3}, 1),
        ([(1, "published"), (2, "published"), (2, "found")], {1, 2}, 1),
        ([(1, "published"), (2, "published"), (3, "served")], {1, 3}, 1),  # version 2 was removed by hand
        ([(1, "published"), (2, "served"), (1, "served"), (3, "published"), (1, "rolled back")], {1, 2, 3}, 2),
    ],
)
def test_what_was_served_before(lines: list[tuple[int, Any]], kept: set[int], before: int | None) -> None:
    history = [Served("2026-01-01", version, "c", action, "") for version, action in lines]
    assert served_before(history, kept) == before


def test_an_unknown_version_is_refused_with_the_known_ones(models: ModelRegistry, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="unet has no version 1; known are none yet"):
        models.serve("unet", 1, action="served", why="")
    publish(models, tmp_path, 1.0, 2.0)
    with pytest.raises(NotFoundError, match="unet has no version 7; known are 1, 2"):
        models.roll_back("unet", 7)


def test_a_file_put_there_by_hand_is_served_and_becomes_a_version(models: ModelRegistry, tmp_path: Path) -> None:
    publish(models, tmp_path, 1.0)
    shutil.copyfile(constant(tmp_path, 2.0), models.path("unet"))  # as `cp` does: into the file that is there
    assert served(models) == 2
    assert [version.origin for version in models.versions("unet")] == [UPLOADED, PUT_BY_HAND]
    assert [file_checksum(v.checkpoint) == v.checksum for v in models.versions("unet")] == [True, True]
    assert [(line.version, line.action) for line in models.history("unet")][1:] == [(2, "found")]
    publish(models, tmp_path, 3.0)
    assert [line.version for line in read_lines(tmp_path / "models" / "unet" / "history.jsonl")] == [1, 2, 3]
    assert models.roll_back("unet").version == 2


def test_a_full_disk_lets_a_file_put_by_hand_be_served_without_a_version(
    models: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.path("unet").parent.mkdir(parents=True)
    shutil.copyfile(constant(tmp_path, 2.0), models.path("unet"))
    monkeypatch.setattr(shutil, "copyfile", _full)
    published = models.published("unet")
    assert published is not None
    assert (published.version, models.versions("unet"), models.history("unet")) == (None, (), ())
    assert models.synthesizer("unet").checksum == published.checksum


def _full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_changes_nothing_that_is_served(
    models: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(models, tmp_path, 1.0, 2.0)
    more = constant(tmp_path, 3.0)
    monkeypatch.setattr(shutil, "copyfile", _full)
    for change in (lambda: models.publish("unet", more), lambda: models.roll_back("unet")):
        with pytest.raises(OutputError, match="free space"):
            change()
    assert (served(models), len(models.versions("unet")), len(models.history("unet"))) == (2, 2, 2)
    assert sorted(path.name for path in (tmp_path / "models" / "unet" / "versions").iterdir()) == ["0001", "0002"]


def test_an_incomplete_version_is_not_listed_and_its_number_is_not_reused(
    models: ModelRegistry, tmp_path: Path
) -> None:
    publish(models, tmp_path, 1.0)
    versions = tmp_path / "models" / "unet" / "versions"
    for name in (".new-1-killed", "0007", "latest"):
        shutil.copytree(versions / "0001", versions / name)
    (versions / "0007" / "version.json").write_text('{"number": 7')
    assert [version.number for version in models.versions("unet")] == [1]
    assert keep(models, tmp_path, 2.0).number == 8


def test_a_version_removed_by_hand_leaves_its_number_unused(models: ModelRegistry, tmp_path: Path) -> None:
    publish(models, tmp_path, 1.0, 2.0)
    models.roll_back("unet")
    shutil.rmtree(models.version("unet", 2).checkpoint.parent)
    assert keep(models, tmp_path, 3.0).number == 3


def test_a_version_that_was_changed_by_hand_is_not_served(models: ModelRegistry, tmp_path: Path) -> None:
    publish(models, tmp_path, 1.0, 2.0)
    first = models.version("unet", 1).checkpoint
    first.unlink()
    shutil.copyfile(constant(tmp_path, 3.0), first)
    with pytest.raises(CheckpointError, match="version 1 of unet was modified"):
        models.roll_back("unet")
    assert served(models) == 2


def test_a_line_truncated_by_a_kill_is_skipped_and_the_next_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    lines = [Served("2026-01-01T00:00:00+00:00", number, "c", "published", "why") for number in (1, 2)]
    add_line(path, lines[0])
    with path.open("a") as file:
        file.write('{"when": "2026-0')
    add_line(path, lines[1])
    assert read_lines(path) == tuple(lines)


def test_a_missing_history_line_is_added_at_the_next_start(models: ModelRegistry, tmp_path: Path) -> None:
    publish(models, tmp_path, 1.0, 2.0)
    path = tmp_path / "models" / "unet" / "history.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")  # killed after version 2 was in place
    started = open_store(tmp_path)
    assert [(line.version, line.action) for line in started.history("unet")] == [(1, "uploaded"), (2, "found")]
    assert started.roll_back("unet").version == 1


def test_all_versions_are_described_in_plain_json(models: ModelRegistry, tmp_path: Path) -> None:
    checksums = publish(models, tmp_path, 1.0, 2.0)
    models.roll_back("unet")
    described = json.loads(json.dumps(describe_model(models, "unet"), allow_nan=False))
    assert (described["served"], described["checksum"]) == (1, checksums[0])
    assert [(v["version"], v["served"], v["checksum"]) for v in described["versions"]] == [
        (1, True, checksums[0]),
        (2, False, checksums[1]),
    ]
    assert described["versions"][0]["card"]["standing"].startswith("Not compared with the baselines")
    assert described["size_bytes"] == sum((tmp_path / f"{suv}.safetensors").stat().st_size for suv in (1.0, 2.0))
    assert described["history"][-1]["action"] == "rolled back"


def test_a_damaged_model_file_is_reported_with_the_versions(models: ModelRegistry, tmp_path: Path) -> None:
    publish(models, tmp_path, 1.0)
    models.path("unet").write_bytes(b"junk")
    described = describe_model(models, "unet")
    assert (described["served"], len(described["versions"])) == (None, 1)
    assert "not a readable .safetensors file" in described["unusable"]
    models.serve("unet", 1, action="served", why="")
    assert served(models) == 1
