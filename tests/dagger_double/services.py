"""A service's double: its process on this host, ready when its ports accept connections."""

import asyncio
from typing import Any

from graphql import GraphQLError

from tests.dagger_double.containers import Publish, Ran, Thing, execute

OWN_COMMAND = ["sh"]  # of every image


def command(service: Thing) -> Thing:
    """Return the container that a service runs."""
    ((_, args),) = service.calls
    container: Thing = args["container"]
    return container.then("withExec", {"args": args.get("args") or OWN_COMMAND})


class RunningService:
    """Starting goes on when who asked for it has left, as the engine's does."""

    def __init__(self, service: Thing, publish: Publish, folder: str) -> None:
        self.made = command(service)
        self.process: asyncio.Task[Ran] = asyncio.create_task(execute(self.made, publish, folder))
        self.up = asyncio.create_task(self._up())

    async def _up(self) -> None:
        for args in self.made.args("withExposedPort"):
            while not await answers(args["port"]):
                if self.process.done():
                    raise GraphQLError("exit code", extensions=failure(self.made, self.process))
                await asyncio.sleep(0.02)

    @property
    def over(self) -> bool:
        return self.process.done()

    async def stop(self) -> None:
        """Wait until it is up, or never will be; then kill it."""
        await asyncio.wait({self.up})
        self.kill()
        await asyncio.wait({self.process})

    def kill(self) -> None:
        self.process.cancel()
        self.up.cancel()


def failure(made: Thing, process: "asyncio.Task[Ran]") -> dict[str, Any]:
    ran = process.result()
    return {
        "_type": "EXEC_ERROR",
        "cmd": made.args("withExec")[-1]["args"],
        "exitCode": ran.code,
        "stdout": ran.texts[1].strip(),
        "stderr": ran.texts[2].strip(),
    }


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def beside(bound: dict[str, RunningService], work: "asyncio.Task[Ran]") -> Ran:
    """Return the command's result; a bound service that ends first is its end."""
    try:
        every = {work, *(one.process for one in bound.values())}
        await asyncio.wait(every, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        alias, one = next((alias, one) for alias, one in bound.items() if one.over)
        code = one.process.result().code
        problem = f"bound service 7dk (aliased as {alias}) exited: exit code: {code}"
        raise GraphQLError(problem)
    finally:
        work.cancel()
        await asyncio.wait({work})
