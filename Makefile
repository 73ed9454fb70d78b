# The commands of this repository; CI runs the same ones.

.PHONY: demo test check fmt clippy doc build build-Webhook build-Dispatcher build-Broker packages agent release

# Shows the way of a job on this machine.
demo:
	cargo build
	cargo run -- demo

test:
	cargo test

# What every commit must pass.
check: fmt clippy doc

fmt:
	cargo fmt --check

clippy:
	cargo clippy --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# The functions' program and the agents, into target/package.
build:
	infra/build

# What `sam build` calls, once for each function; only the first call has anything to compile.
build-Webhook: build
	infra/package webhook "$(ARTIFACTS_DIR)"

build-Dispatcher: build
	infra/package dispatcher "$(ARTIFACTS_DIR)"

build-Broker: build
	infra/package broker "$(ARTIFACTS_DIR)"

# The functions' packages as zips.
packages: build
	infra/package webhook target/package/webhook.zip
	infra/package dispatcher target/package/dispatcher.zip
	infra/package broker target/package/broker.zip

# The agent as tasks run it, for this machine: target/package/agents/amd64.
agent:
	infra/build agents

# A directory and an archive that deploy without a compiler: target/release-dir.
release: build
	infra/release
