"""The grader of live answers: zoo.yaml's, and what the user expects of an answer."""

from __future__ import annotations

from messctl.graders import Grader, best_grade, expect_regex, expect_text, reference_grader
from messctl.zoo.grading import Grading


def live_grader(grading: Grading | None, expected: str | None = None) -> Grader | None:
    """Return the grader of a zoo, for an answer with this reference; None if nothing can be graded.

    A grader that compares needs the reference. A regular expression needs none; with one, and without a grader, the
    answer is to contain it. Raises UsageError for a reference that is blank, or that the grader cannot use.
    """
    if expected is None:
        return None if grading is None or grading.pattern is None else expect_regex(grading.pattern)
    contains = expect_text(expected)  # refuses a blank one
    if grading is None or grading.name is None:
        return contains
    rule, references = reference_grader(grading.name), (expected,)
    best_grade(rule, "", references)
    return lambda answer: best_grade(rule, answer, references)
