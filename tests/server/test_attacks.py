"""Every attack of the table on the real server, accounts off and on: refused, and nothing opened outside."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from monailabel.endpoints import infer, logs, ohif, proxy, wsi_infer

from ct2pet_app.api.application import ROUTERS
from ct2pet_app.server.monai_label import STOCK
from tests.conftest import missing
from tests.server.attack_target import (
    SESSION_OF_LINKS,
    AttackTarget,
    attacked_server,
    find_violation,
    forbidden_accesses,
)
from tests.server.attacks import attacks

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module", params=["open", "accounts"])
def attacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackTarget]:
    folder = tmp_path_factory.mktemp("attacked")
    traced = shutil.which("strace") is not None
    with attacked_server(folder, accounts=request.param == "accounts", traced=traced) as server:
        yield server


@pytest.fixture(scope="module")
def suffered(attacked: AttackTarget) -> dict[str, str]:
    """What was wrong with the answer to each attack; empty where nothing was. Everything is sent once."""
    before = attacked.trace.stat().st_size if attacked.trace.exists() else 0
    table = list(attacks(ct=attacked.ct, secret=str(attacked.secret), link=str(attacked.link)))
    assert len({attack.name for attack in table}) == len(table) >= 80
    found = {attack.name: find_violation(attack, attacked.send_attack(attack)) for attack in table}
    found[""] = str(before)
    return found


def test_every_attack_is_refused_in_a_sentence(suffered: dict[str, str]) -> None:
    wrong = {name: what for name, what in suffered.items() if name and what}
    assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())


def test_nothing_outside_was_opened(attacked: AttackTarget, suffered: dict[str, str]) -> None:
    if not attacked.trace.exists():
        missing("strace", "the program strace is not installed (Debian: strace)")
    assert forbidden_accesses(attacked, attacked.traced()[int(suffered[""]) :]) == []


def test_a_link_in_a_session_leads_nowhere(attacked: AttackTarget, suffered: dict[str, str]) -> None:
    answers = [
        attacked.server.ask("GET", f"/session/{SESSION_OF_LINKS}?image=true"),
        attacked.server.infer("cascade3", session_id=SESSION_OF_LINKS),
    ]
    assert [answer.status_code for answer in answers] == [404, 404]


def test_the_server_lives_on_and_keeps_nothing(attacked: AttackTarget, suffered: dict[str, str]) -> None:
    assert attacked.server.infer("cascade3", image=attacked.ct, output="json").status_code == 200
    assert attacked.server.json("/datastore/")["total"] == 2
    temporary = [path for path in (attacked.server.models / "temporary").rglob("*") if path.is_file()]
    assert [path.name for path in temporary] == ["in-use"]
    assert not Path("/tmp/ct2pet-was-here").exists()


def addresses() -> Iterator[tuple[str, str, APIRoute]]:
    """Yield method, path and route of every address there is, hidden ones included."""
    stock = [module.router for module in (*STOCK, infer, wsi_infer, logs, ohif, proxy)]
    for router in (*ROUTERS, *stock):
        for route in router.routes:
            assert isinstance(route, APIRoute)
            for method in route.methods:
                yield method, route.path, route


def test_every_address_that_takes_something_is_in_the_table() -> None:
    known = {(attack.method, attack.address) for attack in attacks(ct="1.2", secret="/secret", link="/link")}
    covered = {path for _, path in known if path.endswith("{path:path}")}
    unknown = {
        (method, path)
        for method, path, route in addresses()
        if (method, path) not in known
        and not any(path.startswith(prefix.removesuffix("{path:path}")) for prefix in covered)
        and (route.dependant.path_params or route.dependant.query_params or route.dependant.body_params)
    }
    assert not unknown, "write attacks on these addresses into tests/server/attacks.py"
