"""The reference graders, by tables of (answer, reference, verdict) with many difficult answers."""

import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from messctl.errors import GradeError, UnknownNameError, UsageError
from messctl.graders import REFERENCE_GRADERS, best_grade, reference_grader
from messctl.graders.expect import LONGEST
from messctl.graders.numbers import normalized, numbers

EXACT = [
    ("42", "42", 1),
    (" 42\n", "42", 1),
    ("New  York\tCity", "New York City", 1),
    ("caf\u0065\u0301", "caf\u00e9", 1),
    ("Paris", "paris", 0),
    ("Paris.", "Paris", 0),
    ("It is 42", "42", 0),
    ("", "42", 0),
]
CONTAINS = [
    ("It is 42.", "42", 1),
    ("142", "42", 0),
    ("-42", "42", 0),
    ("−42", "-42", 1),
    ("42.5", "42", 0),
    ("the capital is PARIS!", "Paris", 1),
    ("Parisian", "Paris", 0),
    ("٤٢", "42", 1),
    ("\uff14\uff12 apples", "42", 1),
    ("new\n york", "New York", 1),
    ("", "42", 0),
]
REGEX = [
    ("It is 42.", r"\b42\b", 1),
    ("It is 421.", r"\b42\b", 0),
    ("Paris", r"(?i)^paris$", 1),
    ("", r"^$", 1),
]
NUMERIC = [
    ("0.00000001", "0", 0),
    ("0.0000000000001", "0", 1),
    ("2^300", str(2**300), 1),
    ("10^999", f"1{'0' * 300}", 0),
    ("7, less than 10000000000000000000^999", "7", 1),  # too long to be an answer
    ("99^-1", "1/99", 1),
    ("42", "42", 1),
    ("42.", "42", 1),
    ("It is 42.", "42", 1),
    ("42.0", "42", 1),
    ("042", "42", 1),
    ("1,234", "1234", 1),
    ("1,234,567.89", "1234567.89", 1),
    ("1234567.89", "1,234,567.89", 1),
    ("1'234", "1234", 1),
    ("1_000_000", "1000000", 1),
    ("1\u202f234 km", "1234", 1),
    ("1 234 567", "1234567", 1),
    ("3,5", "3.5", 1),
    ("12,34", "12.34", 1),
    ("$1,234.50", "1234.5", 1),
    ("-$5", "-5", 1),
    ("€ 20", "20", 1),
    ("42 km/h", "42", 1),
    ("42km", "42", 1),
    ("50%", "50", 1),
    ("50 percent", "50%", 1),
    ("−5", "-5", 1),
    ("–5", "-5", 1),
    ("\uff0d5", "-5", 1),
    ("-5", "5", 0),
    ("5", "-5", 0),
    ("17 - 5 = 12", "12", 1),
    ("17-5", "5", 1),
    ("pages 3-5", "5", 1),
    ("٤٢", "42", 1),
    ("४२", "42", 1),
    ("\uff14\uff12", "42", 1),
    ("٣٫٥", "3.5", 1),
    ("١٬٢٣٤٫٥", "1234.5", 1),
    ("½", "0.5", 1),
    ("-½", "-0.5", 1),
    ("2½ hours", "2.5", 1),
    ("2 1/2 hours", "2.5", 1),
    ("-2 1/2", "-2.5", 1),
    (r"\boxed{2\frac{1}{2}}", "2.5", 1),
    (r"2\frac12", "2.5", 1),
    ("in 2019 1/2 of them", "0.5", 1),
    ("2 1/0", "2", 0),
    ("0,125", "0.125", 1),
    ("1.234,5", "1234.5", 1),
    ("1.234.567", "1234567", 1),
    ("1.234", "1.234", 1),
    ("6.02×10²³", "6.02e23", 1),
    ("5⋅10⁻³", "0.005", 1),
    ("10²", "100", 1),
    ("2^{10}", "1024", 1),
    ("2^-1", "0.5", 1),
    ("0^-1", "0", 0),
    ("9^9999", "9", 0),
    ("7 x 100", "100", 1),
    ("5 × 103", "103", 1),
    ("12 cm^2", "12", 1),
    ("12 m²", "12", 1),
    ("3 m s^{-1}", "3", 1),
    ("3 m·s⁻¹", "3", 1),
    (r"\boxed{42}", "42", 1),
    (r"So \( \boxed{42} \). I checked 3 times.", "42", 1),
    (r"\boxed{1{,}234}", "1234", 1),
    (r"\boxed{\frac{3}{4}}", "0.75", 1),
    (r"\boxed{\dfrac{1}{2}\text{ cm}}", "1/2", 1),
    (r"\boxed{\text{about } 7}", "7", 1),
    (r"first \boxed{1}, then \boxed{2}", "2", 1),
    (r"$\frac34$", "3/4", 1),
    ("3/4", "0.75", 1),
    ("0.333333333", "1/3", 1),
    ("0.33", "1/3", 0),
    ("6.02×10^23", "6.02e23", 1),
    (r"6.02 \times 10^{23}", "6.02e23", 1),
    ("1.5e-3", "0.0015", 1),
    ("1e3", "1000", 1),
    ("The answer is 42, because 6 times 7 is 42 and not 41.", "42", 1),
    ("6 * 7 = 42", "42", 1),
    ("x = 3 and y = 4", "4", 1),
    ("#### 42", "42", 1),
    ("Reasoning with 3 and 4.\n#### 7\n", "7", 1),
    ("Answer: 42 (see page 3)", "42", 1),
    ("first 41, no: 42", "42", 1),
    ("42 or 43", "42", 0),
    ("forty-two", "42", 0),
    ("v2 of it", "2", 0),
    ("x1", "1", 0),
    ("", "42", 0),
    ("no idea", "0", 0),
    ("0", "0", 1),
    ("-0", "0", 1),
    ("9" * 500, "1", 0),
    ("9" * 5000, "1", 0),
    ("1/" + "9" * 5000, "1", 0),
    ("1e999999", "1", 0),
]
CHOICE = [
    ("B", "B", 1),
    ("b", "B", 1),
    (" B.\n", "B", 1),
    ("(B)", "B", 1),
    ("[b]", "B", 1),
    ("**B**", "B", 1),
    ('"B"', "B", 1),
    ("\uff22", "B", 1),
    ("B) Paris", "B", 1),
    ("B. Paris", "B", 1),
    ("B: Paris", "(B)", 1),
    ("(B) Paris, since A is not", "B", 1),
    (r"\boxed{B}", "B", 1),
    (r"Not A. \boxed{\text{B}}", "B", 1),
    ("The answer is B.", "B", 1),
    ("The correct answer is (B), not (C).", "B", 1),
    ("the answer is: **B**", "B", 1),
    ("Answer: b", "B", 1),
    ("I would choose option C", "C", 1),
    ("It must be B, I think", "B", 1),
    ("It must be A.", "A", 1),
    ("I'd go with A", "A", 1),
    ("A is correct", "A", 1),
    ("A is the right answer", "A", 1),
    ("A is a letter", "A", 0),
    ("It is a dog. A dog!", "A", 0),
    ("**Answer:** A", "A", 1),
    ("<answer>A</answer>", "A", 1),
    ("Answer: I think it is D", "D", 1),
    ("The answer is I.", "I", 1),
    ("A, because B is wrong", "A", 1),
    ("B, because it cannot be A.", "B", 1),
    ("A, B", "A", 0),
    ("I, for one, would say C", "C", 1),
    ("I think so", "I", 0),
    ("A dog", "A", 0),
    ("A", "A", 1),
    ("A.", "A", 1),
    ("Both B and C", "B", 0),
    ("The answer is: B or C", "B", 0),
    ("(B) or (C)", "B", 0),
    ("Paris", "B", 0),
    ("Because", "B", 0),
    ("e.g. this", "E", 0),
    ("A", "B", 0),
    ("", "B", 0),
    ("Vitamin B is one, so D", "D", 0),
    ("The answer is a dog", "A", 0),
    ("B", "B) Paris", 1),
]
TABLES = {"exact": EXACT, "contains": CONTAINS, "regex": REGEX, "numeric": NUMERIC, "choice": CHOICE}


