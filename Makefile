# The commands that a fresh machine needs. They install what they lack, reuse what an earlier run
# built, and end with one line. PYTHON=/path/to/python3 chooses the interpreter, VENV=/folder the
# environment, PYTEST_ARGS="-k words" what `make test` hands to pytest (default: --slow).
PYTHON ?= python3
export PYTEST_ARGS ?= --slow
# mmcv's operators: auto (compiled ones if there or in the cache), compiled, torchvision.
export OPS ?= auto
# The OpenMMLab packages: onedl or openmmlab, each in an environment of its own.
export FAMILY ?= onedl
export VENV

.PHONY: help demo demo-long docs test test-minimum

help:
	@echo 'make demo       install the core; refine a tiny CLIP on drawn images, table and report.html'
	@echo 'make demo-long  the same with three seeds: mean and spread'
	@echo 'make docs       the pages as a site, into build/site'
	@echo 'make test       install everything, then lint, types, tests, wheel and mim'
	@echo '                OPS=compiled compiles mmcv, FAMILY=openmmlab tests with the other family'
	@echo 'make test-minimum  the tests of the core with the oldest versions that setup.py allows'

demo:
	@$(PYTHON) tools/dev/make_demo.py

demo-long:
	@$(PYTHON) tools/dev/make_demo.py --seeds 0 1 2

docs:
	@$(PYTHON) tools/dev/make_docs.py

test:
	@$(PYTHON) tools/dev/make_test.py

test-minimum:
	@$(PYTHON) tools/dev/make_minimum.py
