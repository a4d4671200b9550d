# Lists what there is.
default:
    @just --list

# The gate, the same as in CI: format, lints, documentation, tests, dependencies, containers.
check:
    .ci/run

# The tests alone: floors, units, contract, crashes, simulation.
test:
    cargo test --locked

# Simulated clusters under faults, from so many seeds.
sim seeds="2000":
    cargo run --release --locked --bin conure-sim -- --seeds {{seeds}}

# Fuzzes a decoder of fuzz/ (docs/TESTING.md names them), with the nightly toolchain and cargo-fuzz.
fuzz target seconds="60":
    RUSTFLAGS='--cfg tokio_unstable' cargo +nightly fuzz run {{target}} -- -max_total_time={{seconds}}

# The cluster of docker-compose.yml, through kills and restarts.
compose:
    cargo build --release --locked
    tests/compose.sh

# Formats the code.
fmt:
    cargo fmt
