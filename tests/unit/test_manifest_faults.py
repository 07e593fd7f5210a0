import pytest

from controller import manifest

HEAD = "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {name: a}\nspec:\n"


def faults(text):
    parsed = manifest.parse_file("a.yaml", text.encode())
    return [*parsed.faults, *(fault for one in parsed.documents for fault in one.faults)]


def spec_faults(*lines):
    return faults(HEAD + "".join(f"  {line}\n" for line in lines))


def step_faults(step):
    return spec_faults("steps:", f"  - {{name: s, {step}}}")


STEPS = "steps: [{name: s, script: x}]"

CASES = {
    # what is written in spec: (pointer, a word of the problem or the remedy)
    "unknown-key": (["parms: []", STEPS], "/spec/parms", "did you mean 'params'"),
    "wrong-type": (["inputs: x", STEPS], "/spec/inputs", "a list"),
    "enum": (["concurrencyPolicy: Forbidden", STEPS], "/spec/concurrencyPolicy", "'Forbid'"),
    "duration": (["timeout: 5 minutes", STEPS], "/spec/timeout", "1h30m"),
    "zero-duration": (["timeout: 0s", STEPS], "/spec/timeout", "above zero"),
    "no-steps": (["steps: []"], "/spec/steps", "empty"),
    "limit": (["maxParallel: 0", STEPS], "/spec/maxParallel", "below 1"),
    "zone": (['schedules: [{cron: "@daily", timeZone: Europe/Berln}]', STEPS], "/spec/schedules/0/timeZone", "IANA"),
    "zone-folder": (['schedules: [{cron: "@daily", timeZone: Europe}]', STEPS], "/spec/schedules/0/timeZone", "IANA"),
    "cron": (['schedules: [{cron: "0 0 31 2 *"}]', STEPS], "/spec/schedules/0/cron", "never"),
    "same-schedule": (['schedules: [{cron: "@daily"}, {cron: "@daily", jitter: 1m}]', STEPS], "/spec/schedules/1", "name of its own"),
    "two-changes": (["triggers: [{onChange: [spec]}, {onChange: [inputs]}]", STEPS], "/spec/triggers/1", "twice"),
    "same-param": (["params: [{name: a, default: x}, {name: a, default: y}]", STEPS], "/spec/params/1/name", "taken"),
    "equal-in-expressions": (["steps: [{name: a-b, script: x}, {name: a-b-c, script: x}, {name: a-b, script: y}]"], "/spec/steps/2/name", "taken"),
    "same-input": (["inputs: [{name: a, path: x}, {name: a, path: y}]", STEPS], "/spec/inputs/1/name", "taken"),
    "same-name-in-finally": ([STEPS, "finally: [{name: s, script: x}]"], "/spec/finally/0/name", "taken"),
    "default-type": (["params: [{name: n, type: integer, default: x}]", STEPS], "/spec/params/0/default", "integer"),
    "default-enum": (["params: [{name: n, enum: [a, b], default: c}]", STEPS], "/spec/params/0/default", "a, b"),
    "enum-type": (["params: [{name: n, type: integer, enum: [1, x]}]", STEPS], "/spec/params/0/enum/1", "integer"),
    "boolean-is-no-integer": (["params: [{name: n, type: integer, default: true}]", STEPS], "/spec/params/0/default", "integer"),
    "schedule-without-param": (["params: [{name: n}]", 'schedules: [{cron: "@daily"}]', STEPS], "/spec/schedules/0", "'n'"),
    "change-without-param": (["params: [{name: n}]", "triggers: [{onChange: [spec]}]", STEPS], "/spec/triggers/0", "default"),
    "schedule-unknown-param": (["params: [{name: region, default: x}]", 'schedules: [{cron: "@daily", params: {regin: y}}]', STEPS], "/spec/schedules/0/params/regin", "'region'"),
    "schedule-param-type": (["params: [{name: n, type: integer}]", 'schedules: [{cron: "@daily", params: {n: x}}]', STEPS], "/spec/schedules/0/params/n", "integer"),
    "schedule-param-expression": (["params: [{name: n}]", 'schedules: [{cron: "@daily", params: {n: "${{ run.date }}"}}]', STEPS], "/spec/schedules/0/params/n", "default"),
    "unknown-need": (["steps: [{name: extract, script: x}, {name: b, script: x, needs: [extrakt]}]"], "/spec/steps/1/needs/0", "'extract'"),
    "need-of-finally": ([STEPS, "finally: [{name: f, script: x, needs: [s]}]"], "/spec/finally/0/needs/0", "leave it out"),
    "cycle": (["steps: [{name: a, script: x, needs: [c]}, {name: b, script: x, needs: [a]}, {name: c, script: x, needs: [b]}]"], "/spec/steps/0", "a -> "),
    "implied-cycle": (["steps:", '  - {name: a, script: x, env: {P: "${{ steps.b.phase }}"}}', "  - {name: b, script: x, needs: [a]}"], "/spec/steps/0", "a -> b -> a"),
    "itself": (["steps: [{name: a, script: x, needs: [a]}]"], "/spec/steps/0", "a -> a"),
    "secret-not-declared": (["secrets: [db-url]", "steps: [{name: s, script: x, secrets: [{name: A, secret: db-ulr}]}]"], "/spec/steps/0/secrets/0/secret", "'db-url'"),
    "default-artifact": (["defaults: {mounts: [{artifact: t.x, path: x}]}", STEPS], "/spec/defaults/mounts/0/artifact", "steps that read it"),
    "when-no-expression": (["when: params.x", STEPS], "/spec/when", "${{ params.x }}"),
    "when-two": (["params: [{name: x, type: boolean, default: true}]", 'when: "${{ params.x }}${{ params.x }}"', STEPS], "/spec/when", "alone"),
    "when-type": (["params: [{name: x, default: a}]", 'when: "${{ params.x }}"', STEPS], "/spec/when", "boolean"),
    "default-expression-type": (['params: [{name: n, type: integer, default: "${{ run.date }}"}]', STEPS], "/spec/params/0/default", "integer"),
    "default-over-params": (['params: [{name: a, default: b}, {name: n, default: "${{ params.a }}"}]', STEPS], "/spec/params/1/default", "no params"),
    "outputs": (['outputs: {rows: "${{ steps.s.outputs.rows }}"}', STEPS], "/spec/outputs/rows", "steps.s"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_fault_of_the_spec_is_told_once_with_its_pointer(name):
    lines, pointer, word = CASES[name]
    (fault,) = spec_faults(*lines)
    assert fault.pointer == pointer
    assert word in f"{fault.problem}; {fault.remedy}"
    assert fault.line > 4
    assert fault.column > 1


STEP_CASES = {
    "script: x, args: [y]": ("", "exactly one"),
    "image: x": ("", "exactly one"),
    "args: [sleep, 5]": ("/args/1", "quote it"),
    "args: []": ("/args", "empty"),
    "script: x, env: {A: 1.50}": ("/env/A", "quote it"),
    "script: x, env: {A: True}": ("/env/A", "quote it"),
    "script: x, env: {A: 0x1F}": ("/env/A", "31"),
    "script: x, env: {A: [1]}": ("/env/A", "text"),
    "script: x, env: {A-B: c}": ("/env", "environment variable"),
    "script: x, mounts: [{path: a}]": ("/mounts/0", "exactly one"),
    "script: x, mounts: [{input: src, path: a}]": ("/mounts/0/input", "spec.inputs"),
    "script: x, mounts: [{artifact: rows, path: a}]": ("/mounts/0/artifact", "step.artifact"),
    "script: x, workdir: ../up": ("/workdir", "'..'"),
    "script: x, artifacts: [{name: a, path: /etc}]": ("/artifacts/0/path", "absolute"),
    "script: x, outputs: {a: {path: a/../../b}}": ("/outputs/a/path", "'..'"),
    "script: x, outputs: {a: {path: a, type: integer, default: x}}": ("/outputs/a/default", "integer"),
    "script: x, outputs: {a-b: {path: a}, a-b-: {path: b}}": ("/outputs", "not a name"),
    "script: x, retry: {limit: 101}": ("/retry/limit", "100"),
    "script: x, retry: {backoff: {factor: 0}}": ("/retry/backoff/factor", "below 1"),
    "script: x, continueOnError: sure": ("/continueOnError", "exitCodes"),
    "script: x, continueOnError: {exitCodes: [x]}": ("/continueOnError/exitCodes/0", "whole number"),
    "script: x, successExitCodes: [256]": ("/successExitCodes/0", "255"),
    "script: x, secrets: [{secret: a}]": ("/secrets/0", "exactly one"),
    "script: x, inputs: {a: b}": ("/inputs", "only an agent"),
    'script: "echo ${{ run.id }}"': ("/script", "env"),
    'script: x, timeout: "${{ run.id }}"': ("/timeout", "duration"),
    'script: x, env: {A: "${{ params.regin }}"}': ("/env/A", "no params"),
    'script: x, env: {A: "${{ steps.s.phase }}"}': ("", "s -> s"),
    'script: x, env: {A: "${{ run.phase }}"}': ("/env/A", "hooks"),
    'script: x, env: {A: "${{ run.id + 1 }}"}': ("/env/A", "overload"),
    'script: x, env: {A: "${{ nope }}"}': ("/env/A", "nope"),
    'script: x, env: {A: "${{ run.id"}': ("/env/A", "closed"),
    'script: x, env: {A: "${{ steps }}"}': ("/env/A", "steps.NAME.phase"),
    'script: x, when: "${{ run.id }}"': ("/when", "boolean"),
    "script: x, cache: {mode: On}": ("/cache/mode", "Auto"),
    "script: ''": ("/script", "empty"),
}  # fmt: skip


@pytest.mark.parametrize("step", STEP_CASES)
def test_a_fault_of_a_step_is_told_with_its_pointer(step):
    pointer, word = STEP_CASES[step]
    found = step_faults(step)
    assert [fault.pointer for fault in found][:1] == [f"/spec/steps/0{pointer}"], found
    assert any(word in f"{fault.problem}; {fault.remedy}" for fault in found), found


@pytest.mark.parametrize(
    ("lines", "pointer"),
    [
        *[([f"{key}: x", STEPS], f"/spec/{key}") for key in ("concurrency", "queueTimeout", "suspendAfter", "expectEvery", "history")],
        *[([f"steps: [{{name: s, {key}: x}}]"], f"/spec/steps/0/{key}") for key in ("module", "uses")],
        *[([f"steps: [{{name: s, script: x, {key}: x}}]"], f"/spec/steps/0/{key}") for key in ("matrix", "services", "caches", "user")],
        (['schedules: [{cron: "@daily", runPolicy: IfChanged}]', STEPS], "/spec/schedules/0/runPolicy"),
        (["triggers: [{workflow: up}]", STEPS], "/spec/triggers/0/workflow"),
        (["triggers: [{webhook: hook}]", STEPS], "/spec/triggers/0/webhook"),
        ([STEPS, "onFailure: [{name: page, alert: ops}]"], "/spec/onFailure/0/alert"),
    ],
)  # fmt: skip
def test_a_field_that_is_to_come_is_told_by_its_name(lines, pointer):
    (fault,) = spec_faults(*lines)
    assert fault.pointer == pointer
    assert fault.problem.endswith("is not supported by this version")


@pytest.mark.parametrize("kind", ["Agents", "workflow", "CronJob"])
def test_a_kind_that_is_not_ours_is_told_with_ours(kind):
    (fault,) = faults(HEAD.replace("Workflow", kind) + "  x: 1\n")
    assert fault.problem == f"there is no kind {kind!r}"
    assert fault.remedy == "use one of Workflow, Agent, Defaults"


def test_a_dash_in_an_expression_gets_the_remedy():
    text = "steps: [{name: each-region, script: x}, {name: b, script: x, env: {A: '${{ steps.each-region.phase }}'}}]"
    (fault,) = spec_faults(text)
    assert fault.remedy == "write steps.each_region"


@pytest.mark.parametrize("name", ["1st", "in", "null"])
def test_a_name_that_expressions_cannot_write_is_to_be_renamed(name):
    (fault,) = spec_faults(
        f"params: [{{name: '{name}', default: x}}]",
        f"steps: [{{name: s, script: x, env: {{A: '${{{{ params.{name} }}}}'}}}}]",
    )
    assert fault.remedy == f"rename {name!r}"


TEN = """\
apiVersion: rondel/v1alpha1
kind: Workflow
metadata:
  name: Ten_Faults
spec:
  parms: []
  timeout: 5 minutes
  schedules:
    - {cron: "0 0 31 2 *", timeZone: Europe/Berln}
  steps:
    - name: a
      script: "echo ${{ run.id }}"
      needs: [c]
    - name: b
      args: [sleep, 5]
      env: {X: "${{ params.region }}"}
      retry: {limit: 101}
    - name: b
      script: x
    - name: c
      needs: [a]
      matrix: {x: [1]}
      script: x
"""


def test_ten_different_faults_of_one_file_are_all_listed():
    found = {(fault.line, fault.column, fault.pointer) for fault in faults(TEN)}
    assert found == {
        (4, 9, "/metadata/name"),
        (6, 3, "/spec/parms"),
        (7, 12, "/spec/timeout"),
        (9, 14, "/spec/schedules/0/cron"),
        (9, 38, "/spec/schedules/0/timeZone"),
        (11, 7, "/spec/steps/0"),
        (12, 15, "/spec/steps/0/script"),
        (15, 21, "/spec/steps/1/args/1"),
        (16, 16, "/spec/steps/1/env/X"),
        (17, 22, "/spec/steps/1/retry/limit"),
        (18, 13, "/spec/steps/2/name"),
        (22, 7, "/spec/steps/3/matrix"),
    }
    assert all(fault.problem and fault.remedy for fault in faults(TEN))


def test_a_file_tells_a_hundred_faults_at_most():
    assert len(spec_faults(*[f"x{i}: 1" for i in range(300)], STEPS)) == 100


def test_two_thousand_steps_are_the_limit():
    steps = ", ".join(f"{{name: s{i}, script: x}}" for i in range(2001))
    (fault,) = spec_faults(f"steps: [{steps}]")
    assert "2,000" in fault.problem


def test_a_faulty_document_does_not_hide_a_good_one():
    good = HEAD + f"  {STEPS}\n"
    text = good + "---\n" + good.replace("name: a", "name: b").replace("script", "skript")
    first, second = manifest.parse_file("a.yaml", text.encode()).documents
    assert first.declaration is not None
    assert second.declaration is None
    assert second.name == "b"
    assert second.faults


def test_two_files_with_one_name_are_both_at_fault_until_one_owns_it():
    text = (HEAD + f"  {STEPS}\n").encode()
    files = {path: manifest.parse_file(path, text) for path in ("x.yaml", "y.yaml")}
    both = manifest.duplicates(files)
    assert [fault.file for fault in both] == ["x.yaml", "y.yaml"]
    assert "y.yaml:1" in both[0].problem
    owned = manifest.duplicates(files, {("Workflow", "a"): "y.yaml"})
    assert [fault.file for fault in owned] == ["x.yaml"]
