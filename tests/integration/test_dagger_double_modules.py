"""Functions of Dagger modules as steps, on the engine's double."""

from dataclasses import replace
from pathlib import Path

import pytest

from controller.errors import StalledError
from controller.execute.ports import Verdict
from controller.model.workflow import ModuleCall
from tests.dagger_double.house import Page

COMMIT = "3f786850e387550fdab836ed7e6dc881de23001b"
REF = "github.com/acme/report-module"


def request(house, call, args=None, version=COMMIT, **fields):
    module = ModuleCall(ref=REF, version=version, call=call, args=args or {})
    return replace(house.request("", **fields), argv=(), image=None, module=module)


async def attempt(house, call, args=None, **fields):
    house.engine.module.served = None  # each session has modules of its own
    async with house.session() as session:
        made = request(house, call, args, **fields)
        return await session.attempt(made, page := Page()), page


async def test_a_function_gets_plain_values_and_its_value_is_the_file_result(house):
    args = {"strict": True, "names": ['it "is"\n', "ü"], "n": -4}
    outcome, page = await attempt(house, "check-all", args, collect={"result": "result"})
    assert (outcome.verdict, outcome.exit_code) == (Verdict.COMPLETED, 0), outcome.error
    assert house.engine.module.calls == [("checkAll", args)]
    assert house.engine.module.served == f"{REF}@{COMMIT}"
    text = outcome.collected["result"].read_text()
    assert text == f"checked {args}"
    assert page.written["stdout"].decode() == text + "\n"


@pytest.mark.parametrize(("call", "kept"), [("numbers", "[1.5, 2.0]"), ("nothing", None)])
async def test_other_plain_values_are_json_and_no_value_is_no_file(house, call, kept):
    outcome, _ = await attempt(house, call, collect={"result": "result"})
    found = {name: path.read_text() for name, path in outcome.collected.items()}
    assert found == ({} if kept is None else {"result": kept})


async def test_a_folder_is_collected_by_its_paths_and_a_file_by_the_name_result(house):
    paths = {path: path for path in ("a/b.txt", "a", "no", "result")}
    outcome, _ = await attempt(house, "files", collect=paths)
    assert set(outcome.collected) == {"a/b.txt", "a"}
    assert (outcome.collected["a"] / "b.txt").read_text() == "hello"
    outcome, _ = await attempt(house, "one", collect=paths)
    assert {name: path.read_text() for name, path in outcome.collected.items()} == {
        "result": "hello"
    }


async def test_a_function_that_fails_is_a_result_with_its_code_and_lines(house):
    outcome, page = await attempt(house, "fail")
    assert (outcome.verdict, outcome.exit_code) == (Verdict.COMPLETED, 5)
    assert page.written["stdout"] == b"inside"
    assert page.written["stderr"] == b"err\nexit code: 5\n"


@pytest.mark.parametrize(
    ("call", "args", "said"),
    [
        ("id", {}, "ModuleFunction: there is no function 'id'; there are: checkAll, colour"),
        ("check-all", {}, "ModuleArgument: argument 'n': checkAll needs it"),
        ("check-all", {"n": 1.5}, "ModuleArgument: argument 'n': 1.5 is no Int"),
        ("check-all", {"n": True}, "ModuleArgument: argument 'n': true is no Int"),
        ("check-all", {"n": None}, "ModuleArgument: argument 'n': null is no Int"),
        ("check-all", {"n": 1, "names": "a"}, "ModuleArgument: argument 'names': \"a\" is no list"),
        ("check-all", {"n": 1, "names": [1]}, "ModuleArgument: argument 'names': 1 is no String"),
        ("check-all", {"x": 1}, "ModuleArgument: argument 'x': checkAll has no such argument"),
        ("colour", {"c": "RED) { id }"}, "ModuleArgument: argument 'c'"),
        ("take", {"dir": "/etc"}, "ModuleArgument: argument 'dir': values of type ID can't be"),
        ("take", {"secret": "env://A"}, "ModuleArgument: argument 'secret': values of type ID"),
        ("ctr", {}, "ModuleResult: ctr gives a Container"),
    ],
)
async def test_only_what_is_plain_and_fits_is_given(house, call, args, said):
    reason, problem = said.split(": ", 1)
    with pytest.raises(StalledError) as found:
        await attempt(house, call, args)
    assert found.value.reason == reason
    assert problem in str(found.value)
    assert house.engine.module.calls == []


async def test_a_module_is_loaded_once_in_a_session_and_in_one_commit(house):
    async with house.session() as session:
        for call in ("nothing", "colour"):
            args = {"c": "BLUE"} if call == "colour" else {}
            await session.attempt(request(house, call, args), Page())
        other = await session.attempt(request(house, "nothing", version="0" * 40), Page())
    assert len(house.query("asModule")) == 2, "one for each commit"
    assert (other.verdict, other.reason) == (Verdict.STALLED, "ModuleConflict")


@pytest.mark.parametrize(
    ("words", "verdict", "reason"),
    [
        ("failed to resolve git src: repository not found", Verdict.STALLED, "ModuleInvalid"),
        ("dial tcp: no such host", Verdict.TRANSIENT, "RegistryUnavailable"),
    ],
)
async def test_a_module_that_cannot_be_had_says_whether_time_helps(house, words, verdict, reason):
    house.engine.refusals[COMMIT] = words
    outcome, _ = await attempt(house, "nothing")
    assert (outcome.verdict, outcome.reason) == (verdict, reason)


async def test_a_session_that_is_lost_meanwhile_is_infrastructure(house):
    house.engine.broken = lambda query: 502 if "asModule" in query else None
    outcome, _ = await attempt(house, "nothing")
    assert (outcome.verdict, outcome.reason) == (Verdict.TRANSIENT, "SessionLost")


async def test_the_commands_folder_is_an_empty_one_for_functions_can_read_it(house):
    async with house.session():
        found = Path(f"/proc/{house.cli.pids[0]}/cwd").readlink()
        assert (found.name, list(found.iterdir())) == ("empty", [])
        assert found.parent in house.folders
