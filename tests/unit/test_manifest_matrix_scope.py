"""Matrix steps and called workflows, as expressions of a manifest see them."""

import pytest

from controller import manifest

HEAD = "apiVersion: rondel/v1alpha1\nkind: Workflow\nmetadata: {name: a}\nspec:\n"


def spec_faults(*lines):
    text = HEAD + "".join(f"  {line}\n" for line in lines)
    parsed = manifest.parse_file("a.yaml", text.encode())
    return [*parsed.faults, *(fault for one in parsed.documents for fault in one.faults)]


def test_over_1024_combinations_are_refused_by_figure():
    many = ", ".join(map(str, range(40)))
    (fault,) = spec_faults(f"steps: [{{name: s, script: x, matrix: {{a: [{many}], b: [{many}]}}}}]")
    assert fault.pointer == "/spec/steps/0/matrix"
    assert "1,600 combinations are more than 1,024" in fault.problem
    assert "a has 40, b has 40" in fault.remedy


def many_faults(expression):
    return spec_faults(
        "steps:",
        "  - name: many",
        "    matrix: {size: [1, 2], include: [{size: 3, mood: happy}]}",
        "    script: x",
        "    outputs: {rows: {path: r, type: integer}}",
        "    artifacts: [{name: page, path: p}]",
        "  - name: other",
        f'    args: [x, "${{{{ {expression} }}}}"]',
        "    mounts: [{artifact: many.page, path: pages}]",
        "onFailure:",
        f'  - {{name: page, script: x, env: {{A: "${{{{ {expression} }}}}"}}}}',
    )


@pytest.mark.parametrize(
    "expression",
    [
        "steps.many.phase == 'Failed'",
        "steps.many.exitCode[0] == 0",
        "steps.many.outputs.rows.all(n, n > 1)",
        "size(steps.many.artifacts.page)",
    ],
)
def test_others_see_lists_of_a_matrix_step_and_its_one_phase(expression):
    assert many_faults(expression) == []


@pytest.mark.parametrize(
    ("expression", "word"),
    [
        ("steps.many.outputs.rows + 1", "overload"),
        ("steps.many.artifacts.page == 'x'", "overload"),
        ("steps.many.phase[0]", "overload"),
        ("matrix.size", "outputs as lists"),
    ],
)
def test_what_is_one_of_a_matrix_step_is_no_list_and_the_other_way_round(expression, word):
    found = many_faults(expression)
    assert {fault.pointer for fault in found} == {"/spec/steps/1/args/1", "/spec/onFailure/0/env/A"}
    assert all(word in f"{fault.problem}; {fault.remedy}" for fault in found)


def test_the_outputs_of_a_called_workflow_are_not_known_here_but_its_artifacts_are_none():
    steps = [
        "steps:",
        "  - {name: call, uses: {workflow: other}}",
        '  - {name: s, script: x, env: {A: "${{ steps.call.outputs.rows }}"}}',
    ]
    assert spec_faults(*steps) == []
    (fault,) = spec_faults(*(line.replace("outputs", "artifacts") for line in steps))
    assert fault.pointer == "/spec/steps/1/env/A"
    (fault,) = spec_faults(
        *steps, "  - {name: t, script: x, mounts: [{artifact: call.x, path: x}]}"
    )
    assert fault.pointer == "/spec/steps/2/mounts/0/artifact"


@pytest.mark.parametrize(
    ("matrix", "type_"),
    [
        ("{v: [a, b]}", "string"),
        ("{v: [1, 2]}", "integer"),
        ("{v: [1, x]}", "dyn"),
        ("{v: [1], include: [{v: 2}]}", "integer"),
        ("{v: [1], include: [{v: x}]}", "dyn"),
        ("{w: [1], include: [{w: 1, v: x}]}", "string"),
        ("{w: [1], include: [{w: 2, v: x}]}", "dyn"),
        ("{w: ['${{ run.id }}'], v: [1.5]}", "number"),
        ("{v: ['${{ run.id }}']}", "dyn"),
        ("{v: '${{ [1] }}'}", "dyn"),
        ("{from: '${{ [1] }}', as: v}", "dyn"),
        ("{v: []}", "dyn"),
    ],
)
def test_a_name_of_a_matrix_has_the_type_that_all_its_values_have(matrix, type_):
    wrong = {"string": "- 1", "integer": "+ 'a'", "number": "+ 1", "dyn": None}[type_]
    step = f'  - {{name: s, script: x, matrix: {matrix}, env: {{A: "${{{{ matrix.v {wrong or ""} }}}}"}}}}'
    found = spec_faults("steps:", step)
    assert [fault.pointer for fault in found] == ([] if wrong is None else ["/spec/steps/0/env/A"])
