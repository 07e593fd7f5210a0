"""Made-up manifests: small ones that leave a mark, and many of 2 KB and three steps."""

from pathlib import Path

SIZE = 2048


def marking(name: str, script: str, when: str = "triggers: [{onChange: [spec]}]") -> str:
    return (
        f"apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {{name: {name}}}\n"
        f"spec:\n  {when}\n  steps:\n    - name: mark\n      script: |\n        {script}\n"
    )


def replace(path: Path, text: str) -> None:
    """As editors and `git` do it: the new file takes the old one's place."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text)
    draft.rename(path)


def big(name: str, *, expressions: bool = False, script: str = "true") -> str:
    """Return a manifest of 2 KB and three steps that starts nothing for months."""
    value = "${{ params.region }}-${{ run.date }}" if expressions else "eu-2026"
    head = (
        f"apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata:\n  name: {name}\n"
        "  labels: {team: data, tier: bench}\n"
        "spec:\n  params:\n    - {name: region, enum: [eu, us], default: eu}\n"
        '  schedules:\n    - {name: yearly, cron: "30 2 1 1 *", timeZone: Europe/Berlin}\n'
        "  defaults:\n    image: python:3.12-slim\n    timeout: 10m\n  steps:\n"
    )
    parts = [head]
    for step in ("extract", "transform", "publish"):
        parts.append(
            f'    - name: {step}\n      env:\n        TABLE: {name}\n        WHERE: "{value}"\n'
            f"        LIMIT: 1000\n      retry: {{limit: 2, exitCodes: [75]}}\n"
            f"      script: |\n        {script}\n"
        )
        filler = (SIZE - 700) // 3 // 56
        parts += [
            f"        echo {step} line {n:03d} of made-up work to do >/dev/null\n"
            for n in range(filler)
        ]
    return "".join(parts)


def write_many(folder: Path, count: int, *, expressions: bool = False) -> list[Path]:
    """Write them in folders of a hundred."""
    paths = []
    for number in range(count):
        place = folder / f"g{number // 100:03d}"
        if number % 100 == 0:
            place.mkdir(parents=True)
        path = place / f"w{number:05d}.yaml"
        path.write_text(big(f"w{number:05d}", expressions=expressions))
        paths.append(path)
    return paths
