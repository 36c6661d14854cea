"""Traces: one Parquet row per request, with each model's answer, cost and satisfaction."""

from messctl.records import Outcome
from messctl.trace.check import Problem, check
from messctl.trace.format import CostBasis, Row, TraceMetadata, column, schema
from messctl.trace.reader import Batch, TraceFile, is_sqlite
from messctl.trace.summary import ModelSummary, TraceSummary, summarise
from messctl.trace.writer import TraceWriter

__all__ = [
    "Batch",
    "CostBasis",
    "ModelSummary",
    "Outcome",
    "Problem",
    "Row",
    "TraceFile",
    "TraceMetadata",
    "TraceSummary",
    "TraceWriter",
    "check",
    "column",
    "is_sqlite",
    "schema",
    "summarise",
]
