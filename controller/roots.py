"""Where a file's inputs start from, when no source says so."""

from pathlib import Path

from controller.model.settings import DirectorySource, Settings


def root_of(file: Path, given: Path | None, settings: Settings | None = None) -> Path:
    """Return --root, else the configured folder that holds the file, else the work tree, else the
    file's own folder.
    """
    if given is not None:
        return given.absolute()
    path = file.absolute()
    for source in settings.sources if settings else ():
        if isinstance(source, DirectorySource) and path.is_relative_to(source.path):
            return Path(source.path)
    folder = path if path.is_dir() else path.parent
    for above in (folder, *folder.parents):
        if (above / ".git").exists():
            return above
    return folder
