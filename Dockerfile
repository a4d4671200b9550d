# An image of one node: conure-db, and conuresh to talk to it, on a slim Debian.
#
#   docker build -t conuredb .
#
# compiles in a public Rust image. Where no registry of images can be reached, both base images can be any
# Debian 12 with glibc, and the binaries ones that were compiled before and put into ./dist:
#
#   docker build -t conuredb --build-arg PREBUILT=dist \
#       --build-arg BUILD_IMAGE=my-debian --build-arg RUNTIME_IMAGE=my-debian .
#
# The choice is a condition inside one stage, not a choice of stages, because the classic builder runs
# every stage above the last, needed or not.

ARG BUILD_IMAGE=rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS binaries
ARG PREBUILT=
WORKDIR /build
COPY . .
RUN set -eu; \
    from="${PREBUILT}"; \
    if [ -z "${from}" ]; then \
        cargo build --release --locked --bin conure-db --bin conuresh; \
        from=target/release; \
    fi; \
    install -D -t /out "${from}/conure-db" "${from}/conuresh"

FROM ${RUNTIME_IMAGE}

# The number is fixed because files on volumes keep it: an image of next year has to own them still.
RUN groupadd --gid 10001 conure \
    && useradd --uid 10001 --gid conure --home-dir /data --no-create-home --shell /usr/sbin/nologin conure \
    && install -d -o conure -g conure -m 0750 /data

COPY --from=binaries /out/conure-db /out/conuresh /usr/local/bin/

# Peers are in other containers, so loopback, the program's own default for Raft, would reach none of
# them. What others should call this node (CONURE_RAFT_ADVERTISE_ADDR, CONURE_HTTP_ADVERTISE_ADDR) only the
# one who runs it knows.
ENV CONURE_DATA_DIR=/data \
    CONURE_RAFT_ADDR=:7001 \
    CONURE_HTTP_ADDR=:8081

USER conure
WORKDIR /data
VOLUME /data
EXPOSE 8081 7001

# On SIGTERM a node finishes its requests, hands leadership over and takes a checkpoint.
STOPSIGNAL SIGTERM

# Asks whether the node answers, not whether the cluster has a quorum: a node without one is no better after
# a restart. That question is GET /readyz. CONURE_SERVER says where else the shell should look.
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \
    CMD ["conuresh", "--timeout", "3s", "status"]

ENTRYPOINT ["conure-db"]
