"""A run's images: full names, logins, and the digests they had when the run first used them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.execute.dagger.container import with_workspace

if TYPE_CHECKING:
    import dagger


@dataclass(frozen=True, slots=True)
class Login:
    host: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Base:
    """An image, pulled, with an empty workspace; every attempt in it begins here."""

    container: "dagger.Container"
    reference: str  # with its digest
    user: str  # who its commands run as; "" is root


class Images:
    """Resolves each image once in a session: a tag that moves never splits a run."""

    def __init__(self) -> None:
        self.default_registry = "docker.io"
        self.logins: Mapping[str, Login] = {}
        self._bases: dict[str, Base] = {}  # by the image's text
        self._locks: dict[str, asyncio.Lock] = {}

    @property
    def resolved(self) -> dict[str, str]:
        """Return `image:<name>` -> name with digest."""
        return {f"image:{image}": base.reference for image, base in self._bases.items()}

    async def base(self, client: "dagger.Client", image: str) -> Base:
        """Return what attempts in this image begin with. Raises as the engine does."""
        async with self._locks.setdefault(image, asyncio.Lock()):
            if image not in self._bases:
                self._bases[image] = await self._pulled(client, image)
        return self._bases[image]

    async def _pulled(self, client: "dagger.Client", image: str) -> Base:
        name = full_name(image, self.default_registry)
        empty = self._logged_in(client, client.container(), name)
        tagged = empty.from_(name)
        reference, user = await asyncio.gather(tagged.image_ref(), tagged.user())
        pinned = with_workspace(empty.from_(reference), client.directory(), user)
        return Base(await pinned.sync(), reference, user)

    def _logged_in(
        self, client: "dagger.Client", empty: "dagger.Container", name: str
    ) -> "dagger.Container":
        login = self.logins.get(host_of(name))
        if login is None:
            return empty
        password = client.set_secret(f"registry {login.host}", login.password)
        return empty.with_registry_auth(login.host, login.username, password)


def full_name(image: str, registry: str) -> str:
    """Return the image's name with its registry, as Docker reads names."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"{registry}/{image}"


def host_of(name: str) -> str:
    return name.partition("/")[0]
