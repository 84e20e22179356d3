# `make help` lists the targets.
PORT ?= 8000
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
export PORT

.DEFAULT_GOAL := help
.PHONY: help demo test images check format chaos soak fuzz screenshot demo-corpus clean
.PHONY: bench-embed bench-overload bench-queue bench-retrieve bench-scale bench-search bench-start

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# torch first and alone: once it is there, no other package asks the index for a build with CUDA. What it depends on
# comes with the rest, because torch's own indices have few versions of it.
# TORCH_ARGS chooses the build, e.g. TORCH_ARGS="--index-url URL" (README, "Choosing a torch build").
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt $(TORCH_ARGS) torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[api,worker,demo,dev]'
	touch $@

demo: $(VENV)/installed ## two Redis servers, a worker and the API on PORT (8000), and one goal asked
	@exec $(BIN)/premise-server demo

test: $(VENV)/installed ## the whole suite
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not alone'
	$(BIN)/python -m pytest -m alone

images: $(VENV)/installed ## the Dockerfiles' commands in folders instead of images, of IMAGES (api worker)
	IMAGES="$${IMAGES:-api worker}" $(BIN)/python -m pytest tests/project/test_images.py

chaos: $(VENV)/installed ## real faults under load for CHAOS_SECONDS (600), and a table of what clients saw
	$(BIN)/python -m tests.chaos

soak: $(VENV)/installed ## steady load for SOAK_SECONDS (600): whether memory and key counts stay flat
	$(BIN)/python -m tests.soak

fuzz: $(VENV)/installed ## new hostile inputs for FUZZ_SECONDS (600), and how many there were
	FUZZ_SECONDS=$${FUZZ_SECONDS:-600} $(BIN)/python -m pytest tests/system/test_fuzz.py tests/system/test_openapi_fuzz.py --timeout 0

screenshot: $(VENV)/installed ## docs/page.png anew, with the Chromium of this machine
	$(BIN)/python -m tests.page.screenshot

check: $(VENV)/installed ## ruff and mypy --strict
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed ## let ruff write the layout
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-embed: $(VENV)/installed ## tokens a second of the model, against sentence-transformers
	$(BIN)/python -m benchmarks.embed

bench-queue: $(VENV)/installed ## round trip of a job on an idle system, and what idling costs
	$(BIN)/python -m benchmarks.queue

bench-retrieve: $(VENV)/installed ## latency of warm /retrieve requests
	$(BIN)/python -m benchmarks.retrieve

bench-overload: $(VENV)/installed ## warm requests while 200 clients push cold work, devices simulated
	$(BIN)/python -m benchmarks.overload

bench-scale: $(VENV)/installed ## throughput of 1 to 8 workers, devices simulated
	$(BIN)/python -m benchmarks.scale

bench-search: $(VENV)/installed ## exact search against the old server's algorithm
	$(BIN)/python -m benchmarks.search

bench-start: $(VENV)/installed ## time to ready and memory of API processes
	$(BIN)/python -m benchmarks.start

demo-corpus: ## pack shared/demo/premises into the archive that the server reads
	tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=ustar \
	  -C shared/demo/premises -cf - . | gzip -n9 > shared/demo/premises.tar.gz

clean: ## remove the environment and what was built
	rm -rf $(VENV) data *.egg-info
