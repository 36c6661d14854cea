"""Prompt files in every format, and the errors of bad ones."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messctl.errors import SourceError
from messctl.record.prompts import Prompt, read_prompts

RECORDS = [
    {"request_id": "a", "prompt": "What is 2 + 2?", "reference": "4", "source": "sums"},
    {"request_id": "b", "prompt": 'Name a\nriver, "the" largest.', "reference": "Amazon", "source": "facts"},
]
EXPECTED = tuple(Prompt(each["request_id"], each["prompt"], (each["reference"],), each["source"]) for each in RECORDS)


def write(path, records):
    """Write records in the format that the suffix says."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    elif path.suffix == ".json":
        path.write_text(json.dumps(records))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        rows = [list(records[0]), *(list(record.values()) for record in records)]
        quoted = (",".join('"' + str(cell).replace('"', '""') + '"' for cell in row) for row in rows)
        path.write_text("\n".join(quoted) + "\n")
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_every_format_reads_the_same(tmp_path, suffix):
    read = read_prompts(write(tmp_path / f"p.{suffix}", RECORDS))
    assert (read.prompts, read.skipped) == (EXPECTED, ())


def test_a_text_file_has_a_prompt_per_line(tmp_path):
    (tmp_path / "p.txt").write_bytes("\ufeffWhat is 2 + 2?\r\n\n  Name a river. \n".encode())
    assert read_prompts(tmp_path / "p.txt").prompts == (Prompt("1", "What is 2 + 2?"), Prompt("3", "Name a river."))


def test_numbers_become_text_and_blank_fields_are_missing(tmp_path):
    numbered = {"prompt": "x", "reference": 42, "request_id": 7, "source": " "}
    path = write(tmp_path / "p.jsonl", [numbered, {"prompt": "y", "reference": True}])
    assert read_prompts(path).prompts == (Prompt("7", "x", ("42",)), Prompt("2", "y", ("true",)))


