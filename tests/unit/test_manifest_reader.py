import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import manifest
from controller.manifest import reader, tree
from controller.manifest.scalar import ScalarError, resolve

HEAD = "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {name: a}\nspec:\n"
STEPS = "  steps: [{name: s, script: x}]\n"


def faults(text):
    data = text if isinstance(text, bytes) else text.encode()
    parsed = manifest.parse_file("a.yaml", data)
    return [*parsed.faults, *(fault for one in parsed.documents for fault in one.faults)]


def only_fault(text):
    (fault,) = faults(text)
    return fault


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(word, word) for word in ("on", "no", "yes", "off", "y", "2026-02-30", "0b1", "1_000")],
        *[
            (word, word)
            for word in ("10:30", "12:30:45", "1e", ".", "-", "+", "0x", "0xg", "1.2.3")
        ],
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-3.", -3.0),
        ("~", None),
        ("NULL", None),
        ("True", True),
        ("FALSE", False),
        ("+12", 12),
        (str((1 << 63) - 1), (1 << 63) - 1),
        (str(-(1 << 63)), -(1 << 63)),
    ],
)
def test_plain_scalars_follow_the_core_schema_of_yaml_1_2(text, value):
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", "1e999", str(1 << 63), "9" * 5000])
def test_a_number_that_json_or_64_bits_cannot_hold_is_refused(text):
    with pytest.raises(ScalarError):
        resolve(text)


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_no_bytes_crash_the_reader(data):
    manifest.parse_file("a.yaml", data)


@given(st.text(alphabet="ab:-[]{}&*!#|>'\"\n ,?%@`<0~\t\\", max_size=60))
@settings(max_examples=500, deadline=None)
def test_no_text_made_of_yaml_crashes_the_reader(text):
    manifest.parse_file("a.yaml", (HEAD + "  priority: " + text).encode())
    manifest.parse_file("a.yaml", text.encode())


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text("abcxyz é\n", max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1, max_size=5), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(PLAIN)
@settings(deadline=None)
def test_values_of_the_common_subset_equal_pyyaml(value):
    text = yaml.safe_dump(value, allow_unicode=True)
    assert tree.value(tree.read(text.encode()).trees[0].root) == yaml.safe_load(text) == value


@given(PLAIN)
@settings(deadline=None)
def test_both_passes_read_the_same_values(value):
    data = json.dumps(value).encode()
    assert reader.read(data)[0].value == tree.value(tree.read(data).trees[0].root) == value


@pytest.mark.parametrize(
    "line",
    ["    - cron: */5 * * * *\n", "    - {cron: * * * * *}\n", "    - cron: @daily\n"],
)
def test_an_unquoted_schedule_is_told_to_be_quoted(line):
    fault = only_fault(HEAD + "  schedules:\n" + line + STEPS)
    assert fault.remedy == "quote the schedule"
    assert (fault.line, fault.column) == (6, line.index(": ") + 3)


def test_a_repeated_key_is_a_fault_at_its_second_place():
    fault = only_fault(HEAD + STEPS + STEPS)
    assert (fault.line, fault.column, fault.pointer) == (6, 3, "/spec/steps")
    assert "twice" in fault.problem


def test_a_tag_is_refused_by_its_name():
    assert "!!int" in only_fault(HEAD + "  priority: !!int 3\n" + STEPS).problem


def test_a_merge_key_is_refused_with_a_remedy():
    text = HEAD + "  steps:\n    - <<: {script: x}\n      name: s\n      script: x\n"
    fault = only_fault(text)
    assert "merge" in fault.problem
    assert "defaults" in fault.remedy


def test_an_alias_stands_for_its_anchors_value():
    text = HEAD + "  defaults: {env: &e {A: b}}\n  steps: [{name: s, env: *e, script: x}]\n"
    parsed = manifest.parse_file("a.yaml", text.encode())
    assert manifest.workflow(parsed.documents[0].body or "").steps[0].env == {"A": "b"}


def test_aliases_that_multiply_are_bounded():
    rows = "".join(f"  x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 12))
    fault = only_fault(HEAD + "  x0: &x0 [1, 2]\n" + rows + STEPS)
    assert "10,000" in fault.problem


@pytest.mark.parametrize("text", ["  x: &a [*a]\n", "  x: *gone\n"])
def test_an_alias_that_leads_nowhere_is_a_fault(text):
    assert any("*" in fault.problem for fault in faults(HEAD + text + STEPS))


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_a_hundred_thousand_levels_are_a_fault_not_a_crash(opening):
    assert "deeper" in only_fault(opening * 100_000).problem


def test_a_file_over_one_mebibyte_is_refused_by_its_figure():
    assert "1,048,576" in only_fault(b"a: b\n" * 300_000).problem


def test_a_file_over_a_thousand_documents_is_refused_by_its_figure():
    assert "1,000" in only_fault("---\na: b\n" * 1001).problem


def test_a_git_lfs_pointer_is_a_fault():
    assert (
        "LFS" in only_fault(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n").problem
    )


def test_text_that_is_not_utf8_is_a_fault_at_its_byte():
    fault = only_fault(b"a: b\nc: \xff\n")
    assert (fault.line, fault.column) == (2, 4)


def test_a_byte_order_mark_and_windows_line_ends_are_read():
    assert faults(("\ufeff" + HEAD + STEPS).replace("\n", "\r\n")) == []


def test_other_yaml_is_ignored_and_counted_whatever_it_holds():
    text = "kind: Pod\nx: !Ref y\n---\na: 1\na: 2\n---\n" + HEAD + STEPS
    parsed = manifest.parse_file("a.yaml", text.encode())
    assert parsed.ignored == 2
    assert [one.document for one in parsed.documents] == [2]
    assert parsed.documents[0].line == 6


def test_a_document_before_a_syntax_error_is_still_judged():
    parsed = manifest.parse_file("a.yaml", (HEAD + STEPS + "---\na: [\n").encode())
    assert parsed.faults
    assert parsed.documents[0].name == "a"


def test_a_nul_in_text_is_refused():
    assert "NUL" in only_fault(HEAD + '  steps: [{name: s, script: "a\\0b"}]\n').problem


def test_a_key_that_is_no_text_is_refused():
    assert "not text" in only_fault(HEAD + "  1: x\n" + STEPS).problem
