#!/usr/bin/env bash
# The cluster of docker-compose.yml keeps what it acknowledged: through the kill of its leader, and through
# `down` and `up`.
#
#   tests/compose.sh [DIR]     DIR holds conure-db and conuresh, compiled before (default target/release)
#
# Runs as root on a fresh Debian: installs Docker where there is none and starts its daemon where none runs.
# No registry of images is needed: the base image is made by debootstrap. What it made (containers, volumes,
# images, its daemon and the daemon's files) is gone at the end, however it ends.
set -euo pipefail

cd "$(dirname "$0")/.."
readonly BINARIES=${1:-${CARGO_TARGET_DIR:-target}/release}
readonly NODES=(node1 node2 node3)
readonly PROJECT=conuredb-test-$$
readonly BASE_IMAGE=$PROJECT-base
readonly STAGE_IMAGE=$PROJECT-binaries # has a name only so that it can be removed
export CONURE_IMAGE=$PROJECT

# Writes through each node in a calm cluster, and writes that have to get through after the leader was killed.
readonly CALM_WRITES=50
readonly WRITES_AFTER_KILL=100
# The longest any single condition may take. A cluster needs about 3 s for an election, and a container on a
# busy machine with two cores about 20 s to be healthy; the rest is margin.
readonly DEADLINE_S=120

WORK=$(mktemp -d "${TMPDIR:-/tmp}/conuredb-compose.XXXXXX")
readonly WORK
readonly ACKNOWLEDGED=$WORK/acknowledged # one key a line
: >"$ACKNOWLEDGED"

say() { printf '   %4ds  %s\n' "$SECONDS" "$*"; }

fail() {
    printf 'compose: %s\n' "$*" >&2
    exit 1
}

# until_true WHAT COMMAND…: tries again every 0.2 s until the command succeeds.
until_true() {
    local what=$1 give_up=$((SECONDS + DEADLINE_S))
    shift
    until "$@" >"$WORK/last" 2>&1; do
        if ((SECONDS >= give_up)); then
            cat "$WORK/last" >&2
            fail "after ${DEADLINE_S}s still not: $what"
        fi
        sleep 0.2
    done
    say "$what"
}

# ---- Docker

