"""A run's images: full names, logins, and the digests they had when the run first used them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.execute.dagger.container import with_workspace

if TYPE_CHECKING:
    import dagger


PREFIX = "image:"  # of images among a run's versions


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
        self._references: dict[str, str] = {}  # with their digests, by the image's text
        self._locks: dict[str, asyncio.Lock] = {}

    @property
    def resolved(self) -> dict[str, str]:
        """Return `image:<name>` -> name with digest, of those that were named without one."""
        found = self._references.items()
        return {f"{PREFIX}{image}": named for image, named in found if image != named}

    def pin(self, versions: Mapping[str, str]) -> None:
        """Take each image as a run that runs again had it; of a new run nothing is known yet."""
        for name, reference in versions.items():
            if name.startswith(PREFIX):
                self._references[name.removeprefix(PREFIX)] = reference

    async def reference(self, client: "dagger.Client", image: str) -> str:
        """Return the image's name with its digest; nothing is pulled. Raises as the engine does."""
        async with self._locks.setdefault(image, asyncio.Lock()):
            if image not in self._references:
                self._references[image] = await self._named(client, image).image_ref()
        return self._references[image]

    async def base(self, client: "dagger.Client", image: str) -> Base:
        """Return what attempts in this image begin with. Raises as the engine does."""
        async with self._locks.setdefault(image, asyncio.Lock()):
            if image not in self._bases:
                self._bases[image] = await self._pulled(client, image)
        return self._bases[image]

    def _named(self, client: "dagger.Client", image: str) -> "dagger.Container":
        name = full_name(image, self.default_registry)
        return self._logged_in(client, client.container(), name).from_(name)

    async def _pulled(self, client: "dagger.Client", image: str) -> Base:
        reference, user = await self._looked_at(client, image)
        empty = self._logged_in(client, client.container(), reference)
        pinned = with_workspace(empty.from_(reference), client.directory(), user)
        return Base(await pinned.sync(), reference, user)

    async def _looked_at(self, client: "dagger.Client", image: str) -> tuple[str, str]:
        """Return the name with its digest, and the user; both by what was resolved first."""
        if image in self._references:
            pinned = self._named(client, self._references[image])
            return self._references[image], await pinned.user()
        tagged = self._named(client, image)
        reference, user = await asyncio.gather(tagged.image_ref(), tagged.user())
        self._references[image] = reference
        return reference, user

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
