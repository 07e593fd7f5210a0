"""`render` says where each value comes from that its author did not write there."""

from controller.manifest.around import Around
from controller.manifest.build import merged
from controller.manifest.origins import origins
from controller.manifest.rendered import as_written, rendered

TEXT = b"""\
apiVersion: rondel/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  schedules: [{cron: "@daily"}, {cron: "@weekly", timeZone: UTC}]
  defaults: {timeout: 5m, retry: {limit: 2}}
  steps:
    - {name: a, script: x, outputs: {n: {path: n}}}
    - {name: b, script: x, timeout: 1m, env: {N: "${{ steps.a.outputs.n }}"}}
"""
FAR = {"timeZone": "Europe/Berlin", "defaults": {"image": "far", "env": {"A": "1"}}}
NEAR = {"defaults": {"image": "near", "retry": {"backoff": {"duration": "1s"}}}}


def test_each_added_value_names_who_brought_it():
    around = Around(defaults=merged(FAR, NEAR))
    found = origins(
        as_written(TEXT, 0),
        rendered(TEXT, 0, around),
        [("all.yaml", FAR), ("team/all.yaml", NEAR)],
    )
    assert found == {
        "/spec/schedules/0/timeZone": "Defaults of all.yaml",
        "/spec/steps/0/image": "Defaults of team/all.yaml",
        "/spec/steps/0/timeout": "spec.defaults",
        "/spec/steps/0/retry/limit": "spec.defaults",
        "/spec/steps/0/retry/backoff/duration": "Defaults of team/all.yaml",
        "/spec/steps/0/env/A": "Defaults of all.yaml",
        "/spec/steps/1/needs": "implied by an expression or a mount",
        "/spec/steps/1/image": "Defaults of team/all.yaml",
        "/spec/steps/1/retry/limit": "spec.defaults",
        "/spec/steps/1/retry/backoff/duration": "Defaults of team/all.yaml",
        "/spec/steps/1/env/A": "Defaults of all.yaml",
    }


def test_a_manifest_that_says_everything_itself_has_no_origins():
    text = TEXT.replace(b"  defaults: {timeout: 5m, retry: {limit: 2}}\n", b"").partition(
        b"    - {name: b"
    )[0]
    assert origins(as_written(text, 0), rendered(text, 0), []) == {}
