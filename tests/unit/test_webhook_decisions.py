"""What a webhook starts, who signed it, who may pass the gate: decided without a world."""

import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.errors import UsageError
from controller.model.changes import FinishRun
from controller.model.condition import WorkflowStatus
from controller.model.delivery import Delivery
from controller.model.run import Phase, Run, Trigger
from controller.model.settings import Receiver
from controller.model.source import Declaration
from controller.model.token import Role
from controller.model.workflow import ConcurrencyPolicy, Webhook
from controller.observations import Observations
from controller.reconcile.observed import Observed
from controller.reconcile.plan import plan
from controller.reconcile.webhook import answer, receiver_fault
from controller.serve.gate import host_of, is_address, needs
from controller.serve.listening import is_loopback, split
from controller.serve.rate import BURST, PEERS, PER_SECOND, Rate
from controller.serve.signatures import verify

NOON = datetime(2027, 3, 10, 12, 0, tzinfo=UTC)
KEY = ("main", "w")
DECLARED = Declaration(
    source="main",
    name="w",
    file="w.yaml",
    document=0,
    blob="b",
    spec_digest="d",
    webhooks=(Webhook(receiver="hook", params={"region": "eu"}), Webhook(receiver="other")),
)
DELIVERY = Delivery(receiver="hook", id="d-1", marks=("id:d-1",), at=NOON)
POLICIES = st.sampled_from(ConcurrencyPolicy)


def settled(declaration: Declaration) -> WorkflowStatus:
    """Return the status after the first pass over it."""
    seen = Observations([], [])
    for change in plan(declaration, Observed(key=KEY, status=None), NOON).changes:
        seen.apply(change)
    status = seen.status(KEY)
    assert status is not None
    return status


def look(declaration, active=()) -> Observed:
    status = settled(declaration)
    return Observed(key=KEY, status=status, active=tuple(active), revision="main@sha1:1")


def run(number=0, phase=Phase.RUNNING, trigger=Trigger.SCHEDULE) -> Run:
    return Run(
        id=f"w-{number}",
        source="main",
        workflow="w",
        trigger=trigger,
        identity=f"{trigger}:{number}",
        phase=phase,
        instance="me" if phase is Phase.RUNNING else None,
        created_at=NOON - timedelta(minutes=1),
    )


def test_a_delivery_starts_a_run_at_what_is_applied_with_the_params_of_the_trigger():
    [change] = answer(DECLARED, look(DECLARED), DELIVERY, NOON)
    made = change.run
    assert (made.trigger, made.identity) == (Trigger.WEBHOOK, "webhook:hook:d-1")
    assert (made.params, made.revision, made.phase) == (
        {"region": "eu"},
        "main@sha1:1",
        Phase.PENDING,
    )
    again = answer(DECLARED, look(DECLARED), replace(DELIVERY, at=NOON), NOON + timedelta(hours=1))
    assert again[0].run.id == made.id
    other = answer(DECLARED, look(DECLARED), replace(DELIVERY, id="d-2"), NOON)
    assert other[0].run.id != made.id


@given(POLICIES, st.booleans(), st.lists(st.sampled_from([Phase.PENDING, Phase.RUNNING])))
def test_forbid_alone_skips_at_once_and_a_suspended_workflow_starts_nothing(
    policy, suspended, phases
):
    declaration = replace(DECLARED, concurrency_policy=policy, suspended=suspended)
    active = [run(number, phase) for number, phase in enumerate(phases)]
    found = answer(declaration, look(declaration, active), DELIVERY, NOON)
    if suspended:
        assert found == ()
        return
    [change] = found
    skipped = policy is ConcurrencyPolicy.FORBID and bool(active)
    assert change.run.reason == ("ConcurrencyForbidden" if skipped else "")
    assert change.run.phase is (Phase.SKIPPED if skipped else Phase.PENDING)


@given(POLICIES, st.integers(0, 3))
def test_a_pass_over_what_a_delivery_left_comes_to_rest(policy, deliveries):
    declaration = replace(DECLARED, concurrency_policy=policy, queue_timeout=timedelta(minutes=5))
    seen = Observations([settled(declaration)], [run()])

    def observed() -> Observed:
        return Observed(key=KEY, status=seen.status(KEY), active=seen.active(KEY))

    for number in range(deliveries):
        one = replace(DELIVERY, id=f"d-{number}")
        for created in answer(declaration, observed(), one, NOON):
            if not created.run.phase.terminal:
                seen.apply(created)
    first = plan(declaration, observed(), NOON)
    for change in first.changes:
        seen.apply(change)
    then = plan(declaration, observed(), NOON)
    assert then.changes == ()
    waits = [one for one in seen.active(KEY) if one.trigger is Trigger.WEBHOOK]
    expected = {
        ConcurrencyPolicy.FORBID: 0,
        ConcurrencyPolicy.REPLACE: min(deliveries, 1),
    }.get(policy, deliveries)
    assert len(waits) == expected
    assert then.cancels == (
        (("w-0", "Replaced"),) if policy is ConcurrencyPolicy.REPLACE and waits else ()
    )
    late = plan(declaration, observed(), NOON + timedelta(minutes=5)).changes
    ends = [change for change in late if isinstance(change, FinishRun)]
    assert [change.reason for change in ends] == ["QueueTimeout"] * len(waits)


