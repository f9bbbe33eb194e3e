"""Show a CT of a live ct2pet server and its synthetic PET in a web page: axial, coronal, sagittal, with sliders.

The libraries of 3D Slicer in a web page (trame-slicer); useful where Slicer is not installed. The server draws the PET,
slab by slab, as it does for Slicer. The page is served to this computer only, and its address holds a key.
Research software: a synthetic PET is an estimate, never use it for diagnosis.
"""

from __future__ import annotations

import argparse
import getpass
import socket
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "slicer" / "CT2PET")]

from CT2PETLib.client import Client  # noqa: E402
from CT2PETLib.errors import ServerError  # noqa: E402
from CT2PETLib.wire import Token  # noqa: E402

from scripts.review_page.server_data import ReviewError, ask, find, sign_in  # noqa: E402
from scripts.review_page.browser import BrowserError, browsing, find_chromium  # noqa: E402
from scripts.review_page.progress_bar import Progress  # noqa: E402
from scripts.review_page.opengl_check import start_probe, why_no_pictures  # noqa: E402

DONE, OUR_FAULT, INPUT = 0, 1, 2  # exit codes, as main.py's
STOPPED = 130
EXAMPLES = """examples:
  scripts/serve STUDIES                                   the server, in another terminal
  scripts/review 1.3.6.1.4.1.14519.5.2.1.5168...          the page of one of its CTs; stop with Ctrl-C
  scripts/review CT_UID --server https://pet.hospital.example --user una --ca hospital.pem
  scripts/review CT_UID --screenshot review.png           a picture of the page (needs chromium), and no page

CT_UID is the SeriesInstanceUID of a CT, as `python main.py scan STUDIES` lists it; a wrong one is answered with those
that there are.
Exit codes: 0 done, 1 our fault, 2 something in the input, 130 stopped."""


def main() -> int:
    """Show the page until it is stopped, and return the exit code."""
    wanted = arguments()
    try:
        port = free_port(wanted.host, wanted.port)
        if wanted.screenshot is not None:
            check_screenshot(wanted.screenshot)
        client = signed_in(wanted)
        probe = start_probe()
        wish = find(client, wanted.ct_uid, wanted.model)
        if reason := why_no_pictures(probe):
            print(f"scripts/review: {reason}", file=sys.stderr)
            return OUR_FAULT
        # Slicer's libraries take seconds to load: beside the server's work rather than after it
        loading = threading.Thread(target=load, daemon=True)
        loading.start()
        progress = Progress()
        review = ask(wish, progress)
        progress.say("Making the page")
        loading.join()
        from scripts.review_page.page import ReviewPage

        page = ReviewPage(review, host=wanted.host, port=port)
        if wanted.screenshot is None:
            page.serve(lambda url: announce(url, wanted.host))
        else:
            page.serve(lambda _: None, meanwhile=lambda url: take_screenshot(url, wanted.screenshot))
            print(wanted.screenshot)
    except (ReviewError, ServerError, BrowserError) as error:
        print(f"scripts/review: {error}", file=sys.stderr)
        return INPUT
    except KeyboardInterrupt:
        print("\nscripts/review: stopped", file=sys.stderr)
        return STOPPED
    return DONE


def arguments() -> argparse.Namespace:
    """Return what was asked for on the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/review",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ct_uid", metavar="CT_UID", help="SeriesInstanceUID of a CT of the server")
    parser.add_argument("--server", default="http://127.0.0.1:8000", metavar="URL", help="default %(default)s")
    parser.add_argument(
        "--model", default="", help="unet, cascade2, ...; the server's first trained one when not given"
    )
    who = parser.add_argument_group("where the server has accounts")
    who.add_argument("--user", default="", metavar="NAME", help="sign in; the password is asked for")
    who.add_argument("--password-stdin", action="store_true", help="read the password from the first input line")
    who.add_argument(
        "--token-stdin", action="store_true", help="read a token (of /auth/token) from the first input line"
    )
    who.add_argument("--ca", type=Path, metavar="FILE", help="certificate authority of an https server, PEM")
    page = parser.add_argument_group("the page")
    page.add_argument("--host", default="127.0.0.1", help="who reaches it; default %(default)s, this computer alone")
    page.add_argument("--port", type=int, default=8080, help="default %(default)s; 0 for any that is free")
    page.add_argument("--screenshot", type=Path, metavar="FILE.png", help="write a picture of the page, and end")
    wanted = parser.parse_args()
    if wanted.user and wanted.token_stdin:
        parser.error("--user and --token-stdin: one of them says who you are")
    if wanted.password_stdin and not wanted.user:
        parser.error("--password-stdin needs --user NAME")
    if wanted.ca is not None and not wanted.ca.is_file():
        parser.error(f"--ca {wanted.ca}: no such file")
    return wanted


def free_port(host: str, port: int) -> int:
    """Return the port, or a free one for 0.

    Raises:
        ReviewError: It cannot be listened on.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as error:
        raise ReviewError(
            f"The page cannot be served at {host}:{port} ({getattr(error, 'strerror', '') or error}): choose another "
            "--port, or 0 for any that is free"
        ) from error


def check_screenshot(file: Path) -> None:
    """Refuse before the server works for nothing.

    Raises:
        ReviewError: It cannot be written, or there is no Chromium.
    """
    if file.suffix.lower() != ".png" or not file.resolve().parent.is_dir():
        raise ReviewError(f"--screenshot {file}: give a file that ends in .png, in a folder that is there")
    if not find_chromium():
        raise ReviewError("--screenshot needs Chromium: apt-get install chromium, or name one in CT2PET_CHROMIUM")


def signed_in(wanted: argparse.Namespace) -> Client:
    """Return a client of the server, of the user who was named.

    Raises:
        ReviewError: Wrong user name or password.
        ServerError: The address is none.
    """
    token = Token()
    if wanted.token_stdin:
        token.word = sys.stdin.readline().strip()
    client = Client(wanted.server, verify=str(wanted.ca) if wanted.ca else True, token=token)
    if client.address.warning:
        print(client.address.warning, file=sys.stderr)
    if wanted.user:
        if not (wanted.password_stdin or sys.stdin.isatty()):
            raise ReviewError("--user: there is no terminal to ask for the password; give it with --password-stdin")
        password = sys.stdin.readline().rstrip("\r\n") if wanted.password_stdin else getpass.getpass(f"{wanted.user}: ")
        sign_in(client, wanted.user, password)
    return client


def load() -> None:
    """Load Slicer's libraries."""
    import scripts.review_page.page  # noqa: F401


def announce(url: str, host: str) -> None:
    """Tell where the page is."""
    if host not in ("127.0.0.1", "localhost", "::1"):
        print(
            "Whoever in the network has this address sees the images, and it is not encrypted on its way.",
            file=sys.stderr,
        )
    print(f"Open {url}\nStop with Ctrl-C.", flush=True)


def take_screenshot(url: str, file: Path) -> None:
    """Write a picture of the page, as a person would see it."""
    from scripts.review_page.ready import READY

    with browsing(url) as page:
        page.wait_for(READY)
        file.write_bytes(page.picture())


if __name__ == "__main__":
    sys.exit(main())
