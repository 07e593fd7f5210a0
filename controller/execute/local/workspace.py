"""An attempt's private place: workspace, HOME and TMPDIR; mounts as copies; what is collected."""

import errno
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from controller.errors import StalledError
from controller.execute.ports import AttemptRequest, CacheMount, Placement

NULL_MODE = 0o700
EMPTY_FOLDER = stat.S_IFDIR | NULL_MODE
FOLDERS = ("workspace", "home", "tmp")
REFUSED = "PathRefused"
NO_CACHES: Mapping[str, Path] = MappingProxyType({})
SERVICE_ADDRESS = "127.0.0.1"


class Workspace:
    """A folder of one attempt; nothing in it outlives the attempt but what is collected."""

    def __init__(self, folder: Path, user: tuple[int, int] | None = None) -> None:
        self.folder = folder
        self._user = user
        self.root = folder / "workspace"

    def prepare(
        self,
        request: AttemptRequest,
        caches: Mapping[str, Path] = NO_CACHES,
        spare: Path | None = None,
    ) -> None:
        """Make the folders, copy the mounts in, link the caches, write file secrets and inputs.

        `caches` are the folders that the attempt holds, by identity; others start empty. `spare`
        is the place of an attempt that left nothing: it becomes this one's.
        """
        self._make(spare)
        for mount in request.mounts:
            self._place(mount)
        for cache in request.caches:
            self._link(cache, caches)
        self._write_files(request)
        if request.workdir not in {"", "."}:
            self.workdir(request).mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            self._give_away(self._user)

    def _make(self, spare: Path | None) -> None:
        if spare is not None:
            os.rename(spare, self.folder)  # noqa: PTH104 - on a hot path
            return
        for name in ("", *FOLDERS):
            os.mkdir(self.folder / name, NULL_MODE)  # noqa: PTH102 - four of them on a hot path

    @property
    def _inputs(self) -> Path:
        return self.folder / "inputs.json"

    def workdir(self, request: AttemptRequest) -> Path:
        return self._inside(request.workdir)

    def environment(self, request: AttemptRequest, path: str) -> Mapping[str, str]:
        """Return all that the step sees: nothing of the daemon's own but PATH."""
        env = {
            "PATH": path,
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            **{service.host_variable: SERVICE_ADDRESS for service in request.services},
            **request.env,
            **{secret.name: secret.value for secret in request.secrets if secret.name},
            **request.context,
            "RONDEL_NONCE": request.nonce,
        }
        if request.inputs is not None:
            env["RONDEL_INPUTS"] = str(self._inputs)
        return env

    def collect(self, request: AttemptRequest) -> Mapping[str, Path]:
        """Link what is wanted and there into the staging folder; nothing outside is reached.

        Every process that could still write to it is gone, so links are as good as copies.
        """
        collected = {}
        for number, path in enumerate(request.collect):
            found = self.workdir(request) / path
            if os.path.lexists(found) and self._confined(found):
                collected[path] = link(found.resolve(), request.staging / str(number))
        return collected

    def _confined(self, path: Path) -> bool:
        """A link that leads out of the workspace is as good as absent."""
        real = path.resolve()
        return real.exists() and real.is_relative_to(self.root.resolve())

    def _place(self, mount: Placement) -> None:
        target = self._inside(mount.path)
        if mount.source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copytree(mount.source, target, dirs_exist_ok=True, symlinks=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            target.rmdir()
        shutil.copy2(mount.source, target)

    def _link(self, cache: CacheMount, held: Mapping[str, Path]) -> None:
        """Put a link to the cache's folder in the workspace; it hides what a mount put there."""
        target = self._inside(cache.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.parent.resolve().is_relative_to(self.root.resolve()):
            raise StalledError(f"cache path {cache.path!r} leaves the workspace", reason=REFUSED)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        target.symlink_to(held.get(cache.identity) or self._own_cache(cache))

    def _own_cache(self, cache: CacheMount) -> Path:
        folder = self.folder / "caches" / cache.identity
        folder.mkdir(mode=NULL_MODE, parents=True, exist_ok=True)
        return folder

    def let_go(self, request: AttemptRequest) -> None:
        """Leave an empty folder where each cache was: a cache is no part of what a step wrote."""
        for cache in request.caches:
            target = self._inside(cache.path)
            if target.is_symlink():
                target.unlink()
                target.mkdir()

    def _inside(self, path: str) -> Path:
        if path.startswith("/") or ".." in path.split("/"):
            raise StalledError(f"{path!r} leaves the workspace", reason=REFUSED)
        return self.root / path

    def _write_files(self, request: AttemptRequest) -> None:
        for secret in request.secrets:
            if secret.file is not None:
                self._write(self._inside(secret.file), secret.value.encode())
        if request.inputs is not None:
            self._write(self._inputs, request.inputs)

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(data)

    def _give_away(self, user: tuple[int, int]) -> None:
        """Everything belongs to the step's user; the way to it may be passed, not read."""
        for above in (self.folder.parent.parent, self.folder.parent):
            above.chmod(0o711)
        for folder, _, files in os.walk(self.folder):
            for path in (folder, *(os.path.join(folder, name) for name in files)):  # noqa: PTH118
                os.chown(path, *user, follow_symlinks=False)

    def is_as_new(self) -> bool:
        """Tell whether the attempt left nothing: its folders are there, empty, and still ours."""
        if self._user is not None:
            return False
        place = str(self.folder)
        inner = [f"{place}/{name}" for name in FOLDERS]
        try:
            return (
                set(os.listdir(place)) == set(FOLDERS)  # noqa: PTH208 - names
                and not any(os.listdir(one) for one in inner)  # noqa: PTH208 - names
                and all(os.lstat(one).st_mode == EMPTY_FOLDER for one in (place, *inner))
            )
        except OSError:  # what can't be looked at any more is not as it was
            return False

    def remove(self) -> None:
        shutil.rmtree(self.folder, onerror=forced)


def link(found: Path, target: Path) -> Path:
    if found.is_dir():
        shutil.copytree(found, target, symlinks=True, copy_function=link_file)
    else:
        link_file(found, target)
    return target


def link_file(found: str | Path, target: str | Path) -> None:
    try:
        os.link(found, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copy2(found, target)  # another user's workspace may be on another file system


def forced(_: object, path: str, __: object) -> None:
    """A step may have left folders without write permission; they are ours to remove."""
    parent = os.path.dirname(path)  # noqa: PTH120 - shutil hands over text
    try:
        os.chmod(parent, NULL_MODE)  # noqa: PTH101
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            os.chmod(path, NULL_MODE)  # noqa: PTH101
            shutil.rmtree(path)
        else:
            os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return
