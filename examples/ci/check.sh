#!/usr/bin/env bash
# Lets every model of the zoo beside this script answer the prompts beside it, plays the answers through the router, and
# fails if the promise is not kept. Usage: check.sh [FOLDER]. The trace is written into FOLDER.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
trace=${1:-.}/trace.parquet

messctl record "$here/prompts.jsonl" -o "$trace" --zoo "$here/zoo.yaml" --grader exact --overwrite
messctl replay "$trace" --zoo "$here/zoo.yaml" --shuffle --seeds 10 --require-sla
