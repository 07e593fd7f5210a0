"""A run's images: full names, logins, and the digests they had when the run first used them."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagger


@dataclass(frozen=True, slots=True)
class Login:
    host: str
    username: str
    password: str


class Images:
    """Resolves each image once in a session: a tag that moves never splits a run."""

    def __init__(self) -> None:
        self.resolved: dict[str, str] = {}  # "image:<name>" -> name with digest
        self.default_registry = "docker.io"
        self.logins: dict[str, Login] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def container(self, client: "dagger.Client", image: str) -> "dagger.Container":
        """Return a container of the image, logged in where a login is configured."""
        name = full_name(image, self.default_registry)
        base = self._logged_in(client, client.container(), name)
        async with self._locks.setdefault(name, asyncio.Lock()):
            key = f"image:{image}"
            if key not in self.resolved:
                self.resolved[key] = await base.from_(name).image_ref()
        return base.from_(self.resolved[key])

    def _logged_in(
        self, client: "dagger.Client", base: "dagger.Container", name: str
    ) -> "dagger.Container":
        login = self.logins.get(host_of(name))
        if login is None:
            return base
        password = client.set_secret(f"registry {login.host}", login.password)
        return base.with_registry_auth(login.host, login.username, password)


def full_name(image: str, registry: str) -> str:
    """Return the image's name with its registry, as Docker reads names."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"{registry}/{image}"


def host_of(name: str) -> str:
    return name.partition("/")[0]
