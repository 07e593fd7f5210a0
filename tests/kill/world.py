"""A folder of small workflows that between them do everything, and tell outside what they did."""

import random
from collections import Counter
from pathlib import Path

HEAD = """\
apiVersion: rondel/v1alpha1
kind: Workflow
metadata: {{name: {name}}}
spec:
  params: [{{name: serial, type: integer, default: {serial}}}]
"""
ON_CHANGE = "  triggers: [{onChange: [spec, inputs]}]\n"
# A line for each attempt that really began: written by the step itself, outside the state directory.
MARK = 'echo "$RONDEL_RUN_ID $RONDEL_STEP ${N:-0} $RONDEL_ATTEMPT" >> @EFFECTS@'

TICK = """\
  schedules: [{name: "tick-@ERA@", cron: "* * * * * *"}]
  catchUp: All
  concurrencyPolicy: Queue
  steps: [{name: a, script: '@MARK@'}]
"""
TOCK = """\
  schedules: [{name: tock, cron: "*/2 * * * * *"}]
  steps: [{name: a, script: '@MARK@'}]
"""
CHAIN = (
    ON_CHANGE
    + """\
  steps:
    - {name: a, script: '@MARK@; echo $RONDEL_ATTEMPT > n', outputs: {n: {path: n}}}
    - {name: b, env: {X: "${{ steps.a.outputs.n }}"}, script: '@MARK@; echo b; echo c >&2'}
"""
)
MATRIX = (
    ON_CHANGE
    + """\
  steps:
    - {name: each, matrix: {n: [1, 2, 3], maxParallel: 2}, env: {N: "${{ matrix.n }}"}, script: '@MARK@'}
    - {name: last, needs: [each], script: '@MARK@'}
"""
)
CALLEE = "  steps: [{name: a, script: '@MARK@; sleep 0.1'}]\n"
CALLER = (
    ON_CHANGE
    + """\
  steps: [{name: call, uses: {workflow: callee}}]
  finally: [{name: end, uses: {workflow: callee}}]
"""
)
SERVICE = (
    ON_CHANGE
    + """\
  steps:
    - name: beside
      services: [{name: idle, script: 'echo up; exec sleep 60'}]
      script: '@MARK@'
"""
)
RETRY = (
    ON_CHANGE
    + """\
  steps:
    - name: again
      retry: {limit: 3, backoff: {duration: 20ms, jitter: false}}
      script: '@MARK@; [ "$RONDEL_ATTEMPT" -gt 1 ]'
"""
)
HOOKS = (
    ON_CHANGE
    + """\
  steps: [{name: fails, script: '@MARK@; exit 3'}]
  onFailure: [{name: told, script: '@MARK@'}, {name: word, alert: ops}]
  finally: [{name: end, script: '@MARK@'}]
"""
)
CACHED = (
    ON_CHANGE
    + """\
  defaults: {cache: {mode: Auto, ttl: 20s}}
  steps:
    - {name: make, image: any, env: {E: "@ERA@"}, script: '@MARK@; echo $E > n; echo said', outputs: {n: {path: n}}, artifacts: [{name: n, path: n}]}
    - {name: use, mounts: [{artifact: make.n, path: n}], script: '@MARK@; cat n; sleep 0.1'}
"""
)
ARTIFACT = (
    ON_CHANGE
    + """\
  inputs: [{name: data, path: data}]
  defaults: {mounts: [{input: data, path: data}]}
  steps:
    - {name: make, script: '@MARK@; cp -r data out', artifacts: [{name: out, path: out}]}
    - {name: use, caches: [{key: k, path: kept}], mounts: [{artifact: make.out, path: got}], script: '@MARK@; ls got; touch kept/x'}
"""
)
RERUN = (
    ON_CHANGE
    + """\
  onInterrupt: Rerun
  steps: [{name: slow, script: '@MARK@; (setsid sleep 30 &) ; sleep 0.4'}]
"""
)
NAP = (
    ON_CHANGE
    + """\
  steps:
    - {name: one, script: '@MARK@; sleep 0.5'}
    - {name: two, script: '@MARK@; (setsid sleep 30 &) ; sleep 0.5'}
  onFailure: [{name: told, script: '@MARK@'}]
  finally: [{name: end, script: '@MARK@; sleep 0.1'}]
"""
)
MANUAL = "  steps: [{name: a, script: '@MARK@; [ \"$RONDEL_ATTEMPT\" -gt 1 ]'}]\n"

