"""`rondel backfill`: runs for the slots of a span of time."""

import sys
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from controller import ids
from controller.cli.act import place_of
from controller.cli.client import Client
from controller.cli.common import (
    ConfigOption,
    Format,
    OutputOption,
    ServerOption,
    StateOption,
    print_json,
    print_table,
    print_yaml,
)
from controller.reconcile.backfill import LIMIT


def backfill(  # noqa: PLR0917 - options of one command
    workflow: Annotated[str, typer.Argument(help="name or source/name")],
    begin: Annotated[
        str, typer.Option("--from", metavar="TIME", help="The first slot's earliest time.")
    ],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Slots before this time.")],
    limit: Annotated[int, typer.Option("--limit", help="Refuse more slots than these.")] = LIMIT,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the slots only.")] = False,
    schedule: Annotated[
        str | None, typer.Option("--schedule", metavar="NAME", help="Of this schedule only.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="The same key and times: nothing runs twice.")
    ] = None,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
    state_dir: StateOption = None,
    server: ServerOption = None,
) -> None:
    """Run a workflow once for each slot of a span of time, one after another, oldest first.

    A date is midnight in the schedule's time zone.

    Example: rondel backfill report --from 2026-11-01 --to 2026-11-08 --dry-run
    """
    client = Client(server, state_dir, config)
    source, name = place_of(client, config, state_dir, workflow)
    body = {"from": begin, "to": end, "limit": limit, "schedule": schedule, "dryRun": dry_run}
    made = client.post(
        f"/sources/{source}/workflows/{name}/backfills",
        body,
        **{"Idempotency-Key": key or ids.nonce()},
    )
    tell(made, output)


def tell(made: dict[str, Any], output: Format) -> None:
    slots = made["slots"]
    if output is Format.JSON:
        print_json(made)
    elif output is Format.YAML:
        print_yaml(made)
    elif output is Format.NAME:
        print(made["id"] or "")
    elif not slots:
        print("no slot lies in this time", file=sys.stderr)
    else:
        print_table(
            ("slot (utc)", "in its zone", "schedule", "run"),
            [(one["time"], local(one), one["schedule"], one["run"] or "-") for one in slots],
        )
        print(summary(made))


def local(slot: dict[str, Any]) -> str:
    moment = datetime.fromisoformat(slot["time"]).astimezone(ZoneInfo(slot["timeZone"]))
    return moment.strftime("%a %Y-%m-%d %H:%M:%S %Z")


def summary(made: dict[str, Any]) -> str:
    number = len(made["slots"])
    if made["dryRun"]:
        return f"{number} slots; nothing was started"
    if not made["created"]:
        return f"backfill {made['id']} was there already: nothing new was started"
    return f"backfill {made['id']}: {number} runs wait in turn; rondel cancel {made['id']} ends it"
