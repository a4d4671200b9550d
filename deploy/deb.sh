#!/usr/bin/env bash
# Builds the Debian package: both programs, the unit, the settings, completions and manual pages.
#
#   deploy/deb.sh            into target/debian
#
# Needs cargo-deb: cargo install cargo-deb --locked
set -euo pipefail

cd "$(dirname "$0")/.."
readonly built=${CARGO_TARGET_DIR:-target}/release pages=target/package

cargo build --locked --release --bin conure-db --bin conuresh

# Cargo.toml names these files as parts of the package.
rm -rf "$pages"
mkdir -p "$pages"
for program in conure-db conuresh; do
    "$built/$program" man --out "$pages/man"
    for shell in bash zsh fish; do
        "$built/$program" completions "$shell" >"$pages/$program.$shell"
    done
done

cargo deb --locked --no-build --output target/debian/
