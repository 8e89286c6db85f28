# Everything the book needs. `make reproduce` alone sets up, runs every chapter and renders the book.
SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup reproduce test book pdf notebooks lint bench mutate clients rehearse siblings clean

SCALE  ?= mini
SCALES := mini local colab paper
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
PINS   := pyproject.toml constraints.txt
STAMP  := $(VENV)/.setup-$(shell cat $(PINS) | cksum | cut -d' ' -f1)

ifeq ($(filter $(SCALE),$(SCALES)),)
$(error unknown scale '$(SCALE)': choose one of $(SCALES))
endif

help:       ## list the targets
	@grep -E '^[a-z]+: .*##' Makefile | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 20
	@echo "  SCALE=$(SCALE) picks the scale: $(SCALES)"

setup: $(STAMP)  ## install everything into .venv (about 3 minutes, once)

$(STAMP):  # named after the pins' checksum: a change of them installs, nothing else does
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make setup needs Python 3.11 or newer: install it, or name it with make PYTHON=..."; exit 1; }
	@echo "installing into $(VENV), about 3 minutes"
	@$(PYTHON) -m venv $(VENV); \
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[book,test]' 2>&1 | tee $(VENV)/setup.log \
	  || { grep -qE 'Retrying|Connection|from versions: none' $(VENV)/setup.log \
	  && echo "make setup cannot reach the package index: check the network or pip's index setting and run it again"; exit 1; }; \
	slowest=$$(cat $(VENV)/setup.seconds 2>/dev/null || echo 0); \
	echo $$((SECONDS > slowest ? SECONDS : slowest)) > $(VENV)/setup.seconds  # a later set-up finds most of it done
	@rm -f $(VENV)/.setup-* && touch $@

reproduce: $(STAMP)  ## run every chapter at SCALE (CHAPTERS="clip tune": these alone), render _build/html
	@$(BIN)/python tools/notebooks.py --check
	@$(BIN)/python tools/reproduce.py --scale $(SCALE) $(if $(CHAPTERS),--keep-going --chapters $(CHAPTERS))
	@$(BIN)/python tools/readme.py

test: $(STAMP)  ## run the tests
	@$(BIN)/python -m pytest

book: $(STAMP)  ## render what has run at SCALE, run nothing
	@$(BIN)/python tools/reproduce.py --scale $(SCALE) --render

pdf: $(STAMP)  ## print the rendered book into _build/rs5m.pdf, code folded; needs Chromium
	@$(BIN)/python tools/pdf.py

notebooks: $(STAMP)  ## write the Colab siblings book/*.ipynb of the chapters
	@$(BIN)/python tools/notebooks.py

lint: $(STAMP)  ## check the style of the code, of the chapters too
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/python tools/notebooks.py --check

bench: $(STAMP)  ## time the hot paths against their peers
	@for file in bench/*.py; do echo "== $$file"; $(BIN)/python $$file; done

mutate: $(STAMP)  ## how many sampled changes of the code its tests notice
	@$(BIN)/python tools/mutate.py --out results/bench/mutate.json

clients: $(STAMP)  ## what other programs say to the shards, tables and folders written here
	@$(BIN)/python tools/clients.py --out results/bench/clients.json

rehearse: $(STAMP)  ## run a scale nobody can run here on made data and small networks (SCALE=colab, RENDER=1)
	@$(BIN)/python tools/rehearse.py --scale $(SCALE) $(if $(CHAPTERS),--chapters $(CHAPTERS)) $(if $(RENDER),--render)

siblings: $(STAMP)  ## run Colab's notebooks, each alone from a wheel in an empty folder (CHAPTERS="clip")
	@$(BIN)/python tools/siblings.py $(CHAPTERS)

clean:      ## remove what was run and rendered; .venv and results/ stay
	@rm -rf runs _build .pytest_cache .ruff_cache .hypothesis
