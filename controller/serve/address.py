"""Where the controller's socket is: the same answer for the daemon and the command line."""

import hashlib
import os
import tempfile
from pathlib import Path

from controller import environment

LONGEST = 100  # bytes; the kernel takes 107


def socket_path(state_dir: Path) -> Path:
    """Return the socket of a state directory; a path too long moves to the runtime directory."""
    path = state_dir / "api" / "rondel.sock"
    if len(os.fsencode(path)) <= LONGEST:
        return path
    mark = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]
    runtime = environment.get("XDG_RUNTIME_DIR") or f"{tempfile.gettempdir()}/rondel-{os.getuid()}"
    return Path(runtime) / f"rondel-{mark}" / "rondel.sock"
