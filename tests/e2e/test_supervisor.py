"""What systemd hears of a controller that it has started (sd_notify(3))."""

import os
import select
import socket

import pytest

from tests.e2e.controller_process import ControllerProcess

PATIENCE_SECONDS = 20
HALF_A_SECOND = "500000"  # microseconds


class Ear:
    """The socket of a service manager."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name)
        self.heard = []

    def close(self):
        self.socket.close()

    def hears(self, *lines):
        """Listen until a message has all these lines."""
        while not any({*lines} <= {*one.splitlines()} for one in self.heard):
            ready, _, _ = select.select([self.socket], [], [], PATIENCE_SECONDS)
            assert ready, f"never heard {lines}, but {self.heard}"
            self.heard.append(self.socket.recv(4096).decode())


@pytest.fixture(params=["a path", "an abstract name"])
def address(request, tmp_path):
    return str(tmp_path / "n") if request.param == "a path" else f"@rondel-{os.getpid()}"


@pytest.fixture
def ear(address):
    made = Ear("\0" + address[1:] if address.startswith("@") else address)
    yield made
    made.close()


def test_it_hears_of_ready_alive_and_stopping(tmp_path, folder, address, ear):
    told = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": HALF_A_SECOND}
    controller = ControllerProcess(tmp_path, "--source", str(folder), **told).start()
    try:
        ear.hears("READY=1", "STATUS=workflows: 0")
        ear.heard.clear()
        ear.hears("WATCHDOG=1")
    finally:
        controller.stop()
    ear.hears("STOPPING=1", "STATUS=ending, runs: 0")


def test_one_that_is_gone_holds_nothing_up(tmp_path, folder):
    told = {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
    controller = ControllerProcess(tmp_path, "--source", str(folder), **told).start()
    try:
        assert controller.events("supervisor_not_told")
    finally:
        controller.stop()
