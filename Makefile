# The few verbs of the project, for people and CI alike. The first use of each sets up what it needs, from python3 alone.
PYTHON ?= python3
DEV    := .venv
TOOLS  := .cache/env
OIDC   := packages/boltorezka/tests/oidc
# Of the demo: empty is `process`, which needs no Docker; `compose` runs it in containers.
RUNTIME ?=
# The tests start hundreds of Pythons, and each would compile our sources anew: most of what a start costs.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo demo-broken demo-promote demo-stop test check e2e bench docs format lock smoke-sso web clean

help: ## show these verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

# One environment: a venv, the installer pinned by hash, the locked set, our packages without their dependencies.
define make-env
	@echo "setting up $(1) (once, or after its lock changed)"
	@rm -rf $(1) && mkdir -p $(dir $(1)) && $(PYTHON) scripts/require_python.py && $(PYTHON) -m venv $(1)
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/installer.txt
	@$(1)/bin/uv pip install --quiet --python $(1)/bin/python --require-hashes -r requirements/$(2).txt
	@$(1)/bin/uv pip install --quiet --python $(1)/bin/python --no-deps --no-build-isolation --offline $(foreach p,$(3),-e packages/$(p))
	@touch $(1)/.ready
endef

$(DEV)/.ready: requirements/dev.txt requirements/installer.txt packages/boltorezka/pyproject.toml packages/sluice/pyproject.toml
	$(call make-env,$(DEV),dev,boltorezka sluice)

$(TOOLS)/sluice/.ready: requirements/sluice.txt requirements/installer.txt packages/sluice/pyproject.toml
	$(call make-env,$(TOOLS)/sluice,sluice,sluice)

# The development SSO runs in the server's own environment, as it would on a developer's machine.
$(TOOLS)/server/.ready: requirements/server.txt requirements/installer.txt packages/boltorezka/pyproject.toml
	$(call make-env,$(TOOLS)/server,server,boltorezka)

$(TOOLS)/smoke/.ready: requirements/smoke.txt requirements/installer.txt packages/boltorezka/pyproject.toml
	$(call make-env,$(TOOLS)/smoke,smoke,boltorezka)

demo: $(TOOLS)/sluice/.ready $(TOOLS)/server/.ready ## roll Boltorezka from a feature branch into a local test environment and leave it running
	@$(TOOLS)/sluice/bin/python scripts/demo.py start $(RUNTIME)

demo-broken: $(TOOLS)/sluice/.ready $(TOOLS)/server/.ready ## roll out a branch that loses messages and watch it being refused
	@$(TOOLS)/sluice/bin/python scripts/demo.py broken $(RUNTIME)

demo-promote: $(TOOLS)/sluice/.ready $(TOOLS)/server/.ready ## bring what the demo proved in test to a local prod: refused, merged, signed, promoted
	@$(TOOLS)/sluice/bin/python scripts/demo.py promote $(RUNTIME)

demo-stop: ## stop everything the demo started
	@if [ -x $(TOOLS)/sluice/bin/python ]; then $(TOOLS)/sluice/bin/python scripts/demo.py stop $(RUNTIME); else echo "nothing to stop: the demo was never set up here"; fi

# Files of tests run side by side, more than CI has cores, as drills and end-to-end tests mostly wait; after them, one
# by one, what measures time.
PYTEST := $(DEV)/bin/python -m pytest
ASIDE  := -n 3 --dist loadfile --no-loadscope-reorder

test: $(DEV)/.ready web/node_modules/.ready $(OIDC)/node_modules/.ready ## run all tests (real SQLite, Traefik, sockets and processes; no Docker)
	@$(PYTEST) -m "not e2e and not alone" $(ASIDE)
	@$(PYTEST) -m "not e2e and alone"
	@cd web && npm test --silent

e2e: $(DEV)/.ready ## run what needs programs of the system too: a real TURN server, a thousand cuts and kills
	@$(DEV)/bin/python scripts/e2e_needs.py
	@$(PYTEST) -m "e2e and not alone" $(ASIDE)
	@$(PYTEST) -m "e2e and alone"

check: $(DEV)/.ready web/node_modules/.ready ## lint, types, import contracts
	@$(DEV)/bin/ruff check .
	@$(DEV)/bin/ruff format --check .
	@$(DEV)/bin/mypy
	@$(DEV)/bin/lint-imports --no-cache
	@$(DEV)/bin/python scripts/locks.py --check
	@cd web && npm run --silent check

format: $(DEV)/.ready ## rewrite the code in the house format
	@$(DEV)/bin/ruff check --fix-only --quiet . ; $(DEV)/bin/ruff format .

bench: $(DEV)/.ready ## measure the hot paths beside their peers
	@$(DEV)/bin/python bench/run.py

docs: $(DEV)/.ready ## write the generated pages anew
	@$(DEV)/bin/python scripts/generate_docs.py

lock: $(DEV)/.ready ## resolve the dependency sets anew into requirements/*.txt
	@$(DEV)/bin/python scripts/locks.py --write

web/node_modules/.ready: web/package.json web/package-lock.json
	@cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# An independent OpenID Connect provider, for tests only.
$(OIDC)/node_modules/.ready: $(OIDC)/package.json $(OIDC)/package-lock.json
	@cd $(OIDC) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

web: web/node_modules/.ready ## build the web client into web/dist
	@cd web && npm run --silent build

smoke-sso: $(TOOLS)/smoke/.ready ## the SSO part of the smoke alone, against SMOKE_API_URL
	@$(TOOLS)/smoke/bin/python -m boltorezka.smoke sso

clean: demo-stop ## remove environments, caches and the demo's state
	rm -rf $(DEV) .cache .demo web/node_modules web/dist $(OIDC)/node_modules
