#!/opt/rondel/bin/python
"""Ask this container's controller: `rondel-probe /healthz|/readyz`; exit 0 when it says yes."""

import http.client
import os
import socket
import sys

STATE = os.environ.get("RONDEL_STATE_DIR", "/var/lib/rondel")  # noqa: TID251 - a program of its own
PLACE = f"{STATE}/api/rondel.sock"
SECONDS = 5


class OverSocket(http.client.HTTPConnection):
    """HTTP over the controller's socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(PLACE)


def main(path: str) -> int:
    """Return 0 for an answer of 200; else 1, with the reason on standard error."""
    connection = OverSocket("localhost")
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read().decode()
    except OSError as error:
        sys.stderr.write(f"{PLACE}: {error}\n")
        return 1
    finally:
        connection.close()
    sys.stderr.write(f"{said}\n")
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
