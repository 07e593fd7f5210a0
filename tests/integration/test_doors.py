"""What doors keep, and how long they wait."""

import asyncio
from datetime import timedelta

import pytest

from controller.model.changes import DropToken, PutToken, TakeDelivery
from controller.model.delivery import Delivery
from controller.model.token import Role, Token
from controller.serve import server
from controller.store import Store
from controller.store.deliveries import KEPT
from controller.store.retention import Keep
from tests.store_lives import FixedClock


@pytest.fixture
async def store(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock())
    yield store
    await store.close()


def delivery(at, *marks):
    return Delivery(receiver="hook", id="x", marks=marks, at=at)


async def test_a_delivery_is_taken_once_by_any_of_its_marks_and_forgotten_in_the_end(store):
    now = FixedClock().now()
    old, young = now - KEPT - timedelta(seconds=1), now - KEPT + timedelta(seconds=1)
    wishes = [
        delivery(old, "id:1", "signed:a"),
        delivery(young, "id:2", "signed:b"),
        delivery(now, "id:3", "signed:b"),
        delivery(now, "id:2", "signed:c"),
    ]
    taken = [(await store.record(TakeDelivery(delivery=one)))[0] for one in wishes]
    assert taken == [True, True, False, False]
    assert not await store.read(lambda reader: reader.delivered("other", ["id:1"]))
    assert await store.read(lambda reader: reader.delivered("hook", ["id:9", "id:1"]))
    await store.housekeep(Keep())
    assert not await store.read(lambda reader: reader.delivered("hook", ["id:1", "signed:a"]))
    assert await store.read(lambda reader: reader.delivered("hook", ["signed:b"]))


async def test_a_token_is_found_by_its_hash_until_it_is_dropped(store):
    now = FixedClock().now()
    made = Token(
        name="ci",
        role=Role.OPERATOR,
        hash="sha256:1",
        created_at=now,
        expires_at=now + timedelta(days=1),
    )
    assert await store.record(PutToken(token=made), PutToken(token=made)) == (True, False)
    assert await store.read(lambda reader: (reader.tokens(), reader.token("sha256:1"))) == (
        [made],
        made,
    )
    assert made.valid(now)
    assert not made.valid(now + timedelta(days=1))
    drop = DropToken(name="ci", at=now)
    assert await store.record(drop, drop) == (True, False)
    assert await store.read(lambda reader: reader.token("sha256:1")) is None


async def test_who_never_asks_is_let_go(monkeypatch):
    import socket

    monkeypatch.setattr(server, "HEAD_SECONDS", 0.05)
    bound = socket.create_server(("127.0.0.1", 0))
    serving = server.TcpServer(answering, bound, None)
    await serving.start()
    address = bound.getsockname()
    silent, _ = quiet = await asyncio.open_connection(*address)
    assert await silent.read() == b""
    asking, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await asking.read()).startswith(b"HTTP/1.1 204")
    for one in (quiet[1], writer):
        one.close()
        await one.wait_closed()
    await serving.stop()


async def answering(scope, receive, send):
    del scope, receive
    await asyncio.sleep(0.2)  # longer than a silent peer is waited for
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})
