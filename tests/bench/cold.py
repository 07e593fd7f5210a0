"""10,000 manifests of 2 KB and three steps, never seen before: parsed, judged, planned, ready."""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from yaml._yaml import CParser

from controller import manifest
from controller.manifest import schema
from tests.bench import manifests, many
from tests.bench.measure import Cost, cost, must
from tests.bench.rows import Row
from tests.bench.scale import Scale

TURNS = 5


def cold(folder: Path, scale: Scale) -> list[Row]:
    watched = many.written(folder, scale)
    paths = sorted(watched.rglob("*.yaml"))
    fancy = manifests.write_many(folder / "fancy", max(scale.manifests // 5, 1), expressions=True)
    ours, floor = in_turns(paths)
    with_expressions, their_floor = in_turns(fancy)
    ready, planned, cpu = first_load(folder, scale)
    row = partial(
        Row, operation="cold", unit="s CPU", floor_is="read, events, schema, JSON, sha256"
    )
    return [
        row(
            figure=f"{len(paths):,} manifests parsed and judged",
            rondel=ours.cpu,
            floor=floor.cpu,
            wall=ours.wall,
            cpu=ours.cpu,
            target="1.4x",
        ),
        row(
            figure=f"{len(fancy):,} with expressions in every step",
            rondel=with_expressions.cpu,
            floor=their_floor.cpu,
            wall=with_expressions.wall,
            cpu=with_expressions.cpu,
            target="1.4x",
        ),
        row(
            figure="daemon started to ready",
            rondel=ready,
            unit="s",
            floor=floor.wall,
            wall=ready,
            cpu=cpu,
            reach="6 s",
        ),
        row(
            figure="daemon started to every plan recorded",
            rondel=planned,
            unit="s",
            floor=floor.wall,
            wall=planned,
            cpu=cpu,
        ),
    ]


def first_load(folder: Path, scale: Scale) -> tuple[float, float, float]:
    must(not (many.place(folder) / "state").exists(), "nothing is known yet")
    daemon = many.start(folder, scale)
    try:
        ready = daemon.ready()
        planned = many.planned(daemon, scale)
        return ready, planned, daemon.cpu()
    finally:
        daemon.stop()


def in_turns(paths: list[Path]) -> tuple[Cost, Cost]:
    """Return what our reader and the floor cost over all files, a slice each in turns."""
    parse(paths[:1])
    bare(paths[:1])
    ours, floor = Cost(), Cost()
    size = -(-len(paths) // TURNS)
    for start in range(0, len(paths), size):
        part = paths[start : start + size]
        with cost() as spent:
            parse(part)
        ours += spent
        with cost() as spent:
            bare(part)
        floor += spent
    return ours, floor


def parse(paths: list[Path]) -> None:
    for path in paths:
        parsed = manifest.parse_file(path.name, path.read_bytes(), source="bench")
        must(len(parsed.documents) == 1 and not parsed.documents[0].faults, f"{path.name} is read")


def bare(paths: list[Path]) -> None:
    """Do the least that reading a manifest can be."""
    judge = schema.decider("Workflow")
    for path in paths:
        value = events_to_value(path.read_bytes())
        must(judge(value), f"{path.name} fits the schema")
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        hashlib.sha256(text.encode()).hexdigest()


def events_to_value(data: bytes) -> Any:
    """Values from libyaml's events, with no care for anything a manifest may not hold."""
    parser, top, stack = CParser(data), list[Any](), list[list[Any]]()
    items = top
    while True:
        event: Any = parser.get_event()
        kind = type(event)
        if kind is yaml.ScalarEvent:
            text = event.value
            plain = event.implicit[0] and text.isdecimal()
            items.append(int(text) if plain else text)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            stack.append(items)
            items = []
        elif kind is yaml.MappingEndEvent:
            made = dict(zip(items[::2], items[1::2], strict=True))
            items = stack.pop()
            items.append(made)
        elif kind is yaml.SequenceEndEvent:
            sequence, items = items, stack.pop()
            items.append(sequence)
        elif kind is yaml.StreamEndEvent:
            return top[0]
