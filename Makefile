# One command each. `make` alone lists them.
PYTHON ?= python3
PY := .venv/bin/python
MODELS_ROOT ?= $(CURDIR)/models
export MODELS_ROOT
# Where it is set, each of the many programs that the tests start compiles the code again.
unexport PYTHONDONTWRITEBYTECODE
# Processes of `make test`: more than there are processors, because tests mostly wait. Each process starts its own services.
PROCESSES ?= 5
CHECKED := src ra_app local tests $(if $(wildcard bench/*.py),bench)

.DEFAULT_GOAL := help
.PHONY: help env demo demo-check demo-reset models browser test reliability reliability-long ra-faults bench bench-data bench-speech bench-verdicts bench-archive bench-growth bench-gpu bench-coverage ra-measure fleet fleet-keep fleet-runbook fleet-down check format screenshots docs lock clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

env: ## create or refresh .venv from locks/cpu.txt (does nothing if the lock has not changed)
	@$(PYTHON) local/make_env.py

demo: env ## run the whole system on this machine: services, workers, sample clips, RA app; stop with Ctrl-C
	@$(PY) -m local.demo run

demo-check: env ## run the demo once, compare the results with the manifest, and stop; exit code 0 if all checks pass
	@$(PY) -m local.demo check

demo-reset: env ## delete the demo's data (.demo/); keep the models and the environment
	@$(PY) -m local.demo reset

models: env ## fetch and verify the small models of the demo and the tests
	@cd src && ../$(PY) -m models fetch demo

browser: env ## find or install a Chromium for the browser tests
	@$(PY) -m local.demo_browser

test: env models browser ## all tests, against real services; ARGS="-k name" for some, ARGS="-n 0 FILE" for one file
	@$(PY) -m pytest -n $(PROCESSES) --dist loadfile --durations=10 $(ARGS)

reliability: env models browser ## process 1,000 clips while workers and services are killed, paused and cut off (about 40 minutes); SEED=n
	@$(PY) -m pytest -q -m thorough
	@$(PY) -m pytest -q tests/reliability
	@PYTHONPATH=src:. $(PY) -m tests.reliability.chaos --seed $(or $(SEED),1) --clips 1000
	@PYTHONPATH=src:. $(PY) -m tests.reliability.fault_points
	@PYTHONPATH=src:. $(PY) -m tests.reliability.recovery_times
	@PYTHONPATH=src:ra_app:. $(PY) -m tests.reliability.ra_faults --seed $(or $(SEED),1) --faults 100

reliability-long: env ## the reliability tests for a release: 20 seeds of 1,000 clips (about an hour)
	@PYTHONPATH=src:. $(PY) -m tests.reliability.chaos --seed $(or $(SEED),1) --runs 20 --clips 1000
	@PYTHONPATH=src:. $(PY) -m tests.reliability.fault_points
	@PYTHONPATH=src:. $(PY) -m tests.reliability.recovery_times --workers 32

ra-faults: env browser ## 1,000 faults while a reviewer works in the RA app: no label and no draft may be lost (about 25 minutes); SEED=n
	@PYTHONPATH=src:ra_app:. $(PY) -m tests.reliability.ra_faults --seed $(or $(SEED),1) --faults 1000

bench: bench-speech bench-verdicts bench-archive bench-growth ## all measurements that need no GPU (hours on two cores; docs/performance.md)

bench-data: env ## fetch the recordings of the measurements and list the clips made of them (BENCH_DATA: where to)
	@PYTHONPATH=src:. $(PY) -m bench.clips $(ARGS)

bench-speech: env models ## our speech engine against WhisperX and faster-whisper, on the same clips; ARGS="--clips 12" for few
	@PYTHONPATH=src:. $(PY) -m bench.speech $(ARGS)

bench-verdicts: env models ## our scorer with full policies against one generate per text, and padded batches; ARGS="--texts 100 --few 16"
	@PYTHONPATH=src:. $(PY) -m bench.verdicts $(ARGS)

bench-archive: env models ## archive to verdicts: the workers of this tree against those of an earlier commit
	@PYTHONPATH=src:. $(PY) -m bench.worker $(ARGS)

bench-growth: env ## what a clip costs when there are 10 to 10,000 of them, with stub models
	@PYTHONPATH=src:. $(PY) -m bench.growth $(ARGS)

bench-gpu: env models ## real shapes with random weights on a GPU, within 8 minutes; ARGS=--small without one
	@PYTHONPATH=src:. $(PY) -m bench.gpu $(ARGS)

bench-coverage: env ## how often the intervals of the RA app's statistics hold the true value in simulated studies; ARGS="--runs 200"
	@PYTHONPATH=src:ra_app:. $(PY) -m bench.coverage $(ARGS)

ra-measure: env browser ## the measures of the RA app, its screen in a real Chromium (about 40 minutes); ARGS="--only swap cold"
	@PYTHONPATH=src:.:ra_app $(PY) -m bench.ra_screen $(ARGS)

fleet: env models ## deploy to test hosts on this machine and run all scenarios (needs root and systemd-nspawn); ARGS="--only NAME"
	@$(PY) -m tests.fleet.run $(ARGS)

fleet-keep: env models ## run fleet and keep the hosts running afterwards; ARGS="--only site" only deploys
	@$(PY) -m tests.fleet.run --keep $(ARGS)

fleet-runbook: env models ## test every playbook with --check and the troubles of docs/operations.md on a new fleet
	@$(PY) -m tests.fleet.run --only site check deploy rollback rehearse refused-later restarts troubles

fleet-down: env ## stop the test hosts and delete all files of the fleet
	@$(PY) -m tests.fleet.down $(ARGS)

check: env ## lint, format and types: what CI runs before the tests
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy $(CHECKED)

format: env ## format the code and apply safe lint fixes
	@$(PY) -m ruff check --fix-only --quiet .
	@$(PY) -m ruff format .

screenshots: env browser ## the pictures of docs/ra-guide.md and docs/lead-guide.md, on sample clips with invented speech
	@PYTHONPATH=src:ra_app:. $(PY) -m tests.ra_app.screenshots
	@PYTHONPATH=src:ra_app:. $(PY) -m tests.ra_app.lead_screenshots

docs: env ## generate docs/cli.md from the help texts of the command line
	@PYTHONPATH=src $(PY) -m typer src/cli.py utils docs --name audio-pipeline --output docs/cli.md

lock: env ## resolve the requirements files into locks/
	@sh local/lock.sh

clean: ## delete the environment and all caches; the demo's data and the models stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