def test_every_grader_has_a_table():
    assert TABLES.keys() == REFERENCE_GRADERS.keys()


@pytest.mark.parametrize(
    ("name", "answer", "reference", "verdict"),
    [(name, *row) for name, table in TABLES.items() for row in table],
)
def test_each_answer_gets_the_expected_verdict(name, answer, reference, verdict):
    assert reference_grader(name)(answer, reference) == verdict


@pytest.mark.parametrize(
    ("name", "reference", "message"),
    [
        ("numeric", "forty", "has 0 numbers; `numeric` needs exactly one"),
        ("numeric", "1 or 2", "has 2 numbers"),
        ("numeric", "1/0", "'1/0' has 0 numbers"),
        ("numeric", "0/0", "has 0 numbers"),
        ("numeric", "-3 / (0.0)", "has 0 numbers"),
        ("numeric", r"\frac{1}{0}", "has 0 numbers"),
        ("choice", "Paris", "no option letter"),
        ("regex", "(", "not a regular expression"),
        ("contains", " ", "empty"),
    ],
)
def test_an_unusable_reference_is_refused(name, reference, message):
    with pytest.raises(UsageError, match=message):
        best_grade(reference_grader(name), "", [reference])


@pytest.mark.parametrize(
    ("name", "answer", "references", "verdict"),
    [
        ("exact", "forty-two", ["42", "forty-two"], 1),
        ("exact", "42\nforty-two", ["42", "forty-two"], 0),
        ("contains", "It is 42.", ["42", "forty-two"], 1),
        ("contains", "It is forty.", ["42", "forty-two"], 0),
        ("regex", "4 2", ["^42$", r"^4\s2$"], 1),
        ("numeric", "42", ["forty-two", "42"], 1),
        ("numeric", "41", ["forty-two", "42"], 0),
        ("choice", "(B)", ["Paris", "B"], 1),
        ("choice", "(C)", ["A", "B"], 0),
    ],
)
def test_any_reference_of_a_list_is_accepted(name, answer, references, verdict):
    assert best_grade(reference_grader(name), answer, references) == verdict


