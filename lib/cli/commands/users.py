"""`users`: manage the accounts of a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lib.cli.console import add_row, new_table, print_json, print_line, stderr, stdout
from lib.cli.options import AsJson
from lib.errors import InputError

users = typer.Typer(no_args_is_help=True, help="Manage the users file of a server (--conf users FILE).")

UsersFile = Annotated[Path, typer.Option("--file", metavar="USERS", help="The users file.", show_default=False)]
PasswordFromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]


@users.command("add")
def add_user(
    name: str,
    role: Annotated[
        str,
        typer.Option(
            help="user (synthesises PETs), annotator (also adds CTs and labels), reviewer, or admin (also trains)."
        ),
    ],
    file: UsersFile,
    password_stdin: PasswordFromStdin = False,
) -> None:
    """Add a user. The password is prompted for, never an argument. The file is created if missing."""
    from lib.accounts import add_account

    add_account(file, name, role=role, password=_read_password(from_stdin=password_stdin))
    print_line(f"Added user {name} with role {role}", stderr)


@users.command("list")
def list_users(file: UsersFile, as_json: AsJson = False) -> None:
    """List names and roles. The JSON is a list of `{name, role}`."""
    from lib.accounts import read_accounts

    accounts = read_accounts(file).values()
    if as_json:
        print_json([{"name": account.name, "role": account.role} for account in accounts])
        return
    table = new_table("name", "role")
    for account in accounts:
        add_row(table, account.name, account.role)
    stdout.print(table)


@users.command("password")
def change_user_password(name: str, file: UsersFile, password_stdin: PasswordFromStdin = False) -> None:
    """Change a user's password. Existing logins of the user end immediately."""
    from lib.accounts import change_password

    change_password(file, name, password=_read_password(from_stdin=password_stdin))
    print_line(f"Changed the password of user {name}", stderr)


@users.command("remove")
def remove_user(name: str, file: UsersFile) -> None:
    """Remove a user. Existing logins of the user end immediately."""
    from lib.accounts import remove_account

    remove_account(file, name)
    print_line(f"Removed user {name}", stderr)


def _read_password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise InputError("no terminal to prompt for a password; use --password-stdin to read it from standard input")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
