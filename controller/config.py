"""File and environment to settings: found, read, overridden, checked, filled in."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller import environment
from controller.errors import UnreachableError, UsageError
from controller.manifest import configuration
from controller.manifest import document as documents
from controller.model.settings import DirectorySource, GitRef, GitSource, Settings

HERE = Path("rondel.yaml")
SYSTEM = Path("/etc/rondel/rondel.yaml")
OVERRIDE = "RONDEL_CFG_"


def locate(flag: Path | None, *, here: bool = False) -> Path | None:
    """Return the configuration file to use; None when there is none.

    `--config`, else `$RONDEL_CONFIG`, else `./rondel.yaml` (only with `here`, and only when the
    caller owns it), else /etc/rondel/rondel.yaml.

    Raises:
        UsageError: a file that was named isn't there; ./rondel.yaml belongs to someone else.
    """
    named = flag or (Path(text) if (text := environment.get("RONDEL_CONFIG")) else None)
    if named is not None:
        if not named.is_file():
            raise UsageError("no such file", where=str(named), remedy="correct --config")
        return named
    if here and HERE.is_file():
        if HERE.stat().st_uid != os.getuid():
            raise UsageError(
                "belongs to another user", where=str(HERE), remedy="name it by --config to trust it"
            )
        return HERE
    return SYSTEM if SYSTEM.is_file() else None


def load(file: Path | None, *, state: Path | None = None) -> Settings:
    """Return the settings of `file` (None: the defaults), under the environment's overrides.

    `state` is the flag `--state-dir`, which wins.

    Raises:
        UsageError: every fault of the file, a line each.
    """
    document = read("Config", file) if file else {}
    override(document, "Config", environment.snapshot())
    base = file.resolve().parent if file else Path.cwd()
    dagger = document.get("dagger", "dagger.yaml")
    if isinstance(dagger, str):
        beside = base / dagger
        named = "dagger" in document
        document["dagger"] = read("Dagger", beside) if named or _exists(file, beside) else {}
    else:
        refuse(documents.faults_of("Dagger", dagger, str(file)))
    return configuration.settings(
        document,
        state_dir=state_dir(state, document.get("stateDir"), base),
        base=base,
        file=str(file or ""),
    )


def from_mapping(given: Mapping[str, Any]) -> Settings:
    """Return the settings of a configuration that a program holds; paths start here.

    Raises:
        UsageError: every fault of it, a line each.
    """
    document = {key: value for key, value in given.items() if key != "dagger"}
    refuse(documents.faults_of("Config", document, "config"))
    dagger = given.get("dagger", {})
    refuse(documents.faults_of("Dagger", dagger, "config: /dagger"))
    base = Path.cwd()
    return configuration.settings(
        {**document, "dagger": dagger},
        state_dir=state_dir(None, document.get("stateDir"), base),
        base=base,
        file="",
    )


def _exists(file: Path | None, beside: Path) -> bool:
    return file is not None and beside.is_file()


def read(kind: str, file: Path) -> dict[str, Any]:
    """Return the checked document of a configuration file."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(error.strerror or str(error), where=str(file)) from error
    document, faults = documents.read_document(kind, str(file), data)
    refuse(faults)
    return document


def refuse(faults: Iterable[object]) -> None:
    lines = [str(fault) for fault in faults]
    if lines:
        raise UsageError("\n".join(lines))


def state_dir(flag: Path | None, configured: str | None, base: Path) -> Path:
    """Return the state directory: flag, `RONDEL_STATE_DIR`, configuration, the user's own."""
    if flag is not None:
        return flag.absolute()
    if (text := environment.get("RONDEL_STATE_DIR")) is not None:
        return Path(text).absolute()
    return base / configured if configured else default_state_dir()


def default_state_dir() -> Path:
    import platformdirs  # noqa: PLC0415 - only where nothing names a directory

    return Path(platformdirs.user_state_dir("rondel", appauthor=False))


def find_state_dir(flag: Path | None, config: Path | None) -> Path:
    """Return the state directory for a command that only looks.

    Raises:
        UnreachableError: there is no store.
    """
    file = locate(config)
    configured = read("Config", file).get("stateDir") if file else None
    found = state_dir(flag, configured, file.resolve().parent if file else Path.cwd())
    if not (found / "rondel.db").is_file():
        raise UnreachableError(
            "there is no store here",
            where=str(found),
            remedy="name the controller's directory by --state-dir or RONDEL_STATE_DIR",
        )
    return found


def override(document: dict[str, Any], kind: str, variables: Mapping[str, str]) -> None:
    """Set what `RONDEL_CFG_<KEY>` variables say, nested keys joined by `__`.

    Raises:
        UsageError: an unknown key, or a value that the schema refuses.
    """
    schema = documents.schema_of(kind)
    for variable, text in sorted(variables.items()):
        if variable.startswith(OVERRIDE):
            _set(document, schema, variable, text)
    refuse(documents.faults_of(kind, document, f"{OVERRIDE}*"))


def _set(document: dict[str, Any], schema: Mapping[str, Any], variable: str, text: str) -> None:
    *outer, last = variable.removeprefix(OVERRIDE).split("__")
    for part in outer:
        key = _key(schema, part, variable)
        schema = schema["properties"][key]
        document = document.setdefault(key, {})
    document[_key(schema, last, variable)] = documents.read_scalar(text)


def _key(schema: Mapping[str, Any], part: str, variable: str) -> str:
    for key in schema.get("properties", ()):
        if key.upper() == part:
            return str(key)
    raise UsageError(f"the configuration has no such key: {part}", where=variable)


def with_sources(settings: Settings, places: Iterable[str]) -> Settings:
    """Return the settings with a source more for each folder or URL of `--source`."""
    built = list(settings.sources)
    for place in places:
        built.append(source_at(place, taken={one.name for one in built}))
    return replace(settings, sources=tuple(built))


def source_at(place: str, *, taken: set[str]) -> GitSource | DirectorySource:
    """Return the source that `--source PLACE` stands for: Git for a URL or a repository's root."""
    name = free_name(place, taken)
    if "://" in place or _scp_like(place):
        return GitSource(name=name, url=place)
    folder = Path(place).absolute()
    if not folder.is_dir():
        raise UsageError("no such folder", where=place, remedy="name a folder or a repository")
    if is_repository(folder):
        # A local repository that the caller names is the caller's to trust.
        return GitSource(name=name, url=folder.resolve().as_uri(), trusted=True, ref=GitRef())
    return DirectorySource(name=name, path=str(folder))


def _scp_like(place: str) -> bool:
    head, colon, _ = place.partition(":")
    return bool(colon) and "@" in head and "/" not in head


def is_repository(folder: Path) -> bool:
    bare = (folder / "HEAD").is_file() and (folder / "objects").is_dir()
    return bare or (folder / ".git").exists()


def free_name(place: str, taken: set[str]) -> str:
    """Return a source's name after the last part of its path; `-2` and so on when taken."""
    last = place.rstrip("/").removesuffix(".git").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    if last in {"", "."}:
        last = Path(place).absolute().name
    letters = [char if char.isascii() and char.isalnum() else "-" for char in last.lower()]
    name = "".join(letters).strip("-")[:60] or "source"
    taken = taken | {configuration.RESERVED_SOURCE}
    if name not in taken:
        return name
    return next(f"{name}-{n}" for n in range(2, len(taken) + 3) if f"{name}-{n}" not in taken)
