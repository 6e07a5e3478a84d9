PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin

.PHONY: setup demo test quick browser test-slow lint bench evidence lower torture judges judges-check docs docs-sounds docs-evidence clean

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# The page's packages, which the demo does not wait for.
$(VENV)/web-ready: $(VENV)/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[web-test]'
	touch $@

demo: setup
	$(BIN)/python -m demo --out runs/demo

test: $(VENV)/web-ready
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow"

# What depends on the versions of Python and JAX.
quick: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow" tests/test_golden.py tests/test_invariants.py \
		tests/test_compiler.py tests/test_parts.py tests/test_train_step.py tests/test_mesh.py tests/test_checkpoints.py

# As root on a fresh Debian; elsewhere the tests of the page are skipped where there is no chromium.
BROWSER = chromium chromium-driver

browser:
	dpkg --status $(BROWSER) >/dev/null 2>&1 || { apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends $(BROWSER); }

test-slow: $(VENV)/web-ready
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m slow

lint: $(VENV)/web-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python

$(VENV)/docs-ready: $(VENV)/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

# The site, in runs/site; a broken link or a missing name is an error (with --quiet it would not be).
docs: $(VENV)/docs-ready
	$(BIN)/python -m mkdocs build --strict

# Its sounds and pictures, by the bundled models as they are now.
docs-sounds: setup
	$(BIN)/python -m docs.sounds

# The sounds and pictures of docs/evidence.md, from the results of make evidence.
docs-evidence: setup
	$(BIN)/python -m docs.evidence $(EVIDENCE)

PEERS = .venv-peers

$(PEERS)/ready: benchmarks/speed/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	# It wants CUDA; what is used of torchaudio works without.
	find $(PEERS) -name _torchaudio.abi3.so -delete
	touch $@

bench: setup $(PEERS)/ready
	$(BIN)/python -m benchmarks.speed --peer $(PEERS)/bin/python $(BENCH)
	$(BIN)/python -m benchmarks.data

JUDGES = .venv-judges
SETS = runs/sets

judges: $(JUDGES)/ready

$(JUDGES)/ready: benchmarks/judges/requirements.txt benchmarks/judges/weights.txt
	$(PYTHON) -m venv $(JUDGES)
	$(JUDGES)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	$(JUDGES)/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement benchmarks/judges/weights.txt
	touch $@

# make set-notes, set-phrases, set-speech or set-music, with SET="--rate 48000" and the like; as root on a fresh Debian.
DEBIAN = fluidsynth fluid-soundfont-gm musescore-general-soundfont ffmpeg festvox-ru asterisk-core-sounds-it-g722 singularity-music

set-%: setup
	dpkg --status $(DEBIAN) >/dev/null 2>&1 || { apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends $(DEBIAN); }
	$(BIN)/python -m benchmarks.sets $* --out $(SETS)/$* $(SET)

$(SETS)/%/metadata.jsonl:
	$(MAKE) set-$* SET="$(SET)"

judges-check: judges $(SETS)/notes/metadata.jsonl $(SETS)/phrases/metadata.jsonl $(SETS)/speech/metadata.jsonl
	$(JUDGES)/bin/python -m benchmarks.judges.calibration $(SETS)

# The tables of docs/evidence.md, from nothing: some hours on two cores. The same command continues after an
# interruption.
EVIDENCE = runs/evidence
TRAIN = $(BIN)/python -m train
LATENT = --autoencoder $(EVIDENCE)/autoencoder
KITS = standard room power electronic analog jazz brush

