# `just` lists these; each is one command that also works without just.

default:
    @just --list

# The whole CDN on this machine: three edges, DNS, control, a sample site.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# Installs what tests need and runs them all.
test *ARGS:
    ./tests/run {{ARGS}}

# What CI cannot afford: the bucket on garage, mixed fleets, the package and an image.
test-long:
    ./tests/run --long

# Format, lints, documentation and dependency policy.
check:
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --document-private-items
    cargo deny --locked check bans licenses sources

# Everything that CI runs.
ci:
    bash .ci/run

# The figures of docs/benchmarks.md, peers and nigh in one run.
bench *ARGS:
    ./tests/install --bench
    cargo run --release -p nigh-bench -- {{ARGS}}

# A fleet of real hosts on this machine, as root: up, down, ssh, status.
lab *ARGS:
    ./tests/install --lab
    ./tests/lab/lab {{ARGS}}

# What an operator does to a fleet, on the lab: the core, or all of it with --all.
lab-test *ARGS:
    ./tests/install --lab
    cargo build --locked -p nigh --bin nigh
    ./tests/lab/run {{ARGS}}
