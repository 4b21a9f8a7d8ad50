# The image is the artefact of `make release` and nothing else: no shell, no
# libraries, a numeric user. See docs/operations.md.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY . .
ARG VERSION=dev
RUN make release PLATFORMS="linux/$(go env GOARCH)" VERSION="$VERSION" DIST=/out && \
    for p in privyseal privyseal-ceremony; do mv "/out/$p-linux-$(go env GOARCH)" "/out/$p"; done
RUN mkdir -p /out/data && chown 65532:65532 /out/data

FROM scratch
COPY --from=build /out/privyseal /out/privyseal-ceremony /
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
WORKDIR /data
ENTRYPOINT ["/privyseal"]
CMD ["serve", "--config", "/data/privyseal.yaml"]
