# pidwarden: type `make` for what can be done.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
OBJECT := src/pidwarden/bpf/pidwarden.bpf.o
SOURCES := $(wildcard bpf/*.h bpf/*.c)

.DEFAULT_GOAL := help

help: ## show this
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/ready ## set up, then real bombs in a pen beside innocent neighbours: contained, and the story told
	$(BIN)/pidwarden drill

test: .venv/ready lint ## set up, then every test there is
	failed=0; $(BIN)/python -m pytest tests/unit --numprocesses 2 --dist loadfile || failed=1; \
	$(BIN)/python -m pytest --ignore tests/unit || failed=1; exit $$failed

lint: .venv/ready ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

vm-test: .venv/ready ## stock Debian kernels in QEMU: the host's tests, and those that may destroy the machine
	$(BIN)/python -m pytest tests/vm

vm-kernels: .venv/ready ## boot every Debian kernel there is: does it load, which gate, what is missing
	tests/vm/run.py --every-kernel

bench: .venv/ready ## measure what the README says, into bench/results.md
	$(BIN)/python bench/run.py

corpus: .venv/ready ## run real workloads, innocent and guilty, against the guard, into bench/corpus/results.md
	bench/corpus/setup.sh
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[corpus]'
	$(BIN)/python bench/corpus/run.py

abi: $(OBJECT) ## generate the Python side of bpf/abi.h and bpf/trace_abi.h again
	$(BIN)/python tools/gen_abi.py $(OBJECT) src/pidwarden/kernel/abi.py abi.h pw_
	$(BIN)/python tools/gen_abi.py src/pidwarden/bpf/trace.bpf.o src/pidwarden/trace/abi.py trace_abi.h tr_

build: $(OBJECT) ## compile the BPF objects

setup: .venv/ready ## install what is needed, and nothing else

clean: ## remove what was built
	rm -rf .venv build dist src/pidwarden/bpf .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(OBJECT): $(SOURCES) .venv/ready
	$(BIN)/python -c 'import sys; sys.path.insert(0, "tools"); from pathlib import Path; \
	from hatch_build import compile_objects; print(*compile_objects(Path(".")))'

.venv/ready: pyproject.toml tools/hatch_build.py tools/setup.sh $(SOURCES)
	tools/setup.sh
	test -x $(BIN)/python || $(or $(PYTHON),python3) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

.PHONY: help demo test lint vm-test vm-kernels bench corpus abi build setup clean
