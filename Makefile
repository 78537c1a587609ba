# `make` lists the targets. Each installs what it lacks, says what it does, and is quick the second time.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

STAMPS := target/stamps
# What a bare Debian lacks: a C compiler for the crypto library and the Postgres grammar, libclang for its bindings, PostgreSQL
# (the tests start servers of their own, as its user when we are root), Python with venv, and TLS roots.
PACKAGES := build-essential ca-certificates curl libclang-dev postgresql python3 python3-venv util-linux
# For the tests of the approval page.
BROWSER_PACKAGES := chromium
# 300 MB that nothing else needs.
JDBC_PACKAGES := default-jdk-headless libpostgresql-jdbc-java
BENCH_PACKAGES := nginx-light pgbouncer util-linux
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)
# A fresh rustup is not on the PATH of the shell that installed it.
export PATH := $(PATH):$(HOME)/.cargo/bin
CARGO ?= cargo

step = @printf '\033[1m==> %s\033[0m\n' "$(1)"

# $(call install,packages): Debian packages, those that are missing.
define install
missing=$$(for package in $(1); do \
	dpkg-query -W -f='$${Status}' "$$package" 2>/dev/null | grep -q ' installed$$' || echo "$$package"; done); \
if [ -n "$$missing" ]; then \
	if ! command -v apt-get >/dev/null; then echo "not a Debian system: install these yourself:" $$missing >&2; \
	else $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$missing; fi; \
fi
endef

.PHONY: help
help:
	@sed -n 's/^## *//p' $(MAKEFILE_LIST)

## make demo         an agent's call is suspended, approved, run once and proven, in a minute
.PHONY: demo
demo: setup build
	$(call step,the demo)
	@.venv/bin/python tests/demo/demo.py

## make test         all tests: botocore, the AWS CLI, the JavaScript SDK and moto; PostgreSQL and its drivers; Chromium
.PHONY: test
test: setup $(STAMPS)/node $(STAMPS)/page $(STAMPS)/suites
	$(call step,all tests)
	@$(CARGO) test

## make corpus       a name for every operation of AWS, in every protocol, place and way to sign; other SDKs too (SERVICES=, minutes)
.PHONY: corpus
corpus: setup build $(STAMPS)/corpus-node
	$(call step,every operation that botocore knows)
	@.venv/bin/python tests/corpus/aws.py --sources botocore,s3,cli,javascript $(if $(SERVICES),--services $(SERVICES))

## make corpus-aged  the same with facts and with SDKs of half a year ago: no name may be wrong
.PHONY: corpus-aged
corpus-aged: setup build
	$(call step,old facts for new requests; new facts for old requests)
	@.venv/bin/python tests/corpus/aged.py

## make fuzz-signing  the signature of random requests, against that of the AWS SDK for Rust (CASES=; `make test` has some)
.PHONY: fuzz-signing
fuzz-signing: setup
	$(call step,one signature or none)
	@PROPTEST_CASES=$(or $(CASES),20000) $(CARGO) test --lib -- wire::sigv4::tests::peer

## make fuzz-naming  random requests and bodies to every parser of AWS's protocols, for minutes (CASES=)
.PHONY: fuzz-naming
fuzz-naming: setup
	$(call step,one name or none)
	@PROPTEST_CASES=$(or $(CASES),200000) $(CARGO) test --release --lib -- classify::aws::tests::arbitrary

## make suites-postgres  the suites of PostgreSQL, asyncpg and psycopg2: directly and through countersign
.PHONY: suites-postgres
suites-postgres: setup build $(STAMPS)/suites
	$(call step,the suites of others)
	@.venv/bin/python tests/suites/postgres.py target/suites $(if $(ONLY),--only=$(ONLY))

## make drivers-jdbc pgjdbc in every query mode: directly and through countersign (installs a JDK)
.PHONY: drivers-jdbc
drivers-jdbc: setup
	$(call step,Debian packages: $(JDBC_PACKAGES))
	@$(call install,$(JDBC_PACKAGES))
	$(call step,pgjdbc)
	@$(CARGO) test --test it postgres::jdbc -- --ignored

## make fuzz-postgres  random messages from both sides of a session, for minutes (CASES=, SEQUENCES=)
.PHONY: fuzz-postgres
fuzz-postgres: setup
	$(call step,codecs and state machine against arbitrary messages)
	@PROPTEST_CASES=$(or $(CASES),100000) $(CARGO) test --lib -- plane::postgres::machine wire::postgres
	$(call step,random sequences of messages: directly and through countersign)
	@COUNTERSIGN_SEQUENCES=$(or $(SEQUENCES),10000) $(CARGO) test --test it -- postgres::messages postgres::lying