@pytest.mark.parametrize(
    ("name", "references", "message"),
    [
        ("numeric", [], "there is no reference"),
        ("numeric", ["forty", "two"], "has 0 numbers"),
        ("choice", ["Paris", "Rome"], "no option letter"),
        ("regex", ["42", "("], "not a regular expression"),
    ],
)
def test_a_list_without_a_usable_reference_is_refused(name, references, message):
    with pytest.raises(UsageError, match=message):
        best_grade(reference_grader(name), "42", references)


def test_an_unknown_grader_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'numeric'"):
        reference_grader("numerik")


@pytest.mark.parametrize("name", REFERENCE_GRADERS)
def test_what_is_too_long_is_not_graded(name):
    right, long = {"numeric": "7", "choice": "B"}.get(name, "x"), "x" * (LONGEST + 1)
    with pytest.raises(GradeError, match="the answer has 1,048,577 characters"):
        best_grade(reference_grader(name), long, [right])
    with pytest.raises(UsageError, match="the reference has 1,048,577 characters"):
        best_grade(reference_grader(name), "", [long])


def test_no_answer_is_a_number_divided_by_zero():
    assert reference_grader("numeric")("1/0", "1") == 0.0
    assert reference_grader("numeric")("The answer is 4, not 4/0", "4") == 1.0


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_no_character_becomes_more_than_six(form):
    assert all(len(normalized(form, chr(code))) <= 6 for code in range(sys.maxunicode + 1))
    assert normalized("NFKC", "５ﷺ½") == "5ﷺ1⁄2"


@pytest.mark.parametrize("name", REFERENCE_GRADERS)
@given(answer=st.text(), right=st.sampled_from(["7", "B"]))
def test_any_text_gets_a_verdict_of_0_or_1(name, answer, right):
    if name == "numeric":
        right = "7"
    if name == "choice":
        right = "B"
    assert reference_grader(name)(answer, right) in (0.0, 1.0)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{:d}", "{:,d}", "{:_d}", "It is {:d}.", r"\boxed{{{:,d}}}"]))
def test_integers_are_read_in_every_notation(number, form):
    text = form.format(number)
    assert numbers(text.replace("-", "−"))[-1] == number
    assert reference_grader("numeric")(text, str(number)) == 1.0
    assert reference_grader("numeric")(text, str(number + 1)) == (1.0 if abs(number) >= 10**6 else 0.0)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12))
def test_decimals_are_read_in_every_notation(number):
    assume(number == 0 or abs(number) > 1e-3)
    for text in (f"{number:.3f}", f"{number:,.3f}", f"{number!r}"):
        wanted = f"{float(text.replace(',', '')):.20f}"
        assert reference_grader("numeric")(f"so: {text}.", wanted) == 1.0
