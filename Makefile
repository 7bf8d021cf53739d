# The two commands that a fresh machine needs. Both install what they lack, reuse what an earlier
# run built, and end with one line. PYTHON=/path/to/python3 chooses the interpreter,
# PYTEST_ARGS="-k words" replaces what `make test` hands to pytest (default: --slow).
PYTHON ?= python3
export PYTEST_ARGS ?= --slow

.PHONY: help demo demo-long test

help:
	@echo 'make demo       install the core; refine a tiny CLIP on drawn images, table and report.html'
	@echo 'make demo-long  the same with three seeds: mean and spread'
	@echo 'make test       install everything, then lint, types, tests, wheel and mim'

demo:
	@$(PYTHON) tools/dev/make_demo.py

demo-long:
	@$(PYTHON) tools/dev/make_demo.py --seeds 0 1 2

test:
	@$(PYTHON) tools/dev/make_test.py
