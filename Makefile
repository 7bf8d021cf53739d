# The two commands that a fresh machine needs. Both install what they lack, reuse what an earlier
# run built, and end with one line. PYTHON=/path/to/python3 chooses the interpreter,
# PYTEST_ARGS="-k words" replaces what `make test` hands to pytest (default: --slow).
PYTHON ?= python3
export PYTEST_ARGS ?= --slow

.PHONY: help demo test

help:
	@echo 'make demo   install the core and refine a small ViT on sample photos'
	@echo 'make test   install everything, then lint, types, tests, wheel and mim'

demo:
	@$(PYTHON) tools/dev/make_demo.py

test:
	@$(PYTHON) tools/dev/make_test.py