def test_of_another_receiver_nothing_starts():
    alone = replace(DECLARED, webhooks=DECLARED.webhooks[1:])
    assert answer(alone, look(alone), DELIVERY, NOON) == ()


def test_a_receiver_that_is_not_given_to_the_source_is_a_fault():
    def receiver(*sources):
        return Receiver(name="x", type="github", secret="s", sources=sources)

    given_ = {"hook": receiver("main"), "other": receiver("main", "spare")}
    assert receiver_fault(DECLARED, given_) is None
    fault = receiver_fault(DECLARED, given_ | {"other": receiver("spare")})
    assert fault is not None
    assert "'other' is not for source 'main'" in str(fault)
    fault = receiver_fault(DECLARED, {})
    assert fault is not None
    assert "'hook' is not in the configuration" in str(fault)


# Signatures. Published examples, so that nothing is right only because both sides are ours.


def test_the_example_of_github_holds():
    headers = {
        "x-hub-signature-256": "sha256="
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    }
    signed = verify("github", headers, b"Hello, World!", "It's a Secret to Everybody", NOON)
    assert signed is not None


def test_the_example_of_standard_webhooks_holds():
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    moment = datetime.fromtimestamp(1614265330, UTC)
    signed = verify("gitlab", headers, b'{"test": 2432232314}', secret, moment)
    assert signed is not None
    assert signed.id == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    late = moment + timedelta(seconds=301)
    assert verify("gitlab", headers, b'{"test": 2432232314}', secret, late) is None


NAMES = (
    "x-hub-signature-256",
    "x-gitea-signature",
    "x-gitlab-token",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "x-rondel-timestamp",
    "x-rondel-signature",
)


@given(
    st.sampled_from(["github", "gitea", "gitlab", "generic"]),
    st.dictionaries(st.sampled_from(NAMES), st.text(st.characters(codec="latin-1"))),
    st.binary(),
    st.sampled_from(["", "whsec_", "whsec_!", "whsec_AAAA", "a secret nobody guesses"]),
)
def test_what_nobody_signed_is_never_taken_and_never_crashes(kind, headers, body, secret):
    assert verify(kind, headers, body, secret, NOON) is None


@pytest.mark.parametrize("kind", ["github", "gitea", "gitlab", "generic"])
def test_an_empty_secret_verifies_nothing(kind):
    mac = hmac.new(b"", b"x", hashlib.sha256).hexdigest()
    headers = {
        "x-hub-signature-256": f"sha256={mac}",
        "x-gitea-signature": mac,
        "x-gitlab-token": "",
    }
    assert verify(kind, headers, b"x", "", NOON) is None


# The gate.


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/api/v1/runs", Role.VIEWER),
        ("HEAD", "/metrics", Role.VIEWER),
        ("POST", "/api/v1/sources/a/reconcile", Role.OPERATOR),
        ("POST", "/api/v1/sources/a/workflows/b/runs", Role.OPERATOR),
        ("POST", "/api/v1/runs/x/rerun", Role.OPERATOR),
        ("POST", "/api/v1/plan", Role.OPERATOR),
        ("POST", "/api/v1/drain", Role.ADMIN),
        ("POST", "/api/v1/cache/prune", Role.ADMIN),
        ("POST", "/api/v1/sources/a/reconcile/x", Role.ADMIN),
        ("POST", "/x/api/v1/runs/x/cancel", Role.ADMIN),
        ("DELETE", "/api/v1/runs/x/cancel", Role.ADMIN),
    ],
)
def test_what_nobody_thought_of_is_for_admins(method, path, role):
    assert needs(method, path) is role


def test_a_host_is_read_without_its_port():
    assert [host_of(one) for one in ("A.b:1", "[::1]:80", "10.0.0.1", "")] == [
        "a.b",
        "::1",
        "10.0.0.1",
        "",
    ]
    assert [is_address(one) for one in ("::1", "10.0.0.1", "a.b", "1.2.3.4.evil.com", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("address", ["", ":1", "a", "a:", "a:b", "a:65536", "a:-1", "::1", "[::1]"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match="HOST:PORT"):
        split(address)


def test_addresses_are_split_and_loopback_is_known():
    assert split("[::1]:80") == ("::1", 80)
    assert split("localhost:0") == ("localhost", 0)
    assert [is_loopback(one) for one in ("127.0.0.9", "::1", "::", "10.0.0.1")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_peer_has_its_burst_then_its_rate_and_peers_are_bounded():
    rate = Rate()
    taken = sum(rate.admits("a", 0.0) for _ in range(1000))
    assert taken == BURST
    assert sum(rate.admits("a", 1.0) for _ in range(1000)) == PER_SECOND
    assert rate.admits("b", 1.0)
    for number in range(PEERS):
        assert rate.admits(str(number), 1.0)
    assert rate.admits("a", 1.0)  # forgotten: memory is bounded
