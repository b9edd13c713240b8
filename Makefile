# dayscribe's commands. `make` alone prints this help; `make demo` and `make test` need nothing but git, make and python3.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo install test check demo-globus demo-slurm cluster-up cluster-down images docs format lock clean

export VIRTUAL_ENV := $(CURDIR)/.venv
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH
# Where nobody may write bytecode every process compiles its libraries anew, which doubles the time of its start.
unexport PYTHONDONTWRITEBYTECODE
BIN := $(VIRTUAL_ENV)/bin
READY := $(VIRTUAL_ENV)/.ready
SLURM := $(VIRTUAL_ENV)/.ready-slurm
DELIVERY := $(VIRTUAL_ENV)/.ready-delivery
BROWSER := $(VIRTUAL_ENV)/.ready-browser
# So many tests at once, `make test WORKERS=2`; 0: one after the other, in this process.
WORKERS ?= 0
CLUSTER := $(CURDIR)/.cluster
IMAGES := $(CURDIR)/.images

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Make a synthetic day and transcribe it, for real, on this machine
	@$(BIN)/dayscribe --set home="$(CURDIR)/.demo" demo

install: $(READY) ## Make the environment .venv, and nothing else

test: $(READY) $(SLURM) $(DELIVERY) $(BROWSER) ## Run all checks and all tests
	@$(MAKE) --no-print-directory check
	@$(BIN)/pytest -n $(WORKERS)

check: $(READY) ## Lint, type-check, and hold the house's contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck -x $$(git ls-files '*.sh') .ci/run
	$(BIN)/shfmt -d -i 4 -ci $$(git ls-files '*.sh') .ci/run

demo-globus: $(SLURM) ## Show how a day comes by Globus: one on loopback, that harms a file on its way
	@scripts/demo_globus.sh "$(CURDIR)/.demo-globus"

demo-slurm: $(SLURM) ## Show the demo's day on a Slurm to throw away, each job in its image
	@scripts/demo_slurm.sh "$(CURDIR)/.demo-slurm" "$(IMAGES)"

cluster-up: $(SLURM) ## Start a small Slurm of one's own on this machine, in .cluster/
	@scripts/cluster.sh up "$(CLUSTER)"
	@printf '%s\n' "type next:" "  . .cluster/env.sh" "  sinfo"

cluster-down: ## Stop that Slurm and remove .cluster/
	@scripts/cluster.sh down "$(CLUSTER)" --purge

images: $(READY) ## Build the images that jobs run in, for this machine, in .images/
	@scripts/images.sh "$(IMAGES)"

docs: $(READY) ## Write the generated pages of docs/ anew
	$(BIN)/python scripts/docs.py

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
	$(BIN)/shfmt -w -i 4 -ci $$(git ls-files '*.sh') .ci/run

COMPILE := $(BIN)/uv pip compile -q --universal --generate-hashes --no-header

lock: $(READY) ## Write requirements/*.lock anew
	$(COMPILE) --group dev --all-extras pyproject.toml -o requirements/dev.lock
	$(COMPILE) --no-annotate -c requirements/dev.lock --group image --extra speech pyproject.toml -o requirements/audio.lock
	$(COMPILE) --no-annotate -c requirements/dev.lock --group image --extra globus pyproject.toml -o requirements/utils.lock
	$(COMPILE) --no-annotate requirements/globus-cli.in -o requirements/globus-cli.lock

clean: ## Stop the demo's database and the cluster, and remove what make made
	@if [[ -x $(BIN)/dayscribe ]]; then $(BIN)/dayscribe --set home="$(CURDIR)/.demo" db stop || true; fi
	@if [[ -x $(BIN)/dayscribe ]]; then $(BIN)/dayscribe --set home="$(CURDIR)/.demo-slurm/home" db stop || true; fi
	@scripts/cluster.sh down "$(CLUSTER)" --purge
	rm -rf .demo .demo-slurm .demo-globus .images .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(READY): requirements/dev.lock requirements/bootstrap.lock pyproject.toml scripts/bootstrap.sh scripts/packages.sh
	@scripts/bootstrap.sh "$(VIRTUAL_ENV)"
	@touch $@

$(SLURM): $(READY) scripts/packages.sh
	@scripts/packages.sh slurm
	@touch $@

$(DELIVERY): $(READY) scripts/packages.sh
	@scripts/packages.sh delivery
	@touch $@

$(BROWSER): $(READY) scripts/packages.sh
	@scripts/packages.sh browser
	@touch $@
