"""Suite `strace`: the table of attacks, and what the server and its children open, write, start and connect to."""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.attacking.cases import Notify
from scripts.attacking.result import Result
from tests.server.attack_target import (
    AttackTarget,
    attacked_server,
    find_violation,
    forbidden_accesses,
    plant_code,
    run_tasks,
)
from tests.server.attacks import attacks
from tests.server.system_calls import opened, started


def strace_suite(folder: Path, *, said: Notify, every: int = 1) -> Result:
    """Return what the attacks of the table, and code planted for tasks, made the server do; accounts off and on.

    Args:
        every: Of how many attacks one is sent.
    """
    result = Result("strace")
    if shutil.which("strace") is None:
        result.violations.append("the program strace is not installed (Debian: strace)")
        return result
    for accounts in (False, True):
        name = "accounts" if accounts else "open"
        own = folder / name
        own.mkdir(parents=True)
        with attacked_server(own, accounts=accounts, traced=True) as attacked:
            result.figures[name] = _attack(attacked, result, name, every, said)
    return result


def _attack(attacked: AttackTarget, result: Result, name: str, every: int, said: Notify) -> dict[str, int]:
    before = len(attacked.traced())
    table = list(attacks(ct=attacked.ct, secret=str(attacked.secret), link=str(attacked.link)))[::every]
    for attack in table:
        try:
            sentence = find_violation(attack, attacked.send_attack(attack))
        except (OSError, ValueError) as error:
            sentence = f"no proper response: {type(error).__name__}"
        if sentence:
            result.violations.append(f"{name}: {attack.name}: {sentence}")
    said(f"{name}: {len(table)} attacks sent")
    trace = attacked.traced()[before:]
    result.violations += [f"{name}: the table: {one}" for one in forbidden_accesses(attacked, trace)]
    before = len(attacked.traced())
    ended = run_tasks(attacked)
    quiet = attacked.traced()[before:]
    said(f"{name}: tasks of no attacker: {', '.join(ended)}")
    before = len(attacked.traced())
    mark, bundle = plant_code(attacked)
    unknown = {"PYTHONPATH": str(bundle), "env": {"PYTHONPATH": str(bundle)}, "gpus": "0; touch x"}
    for keys in ({"bundle_path": str(bundle)}, {"bundle_path": str(bundle), **unknown}):
        ended = run_tasks(attacked, **keys)
        said(f"{name}: tasks with {', '.join(keys)}: {', '.join(ended)}")
        if mark.exists():
            result.violations.append(f"{name}: a task ran code that a client had uploaded ({', '.join(keys)})")
            mark.unlink()
    of_tasks = attacked.traced()[before:]
    result.violations += [f"{name}: tasks: {one}" for one in forbidden_accesses(attacked, of_tasks, quiet=quiet)]
    if attacked.server.infer("cascade3", image=attacked.ct, output="json").status_code != 200:
        result.violations.append(f"{name}: the server does not infer afterwards")
    return {
        "attacks": len(table),
        "paths_opened": len(opened(trace) | opened(of_tasks)),
        "programs_started_by_the_table": len(started(trace)),
        "programs_started_by_tasks_of_no_attacker": len(started(quiet)),
        "programs_started_by_tasks": len(started(of_tasks)),
    }
