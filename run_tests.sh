#!/usr/bin/env bash
# Assay's front door: sets up what is missing, builds, and hands over to `assay run`.
#
#   ./run_tests.sh [options] [FILTER...]    runs conformance cases; -h shows the options
#   ./run_tests.sh --self-test              runs the project's own tests
#   ./run_tests.sh --set-up                 installs what is missing, and stops
#   ./run_tests.sh --no-install ...         installs nothing; says what to install instead
#
# Each command that changes this machine is printed before it runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# Payloads, runs and this script's own program are looked for there.
export CARGO_TARGET_DIR=$PWD/target

targets=(x86_64-unknown-none aarch64-unknown-none-softfloat s390x-unknown-linux-gnu)
qemus=(qemu-system-x86_64 qemu-system-aarch64 qemu-system-s390x)
# Seconds that one installing command may take.
limit=${ASSAY_INSTALL_LIMIT:-600}

install=yes
mode=run
args=()
for arg in "$@"; do
    case $arg in
        --no-install) install=no ;;
        --self-test) mode=self-test ;;
        --set-up) mode=set-up ;;
        *) args+=("$arg") ;;
    esac
done

say() { printf '%s\n' "run_tests.sh: $*" >&2; }

# Stops before any work with the exit code for wrong usage or set-up.
die() {
    say "$@"
    exit 2
}

# Prints a command, then runs it with a time limit; its output goes to stderr, for stdout is
# results only.
change() {
    say "running: $*"
    if command -v timeout >/dev/null; then
        timeout --foreground "$limit" "$@" >&2
    else
        "$@" >&2
    fi
}

# Runs a command as root: directly, by sudo, or not at all.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        change "$@"
    elif command -v sudo >/dev/null; then
        change sudo "$@"
    else
        say "need root for: $*"
        return 1
    fi
}

need_cargo() {
    command -v cargo >/dev/null && return
    [ -x "$HOME/.cargo/bin/cargo" ] && PATH=$HOME/.cargo/bin:$PATH && return
    die "no cargo; install Rust with rustup: https://rustup.rs"
}

# Programs for the host are linked by the system's C compiler.
need_linker() {
    command -v cc >/dev/null && return
    [ $install = yes ] && command -v apt-get >/dev/null ||
        die "no C compiler to link with; install gcc (Debian: apt-get install gcc libc6-dev)"
    as_root apt-get update &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev ||
        die "cannot install gcc"
}

# The pinned toolchain and the targets that payloads are built for.
need_targets() {
    local target missing=()
    if ! rustc --version >/dev/null 2>&1; then
        local channel
        channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
        local get=(rustup toolchain install "$channel" --profile minimal -c rustfmt -c clippy --no-self-update)
        [ $install = yes ] || die "the pinned Rust is missing; run: ${get[*]}"
        command -v rustup >/dev/null || die "rustc does not run, and there is no rustup to install it"
        change "${get[@]}" || die "cannot install Rust $channel"
    fi
    local sysroot
    sysroot=$(rustc --print sysroot)
    for target in "${targets[@]}"; do
        [ -d "$sysroot/lib/rustlib/$target/lib" ] || missing+=("$target")
    done
    [ ${#missing[@]} = 0 ] && return
    local get=(rustup target add "${missing[@]}")
    [ $install = yes ] || die "Rust targets are missing; run: ${get[*]}"
    command -v rustup >/dev/null ||
        die "Rust targets are missing, and there is no rustup to add them: ${missing[*]}"
    change "${get[@]}" || die "cannot add Rust targets: ${missing[*]}"
}

# The packages that hold the QEMU programs, by package manager.
qemu_hint() {
    say "to install QEMU:"
    say "  Debian: apt-get install qemu-system-x86 qemu-system-arm qemu-system-misc"
    say "  Ubuntu: apt-get install qemu-system-x86 qemu-system-arm qemu-system-s390x (before 24.10: qemu-system-misc)"
    say "  Fedora: dnf install qemu-system-x86-core qemu-system-aarch64-core qemu-system-s390x-core"
    say "  Arch:   pacman -S qemu-system-x86 qemu-system-aarch64 qemu-system-s390x"
    say "  macOS:  brew install qemu"
}

# QEMU is wanted, not needed: what is missing is reported by assay, and the rest runs.
want_qemu() {
    local qemu missing=()
    for qemu in "${qemus[@]}"; do
        command -v "$qemu" >/dev/null || missing+=("$qemu")
    done
    [ ${#missing[@]} = 0 ] && return
    say "missing: ${missing[*]}"
    if [ $install = no ] || ! command -v apt-get >/dev/null; then
        qemu_hint
        return
    fi
    local packages=() package
    for qemu in "${missing[@]}"; do
        case $qemu in
            *x86_64) packages+=(qemu-system-x86) ;;
            *aarch64) packages+=(qemu-system-arm) ;;
            # Its own package on newer systems, part of -misc on Debian 12.
            *s390x) packages+=(qemu-system-s390x) ;;
        esac
    done
    as_root apt-get update || { qemu_hint; return; }
    local known=()
    for package in "${packages[@]}"; do
        # A virtual package has no candidate of its own; -misc provides it then.
        if [ "$package" = qemu-system-s390x ] &&
            ! apt-cache policy qemu-system-s390x | grep -q 'Candidate: [0-9]'; then
            package=qemu-system-misc
        fi
        known+=("$package")
    done
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${known[@]}" ||
        qemu_hint
}

# These only print: nothing needs to be there for them.
help=no
for arg in "${args[@]+"${args[@]}"}"; do
    case $arg in
        -h | --help | -V | --version) help=yes ;;
    esac
done

# The first lines of this file, then assay's own help.
[ $help = yes ] && sed -n '2,/^$/s/^# \{0,1\}//p' run_tests.sh | sed '/^set /,$d'

need_cargo
need_linker
if [ $help = no ]; then
    need_targets
    want_qemu
fi

[ $mode = set-up ] && exit

if [ $mode = self-test ]; then
    say "running: cargo run -p assay -- build"
    cargo run --quiet --locked -p assay -- build >&2
    say "running: cargo test"
    exec cargo test --locked "${args[@]+"${args[@]}"}"
fi

cargo build --locked --release -p assay >&2
build=--build
[ $help = yes ] && build=
exec target/release/assay run $build "${args[@]+"${args[@]}"}"