install_missing() {
    local missing=()
    docker info >/dev/null 2>&1 || command -v dockerd >/dev/null || missing+=(docker.io)
    docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null ||
        missing+=(docker-compose)
    command -v debootstrap >/dev/null || missing+=(debootstrap)
    command -v curl >/dev/null || missing+=(curl)
    ((${#missing[@]})) || return 0
    [[ $(id -u) == 0 ]] || fail "not root and not installed: ${missing[*]}"
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    if ! apt-get update >"$WORK/apt.log" 2>&1 ||
        ! apt-get install --yes --no-install-recommends "${missing[@]}" >>"$WORK/apt.log" 2>&1; then
        fail "apt-get could not install ${missing[*]}: $(tail -n 5 "$WORK/apt.log")"
    fi
}

# A daemon of our own keeps its files under $WORK and leaves the machine's firewall and routing as they are:
# published ports then go through Docker's proxy, and containers reach each other and nothing else, no DNS
# server either: the name of a stopped container would take 20 s to be unknown, were it not for the options.
start_dockerd() {
    docker info >/dev/null 2>&1 && return
    export DOCKER_HOST=unix://$WORK/docker.sock
    dockerd --host "$DOCKER_HOST" --pidfile "$WORK/dockerd.pid" \
        --data-root "$WORK/docker" --exec-root "$WORK/docker-run" \
        --bridge=none --iptables=false --ip6tables=false --ip-forward=false \
        --dns 127.0.0.1 --dns-opt timeout:1 --dns-opt attempts:1 \
        >"$WORK/dockerd.log" 2>&1 &
    DOCKERD=$!
    local give_up=$((SECONDS + 60))
    until docker info >/dev/null 2>&1; do
        if ! kill -0 "$DOCKERD" 2>/dev/null || ((SECONDS >= give_up)); then
            tail -n 20 "$WORK/dockerd.log" >&2
            fail "the Docker daemon does not start on this machine; its last words stand above"
        fi
        sleep 0.2
    done
    say "started dockerd, storage driver $(docker info --format '{{.Driver}}')"
}

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose --project-name "$PROJECT" "$@"
    else
        docker-compose --project-name "$PROJECT" "$@"
    fi
}

# The same release of Debian as this machine, since the binaries need a C library as new as the one they
# were linked with.
build_image() {
    local release
    release=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
    debootstrap --variant=minbase "$release" "$WORK/root" >"$WORK/debootstrap.log" 2>&1 ||
        fail "debootstrap: $(tail -n 5 "$WORK/debootstrap.log")"
    tar -C "$WORK/root" -c . | docker import - "$BASE_IMAGE" >/dev/null
    rm -rf "$WORK/root"
    say "made a base image of Debian $release"

    install -D -t "$WORK/context/dist" "$BINARIES/conure-db" "$BINARIES/conuresh"
    cp Dockerfile .dockerignore "$WORK/context"
    build --target binaries --tag "$STAGE_IMAGE"
    build --tag "$CONURE_IMAGE"
    say "built the image"
}

# With the classic builder, as BuildKit is a plugin that Debian's package does not bring along.
build() {
    DOCKER_BUILDKIT=0 docker build "$@" --network none --build-arg PREBUILT=dist \
        --build-arg BUILD_IMAGE="$BASE_IMAGE" --build-arg RUNTIME_IMAGE="$BASE_IMAGE" \
        "$WORK/context" >"$WORK/build.log" 2>&1 || fail "docker build: $(tail -n 20 "$WORK/build.log")"
}

clean_up() {
    local status=$?
    trap - EXIT INT TERM
    set +e
    touch "$WORK/stop"
    if docker info >/dev/null 2>&1; then
        if ((status)); then
            compose ps >&2
            compose logs --no-color --tail 60 >&2
        fi
        compose down --volumes --timeout 5 >/dev/null 2>&1
        docker image rm "$CONURE_IMAGE" "$STAGE_IMAGE" "$BASE_IMAGE" >/dev/null 2>&1
    fi
    if [[ ${DOCKERD:-} ]]; then
        kill "$DOCKERD" 2>/dev/null
        wait "$DOCKERD" 2>/dev/null
    fi
    rm -rf "$WORK"
    exit "$status"
}

# ---- the cluster, as a client outside sees it

port() { echo "808${1#node}"; }

get() { curl --silent --show-error --fail --max-time 5 "http://127.0.0.1:$(port "$1")$2"; }

# Value and key are told apart by looking, and the newline makes many answers in a row lines.
value_of() { echo "value of $1"; }

# put NODE KEY: succeeds when the write was acknowledged, and then remembers it.
put() {
    local status
    status=$(value_of "$2" | curl --silent --output /dev/null --write-out '%{http_code}' --max-time 5 \
        --request PUT --data-binary @- "http://127.0.0.1:$(port "$1")/kv?key=$2") || return 1
    [[ $status == 200 ]] || return 1
    echo "$2" >>"$ACKNOWLEDGED"
}

is_ready() { get "$1" /readyz; }

is_healthy() {
    [[ $(docker inspect --format '{{.State.Health.Status}}' "$(container "$1")") == healthy ]]
}

has_three_voters() {
    local config
    config=$(get "$1" /raft/config) && echo "$config" &&
        [[ $(grep --only-matching '"suffrage": *"voter"' <<<"$config" | wc -l) == 3 ]]
}

# The id of a service's container, running or not.
container() {
    docker ps --all --quiet --filter "label=com.docker.compose.project=$PROJECT" \
        --filter "label=com.docker.compose.service=$1"
}

leader() {
    local node
    for node in "${NODES[@]}"; do
        if get "$node" /status 2>/dev/null | grep --quiet '"is_leader": *true'; then
            echo "$node"
            return
        fi
    done
    return 1
}

has_leader() { leader; }

# all_there NODE: every acknowledged key has its value, read linearizably through this node.
all_there() {
    local base count key
    base="http://127.0.0.1:$(port "$1")/kv?key="
    count=$(wc -l <"$ACKNOWLEDGED")
    while read -r key; do value_of "$key"; done <"$ACKNOWLEDGED" >"$WORK/expected"
    sed "s|.*|url = \"$base&\"|" "$ACKNOWLEDGED" >"$WORK/urls"
    curl --silent --show-error --fail --max-time 60 --config "$WORK/urls" >"$WORK/found" ||
        fail "$1 does not answer a read of what was acknowledged"
    cmp "$WORK/expected" "$WORK/found" ||
        fail "$1 has not all of the $count acknowledged writes: $(diff "$WORK/expected" "$WORK/found" | head)"
    say "$1 has all $count acknowledged writes"
}

# Writes new keys through all nodes in turn, until $WORK/stop exists; a node that is down refuses at once.
write_on() {
    local i
    for ((i = 0; ; i++)); do
        [[ ! -e $WORK/stop ]] || return 0
        put "${NODES[i % 3]}" "during-$i" || sleep 0.05
    done
}

has_acknowledged() { (($(wc -l <"$ACKNOWLEDGED") >= $1)); }

# ---- the story

write_through_each_node() {
    local node i
    for node in "${NODES[@]}"; do
        for ((i = 0; i < CALM_WRITES; i++)); do
            put "$node" "$1-$node-$i" || fail "$node refused a write in a calm cluster"
        done
    done
    say "wrote $CALM_WRITES keys through each node"
}

wait_for_cluster() {
    local node
    for node in "${NODES[@]}"; do
        until_true "$node is ready" is_ready "$node"
        until_true "$node sees three voters" has_three_voters "$node"
    done
}

kill_the_leader_under_load() {
    local victim writer before node
    until_true "there is a leader" has_leader
    victim=$(leader)
    write_on &
    writer=$!
    until_true "writes flow" has_acknowledged $(($(wc -l <"$ACKNOWLEDGED") + 20))

    docker kill --signal KILL "$(container "$victim")" >/dev/null
    before=$(wc -l <"$ACKNOWLEDGED")
    say "killed $victim, the leader, after $before acknowledged writes"
    until_true "$WRITES_AFTER_KILL more writes were acknowledged without it" \
        has_acknowledged $((before + WRITES_AFTER_KILL))
    touch "$WORK/stop"
    wait "$writer"
    rm "$WORK/stop"
    for node in "${NODES[@]}"; do
        [[ $node == "$victim" ]] || all_there "$node"
    done

    compose start "$victim" >/dev/null 2>&1
    until_true "$victim is back and ready" is_ready "$victim"
    all_there "$victim"
}

stop_in_order() {
    local node code
    compose stop >/dev/null 2>&1
    for node in "${NODES[@]}"; do
        code=$(docker inspect --format '{{.State.ExitCode}}' "$(container "$node")")
        [[ $code == 0 ]] || fail "$node exited with $code after SIGTERM"
    done
    say "all three closed in order"
}

shell_inside_answers() {
    local key
    key=$(head -n 1 "$ACKNOWLEDGED")
    [[ $(compose exec -T node2 conuresh get "$key") == "$(value_of "$key")" ]] ||
        fail "conuresh inside node2 does not get $key"
    say "conuresh inside a container reads the cluster"
}

main() {
    local node
    for node in conure-db conuresh; do
        [[ -x $BINARIES/$node ]] || fail "no $BINARIES/$node: cargo build --release makes it"
    done
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    install_missing
    start_dockerd
    build_image

    compose up --detach --no-build >"$WORK/up.log" 2>&1 || fail "docker-compose up: $(cat "$WORK/up.log")"
    wait_for_cluster
    for node in "${NODES[@]}"; do until_true "$node is healthy" is_healthy "$node"; done
    write_through_each_node first
    shell_inside_answers
    kill_the_leader_under_load

    stop_in_order
    compose down >/dev/null 2>&1
    compose up --detach --no-build >"$WORK/up.log" 2>&1 || fail "docker-compose up: $(cat "$WORK/up.log")"
    say "took everything down but the volumes, and up again"
    wait_for_cluster
    for node in "${NODES[@]}"; do all_there "$node"; done
    write_through_each_node second
    for node in "${NODES[@]}"; do all_there "$node"; done
    say "passed: $(wc -l <"$ACKNOWLEDGED") acknowledged writes, none lost"
}

main