## make bench        CPU, latency, bodies and memory as ratios to a bare proxy (PART=tls,held: only these)
.PHONY: bench
bench: setup $(STAMPS)/bench-packages
	$(call step,benchmarks)
	@$(CARGO) bench --bench proxy -- $(if $(PART),--part=$(PART))

## make bench-naming what it takes to name one request and to judge it, in microseconds
.PHONY: bench-naming
bench-naming: setup
	$(call step,naming and judging one request)
	@$(CARGO) test --release --lib in_microseconds -- --ignored --nocapture --test-threads 1

## make lint         formatting and lints, as CI runs them
.PHONY: lint
lint: setup
	$(call step,formatting)
	@$(CARGO) fmt --check
	$(call step,lints)
	@$(CARGO) clippy --all-targets -- -D warnings

## make facts        the tables of facts anew: AWS from the newest service descriptions (needs npm), PostgreSQL from its server
.PHONY: facts
facts: setup
	$(call step,the table of AWS facts)
	@.venv/bin/pip install -q -r src/catalog/generate/requirements.txt
	@.venv/bin/python src/catalog/generate/aws.py
	$(call step,the table of PostgreSQL facts)
	@.venv/bin/python src/catalog/generate/postgres.py

## make deny         licences, duplicates and sources of the dependencies (builds cargo-deny once)
.PHONY: deny
deny: setup
	@command -v cargo-deny >/dev/null || { echo "==> building cargo-deny"; $(CARGO) install --locked cargo-deny; }
	$(call step,dependencies)
	@$(CARGO) deny check bans licenses sources

## make advisories   known vulnerabilities of the dependencies (fetches the advisory database)
.PHONY: advisories
advisories: setup
	@command -v cargo-deny >/dev/null || { echo "==> building cargo-deny"; $(CARGO) install --locked cargo-deny; }
	$(call step,advisories)
	@$(CARGO) deny check advisories

## make soak-upload  5 GiB through the proxy with flat memory (minutes)
.PHONY: soak-upload
soak-upload: setup
	$(call step,a 5 GiB upload)
	@$(CARGO) test --release --test it streaming::five_gibibytes -- --ignored --nocapture

.PHONY: build
build:
	$(call step,building countersign)
	@$(CARGO) build

.PHONY: setup
setup: $(STAMPS)/packages $(STAMPS)/rust $(STAMPS)/venv

# A package that is new in this file is got by a checkout that has been set up before, too.
$(STAMPS)/packages: Makefile
	$(call step,Debian packages: $(PACKAGES))
	@$(call install,$(PACKAGES))
	@mkdir -p $(@D) && touch $@

$(STAMPS)/bench-packages: Makefile
	$(call step,Debian packages: $(BENCH_PACKAGES))
	@$(call install,$(BENCH_PACKAGES)) || echo "nginx is left out of the comparison"
	@mkdir -p $(@D) && touch $@

$(STAMPS)/rust: $(STAMPS)/packages
	@if ! command -v $(CARGO) >/dev/null; then \
		printf '\033[1m==> %s\033[0m\n' "the Rust toolchain, by rustup"; \
		curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt; \
	fi
	@mkdir -p $(@D) && touch $@

$(STAMPS)/venv: tests/requirements.txt $(STAMPS)/packages
	$(call step,Python packages in .venv: botocore the AWS CLI moto psycopg asyncpg)
	@test -x .venv/bin/pip || python3 -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@mkdir -p $(@D) && touch $@

$(STAMPS)/suites: tests/suites/fetch.py tests/requirements.txt $(STAMPS)/venv
	$(call step,test suites of others in target/suites)
	@.venv/bin/python tests/suites/fetch.py target/suites
	@mkdir -p $(@D) && touch $@

$(STAMPS)/corpus-node: tests/corpus/js/package-lock.json $(STAMPS)/node
	$(call step,clients of the AWS SDK for JavaScript in tests/corpus/js/node_modules)
	@npm ci --prefix tests/corpus/js --ignore-scripts --no-audit --no-fund --silent
	@mkdir -p $(@D) && touch $@

$(STAMPS)/page: tests/page/package-lock.json $(STAMPS)/node
	$(call step,Chromium; an OpenID provider and a driver for the browser in tests/page/node_modules)
	@$(call install,$(BROWSER_PACKAGES))
	@npm ci --prefix tests/page --ignore-scripts --no-audit --no-fund --silent
	@mkdir -p $(@D) && touch $@

# Debian's npm brings hundreds of packages: only where there is none.
$(STAMPS)/node: tests/js/package-lock.json $(STAMPS)/packages
	$(call step,the AWS SDK for JavaScript and node-postgres in tests/js/node_modules)
	@command -v npm >/dev/null || { $(call install,nodejs npm); }
	@npm ci --prefix tests/js --ignore-scripts --no-audit --no-fund --silent
	@mkdir -p $(@D) && touch $@
