# The commands of this repository; CI runs the same ones.

.PHONY: demo test check fmt clippy doc agent

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


# The agent as tasks run it: static, without the AWS SDKs.
agent:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --no-default-features \
		--target x86_64-unknown-linux-gnu --bin agent
