"""What integration tests share: an executor on an engine's double."""

import pytest

from tests.dagger_double.engine import Engine
from tests.dagger_double.house import House


@pytest.fixture
async def house(tmp_path, monkeypatch):
    engine = Engine()
    made = House(tmp_path, engine, await engine.start())
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(made.memory))
    monkeypatch.setenv("A_TOKEN_OF_THE_DAEMON", "not for the command")
    yield made
    await engine.stop()
