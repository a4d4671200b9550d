#!/usr/bin/env bash
# Sends a node requests that nobody thought of: Schemathesis reads /openapi.json and makes up requests that fit it
# and such that do not. No answer may be an error of the server or one that is not documented.
#
#   tests/schemathesis.sh DIR [OPTION…]
#
# DIR holds a built conure-db (target/debug, say); options go to `schemathesis run`, such as --seed 7 or
# --max-examples 200. Needs Python 3.10 or later; Schemathesis is installed in its pinned version, once, into a virtual
# environment beside the builds. Watches are left out: they last as long as their client.
set -euo pipefail

readonly SCHEMATHESIS=4.32.5
# Not: whether a request that fits the document is taken. Parameters exclude each other in ways that OpenAPI
# has no words for. Nor whether one is refused that does not: any bytes are a key.
readonly CHECKS=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method,allow_header_conformance

if [[ $# -lt 1 || ! -x $1/conure-db ]]; then
    printf 'usage: %s DIR [OPTION…]: DIR holds a built conure-db\n' "$0" >&2
    exit 2
fi
builds=$(cd "$1" && pwd)
shift

venv=$builds/schemathesis-$SCHEMATHESIS
if [[ ! -x $venv/bin/schemathesis ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "schemathesis==$SCHEMATHESIS"
fi

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

home=$(mktemp -d)
http=127.0.0.1:$(free_port)
"$builds/conure-db" --data-dir "$home/data" --raft-addr "127.0.0.1:$(free_port)" --http-addr "$http" \
    2>"$home/log" &
node=$!
trap 'kill "$node" 2>/dev/null; wait "$node" || true; rm -rf "$home"' EXIT

ready=
for _ in {1..600}; do
    if python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1])' "http://$http/readyz" 2>/dev/null; then
        ready=yes
        break
    fi
    if ! kill -0 "$node" 2>/dev/null; then break; fi
    sleep 0.1
done
if [[ -z $ready ]]; then
    cat "$home/log" >&2
    exit 1
fi

cd "$home"
status=0
"$venv/bin/schemathesis" run "http://$http/openapi.json" --checks "$CHECKS" --exclude-operation-id watch \
    --request-timeout 60 --suppress-health-check all --warnings off "$@" || status=$?
if ! kill -0 "$node" 2>/dev/null; then
    printf 'the node ended:\n' >&2
    cat "$home/log" >&2
    exit 1
fi
exit "$status"
