"""Tables that fit: what they show at any width."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from messctl.display.tables import Named, fitting, named

ROWS = (("mini-1m", "1,329,408", "0.000266", "What is 17 + 25, and what is it doubled?"), ("pico", "34,624", "", "Hi"))


def table(**options):
    made = Table(**{"box": None, "padding": (0, 1), "pad_edge": False, **options})
    for heading in ("model", "all parameters", "J/token", "prompt"):
        made.add_column(heading, justify="left" if heading in ("model", "prompt") else "right")
    for row in ROWS:
        made.add_row(*row)
    return made


def shown(made, width):
    screen = Console(file=io.StringIO(), width=10**4, highlight=False, markup=False)
    screen.print(made)
    lines = [line.rstrip() for line in screen.file.getvalue().splitlines()]
    assert max(map(cell_len, lines)) <= width
    return lines


def test_a_table_that_fits_stays_a_table():
    lines = shown(fitting(table(), 100, folding=("prompt",)), 100)
    assert [line.split("  ")[0] for line in lines] == ["model", "mini-1m", "pico"]
    assert lines[1].endswith(ROWS[0][3])


def test_headings_and_folding_columns_are_folded_but_not_numbers():
    assert shown(fitting(table(), 46, folding=("prompt",)), 46) == [
        "                  all",
        "model      parameters   J/token  prompt",
        "mini-1m     1,329,408  0.000266  What is 17 +",
        "                                 25, and what",
        "                                 is it",
        "                                 doubled?",
        "pico           34,624            Hi",
    ]


def test_the_least_important_columns_are_left_out():
    lines = shown(fitting(table(), 40, folding=("prompt",), least_first=("J/token", "all parameters")), 40)
    assert lines[0] == "model    all parameters  prompt"
    assert lines[1] == "mini-1m       1,329,408  What is 17 +"


def test_a_table_that_is_too_wide_has_a_line_for_every_cell():
    lines = shown(fitting(table(), 40), 10**4)
    assert lines == [
        "model           mini-1m",
        "all parameters  1,329,408",
        "J/token         0.000266",
        f"prompt          {ROWS[0][3]}",
        "",
        "model           pico",
        "all parameters  34,624",
        "prompt          Hi",
    ]


@pytest.mark.parametrize("options", [{}, {"box": Table().box, "pad_edge": True}, {"padding": (0, 1, 0, 0)}])
@given(width=st.integers(20, 140))
def test_no_cell_is_lost_at_any_width(options, width):
    screen = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    screen.print(fitting(table(**options), width, folding=("prompt",)))
    text = screen.file.getvalue()
    assert max(map(cell_len, text.splitlines())) <= width
    for row in ROWS:
        assert set(" ".join(row[:3]).split()) <= set(text.split())
    assert set(ROWS[0][3].split()) <= set(text.split())


NAMED = [
    Named("state", "here"),
    Named("virtual queue (debt)", "1.000: at most this many satisfying answers are missing"),
]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (80, ["state                 here", f"virtual queue (debt)  {NAMED[1].value}"]),
        (
            46,
            [
                "state                 here",
                "virtual queue (debt)  1.000: at most this many",
                "                      satisfying answers are",
                "                      missing",
            ],
        ),
        (
            30,
            [
                "state",
                "  here",
                "virtual queue (debt)",
                "  1.000: at most this many",
                "  satisfying answers are",
                "  missing",
            ],
        ),
    ],
)
def test_values_stand_beside_their_names_or_below_them(width, lines):
    screen = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    screen.print(named(NAMED, width))
    assert [line.rstrip() for line in screen.file.getvalue().splitlines()] == lines


@given(width=st.integers(22, 140))
def test_no_word_of_a_value_is_broken_at_any_width(width):
    screen = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    screen.print(named(NAMED, width))
    text = screen.file.getvalue()
    assert max(map(cell_len, text.splitlines())) <= width
    assert {word for row in NAMED for word in f"{row.name} {row.value}".split()} == set(text.split())
