"""Who asks: as the kernel says of a peer on the Unix socket, or the token at the TCP address."""

import pwd
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, Request

PEER, TOKEN = "rondel.peer", "rondel.token"
"""Keys of a request's scope: a user's id, a token's name."""

App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


def from_peer(app: App, user: int) -> App:
    """Return the app for one connection of that user."""

    async def asked(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, PEER: user}, receive, send)

    return asked


def who(request: Request) -> str:
    """Return a user's name, or `token NAME`."""
    if TOKEN in request.scope:
        return f"token {request.scope[TOKEN]}"
    return user_name(request.scope[PEER]) if PEER in request.scope else "unknown"


def user_name(user: int) -> str:
    """Return the name of a user id; one that this host doesn't know is told by its number."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


Who = Annotated[str, Depends(who)]
