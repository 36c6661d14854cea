# What a developer types; .ci/run does the same in a fresh environment.
.PHONY: dev check test bench clean

dev:            ## an editable installation with everything, and nothing left of what was compiled before
	python -m pip install -e '.[dev]'
	find messctl -name '*.nb[ic]' -delete

check:          ## lint, format, types, layers
	ruff check .
	ruff format --check .
	mypy
	lint-imports

test:           ## all tests
	python -m pytest

bench:          ## speed, as ratios against a rival in the same run
	python benchmarks/replay_speed.py
	python benchmarks/tune_speed.py
	python benchmarks/generation_speed.py messctl/box/mini-1m.gguf
	python benchmarks/routing_latency.py

clean:
	rm -rf build dist .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
