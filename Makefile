PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
DEMO := results/demo

RESULTS ?= results
WORKERS ?= 2


.PHONY: docs demo test test-slow test-benchmarks tables figures setup lint clean

demo: setup
	$(RUN) -m reldrop.train -m augmentation=none,random_erasing,reldrop_block seed=0,1,2 results_dir=$(DEMO) \
		monitor.occlusion_samples=450 monitor.occlusion_every_epochs=20 monitor.guidance_samples=null
	$(RUN) -m reldrop.figures run="$$(ls -d $(DEMO)/runs/digits_resnet/reldrop_block/seed0-* | head -n 1)" output=$(DEMO)/examples.png
	@echo
	$(RUN) -m reldrop.tables $(DEMO) metric=occlusion/block_relevant,occlusion/block_random,test/top1
	@echo
	@echo "Hidden where they look most, networks that trained with occlusion should keep far more of their accuracy than"
	@echo "those that did not (first column). Three seeds on 8-pixel digits cannot rank the two kinds of occlusion."
	@echo "What each occludes: $(DEMO)/examples.png"

# Every table that the runs in RESULTS/runs allow, in all formats, each with the list of its runs.
tables: setup
	$(RUN) -m reldrop.tables $(RESULTS) output=$(RESULTS)/tables

# What gets occluded, drawn with the first seed of each arm.
figures: setup
	for arm in $(RESULTS)/runs/*/*; do \
		run="$$(ls -d $$arm/seed* | head -n 1)"; \
		mkdir -p $(RESULTS)/figures && $(RUN) -m reldrop.figures run="$$run" \
			output="$(RESULTS)/figures/$$(basename "$$(dirname "$$arm")")-$$(basename "$$arm").png" || exit 1; \
	done

# One worker for each two GB or so of memory, and for each core.
test: setup
	$(RUN) -m pytest -n $(WORKERS) --dist worksteal -m "not slow and not benchmark"

# Kills and restarts, several processes, sweeps, SLURM, whole papers and benchmarks.
test-slow: setup
	$(RUN) -m pytest -n $(WORKERS) --dist worksteal -m slow

# Whether the benchmarks run; what they measure is not looked at.
test-benchmarks: setup
	$(RUN) -m pytest -m benchmark

setup: $(VENV)/installed

# The mark is written last: an installation that was cut off is repeated.
$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

lint: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports

# The site, with an API reference from the docstrings; a warning or a broken link is an error.
docs: setup
	rm -rf docs/_api docs/_build
	$(VENV)/bin/sphinx-build -q -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf $(VENV) $(DEMO)
