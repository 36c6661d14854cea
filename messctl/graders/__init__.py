"""Graders: rules that decide whether an answer satisfies, with or without a reference."""

from messctl.graders.expect import Grader, expect_regex, expect_text
from messctl.graders.reference import REFERENCE_GRADERS, ReferenceGrader, best_grade, reference_grader

__all__ = [
    "REFERENCE_GRADERS",
    "Grader",
    "ReferenceGrader",
    "best_grade",
    "expect_regex",
    "expect_text",
    "reference_grader",
]
