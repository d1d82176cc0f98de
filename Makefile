# make search: sets up .venv and runs the main job.   make test: sets up .venv and runs the tests.
PYTHON ?= python3
PIP := .venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: search test lint clean

search: .venv/ready
	.venv/bin/cmpnas search --budget-mflops 300 --resume

test: .venv/ready
	OMP_NUM_THREADS=1 .venv/bin/pytest -n auto --maxprocesses 4 --dist loadfile

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e '.[dev,workers]'
	touch $@

clean:
	rm -rf .venv .venv-nni build *.egg-info