WORKFLOWS = {
    "tick": TICK,
    "tock": TOCK,
    "chain": CHAIN,
    "matrix": MATRIX,
    "callee": CALLEE,
    "caller": CALLER,
    "service": SERVICE,
    "retry": RETRY,
    "hooks": HOOKS,
    "cached": CACHED,
    "artifact": ARTIFACT,
    "rerun": RERUN,
    "nap": NAP,
    "manual": MANUAL,
}
ON_CHANGE_ONES = tuple(name for name, text in WORKFLOWS.items() if text.startswith(ON_CHANGE))
EXPECTED = {  # how a run of each may end, besides Succeeded
    "hooks": {"Failed"},
    "manual": {"Failed"},
    "nap": {"Cancelled"},
    "tock": {"Skipped"},
}

CONFIG = """\
executor: local
history: {{successful: 100000, failed: 100000}}
infrastructureRetry: {{limit: 3, backoff: {{duration: 50ms}}}}
shutdownGrace: 20s
sources: [{sources}]
secrets: {{bell: {{file: '{bell}'}}}}
alerts: {{ops: {{url: {{secret: bell}}, sources: [w]}}}}
"""


class World:
    """What is declared, and the marks that steps have left."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.config = folder / "rondel.yaml"
        self.effects = folder / "effects"
        self.serials: dict[str, int] = {}
        self.era = 0
        self.extra = False
        self._chance = chance
        self.effects.touch()
        self.bell = folder / "bell"
        self.bell.write_text("json://127.0.0.1:1/nobody-listens\n")
        for name in ("w", "w/data", "x"):
            (folder / name).mkdir()
        self.write_data()
        for name in WORKFLOWS:
            self.edit(name)
        (folder / "x" / "extra.yaml").write_text(self.text("extra", 0, CHAIN))

    def text(self, name: str, serial: int, body: str) -> str:
        given = {"@MARK@": MARK, "@EFFECTS@": str(self.effects), "@ERA@": str(self.era)}
        for word, value in given.items():
            body = body.replace(word, value)
        return HEAD.format(name=name, serial=serial) + body

    def edit(self, name: str) -> None:
        """Write the next text of a workflow; whoever reads meanwhile sees the old or the new."""
        serial = self.serials.get(name, 0) + 1
        new = self.folder / "new.yaml"
        new.write_text(self.text(name, serial, WORKFLOWS[name]))
        new.rename(self.folder / "w" / f"{name}.yaml")
        self.serials[name] = serial

    def write_data(self) -> None:
        (self.folder / "w" / "data" / "n").write_text(f"{self._chance.random()}\n")

    def stir(self, *, rest: float) -> None:
        """Change every workflow that follows changes; the rest with that probability."""
        if self._chance.random() < rest:
            self.era += 1
            self.edit("tick")
        if self._chance.random() < rest:
            self.write_data()
        for name in self._chance.sample(ON_CHANGE_ONES, len(ON_CHANGE_ONES)):
            self.edit(name)

    def configure(self) -> None:
        """Every other start has a source more."""
        self.extra = not self.extra
        names = ["w", "x"] if self.extra else ["w"]
        sources = ", ".join(
            f"{{name: {name}, kind: Directory, path: '{self.folder / name}'}}" for name in names
        )
        self.config.write_text(CONFIG.format(sources=sources, bell=self.bell))

    def marks(self) -> Counter[tuple[str, ...]]:
        """Return (run, step, combination, number) -> how often that attempt began."""
        return Counter(tuple(line.split()) for line in self.effects.read_text().splitlines())
