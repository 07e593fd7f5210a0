"""Exit codes of the command line."""

from enum import IntEnum


class Exit(IntEnum):
    OK = 0
    FAILED = 1  # the run or the check failed
    USAGE = 2  # usage, or an invalid manifest
    CHANGES = 3  # `plan --exit-code` found some
    UNREACHABLE = 4  # the daemon or the store
    TIMED_OUT = 124
    INTERRUPTED = 130
