# Bucket Brigade. `make` or `make help` lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
# Arguments for the program behind a target, e.g. make demo ARGS=--quick
ARGS ?=
# make fuzz PACKETS=10000 SEED=7, make libfuzzer SECONDS=60
PACKETS ?= 1000000
SEED ?=
SECONDS ?= 300

SHELL_SCRIPTS := .ci/run $(wildcard scripts/* tests/vm/*.sh) $(addprefix deploy/examples/,announce withdraw)
C_CODE = $(sort $(shell find bpf tests -name '*.[ch]' 2>/dev/null))

.PHONY: help setup demo test field vm lint fmt type bench histories mutants fuzz libfuzzer lock clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' \
		| while IFS='|' read -r target text; do printf '  make %-9s %s\n' "$$target" "$$text"; done

setup: ## install what is missing (apt packages, .venv with locked dependencies)
	@scripts/setup

demo: setup ## build a network of namespaces and show the load balancer at work (ARGS=--quick)
	@scripts/as-root $(VENV)/bin/lbctl demo $(ARGS)

test: setup ## every test that this machine can run (ARGS='-k name' for some of them)
	@scripts/test $(ARGS)

field: setup ## what needs a whole site for long: faults found in operation (ARGS='-k name')
	@scripts/test tests/netns/field $(ARGS)

vm: setup ## stock Debian kernels under QEMU, other releases' bcc (ARGS=--list, ARGS=debian12)
	@scripts/vm $(ARGS)

lint: setup ## ruff, mypy, shellcheck, clang-format, all of them; changes nothing
	@status=0; \
	check() { echo "$${*:1:4}"; "$$@" || status=1; }; \
	check $(PY) -m ruff check .; \
	check $(PY) -m ruff format --check .; \
	check $(PY) -m mypy; \
	if command -v shellcheck >/dev/null; then check shellcheck --external-sources $(SHELL_SCRIPTS); \
	else echo 'shellcheck is not installed: shell scripts were not checked (apt-get install shellcheck)'; fi; \
	if [ -n "$(C_CODE)" ]; then check $(VENV)/bin/clang-format --dry-run --Werror $(C_CODE); fi; \
	exit $$status

type: setup ## mypy --strict alone
	$(PY) -m mypy

fmt: setup ## format Python and C in place
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .
	@if [ -n "$(C_CODE)" ]; then $(VENV)/bin/clang-format -i $(C_CODE); fi

bench: setup ## what a packet costs, what a table costs
	@scripts/as-root $(VENV)/bin/lbctl bench dataplane $(ARGS)
	@$(VENV)/bin/lbctl bench control $(ARGS)

histories: setup ## all histories of one bucket, everything that can happen at once (minutes)
	@$(PY) -m tests.property.one_bucket

mutants: setup ## break the code on purpose, one way at a time: the tests must notice
	@scripts/as-root $(PY) -m tests.mutants $(ARGS)

fuzz: setup ## a million packets through both programs and the model (PACKETS=n SEED=s)
	@scripts/as-root $(PY) -m tests.fuzz --packets $(PACKETS) $(if $(SEED),--seed $(SEED)) $(ARGS)

libfuzzer: setup ## the programs as ordinary C under libFuzzer and sanitizers (SECONDS=n SEED=s)
	@$(PY) -m tests.fuzz.libfuzzer --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

lock: setup ## lock the dependencies anew (needs uv: .venv/bin/pip install uv)
	@scripts/lock

clean: ## remove what set-up, tests and builds made in this folder
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
