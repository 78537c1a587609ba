# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
# For the bindings of the Postgres grammar.
RUN apt-get update && apt-get install -y --no-install-recommends libclang-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked && install -D target/release/countersign /out/countersign

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/countersign countersign
COPY --from=build /out/countersign /usr/local/bin/countersign
USER countersign
VOLUME /var/lib/countersign
ENV COUNTERSIGN_DATA=/var/lib/countersign
EXPOSE 5432 8700 8701 8702
ENTRYPOINT ["countersign"]
CMD ["serve"]
