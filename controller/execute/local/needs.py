"""What of a step this executor can't do: the dagger executor can."""

import grp
import os
import posixpath
import pwd
from collections import Counter
from collections.abc import Iterable

from controller.execute.ports import AttemptRequest, ServiceRequest
from controller.execute.request import service_request
from controller.manifest.template import OPENING
from controller.model.workflow import Step

REASON = "NeedsDagger"
REMEDY = "use the dagger executor"
User = tuple[int, int] | None
"""The (uid, gid) that steps run as; None: the daemon's own."""


def of_step(step: Step, user: User) -> str | None:
    """Return the problem, None when there is none. Expressions are looked at by `of_request`."""
    problem = (
        of_module(step)
        or of_paths(step)
        or of_user("" if OPENING in (step.user or "") else step.user, user)
        or of_services([service_request(one) for one in step.services])
        or of_caches(
            [one.path for one in step.caches if OPENING not in one.path],
            [one.file for one in step.secrets if one.file],
        )
    )
    return problem and f"{problem}; {REMEDY}"


def of_request(request: AttemptRequest, user: User) -> str | None:
    """Return the problem of an attempt, whose expressions are evaluated."""
    problem = (
        of_user(request.user, user)
        or of_services(request.services)
        or of_caches(
            [one.path for one in request.caches],
            [one.file for one in request.secrets if one.file],
        )
    )
    return problem and f"{problem}; {REMEDY}"


def of_module(step: Step) -> str | None:
    return None if step.module is None else "it calls a function of a Dagger module"


def of_paths(step: Step) -> str | None:
    for mount in step.mounts:
        if posixpath.isabs(mount.path):
            return f"the mount path {mount.path} is absolute"
    if step.workdir is not None and posixpath.isabs(step.workdir):
        return f"the workdir {step.workdir} is absolute"
    return None


def of_user(wanted: str | None, user: User) -> str | None:
    """Local steps run as the configured user, else as the daemon's own, whatever they name."""
    if not wanted or is_user(wanted, *(user or (os.geteuid(), os.getegid()))):
        return None
    return f"it runs as the user {wanted!r}, which local steps don't"


def is_user(wanted: str, uid: int, gid: int) -> bool:
    """Tell whether "name", "uid", "name:group" or "uid:gid" stands for these."""
    name, _, group = wanted.partition(":")
    try:
        found = int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
        of_group = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid if group else gid
    except KeyError:
        return False
    return (found, of_group) == (uid, gid)


def of_services(services: Iterable[ServiceRequest]) -> str | None:
    services = tuple(services)
    for one in services:
        if one.argv is None:
            return f"service {one.name!r} has no args or script of its own"
    ports = Counter(one.ready_port for one in services if one.ready_port is not None)
    for port, count in ports.items():
        if count > 1:
            return f"{count} services want port {port} of one host"
    return None


def of_caches(paths: list[str], secrets: list[str]) -> str | None:
    plain = [posixpath.normpath(path) for path in paths]
    for path in plain:
        if posixpath.isabs(path):
            return f"the cache path {path} is absolute"
        if path == ".":
            return "a cache path is the workspace itself"
        if sum(below(other, path) for other in plain) > 1:
            return f"another cache path is inside the cache path {path}"
        if any(below(posixpath.normpath(secret), path) for secret in secrets):
            return f"a secret's file is inside the cache path {path}, where it would stay"
    return None


def below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
