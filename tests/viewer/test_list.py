"""The list of the viewer: signing in, 1,002 CTs, searching, themes, and what the page may load."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Browser

from ct2pet_app.api.viewer.pages import FILES, FOLDER
from tests.viewer.chromium import WatchedPage, new_context, wait_until, watched_page
from tests.viewer.conftest import Clinic, running_clinic, sign_in

pytestmark = [pytest.mark.server, pytest.mark.slow]
SMALL_CTS = 1000
PART = 100  # rows that are fetched at once


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A server with 1,002 CTs."""
    with running_clinic(tmp_path_factory.mktemp("list"), small_cts=SMALL_CTS) as running:
        yield running


@pytest.fixture(scope="module")
def listed(clinic: Clinic, chromium: Browser) -> Iterator[WatchedPage]:
    """The list after signing in."""
    with new_context(chromium) as context:
        watched = watched_page(context)
        watched.page.goto(clinic.url)
        sign_in(watched.page)
        watched.page.locator("#images li").first.wait_for()
        yield watched


def test_a_thousand_cts_are_listed_in_parts(listed: WatchedPage) -> None:
    page = listed.page
    assert page.locator("#images li").count() <= 2 * PART  # what a screen needs, not all
    assert page.inner_text("#count").startswith(f"{SMALL_CTS + 2} CTs")
    rows = page.evaluate(
        """async () => {
          const rows = () => document.querySelectorAll('#images li').length;
          const began = performance.now();
          while (rows() < 1002 && performance.now() - began < 30000) {
            scrollTo(0, document.body.scrollHeight);
            await new Promise(requestAnimationFrame);
          }
          return rows();
        }"""
    )
    assert rows == SMALL_CTS + 2
    page.evaluate("scrollTo(0, 0)")


def test_searching(listed: WatchedPage, clinic: Clinic) -> None:
    page = listed.page
    page.fill("#search", "small_1777 2019")
    wait_until(page, "document.getElementById('images').innerText.includes('SMALL_1777')")
    assert page.locator("#images li").count() == 1
    assert page.inner_text("#count").startswith(f"1 of {SMALL_CTS + 2} CTs")
    page.fill("#search", clinic.trained)
    wait_until(page, "document.getElementById('images').innerText.includes('PHANTOM_0001')")
    assert "Measured PET available" in page.inner_text("#images li")
    page.fill("#search", "")
    wait_until(page, "document.querySelectorAll('#images li').length > 1")


def test_thumbnails_are_fetched_for_the_rows_on_screen(listed: WatchedPage) -> None:
    page = listed.page
    wait_until(page, "document.querySelector('#images img')?.naturalWidth > 0")
    assert page.locator("#images img[src]").count() < 60


def test_the_console_has_no_errors_and_no_request_leaves_the_server(listed: WatchedPage, clinic: Clinic) -> None:
    unauthorized = "status of 401"  # the first request, before signing in
    assert [problem for problem in listed.problems if unauthorized not in problem] == []
    own = urlsplit(clinic.url).netloc
    assert {urlsplit(url).netloc for url in listed.requests if not url.startswith(("blob:", "data:"))} == {own}


def test_themes(listed: WatchedPage) -> None:
    page = listed.page
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    page.click("#theme")
    assert page.evaluate(background) != before
    page.reload()
    page.locator("#images li").first.wait_for()
    assert page.evaluate(background) != before


def test_the_api_is_described_after_signing_in(listed: WatchedPage) -> None:
    page = listed.page
    page.get_by_role("link", name="API").click()
    page.locator("#reference h2").first.wait_for()
    assert "POST /infer/{model}" in page.inner_text("#reference")
    assert not page.locator("#list").is_visible() and not page.locator("#viewer").is_visible()
    page.get_by_role("link", name="All CTs").click()
    page.locator("#images li").first.wait_for()
    assert not page.locator("#reference").is_visible()


def test_another_tab_has_a_login_of_its_own(listed: WatchedPage, clinic: Clinic) -> None:
    other = listed.page.context.new_page()
    other.goto(clinic.url)
    other.locator("#login").wait_for()
    assert other.locator("#images li").count() == 0
    other.close()


def test_a_wrong_password_says_so(clinic: Clinic, chromium: Browser) -> None:
    with new_context(chromium) as context:
        page = context.new_page()
        page.goto(clinic.url)
        page.fill("#user", "una")
        page.fill("#password", "wrong")
        page.keyboard.press("Enter")
        wait_until(page, "document.getElementById('login-error').textContent")
        assert page.inner_text("#login-error") == "wrong user name or password"


def test_the_address_of_the_server_leads_to_the_viewer(clinic: Clinic, chromium: Browser) -> None:
    with new_context(chromium) as context:
        watched = watched_page(context)
        watched.page.goto(clinic.server.url)
        watched.page.get_by_role("link", name="Viewer").click()
        watched.page.locator("#login").wait_for()
        assert watched.page.url.startswith(clinic.url)
    own = urlsplit(clinic.url).netloc
    assert {urlsplit(url).netloc for url in watched.requests if not url.startswith(("blob:", "data:"))} == {own}


def test_the_files_need_no_token_and_forbid_everything_from_elsewhere(clinic: Clinic) -> None:
    for name in ("", *FILES):
        response = requests.get(clinic.url + name, timeout=30)
        assert response.status_code == 200
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
    for path in ("none.js", "../info/", "%2e%2e/info/", "vendor/../../deps.py"):
        session = requests.Session()
        prepared = session.prepare_request(requests.Request("GET", clinic.url))
        prepared.url = clinic.url + path
        response = session.send(prepared, timeout=30)
        assert response.status_code in (401, 404), path
    for path in ("images", "images/thumbnail?image=x", "images/voxels?image=x", "images/grid?image=x"):
        assert requests.get(f"{clinic.server.url}/ct2pet/{path}", timeout=30).status_code == 401


def test_the_page_names_no_other_server() -> None:
    for name, path in FILES.items():
        if not name.startswith("vendor/"):
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?://|\beval\(|new Function", text), name


def test_niivue_is_the_build_that_the_notice_names() -> None:
    notice = (FOLDER / "vendor" / "NOTICE.txt").read_text(encoding="utf-8")
    name, digest = re.search(r"^(\S+) is ", notice), re.search(r"SHA-256 ([0-9a-f]{64})", notice)
    assert name and digest
    assert hashlib.sha256((FOLDER / "vendor" / name[1]).read_bytes()).hexdigest() == digest[1]
    assert f'src="vendor/{name[1]}"' in (FOLDER / "index.html").read_text(encoding="utf-8")
    assert "BSD 2-Clause License" in notice
