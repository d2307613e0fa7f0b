# Everything is set up by uv: the one on the PATH, else one in .venv-uv, installed on first use.
# Without make, type what is after $(UV): uv run pytest
UV ?= $(if $(shell uv --version 2>/dev/null),uv,.venv-uv/bin/uv)
PYTHON ?= python3
ARGS ?=
export DEMO_ONCE ?=
export DEMO_MODEL ?=

.PHONY: demo test check bench limits-report ingestion-report bodies-report

demo: $(filter .venv-uv/%,$(UV))  ## render the defaults, serve them, stream one answer; by a small model: DEMO_MODEL=smollm2
	exec "$(UV)" run python scripts/demo.py

test: $(filter .venv-uv/%,$(UV))  ## render the variants, check and test them: ARGS="-k NAME", names by ARGS="--collect-only -q"
	"$(UV)" run pytest $(ARGS)

check: $(filter .venv-uv/%,$(UV))  ## lint and type-check the template's own code
	"$(UV)" run ruff check . && "$(UV)" run ruff format --check . && "$(UV)" run mypy

bench: $(filter .venv-uv/%,$(UV))  ## compare the service with peers and with a raw relay
	"$(UV)" run --group bench python -m bench $(ARGS)

limits-report: $(filter .venv-uv/%,$(UV))  ## measure the sliding window beside other limiters
	"$(UV)" run --script bench/limits_report.py

ingestion-report: $(filter .venv-uv/%,$(UV))  ## measure the service's latency while it ingests
	"$(UV)" run --group bench python -m bench.ingestion $(ARGS)

bodies-report: $(filter .venv-uv/%,$(UV))  ## measure for how long one request body can hold the event loop
	"$(UV)" run --group bench python -m bench.bodies

.venv-uv/bin/uv:
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check uv
