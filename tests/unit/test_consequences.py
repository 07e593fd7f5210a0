"""What follows from a change beside runs: slots, images, permissions."""

from datetime import UTC, datetime, timedelta

import pytest

from controller import manifest
from controller.reconcile.consequences import Widening, consequences, registry_of
from controller.reconcile.preview import Side

NOW = datetime(2027, 1, 10, 12, tzinfo=UTC)


def side(spec: str, name: str = "w", *, bodies: bool = True) -> Side:
    text = f"apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {{name: {name}}}\nspec:\n{spec}"
    parsed = manifest.parse_file("w.yaml", text.encode(), source="s")
    assert not parsed.all_faults
    (document,) = parsed.documents
    assert document.declaration is not None
    assert document.body is not None
    return Side(
        declarations={name: document.declaration},
        bodies={name: document.body} if bodies else {},
    )


def steps(more: str = "") -> str:
    return f"  steps:\n    - name: a\n      script: 'true'\n{more}"


def scheduled(text: str, more: str = "") -> str:
    return f"{more}  schedules: [{{name: n, {text}}}]\n" + steps()


def test_a_moved_cron_shows_five_starts_of_each_side_and_the_months_difference():
    base, head = side(scheduled("cron: '0 0 * * *'")), side(scheduled("cron: '0 */6 * * *'"))
    (one,) = consequences(base, head, NOW).schedules
    assert [moment.hour for moment in one.before] == [0] * 5
    assert [moment.hour for moment in one.after] == [18, 0, 6, 12, 18]
    assert one.monthly == 30 * 4 - 30


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("cron: '0 3 * * *'", "cron: '0 3 * * *', timeZone: Asia/Tokyo"),
        ("cron: '0 3 * * *'", "cron: '0 3 * * *', jitter: 30m"),
    ],
)
def test_another_zone_or_jitter_moves_starts_and_adds_no_runs(before, after):
    (one,) = consequences(side(scheduled(before)), side(scheduled(after)), NOW).schedules
    assert one.before != one.after
    assert one.monthly == 0
    assert len(one.before) == len(one.after) == 5


def test_suspending_saves_every_run_and_a_change_beside_schedules_moves_none():
    daily = "cron: '0 3 * * *'"
    plain = side(scheduled(daily))
    (one,) = consequences(plain, side(scheduled(daily, "  suspend: true\n")), NOW).schedules
    assert (one.after, one.monthly) == ((), -30)
    other = side(scheduled(daily, "  priority: 3\n"))
    assert consequences(plain, other, NOW).schedules == ()


def test_slots_beyond_counting_are_said_to_be_unknown():
    (one,) = consequences(Side(), side(scheduled("cron: '* * * * * *'")), NOW).schedules
    assert one.monthly is None
    assert one.after[4] - one.after[0] == timedelta(seconds=4)


def test_an_image_that_moves_is_told_with_both_texts_also_from_the_defaults():
    base = side("  defaults: {image: 'python:3.11'}\n" + steps())
    head = side("  defaults: {image: 'python:3.12'}\n" + steps())
    found = consequences(base, head, NOW)
    (one,) = found.images
    assert (one.place, one.before, one.after) == ("a", "python:3.11", "python:3.12")
    assert found.widened == ()


def test_what_a_workflow_newly_reaches_is_named():
    more = (
        "      image: registry.example.com/acme/tool:1\n"
        "      user: 'root:root'\n"
        "      secrets: [{name: T, secret: token}]\n"
        "      caches: [{key: pip, path: c}]\n"
        "      services: [{name: db, image: 'postgres:16'}]\n"
    )
    head = side("  secrets: [token]\n  triggers: [{webhook: hook}]\n" + steps(more))
    found = {(one.kind, one.name) for one in consequences(side(steps()), head, NOW).widened}
    assert found == {
        (Widening.SECRET, "token"),
        (Widening.RECEIVER, "hook"),
        (Widening.REGISTRY, "registry.example.com"),
        (Widening.REGISTRY, "docker.io"),
        (Widening.CACHE, "pip"),
        (Widening.ROOT, "a"),
    }
    assert consequences(head, side(steps()), NOW).widened == ()


def test_a_base_whose_text_is_lost_is_not_guessed_at():
    head = side(steps("      image: registry.example.com/acme/tool:1\n"))
    assert consequences(side(steps(), bodies=False), head, NOW).widened == ()


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("alpine", "docker.io"),
        ("library/alpine:3", "docker.io"),
        ("localhost/x", "localhost"),
        ("r.example.com:5000/x@sha256:0", "r.example.com:5000"),
    ],
)
def test_a_registry_is_read_as_docker_does(image, registry):
    assert registry_of(image) == registry
