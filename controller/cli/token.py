"""`rondel token`: who may use the API's TCP listener; works without a daemon, and beside one."""

import asyncio
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from controller import config as configuration
from controller import digest, ids
from controller.cli.common import (
    ConfigOption,
    Format,
    OutputOption,
    StateOption,
    ago,
    brief,
    now,
    print_json,
    reader,
)
from controller.cli.common import show as show_list
from controller.clock import SystemClock
from controller.errors import UsageError
from controller.model import view
from controller.model.changes import Change, DropToken, PutToken
from controller.model.quantity import parse_duration
from controller.model.token import Role, Token
from controller.store import Store

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Whose it is.")]


class RoleName(StrEnum):
    """The roles, as they are written."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


def token() -> None:
    """Make, list and remove tokens for the API's TCP listener.

    Example: rondel token create ci --role operator --expires 90d
    """


def create(  # noqa: PLR0917 - options of one command
    name: NameArgument,
    role: Annotated[RoleName, typer.Option("--role", help="What it may do.")],
    expires: Annotated[str | None, typer.Option("--expires", help="After so long: 90d.")] = None,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Make a token and print it, once: only its hash is kept.

    Example: rondel token create ci --role operator --expires 90d
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name", remedy="use letters a-z, digits and -, at most 63")
    text, moment = ids.token(), now()
    made = Token(
        name=name,
        role=Role[role.upper()],
        hash=digest.sha256(text),
        created_at=moment,
        expires_at=moment + duration(expires) if expires else None,
    )
    if not record(state_dir, config, PutToken(token=made)):
        raise UsageError(f"there is a token {name!r} already", remedy="choose another name")
    if output is Format.JSON:
        print_json({**view.token_view(made), "token": text})
    else:
        print(text)


def ls(
    output: OutputOption = Format.TABLE, config: ConfigOption = None, state_dir: StateOption = None
) -> None:
    """List tokens by name; none of them can be shown again.

    Example: rondel token ls
    """
    with reader(state_dir, config) as store:
        tell(store.tokens(), output, now())


def rm(name: NameArgument, config: ConfigOption = None, state_dir: StateOption = None) -> None:
    """Remove a token: from now on it is refused.

    Example: rondel token rm ci
    """
    if not record(state_dir, config, DropToken(name=name, at=now())):
        raise UsageError(f"there is no token {name!r}", remedy="see `rondel token ls`")
    print(f"token {name} is removed")


def duration(text: str) -> timedelta:
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise UsageError(str(error), where="--expires") from error
    if not found:
        raise UsageError("would never be valid", where="--expires", remedy="write 90d")
    return found


def record(state: Path | None, config: Path | None, change: Change) -> bool:
    """Write one change beside a daemon or without one; return whether it was applied."""

    async def written() -> bool:
        folder = configuration.find_state_dir(state, config)
        store = await Store.open(folder, clock=SystemClock(), kind="cli")
        try:
            (applied,) = await store.record(change)
        finally:
            await store.close()
        return applied

    return asyncio.run(written())


def tell(found: Sequence[Token], output: Format, moment: datetime) -> None:
    if output is Format.NAME:
        print(*(one.name for one in found), sep="\n")
        return
    rows = [
        (one.name, one.role.word, ago(one.created_at, moment), until(one, moment)) for one in found
    ]
    columns = ("name", "role", "age", "expires")
    show_list([view.token_view(one) for one in found], output, columns=columns, rows=rows)


def until(one: Token, moment: datetime) -> str:
    if one.expires_at is None:
        return "never"
    return brief(one.expires_at - moment) if one.valid(moment) else "expired"