evidence: judges $(SETS)/notes/metadata.jsonl $(SETS)/phrases/metadata.jsonl $(SETS)/speech/metadata.jsonl
	test -e $(SETS)/phrases-12s/metadata.jsonl || $(BIN)/python -m benchmarks.sets phrases --seconds 12 --out $(SETS)/phrases-12s
	$(TRAIN) configs/autoencoder.py:small --data $(SETS)/notes/train --out $(EVIDENCE)/magnitude
	$(BIN)/python -m benchmarks.codec $(EVIDENCE)/magnitude $(SETS)/notes/heldout --count 48 --out $(EVIDENCE)/magnitude-judged
	$(TRAIN) configs/crisp.py:small --data $(SETS)/notes/train --out $(EVIDENCE)/crisp
	$(BIN)/python -m benchmarks.notes $(EVIDENCE)/crisp $(SETS)/notes
	for set in notes phrases; do $(TRAIN).encode configs/diffusion_autoencoder.py:small --autoencoder codec-16k --data $(SETS)/$$set/train --out $(EVIDENCE)/codec-$$set || exit; done
	$(TRAIN) configs/diffusion_autoencoder.py:small --autoencoder codec-16k --data $(EVIDENCE)/codec-notes:2 --data $(EVIDENCE)/codec-phrases --out $(EVIDENCE)/autoencoder
	$(BIN)/python -m benchmarks.codec $(EVIDENCE)/autoencoder $(SETS)/notes/heldout --count 48 --out $(EVIDENCE)/autoencoder-judged
	for set in notes phrases phrases-12s; do $(TRAIN).encode configs/long.py:small $(LATENT) --data $(SETS)/$$set/train --out $(EVIDENCE)/latents-$$set || exit; done
	$(TRAIN) configs/long.py:small $(LATENT) --data $(EVIDENCE)/latents-notes --data $(EVIDENCE)/latents-phrases --data $(EVIDENCE)/latents-phrases-12s:2 --out $(EVIDENCE)/long
	$(BIN)/python -m benchmarks.notes $(EVIDENCE)/long $(SETS)/notes
	$(BIN)/python -m benchmarks.phrases $(EVIDENCE)/long $(SETS)/phrases --out $(EVIDENCE)/long-judged
	for row in real coded generated shuffled untrained; do $(JUDGES)/bin/python -m benchmarks.judges $(EVIDENCE)/long-judged/$$row || exit; done
	$(TRAIN) configs/stable_audio.py:small $(LATENT) --data $(EVIDENCE)/latents-notes --data $(EVIDENCE)/latents-phrases --out $(EVIDENCE)/transformer
	$(BIN)/python -m benchmarks.notes $(EVIDENCE)/transformer $(SETS)/notes --num-steps 20 --sampler dpm++ --guidance-scale 2
	for kit in $(KITS); do $(TRAIN).encode configs/unconditional.py:small $(LATENT) --data $(SETS)/phrases/train/drums_$$kit --out $(EVIDENCE)/latents-drums/$$kit || exit; done
	for method in small small_ddpm small_edm small_flow; do $(TRAIN) configs/unconditional.py:$$method $(LATENT) $(foreach kit,$(KITS),--data $(EVIDENCE)/latents-drums/$(kit)) --out $(EVIDENCE)/drums_$$method || exit; done
	$(TRAIN) configs/unconditional.py:small_waveform $(foreach kit,$(KITS),--data $(SETS)/phrases/train/drums_$(kit)) --out $(EVIDENCE)/drums_small_waveform
	for model in small small_ddpm small_edm small_flow small_waveform; do $(BIN)/python -m benchmarks.unconditional $(EVIDENCE)/drums_$$model $(foreach kit,$(KITS),$(SETS)/phrases/heldout/drums_$(kit)) --count 48 --out $(EVIDENCE)/drums_$$model-judged || exit; done
	$(TRAIN) configs/endless.py $(foreach kit,$(KITS),--data $(SETS)/phrases/train/drums_$(kit)) --out $(EVIDENCE)/endless
	$(BIN)/python -m benchmarks.unconditional $(EVIDENCE)/endless $(foreach kit,$(KITS),$(SETS)/phrases/heldout/drums_$(kit)) --count 32 --num-steps 16 48
	$(TRAIN) configs/vocoder.py:small --data $(SETS)/notes/train --data $(SETS)/speech/train:0.3 --out $(EVIDENCE)/vocoder
	for set in notes speech; do $(BIN)/python -m benchmarks.vocoding $(EVIDENCE)/vocoder $(SETS)/$$set/heldout --out $(EVIDENCE)/vocoder-$$set || exit; done
	test -e $(SETS)/phrases-48k/metadata.jsonl || $(BIN)/python -m benchmarks.sets phrases --rate 48000 --out $(SETS)/phrases-48k
	$(TRAIN) configs/upsampler.py:small --data $(SETS)/phrases-48k/train --out $(EVIDENCE)/upsampler
	$(BIN)/python -m benchmarks.upsampling $(EVIDENCE)/upsampler $(SETS)/phrases-48k/heldout --count 96 --out $(EVIDENCE)/upsampler-judged

lower: setup
	$(BIN)/python -m benchmarks.lower

torture: setup
	$(BIN)/python -m benchmarks.torture

clean:
	rm -rf .venv .venv-newest $(PEERS) $(JUDGES) runs build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