@pytest.mark.parametrize(
    ("reference", "references"),
    [
        (["42", "forty-two"], ("42", "forty-two")),
        ([42, 42.5, True], ("42", "42.5", "true")),
        (["42", " 42 "], ("42",)),
        ([], ()),
        (None, ()),
        ("", ()),
        ("['42', 'forty-two']", ("['42', 'forty-two']",)),
        ('["42"]', ('["42"]',)),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_each_text_of_a_list_is_a_reference_and_a_text_stays_as_it_is(tmp_path, suffix, reference, references):
    mixed = isinstance(reference, list) and len({type(each) for each in reference}) > 1
    if suffix == "parquet" and mixed:
        pytest.skip("a column of Parquet has one type")
    path = write(tmp_path / f"p.{suffix}", [{"prompt": "x", "reference": reference}])
    assert read_prompts(path).prompts == (Prompt("1", "x", references),)


def test_a_number_that_is_missing_in_a_parquet_file_is_no_reference(tmp_path):
    path = write(
        tmp_path / "p.parquet", [{"prompt": "x", "reference": float("nan")}, {"prompt": "y", "reference": 2.5}]
    )
    assert [prompt.references for prompt in read_prompts(path).prompts] == [(), ("2.5",)]


def test_a_cell_of_a_csv_file_is_one_text(tmp_path):
    (tmp_path / "p.csv").write_text("prompt,reference\n\"['a', 'b']\",\"['b', 'a']\"\n")
    assert read_prompts(tmp_path / "p.csv").prompts == (Prompt("1", "['a', 'b']", ("['b', 'a']",)),)


BAD = [
    ('{"prompt": "x"', "line 2: is not JSON"),
    ("[1]", "line 2: is a list, but must be an object"),
    ('{"prompt": " "}', "line 2, column 'prompt': is empty"),
    ('{"promt": "x"}', "line 2: 'prompt' is missing (did you mean 'promt'?)"),
    ('{"prompt": {}}', "line 2, column 'prompt': is an object, but must be text"),
    ('{"prompt": ["x", "y"]}', "line 2, column 'prompt': is a list, but must be text"),
    ('{"prompt": "x", "reference": ["4", ["5"]]}', "line 2, column 'reference[2]': is a list, but must be text"),
    ('{"prompt": "x", "reference": ["4", null]}', "line 2, column 'reference[2]': is empty; fill it, or remove it"),
    ('{"prompt": "x", "reference": [" "]}', "line 2, column 'reference[1]': is empty"),
    ('{"prompt": "x", "reference": {"any": ["4"]}}', "line 2, column 'reference': is an object, but must be text"),
    ('{"prompt": "x", "refrence": "4"}', "line 2: 'reference' is missing (did you mean 'refrence'?)"),
    ('{"prompt": "x", "request_id": "1"}', "line 2, column 'request_id': '1' appears twice"),
    ('{"prompt": "x", "reference": "forty"}', "line 2, column 'reference': no number"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_a_bad_line_is_reported_or_skipped_and_counted(tmp_path, line, message):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "first", "reference": "1"}\n' + line + '\n{"prompt": "last", "reference": "3"}\n')

    def check(references):
        return None if all(each.isdigit() for each in references) else "no number"

    with pytest.raises(SourceError) as raised:
        read_prompts(path, check=check)
    assert message in str(raised.value)
    assert "--skip-bad" in str(raised.value)
    read = read_prompts(path, skip_bad=True, check=check)
    assert [prompt.prompt for prompt in read.prompts] == ["first", "last"]
    assert len(read.skipped) == 1
    assert message in read.skipped[0]


def test_bytes_that_are_not_text_and_incomplete_rows_are_reported(tmp_path):
    (tmp_path / "p.jsonl").write_bytes(b'{"prompt": "a"}\n{"prompt": "\xff"}\n')
    with pytest.raises(SourceError, match="line 2: is not UTF-8"):
        read_prompts(tmp_path / "p.jsonl")
    assert len(read_prompts(tmp_path / "p.jsonl", skip_bad=True).prompts) == 1
    (tmp_path / "p.txt").write_bytes("What is 2 + 2?\n".encode("utf-16-le"))
    with pytest.raises(SourceError, match="line 1: has NUL bytes, as UTF-16 text has; convert it to UTF-8"):
        read_prompts(tmp_path / "p.txt")
    (tmp_path / "p.csv").write_text("prompt,reference\na,1\nb\nc,3\n")
    with pytest.raises(SourceError, match="row 2: has 1 cells"):
        read_prompts(tmp_path / "p.csv")
    assert [each.prompt for each in read_prompts(tmp_path / "p.csv", skip_bad=True).prompts] == ["a", "c"]
    (tmp_path / "p.csv").write_text('prompt,reference\na,1\n"b"x,2\nc,3\n')
    with pytest.raises(SourceError, match="row 2: is not CSV"):
        read_prompts(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", b"", "has no prompts; add some"),
        ("p.jsonl", b"{}\n", "has no usable prompts; correct them"),
        ("p.parquet", b"PAR1", "not a Parquet file"),
        ("p.json", b"{}", "is not a list .…. of objects"),
        ("p.csv", b"", "is empty"),
        ("gone.jsonl", None, "cannot be read"),
    ],
)
def test_a_file_without_prompts_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        read_prompts(tmp_path / name, skip_bad=True)


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5))
def test_any_text_survives(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("p") / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    read = read_prompts(path)
    assert len(read.prompts) == len(texts)
    for prompt, text in zip(read.prompts, texts, strict=True):
        assert prompt.prompt == text.strip()


def test_a_lone_surrogate_becomes_the_replacement_character(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a \\ud800 b"}\n')
    assert read_prompts(tmp_path / "p.jsonl").prompts == (Prompt("1", "a \ufffd b"),)
