"""Show a CT of a running ct2pet server and its synthetic PET in a web page with axial, coronal and sagittal views.

The libraries of 3D Slicer in a web page (trame-slicer); useful where Slicer is not installed. The server synthesizes
the PET slab by slab, as it does for Slicer. Only this computer can open the page by default; its URL contains a key.
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

from CT2PETLib.client.client import Client  # noqa: E402
from CT2PETLib.client.errors import ServerError  # noqa: E402
from CT2PETLib.client.http.transport import Token  # noqa: E402

from scripts.review_page.browser import BrowserError, find_chromium, save_screenshot  # noqa: E402
from scripts.review_page.opengl_check import rendering_error, start_probe  # noqa: E402
from scripts.review_page.progress_bar import ProgressBar  # noqa: E402
from scripts.review_page.server_data import ReviewError, fetch, find, sign_in  # noqa: E402

EXIT_DONE, EXIT_FAILURE, EXIT_INPUT, EXIT_STOPPED = 0, 1, 2, 130  # as main.py's
EXAMPLES = """examples:
  scripts/serve STUDIES                                   start the server, in another terminal
  scripts/review 1.3.6.1.4.1.14519.5.2.1.5168...          serve the page of one of its CTs; stop with Ctrl-C
  scripts/review CT_UID --server https://pet.hospital.example --user una --ca hospital.pem
  scripts/review CT_UID --screenshot review.png           write a screenshot of the page and exit (needs Chromium)

CT_UID is the SeriesInstanceUID of a CT, as listed by `python main.py scan STUDIES`; for an unknown one the error
message lists those of the server.
Exit codes: 0 success, 1 failure of this program, 2 invalid input, 130 stopped."""


def main() -> int:
    """Serve the page until it is stopped, and return the exit code."""
    args = parse_args()
    try:
        port = free_port(args.host, args.port)
        if args.screenshot is not None:
            check_screenshot(args.screenshot)
        client = make_client(args)
        probe = start_probe()
        request = find(client, args.ct_uid, args.model, allow_unlike=args.allow_unlike)
        if reason := rendering_error(probe):
            print(f"scripts/review: {reason}", file=sys.stderr)
            return EXIT_FAILURE
        # Slicer's libraries take seconds to import: do it while the server works
        loading = threading.Thread(target=import_page, daemon=True)
        loading.start()
        progress = ProgressBar()
        review = fetch(request, progress)
        progress.print_line("Building the page")
        loading.join()
        from scripts.review_page.page import ReviewPage

        page = ReviewPage(review, host=args.host, port=port)
        if args.screenshot is None:
            page.serve(lambda url: print_url(url, args.host))
        else:
            page.serve(lambda _: None, task=lambda url: save_screenshot(url, args.screenshot))
            print(args.screenshot)
    except (ReviewError, ServerError, BrowserError) as error:
        print(f"scripts/review: {error}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print("\nscripts/review: stopped", file=sys.stderr)
        return EXIT_STOPPED
    return EXIT_DONE


def parse_args() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/review",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ct_uid", metavar="CT_UID", help="SeriesInstanceUID of a CT of the server")
    parser.add_argument("--server", default="http://127.0.0.1:8000", metavar="URL", help="default %(default)s")
    parser.add_argument(
        "--model", default="", help="unet, cascade2, ...; default: the first trained model of the server"
    )
    parser.add_argument(
        "--allow-unlike", action="store_true", help="show the PET of a CT that is unlike those the model was trained on"
    )
    login = parser.add_argument_group("if the server has accounts")
    login.add_argument("--user", default="", metavar="NAME", help="sign in; prompts for the password")
    login.add_argument(
        "--password-stdin", action="store_true", help="read the password from the first line of standard input"
    )
    login.add_argument(
        "--token-stdin", action="store_true", help="read a token (of /auth/token) from the first line of standard input"
    )
    login.add_argument("--ca", type=Path, metavar="FILE", help="certificate authority of an HTTPS server, PEM")
    page = parser.add_argument_group("the page")
    page.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; default %(default)s, this computer only"
    )
    page.add_argument("--port", type=int, default=8080, help="default %(default)s; 0 for any free port")
    page.add_argument("--screenshot", type=Path, metavar="FILE.png", help="write a screenshot of the page and exit")
    args = parser.parse_args()
    if args.user and args.token_stdin:
        parser.error("--user and --token-stdin exclude each other")
    if args.password_stdin and not args.user:
        parser.error("--password-stdin needs --user NAME")
    if args.ca is not None and not args.ca.is_file():
        parser.error(f"--ca {args.ca}: no such file")
    return args


def free_port(host: str, port: int) -> int:
    """Return the port, or a free one for 0.

    Raises:
        ReviewError: The port is in use or not permitted.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as error:
        raise ReviewError(
            f"The page cannot be served at {host}:{port} ({getattr(error, 'strerror', '') or error}): choose another "
            "--port, or 0 for any free port"
        ) from error


def check_screenshot(file: Path) -> None:
    """Check that the screenshot can be taken, before the server starts to work.

    Raises:
        ReviewError: The file cannot be written, or Chromium is not installed.
    """
    if file.suffix.lower() != ".png" or not file.resolve().parent.is_dir():
        raise ReviewError(f"--screenshot {file}: expected a file name that ends in .png, in an existing folder")
    if not find_chromium():
        raise ReviewError("--screenshot needs Chromium: apt-get install chromium, or set CT2PET_CHROMIUM to its path")


def make_client(args: argparse.Namespace) -> Client:
    """Return a client of the server, signed in if the command line names a user or a token.

    Raises:
        ReviewError: Wrong user name or password.
        ServerError: Invalid server URL.
    """
    token = Token()
    if args.token_stdin:
        token.value = sys.stdin.readline().strip()
    client = Client(args.server, verify=str(args.ca) if args.ca else True, token=token)
    if client.address.warning:
        print(client.address.warning, file=sys.stderr)
    if args.user:
        if not (args.password_stdin or sys.stdin.isatty()):
            raise ReviewError(
                "--user: cannot prompt for the password without a terminal; give it with --password-stdin"
            )
        password = sys.stdin.readline().rstrip("\r\n") if args.password_stdin else getpass.getpass(f"{args.user}: ")
        sign_in(client, args.user, password)
    return client


def import_page() -> None:
    """Import Slicer's libraries."""
    import scripts.review_page.page  # noqa: F401


def print_url(url: str, host: str) -> None:
    """Print the URL of the page, with a warning if others can reach it."""
    if host not in ("127.0.0.1", "localhost", "::1"):
        print(
            "Anyone on the network who has this URL can see the images; the connection is not encrypted.",
            file=sys.stderr,
        )
    print(f"Open {url}\nStop with Ctrl-C.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
