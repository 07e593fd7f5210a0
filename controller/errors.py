"""Errors typed by what happens next: a person acts, time heals, or the user's step said no."""


class RondelError(Exception):
    """What went wrong, where, and what to do; every error a user sees is one.

    `where` names the thing (file:line:column, a source, a run), `problem` what is wrong with it,
    `remedy` what the reader can do. `exit_code` is the command line's (INTERFACES: 2 usage or an
    invalid manifest, 4 unreachable, else 1).
    """

    exit_code = 1

    def __init__(self, problem: str, *, where: str = "", remedy: str = "") -> None:
        text = f"{where}: {problem}" if where else problem
        super().__init__(f"{text}; {remedy}" if remedy else text)
        self.problem, self.where, self.remedy = problem, where, remedy


class StalledError(RondelError):
    """No retry helps until a person changes something: a bad URL, a wrong key, no such image.

    `reason` is the PascalCase cause that conditions and runs carry.
    """

    def __init__(self, problem: str, *, reason: str, where: str = "", remedy: str = "") -> None:
        super().__init__(problem, where=where, remedy=remedy)
        self.reason = reason


class UnverifiedError(StalledError):
    """A commit that nobody who may has signed, or whose signature can't be checked."""


class UnappliedError(StalledError):
    """A commit of which nothing is applied, because something in it is faulty: `atomic`."""


class TransientError(RondelError):
    """Trying again later may help: a remote out of reach, an engine restarting, a locked store.

    `reason` is the PascalCase cause that conditions and runs carry.
    """

    def __init__(self, problem: str, *, reason: str, where: str = "", remedy: str = "") -> None:
        super().__init__(problem, where=where, remedy=remedy)
        self.reason = reason


class UsageError(RondelError):
    """The caller's words are off: a flag, a name, a configuration, a manifest."""

    exit_code = 2


class UnreachableError(RondelError):
    """The daemon or the store can't be reached."""

    exit_code = 4


class RefusedError(RondelError):
    """The request is understood and refused in the present state: a second daemon, a busy slot."""
