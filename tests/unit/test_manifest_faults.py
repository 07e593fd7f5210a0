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
    "two-triggers-in-one": (["triggers: [{onChange: [spec], webhook: hook}]", STEPS], "/spec/triggers/0", "exactly one"),
    "same-upstream": (["triggers: [{workflow: up}, {workflow: up, phases: [Failed]}]", STEPS], "/spec/triggers/1", "twice"),
    "same-webhook": (["triggers: [{webhook: hook}, {webhook: hook}]", STEPS], "/spec/triggers/1", "twice"),
    "own-upstream": (["triggers: [{workflow: a}]", STEPS], "/spec/triggers/0/workflow", "itself"),
    "upstream-phase": (["triggers: [{workflow: up, phases: [Done]}]", STEPS], "/spec/triggers/0/phases/0", "Succeeded"),
    "upstream-name": (["triggers: [{workflow: a/b/c}]", STEPS], "/spec/triggers/0/workflow", "not a name"),
    "upstream-params": (["params: [{name: n, type: integer}]", "triggers: [{workflow: up, params: {n: x}}]", STEPS], "/spec/triggers/0/params/n", "integer"),
    "upstream-without-param": (["params: [{name: n}]", "triggers: [{workflow: up}]", STEPS], "/spec/triggers/0", "workflow 'up' leaves the param 'n'"),
    "webhook-unknown-param": (["params: [{name: region, default: x}]", "triggers: [{webhook: hook, params: {regin: y}}]", STEPS], "/spec/triggers/0/params/regin", "'region'"),
    "webhook-param-expression": (["params: [{name: n}]", 'triggers: [{webhook: hook, params: {n: "${{ run.date }}"}}]', STEPS], "/spec/triggers/0/params/n", "default"),
    "misplaced-phases": (["triggers: [{webhook: hook, phases: [Failed]}]", STEPS], "/spec/triggers/0/phases", "goes with workflow"),
    "misplaced-cancel": (["triggers: [{workflow: up, cancelInProgress: true}]", STEPS], "/spec/triggers/0/cancelInProgress", "goes with onChange"),
    "run-policy": (['schedules: [{cron: "@daily", runPolicy: Changed}]', STEPS], "/spec/schedules/0/runPolicy", "IfChanged"),
    "queue-timeout": (["queueTimeout: 0s", STEPS], "/spec/queueTimeout", "above zero"),
    "expect-every": (["expectEvery: daily", STEPS], "/spec/expectEvery", "1h30m"),
    "suspend-after": (["suspendAfter: 5", STEPS], "/spec/suspendAfter", "a mapping"),
    "suspend-after-none": (["suspendAfter: {}", STEPS], "/spec/suspendAfter", "`failures`"),
    "history": (["history: {successful: -1}", STEPS], "/spec/history/successful", "below 0"),
    "group": (["concurrency: {limit: 2}", STEPS], "/spec/concurrency", "`group`"),
    "group-limit": (["concurrency: {group: g, limit: 0}", STEPS], "/spec/concurrency/limit", "below 1"),
    "default-services": (["defaults: {services: [{name: db}]}", STEPS], "/spec/defaults/services/0", "nothing to run"),
    "default-step": (['defaults: {caches: [{key: "${{ steps.s.phase }}", path: c}]}', STEPS], "/spec/defaults/caches/0/key", "steps"),
    "alert-of-a-step": (["steps: [{name: s, alert: ops}]"], "/spec/steps/0/alert", "onFailure"),
    "alert-of-finally": ([STEPS, "finally: [{name: f, alert: ops}]"], "/spec/finally/0/alert", "onFailure"),
    "alert-with-image": ([STEPS, "onFailure: [{name: page, alert: ops, image: x}]"], "/spec/onFailure/0/image", "an alert has no"),
    "alert-and-script": ([STEPS, "onFailure: [{name: page, alert: ops, script: x}]"], "/spec/onFailure/0", "exactly one"),
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
    "script: x, user: 1000": ("/user", "quote it"),
    "script: x, caches: [{key: pip}]": ("/caches/0", "`path`"),
    "script: x, caches: [{key: pip, path: ../c}]": ("/caches/0/path", "'..'"),
    "script: x, caches: [{key: pip, path: c, sharing: shared}]": ("/caches/0/sharing", "Shared"),
    "script: x, caches: [{key: a, path: c}, {key: b, path: c}]": ("/caches/1/path", "taken"),
    "script: x, services: [{name: Db, image: x}]": ("/services/0/name", "not a name"),
    "script: x, services: [{name: db}]": ("/services/0", "nothing to run"),
    "script: x, services: [{name: db, args: [a], script: b}]": ("/services/0", "one of"),
    "script: x, services: [{name: db, image: x}, {name: db, image: y}]": ("/services/1/name", "taken"),
    "script: x, services: [{name: db, image: x, readyWhen: {port: 70000}}]": ("/services/0/readyWhen/port", "65,535"),
    "script: x, services: [{name: db, image: x, env: {A: 1.50}}]": ("/services/0/env/A", "quote it"),
    'script: x, services: [{name: db, script: "echo ${{ run.id }}"}]': ("/services/0/script", "env"),
    'script: x, services: [{name: db, args: ["${{ nope }}"]}]': ("/services/0/args/0", "nope"),
    "script: x, module: {ref: github.com/a/b, version: 3f786850e387550fdab836ed7e6dc881de23001b, call: c}": ("", "exactly one"),
    "module: {ref: github.com/a/b, version: v1.2, call: c}": ("/module/version", "40 hexadecimal"),
    "image: x, module: {ref: github.com/a/b, version: 3f786850e387550fdab836ed7e6dc881de23001b, call: c}": ("/image", "has no `image`"),
    "module: {ref: github.com/a/b, version: 3F786850E387550FDAB836ED7E6DC881DE23001B, call: c}": ("/module/version", "40 hexadecimal"),
    "module: {ref: github.com/a/b@v1, version: 3f786850e387550fdab836ed7e6dc881de23001b, call: c}": ("/module/ref", "`version`"),
    "module: {ref: ./ci, version: 3f786850e387550fdab836ed7e6dc881de23001b, call: c}": ("/module/ref", "Git address"),
    "module: {ref: github.com/a/b, version: 3f786850e387550fdab836ed7e6dc881de23001b, call: --help}": ("/module/call", "one name"),
    'module: {ref: github.com/a/b, version: 3f786850e387550fdab836ed7e6dc881de23001b, call: c, args: {a: "${{ params.x }}"}}': ("/module/args/a", "params"),
    "uses: {workflow: a}": ("/uses/workflow", "itself"),
    "uses: {workflow: A}": ("/uses/workflow", "not a name"),
    "uses: {params: {}}": ("/uses", "`workflow`"),
    "uses: {workflow: b}, image: x": ("/image", "workflow itself"),
    'uses: {workflow: b, params: {a: "${{ params.x }}"}}': ("/uses/params/a", "params"),
    "script: x, matrix: {}": ("/matrix", "no axis"),
    "script: x, matrix: {a: x}": ("/matrix/a", "one expression"),
    "script: x, matrix: {python: [3.9, 3.10]}": ("/matrix/python/1", "quote it"),
    "script: x, matrix: {max-parallel: 2}": ("/matrix/max-parallel", "maxParallel"),
    "script: x, matrix: {aB: [1]}": ("/matrix", "not a name"),
    "script: x, matrix: {a: [1], maxParallel: 0}": ("/matrix/maxParallel", "below 1"),
    "script: x, matrix: {a: [1], as: b}": ("/matrix/as", "`from`"),
    'script: x, matrix: {from: "${{ run.id }}"}': ("/matrix/from", "list"),
    'script: x, matrix: {from: "${{ [1] }}", as: include}': ("/matrix/as", "can't be an axis"),
    'script: x, matrix: {from: "${{ [1] }}", as: a, a: [1]}': ("/matrix/a", "too"),
    "script: x, matrix: {from: [1]}": ("/matrix/from", "text"),
    "script: x, matrix: {a: [1], include: [{from: 2}]}": ("/matrix/include/0", "can't be an axis"),
    "script: x, matrix: {a: [1], include: [{}]}": ("/matrix/include/0", "empty"),
    "script: x, matrix: {arch: [1], exclude: [{arhc: 1}]}": ("/matrix/exclude/0/arhc", "'arch'"),
    'script: x, matrix: {a: ["${{ matrix.b }}"], b: [1]}': ("/matrix/a/0", "matrix"),
    'script: x, env: {A: "${{ matrix.a }}"}': ("/env/A", "only a step with a matrix"),
    'script: x, matrix: {aa: [1]}, env: {A: "${{ matrix.ab }}"}': ("/env/A", "'matrix.aa'"),
    'script: x, matrix: {a-b: [1]}, env: {A: "${{ matrix.a-b }}"}': ("/env/A", "write matrix.a_b"),
    'script: x, matrix: {1st: [1]}, env: {A: "${{ matrix.1st }}"}': ("/env/A", "rename '1st'"),
    'script: x, matrix: {a: [x]}, env: {A: "${{ matrix.a + 1 }}"}': ("/env/A", "overload"),
    'script: x, matrix: {a: [1]}, when: "${{ matrix.a }}"': ("/when", "boolean"),
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
      matrix: {x: 1}
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
        (22, 19, "/spec/steps/3/matrix/x"),
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
