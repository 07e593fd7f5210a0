"""What a chain of calls means: a folder of this host that stands for a container, a process in it."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Call = tuple[str, dict[str, Any]]
Publish = Callable[[int, str], None]  # stream, text; "" is its end


@dataclass(frozen=True)
class Thing:
    """A container, directory, file or secret: nothing but the calls that made it."""

    kind: str
    calls: tuple[Call, ...] = ()

    def then(self, name: str, args: dict[str, Any]) -> "Thing":
        return Thing(self.kind, (*self.calls, (name, args)))

    def args(self, name: str) -> list[dict[str, Any]]:
        return [args for called, args in self.calls if called == name]


@dataclass
class Ran:
    """A command's result; the folder is the container's root."""

    root: Path
    code: int
    texts: dict[int, str] = field(default_factory=dict)


def inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def write_files(made: Thing, target: Path) -> None:
    """Write what a directory or file is to `target`."""
    if made.kind == "File":
        (name, args), *_ = made.calls
        assert name == "host.file"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(args["path"], target)
        return
    target.mkdir(parents=True, exist_ok=True)
    for name, args in made.calls:
        if name == "host.directory":
            shutil.copytree(args["path"], target, dirs_exist_ok=True)
        elif name == "withNewDirectory":
            (target / args["path"]).mkdir(args["permissions"], parents=True, exist_ok=True)
        elif name in {"withDirectory", "withFile"}:
            write_files(args["source"], target / args["path"])


def secret_text(secret: Thing) -> str:
    ((name, args),) = secret.calls
    return Path(args["uri"].removeprefix("file://")).read_text() if name == "secret" else ""


def furnish(made: Thing, root: Path) -> tuple[Path, dict[str, str]]:
    """Write a container's files; return its working directory and environment."""
    env = {"PATH": os.environ["PATH"]}
    workdir = root
    for name, args in made.calls:
        match name:
            case "withMountedDirectory" | "withDirectory" | "withFile":
                if name == "withMountedDirectory":
                    shutil.rmtree(inside(root, args["path"]), ignore_errors=True)
                write_files(args["source"], inside(root, args["path"]))
            case "withNewFile" | "withMountedSecret":
                text = args["contents"] if name == "withNewFile" else secret_text(args["source"])
                inside(root, args["path"]).parent.mkdir(parents=True, exist_ok=True)
                inside(root, args["path"]).write_text(text)
            case "withEnvVariable" | "withVolatileVariable":
                env[args["name"]] = seen_from_here(root, args["value"])
            case "withSecretVariable":
                env[args["name"]] = secret_text(args["secret"])
            case "withWorkdir":
                workdir = inside(root, args["path"])
            case "withMountedCache":
                link(inside(root, args["path"]), volume(args["cache"], root.parent))
    return workdir, env


def volume(cache: Thing, folder: Path) -> Path:
    ((_, args),) = cache.calls
    found: Path = folder / "caches" / args["key"]
    found.mkdir(parents=True, exist_ok=True)
    return found


def link(at: Path, found: Path) -> None:
    shutil.rmtree(at, ignore_errors=True)
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(found)


def unlink(made: Thing, root: Path) -> None:
    """Nothing comes out of a cache: where one was is an empty folder."""
    for args in made.args("withMountedCache"):
        inside(root, args["path"]).unlink()
        inside(root, args["path"]).mkdir()


def seen_from_here(root: Path, value: str) -> str:
    """Return a variable's value; the path of a file in the container as it is on this host."""
    there = inside(root, value)
    return str(there) if value.startswith("/") and there.is_file() else value


async def execute(made: Thing, publish: Publish, folder: str) -> Ran:
    """Run the last command of the chain; cancelled, its process group is killed."""
    root = Path(tempfile.mkdtemp(dir=folder))
    workdir, env = furnish(made, root)
    workdir.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *made.args("withExec")[-1]["args"],
        cwd=workdir,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    ran = Ran(root, 0)
    try:
        await asyncio.gather(
            hear(process.stdout, 1, ran, publish), hear(process.stderr, 2, ran, publish)
        )
        ran.code = await process.wait()
    except asyncio.CancelledError:
        os.killpg(process.pid, 9)
        await process.wait()
        raise
    unlink(made, root)
    return ran


async def hear(
    reader: asyncio.StreamReader | None, stream: int, ran: Ran, publish: Publish
) -> None:
    assert reader is not None
    whole = b""
    while data := await reader.read(4096):
        whole += data
        publish(stream, data.decode("utf-8", "replace"))
    publish(stream, "")
    ran.texts[stream] = whole.decode("utf-8", "replace")


def export(made: Thing, target: Path) -> None:
    (source,) = [args["from"] for name, args in made.calls if name == "taken"]
    if Path(source).is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
