"""The garbage collector while large libraries are imported, and at the end of the process."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from lib.cli.garbage_collection import collector_paused


def test_the_collector_pauses_within_the_block_and_goes_on_after_an_error() -> None:
    with pytest.raises(ValueError, match="from within"), collector_paused():
        assert not gc.isenabled()
        raise ValueError("from within")

    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_paused():
            pass

        assert not gc.isenabled()
    finally:
        gc.enable()


def test_exit_handlers_and_open_files_are_finished_without_the_last_collection() -> None:
    program = (
        "import atexit, sys\n"
        "from lib.cli.garbage_collection import skip_last_collection\n"
        "atexit.register(print, 'exit handler')\n"
        "print('written')\n"
        "skip_last_collection()\n"
        "sys.exit(3)"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout) == (3, "written\nexit handler\n")
