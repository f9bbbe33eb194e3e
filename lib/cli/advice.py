"""What a user of the command line can do about an error, by its code: commands and options, which the engine omits."""

from __future__ import annotations

from string import Template

from lib.errors import CT2PETError

ADVICE = {
    "disk_too_small": "choose fewer patients with --patients, or another folder with --out",
    "download_interrupted": "run the same command again to resume",
    "invalid_manifest": "choose another folder with --out",
    "no_model_card": "`python main.py train` creates a model",
    "not_prepared": "run `python main.py prepare` first",
    "run_exists": "--resume continues it, --out names another folder",
    "series_not_found": "`python main.py scan` lists the series",
    "series_not_usable": "`python main.py scan` lists the series and their faults",
    "several_ct_series": "choose it with --series",
    "users_file_unreadable": "`python main.py users add NAME --role admin --file FILE` creates one",
}


def advice(error: CT2PETError) -> str:
    """Return what to do about an error on the command line; empty if its message is enough."""
    return Template(ADVICE.get(error.code, "")).safe_substitute(error.params)


def message_with_advice(error: CT2PETError) -> str:
    """Return an error's message, followed by what to do about it on the command line."""
    return "; ".join(part for part in (str(error), advice(error)) if part)
