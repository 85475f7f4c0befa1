# `make help` lists the targets. CACHE holds everything that is built, under the hash of its inputs.
SHELL := /bin/sh
.DEFAULT_GOAL := help

CACHE ?= /var/cache/gke-lab
LOCK_HASH := $(shell sha256sum requirements.lock | cut -c1-16)
VENV := $(CACHE)/venv/$(LOCK_HASH)
PYTHON := $(VENV)/bin/python
# Tools from Go modules (tools/go.mod), built with the Go of the virtual environment.
TOOLS := $(CACHE)/tools/$(shell cat requirements.lock tools/go.mod tools/go.sum | sha256sum | cut -c1-16)
export GKE_LAB_CACHE := $(CACHE)
# Byte code is written whatever the caller's environment says: otherwise each run spends seconds on compiling.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv lab lab-down acceptance smoke detection chaos on-the-lab operations distributed image check unit storm test-lab rbac test picture lock

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

venv: $(VENV)/.complete ## Python packages, by hash, in the cache; .venv points there
	@ln -sfn $(VENV) .venv

# No prerequisite: the path holds the lock file's hash, and a running lab may use the environment that is there.
$(VENV)/.complete:
	@echo "installing the Python packages of requirements.lock (about 1 min)"
	@rm -rf $(VENV) && mkdir -p $(dir $(VENV))
	@python3 -m venv $(VENV) || { echo "expected: python3 with venv; look next: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --require-hashes -r requirements.lock
	@touch $@

lab: venv ## bring the lab up: a real Kubernetes with Google's surroundings
	@$(PYTHON) -m lab up

lab-down: venv ## take the lab down; nothing of it remains
	@$(PYTHON) -m lab down

acceptance: venv ## accept Backstage on the lab, promise by promise; the lab is started if it is not running
	@$(PYTHON) -m pytest tests/acceptance

smoke: venv ## the same, as production is seen: nothing but reads, by the identity that may only look
	@$(PYTHON) -m pytest tests/acceptance --env=smoke

detection: rbac ## break the deployment on the lab in every known way: each must be found, for the right reason
	@$(PYTHON) -m pytest tests/detection

chaos: venv ## attack the deployment on the lab, one fault at a time, and measure what users felt
	@$(PYTHON) -m pytest tests/chaos

operations: rbac image ## the suite in service on the lab: the scheduled smoke, the layers of the guard, alerts, the deploy lock
	@$(PYTHON) -m pytest tests/operations

distributed: lab image ## autoscaling on the lab, with the load made by pods: a master and two workers
	@$(PYTHON) -m lab load-image $$($(PYTHON) image/build.py)
	@$(PYTHON) -m pytest tests/acceptance/test_autoscaling.py --env=local-distributed

image: venv ## the suite as a container image: an archive in the cache, whose path is printed
	@$(PYTHON) image/build.py

$(TOOLS)/actionlint: | venv
	@echo "building actionlint (about 1 min)"
	@cd tools && GOPATH=$(CACHE)/go GOCACHE=$(CACHE)/go-build GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOWORK=off CGO_ENABLED=0 \
	$(VENV)/lib/python3*/site-packages/go/bin/go build -trimpath -buildvcs=false -o $@ github.com/rhysd/actionlint/cmd/actionlint

# The second deptry proves that the files in the image import only packages that are installed there.
check: venv $(TOOLS)/actionlint ## lint (of workflows, too), types, import contracts, declared dependencies
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy lab fixtures tests conftest.py manifests/rbac/apply.py image benchmarks
	@.venv/bin/lint-imports
	@.venv/bin/deptry .
	@.venv/bin/deptry fixtures tests/acceptance tests/chaos --optional-dependencies-dev-groups=lab,dev
	@$(TOOLS)/actionlint -shellcheck= -pyflakes= .github/workflows/*.yml

unit: venv ## tests without a cluster
	@$(PYTHON) -m pytest tests/unit

storm: venv ## a hundred whole runs of a drain against an API server at its worst
	@$(PYTHON) -m pytest tests/storm

test-lab: lab ## real clients against every part of the lab
	@$(PYTHON) -m pytest tests/lab

rbac: lab ## what each permission set may do, applied to the lab; one kubeconfig per set under .lab/rbac
	@$(PYTHON) manifests/rbac/apply.py --kubeconfig .lab/kubeconfig --into .lab/rbac

# A choice of three detections and three faults, as all of them take more than an hour.
DETECTED := service-selector or certificate-for-another-name or database-stopped-behind-the-portal
ATTACKED := loss_of_a_pod or way_to_the_database or restart_of_the_database
on-the-lab: test-lab
	@$(PYTHON) -m pytest tests/acceptance
	@$(PYTHON) -m pytest tests/acceptance --env=smoke
	@$(PYTHON) -m pytest tests/detection/test_observer.py
	@$(PYTHON) -m pytest tests/detection/test_detection.py -k "$(DETECTED)"
	@$(PYTHON) -m pytest tests/chaos -k "$(ATTACKED)"

test: check unit storm ## everything that CI runs: the above, the lab and its tests, acceptance, smoke, some detections and faults, the lab gone without a trace
	@$(PYTHON) -m lab down
	@before=$$(mktemp) && $(PYTHON) -m lab.traces > $$before && \
	status=0; $(MAKE) --no-print-directory on-the-lab || status=$$?; \
	$(PYTHON) -m lab down || status=$$?; \
	$(PYTHON) -m lab.traces --since $$before || status=$$?; \
	rm -f $$before; exit $$status

picture: ## docs/architecture.svg anew from its source, by Graphviz (apt-get install graphviz)
	@dot -Tsvg docs/architecture.dot > docs/architecture.svg
	@echo "<!-- architecture.dot: $$(sha256sum < docs/architecture.dot | cut -c1-64) -->" >> docs/architecture.svg

COMPILE := .venv/bin/uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --no-header --quiet
lock: ## requirements.lock anew from pyproject.toml, and of it what the image needs
	@$(COMPILE) --all-extras -o requirements.lock
	@$(COMPILE) --constraint requirements.lock -o requirements-suite.lock
