"""`rondel`, watched: the real command line with every edge of state told to a switch.

What happens once a minute or a day happens every second here, so that its edges are come to.
"""

import atexit
from datetime import timedelta

from controller import daemon
from controller.cli.main import main
from controller.execute import cached
from tests.kill.edges import watch
from tests.kill.switch import Order, Switch


def hasten() -> None:
    cached.USED_EVERY = timedelta(0)
    daemon.HOUSEKEEPING = timedelta(seconds=1)


if __name__ == "__main__":
    switch = Switch(Order.of_environment())
    atexit.register(switch.write_census)
    hasten()
    watch(switch)
    main()
