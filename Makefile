# Everything is set up on first use and again when pyproject.toml changes. Needs Python 3.11+ with venv, git and make.

PYTHON ?= python3
TORCH ?= torch==2.13.0
TEST_EXTRAS = train,openvino,eval,supervision,vot,got10k,formats-test,docs,dev
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK = 1

export FARTRACK_MODEL ?= $(CURDIR)/src/fartrack/weights/pico.onnx
# Of a path with spaces make would make several; a model named by the user is read at every build.
MODEL_SOURCE := $(if $(filter 1,$(words $(FARTRACK_MODEL))),$(FARTRACK_MODEL),$(wildcard src/fartrack/weights/pico.onnx))
CHROMIUM ?= chromium
WEB_SOURCES := $(filter-out %.md,$(shell find web -maxdepth 1 -type f; find web/src web/licences -type f))
SOURCES := $(shell find src -type f -not -name '*.pyc' -not -path '*.egg-info/*')

.PHONY: help demo test test-cpp test-toolkits web test-web lint format docs pictures package clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: .venv/installed  ## track the packaged clip: out/demo/tracked.mp4, boxes.csv, strip.png (no PyTorch)
	.venv/bin/fartrack demo --out out/demo

test: .venv-test/installed  ## the whole suite; ARGS="tests/video -k size" for a part of it
	.venv-test/bin/python -m pytest $(ARGS)

test-toolkits: .venv-test/installed  ## with the VOT toolkit and Datumaro, in environments of their own
	.venv-test/bin/python tests/toolkits/environments.py
	.venv-test/bin/python -m pytest tests/toolkits tests/formats -rs

test-cpp: .venv-test/installed  ## examples/cpp beside Python; OpenCV_DIR names an OpenCV 5 for C++, else one is built (20 minutes)
	OpenCV_DIR="$${OpenCV_DIR:-$$(.venv-test/bin/python tests/examples/opencv5.py .opencv | tail -1)}" \
	  .venv-test/bin/python -m pytest tests/examples/test_cpp.py -rs

web: web/dist/index.html  ## the tracker as a web page, in web/dist; `fartrack web` serves it (needs Node.js 20.19+)

test-web: web .venv/installed  ## the page in headless Chromium, compared with Python; makes docs/images/web.png
	@command -v "$(CHROMIUM)" >/dev/null || { apt-get update && apt-get install -y chromium; } || \
	  { echo "test-web needs Chromium: install it, or give CHROMIUM=PATH" >&2; exit 1; }
	PYTHONPATH=src .venv/bin/python web/tests/reference.py "$(FARTRACK_MODEL)" web/tests/out
	mkdir -p docs/images
	cd web && PYTHONPATH=../src PYTHON=../.venv/bin/python CHROMIUM="$$(command -v "$(CHROMIUM)")" \
	  FARTRACK_SCREENSHOT=../docs/images/web.png npm test --silent -- $(ARGS)

lint: .venv-test/installed  ## style, format and types
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy

format: .venv-test/installed  ## put code into the format that lint wants
	.venv-test/bin/ruff check --fix .
	.venv-test/bin/ruff format .

docs: .venv-test/installed  ## the documentation as a site: site/index.html
	.venv-test/bin/python docs/commands.py
	.venv-test/bin/mkdocs build --quiet --strict

pictures: .venv-test/installed  ## the pictures in docs/images that show the tracker at work
	.venv-test/bin/python docs/pictures.py

package: .venv-test/installed  ## wheel and sdist in dist/, checked, and installed into an empty environment
	rm -rf build dist
	.venv-test/bin/python -m build --outdir dist .
	.venv-test/bin/python -m twine check --strict dist/*
	rm -rf build/venv
	$(PYTHON) -m venv build/venv
	build/venv/bin/pip install --quiet dist/*.whl
	build/venv/bin/pip check
	cd build && venv/bin/fartrack models && venv/bin/fartrack demo --out demo
	ls -l dist

clean:  ## environments, caches and results away
	rm -rf .venv .venv-test build dist site out .mypy_cache .ruff_cache .pytest_cache

# As a user installs it: a copy, so that a file missing from the package is missed here.
.venv/installed: pyproject.toml $(SOURCES)
	test -x .venv/bin/pip || $(PYTHON) -m venv .venv
	rm -rf build
	.venv/bin/pip install --quiet .
	touch $@

.venv-test/installed: pyproject.toml
	test -x .venv-test/bin/pip || $(PYTHON) -m venv .venv-test
	.venv-test/bin/pip install --quiet "$(TORCH)"
	.venv-test/bin/pip install --quiet --editable ".[$(TEST_EXTRAS)]"
	touch $@

web/node_modules/installed: web/package.json web/package-lock.json
	cd web && npm ci
	touch $@

web/dist/index.html: web/node_modules/installed $(WEB_SOURCES) $(MODEL_SOURCE) $(wildcard src/fartrack/demo/*)
	cd web && npm run --silent build
