"""The error tree: codes, params, copies; and engine messages that any front end can show."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lib.errors as module
from lib.cli.errors import ADVICE, advice, message_with_advice
from lib.dicom.remote.session import HttpStatusError
from lib.errors import (
    CT2PETError,
    InputError,
    MemoryLimitError,
    MissingAttributeError,
    PreparedDataError,
    TrainingError,
)
from tests.conftest import REPOSITORY
from tests.error_codes import all_codes, errors, raised

SERVER_TREE = REPOSITORY / "ct2pet_app" / "errors.py"
# commands, options, requests and settings of a front end
FRONT_END = re.compile(
    r"`|main\.py|--[a-z]|\b(?:GET|POST|PUT|DELETE) /|MONAI_LABEL_|\bserver's (?:setting|owner)|HTTP/"
)


def tree_of(path: Path) -> dict[str, list[str]]:
    """Return the fields of each error in the tree of a module's docstring."""
    lines = str(ast.get_docstring(ast.parse(path.read_text()))).split("\n")
    parts = (line.replace("│", " ").replace("├──", " ").replace("└──", " ").split() for line in lines)
    return {line[0]: line[1:] for line in parts if line and line[0].endswith("Error")}


def test_the_documented_tree_has_every_error_with_its_exit_code_and_code() -> None:
    tree = tree_of(Path(module.__file__))
    own = [kind for kind in errors() if kind.__module__ == module.__name__]
    assert set(tree) == {kind.__name__ for kind in own}
    for kind in own:
        exit_code = "2" if issubclass(kind, InputError) else "1"
        assert (tree[kind.__name__][0], tree[kind.__name__][2]) == (exit_code, kind.code), kind.__name__


def test_the_documented_statuses_are_those_of_the_server() -> None:
    from ct2pet_app.errors import http_status

    for name, (_, status, *_) in tree_of(Path(module.__file__)).items():
        assert http_status(getattr(module, name)("")) == int(status), name
    server = tree_of(SERVER_TREE)
    for kind in errors():
        if kind.__module__ == "ct2pet_app.errors":
            assert server[kind.__name__][:2] == [str(http_status(kind(""))), kind.code]


def test_every_class_of_the_tree_has_a_code_of_its_own() -> None:
    own = [kind for kind in errors() if kind.__module__ in (module.__name__, "ct2pet_app.errors")]
    assert len({kind.code for kind in own}) == len(own)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in all_codes())


def test_a_raise_site_may_give_a_more_specific_code() -> None:
    assert (TrainingError("a").code, TrainingError("a", code="training_diverged").code) == (
        "training_failed",
        "training_diverged",
    )
    assert str(TrainingError("why", epoch=3)) == "why" and TrainingError("why", epoch=3).params == {"epoch": 3}


@pytest.mark.parametrize(
    "error",
    [
        MissingAttributeError("no weight", attribute="PatientWeight"),
        MemoryLimitError("too much", needed_mb=2, limit_mb=1),
        HttpStatusError("answers 500", status=500),
        CT2PETError("plain", code="busy", waiting=8),
    ],
)
def test_copies_keep_code_and_params(error: CT2PETError) -> None:
    for copied in (pickle.loads(pickle.dumps(error)), error.with_message(str(error))):
        assert type(copied) is type(error) and copied is not error
        assert (str(copied), copied.code, copied.params) == (str(error), error.code, error.params)
    assert str(error.with_message("file.dcm: no")) == "file.dcm: no"


def engine_texts() -> Iterator[tuple[str, str]]:
    """Yield every text of the engine but docstrings and what only an error's cause would show."""
    for path in sorted((REPOSITORY / "lib").rglob("*.py")):
        name = path.relative_to(REPOSITORY).as_posix()
        if name.startswith("lib/cli/"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                yield f"{name}:{node.lineno}", ast.unparse(node.exc)


def test_the_engine_names_no_command_option_request_or_setting_of_a_front_end() -> None:
    found = list(engine_texts())
    assert len(found) > 400
    assert not [f"{place}: {text}" for place, text in found if FRONT_END.search(text)]


def test_the_command_line_says_what_to_do_by_code() -> None:
    error = PreparedDataError("/out: no index.json, so no prepared arrays", code="not_prepared")
    assert message_with_advice(error) == f"{error}; run `python main.py prepare` first"
    assert advice(PreparedDataError("damaged")) == "" and message_with_advice(PreparedDataError("damaged")) == "damaged"
    assert set(ADVICE) <= all_codes()


def test_params_are_values_that_json_can_hold_and_no_paths() -> None:
    names = {name for one in raised() for name in one.params}
    assert "path" not in names and "file" not in names and "folder" not in names
