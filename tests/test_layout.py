"""The limits of size that keep the package readable."""

import ast

import pytest

LONGEST_FUNCTION = 60
LONGEST_MODULE = 350
MOST_LOOSE_MODULES = 6


@pytest.fixture
def modules(root):
    return sorted((root / "messctl").rglob("*.py"))


def test_no_module_is_longer_than_350_lines(modules):
    assert [path.name for path in modules if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_MODULE] == []


def test_no_function_is_longer_than_60_lines(modules):
    functions = [
        (path.name, node.name, node.end_lineno - node.lineno + 1)
        for path in modules
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > len(modules)
    assert [each for each in functions if each[2] > LONGEST_FUNCTION] == []


def test_few_modules_stand_outside_the_rooms(root):
    loose = [path.name for path in (root / "messctl").glob("*.py") if not path.name.startswith("__")]
    assert 0 < len(loose) <= MOST_LOOSE_MODULES
