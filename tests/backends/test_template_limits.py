"""Chat templates that never end, or use up the memory: each is refused within its limits."""

from __future__ import annotations

import sys

import pytest

from messctl.backends import sandbox
from messctl.backends.chat import ChatTemplate, TemplateError

LOOP = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}"
ENDS = "{% endfor %}{% endfor %}{% endfor %}"
HELD = "{% set box = namespace(text='aaaaaaaaaa') %}{% for a in range(40) %}"


def prompt(source):
    return ChatTemplate(source, "<s>", "</s>").prompt([{"role": "user", "content": "hi 12345678"}]).text


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (f"{LOOP}{ENDS}", "takes longer than"),
        (f"{LOOP}{{% set x = a %}}{ENDS}", "takes longer than"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        (f"{LOOP}{'x' * 100_000}{ENDS}", "more than 33,554,432 characters"),
        ("{{ 'a' * 10000000000 }}", "a number this large"),
        ("{{ 10 ** 1000000 }}", "a power this large"),
        ("{{ 'a' * 999999 * 999999 }}", "a number this large"),
        ("{{ 'a'.ljust(10000000000) }}", "a number this large"),
        ("{{ 'a' | center(10000000000) }}", "a number this large"),
        ("{{ '%10000000000d' % 1 }}", "a width this large"),
        ("{{ '%10000000000d' | format(1) }}", "a width this large"),
        ("{{ '{:10000000000}'.format(1) }}", "a width this large"),
        ("{{ ('a' * 9999).translate({97: 'b' * 9999}) }}", "a number this large"),
        ("{{ ('a' * 9999).replace('a', 'b' * 9999) }}", "a number this large"),
        ("{{ ('a' * 9999) | replace('a', 'b' * 9999) }}", "a number this large"),
        ("{{ ('a' * 9999).join('b' * 9999) }}", "a number this large"),
        ("{{ range(9999) | map('string') | join('b' * 9999) }}", "a number this large"),
        ("{{ ('\t' * 9999).expandtabs(9999) }}", "a number this large"),
        ("{{ ('\\n' * 9999) | indent(width=9999) }}", "a number this large"),
        ("{{ ('a ' * 9999) | wordwrap(1, wrapstring='b' * 9999) }}", "a number this large"),
        ("{{ messages * 9999999 }}", "a list of more than 1,000,000 parts"),
        ("{{ 1 | round(-9999999) }}", "a power this large"),
        ("{{ 1 | round(precision=-9999999) }}", "a power this large"),
        ("{{ [1] | batch(99999999, 'x') | list | length }}", "a number this large"),
        ("{{ ([1] * 99999999) | length }}", "a number this large"),
        ("{{ range(10000000000) | list }}", "a number this large|Range too big"),
    ],
)
def test_a_template_that_takes_too_much_is_refused(monkeypatch, source, part):
    monkeypatch.setattr(sandbox, "LONGEST_S", 0.3 if "longer" in part else 60.0)
    with pytest.raises(TemplateError, match=part):
        prompt(source)
    assert sys.gettrace() is None or "watch" not in getattr(sys.gettrace(), "__name__", "")


@pytest.mark.parametrize(
    "expression",
    ["'a' | center(99999999) | length", "('a' * 9999) | reverse | wordcount", "messages" + " | list | length" * 60],
)
def test_nothing_of_a_template_is_computed_while_it_is_compiled(monkeypatch, expression):
    computed = []

    def filtered(*arguments, **named):
        computed.append(arguments)
        return arguments[0]

    made = sandbox.sandbox()
    made.filters = dict.fromkeys(made.filters, filtered)
    monkeypatch.setattr(sandbox, "sandbox", lambda: made)
    compiled = ChatTemplate(f"{{{{ {expression} }}}}{{% if {expression} %}}{{% endif %}}", "<s>", "</s>")
    assert computed == []
    compiled.prompt([])
    assert computed


def test_the_work_to_compile_a_chain_of_filters_grows_with_its_length():
    def calls(filters):
        from cProfile import Profile
        from pstats import Stats

        with Profile() as profile:
            ChatTemplate("{% for m in messages %}{{ m.content" + " | trim" * filters + " }}{% endfor %}", "", "")
        return Stats(profile).total_calls

    assert calls(80) < 3 * calls(40)


def test_a_long_template_is_refused():
    with pytest.raises(TemplateError, match="more than 131,072 characters"):
        prompt("x" * (sandbox.LONGEST_SOURCE + 1))
    assert prompt("x" * sandbox.LONGEST_SOURCE)


def test_a_template_that_doubles_a_text_is_refused(monkeypatch):
    monkeypatch.setattr(sandbox, "MOST_BYTES", 2**24)
    with pytest.raises(TemplateError, match="takes more than 16 MiB|characters|takes longer than"):
        prompt(f"{HELD}{{% set box.text = box.text ~ box.text %}}{{% endfor %}}{{{{ box.text }}}}")


def test_a_long_list_of_long_lists_has_too_many_parts(monkeypatch):
    monkeypatch.setattr(sandbox, "MOST_PARTS", 999)
    long = "{% set x = (messages * 30) | list %}"
    assert prompt(f"{long}{{{{ ([x] * 3) | length }}}}") == "3"
    with pytest.raises(TemplateError, match="a list of more than 999 parts"):
        prompt(f"{long}{{{{ [[x] * 30] | tojson }}}}")


DOUBLED = "{% set n = namespace(v=1, w=1) %}{% for i in range(50) %}{% set n.v = BUILD %}{% endfor %}"


@pytest.mark.parametrize(
    "build", ["[n.v, n.v]", "(n.v, n.v)", "{'a': n.v, 'b': n.v}", "[n.v] * 2", "dict(a=n.v, b=n.v)"]
)
@pytest.mark.parametrize("use", ["n.v", "n.v | tojson", "n.v ~ ''", "n.v == n.w", "n.v in [n.w]", "{n.v: 1}"])
def test_no_more_is_nested_within_a_list_than_can_be_compared_or_printed_in_time(monkeypatch, build, use):
    monkeypatch.setattr(sandbox, "LONGEST_S", 0.3)
    with pytest.raises(TemplateError, match="a list of more than 1,000,000 parts|takes longer than"):
        prompt(DOUBLED.replace("BUILD", build) + f"{{{{ {use} }}}}")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 'ab' * 3 }}{{ 2 ** 10 }}{{ 7 % 4 }}", "ababab10243"),
        ("{{ '%s' % 'a' }}{{ '{:>3}'.format(1) }}{{ 'a' | center(3) }}{{ '%d' | format(2) }}", "a  1 a 2"),
        ("{{ messages[0].content | trim }}", "hi 12345678"),
        ("{% for (a, b) in [(1, 'x'), (2, 'y')] %}{{ a }}{{ b }}{% endfor %}{{ {'a': [1]} }}", "1x2y{'a': [1]}"),
        (
            "{% set a, b = 1, 2 %}{{ a + b }}{{ 'user' in ('user', 'system') }}{{ dict(a=1).items() | list }}",
            "3True[('a', 1)]",
        ),
        (
            "{{ 'a-b'.replace('-', '+') | replace('+', '/') }}{{ ', '.join(['a', 'b']) }}{{ 5 | replace(5, 6) }}",
            "a/ba, b6",
        ),
        ("{{ messages | map(attribute='content') | join(', ') | upper }}", "HI 12345678"),
    ],
)
def test_a_usual_template_is_not_limited(source, text):
    assert prompt(source) == text
