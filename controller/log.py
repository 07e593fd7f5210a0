"""structlog: JSON lines when not a terminal, console rendering on one."""
