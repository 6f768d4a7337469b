# The wheel and its dependencies, checked against the hashes of requirements.lock.
FROM docker.io/library/python:3.11-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN pip download --quiet --require-hashes --dest /wheels -r requirements.lock \
    && pip install --quiet --no-index --find-links /wheels hatchling
COPY . .
RUN python -m hatchling build -t wheel -d /dist \
    && python -m venv /opt/reconciler \
    && /opt/reconciler/bin/pip install --quiet --no-index --find-links /wheels /dist/*.whl

FROM docker.io/library/python:3.11-slim
LABEL org.opencontainers.image.title="reconciler" \
      org.opencontainers.image.description="Keeps the container-registry configuration of a fleet equal to what Git says" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends git gnupg openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/reconciler reconciler \
    && install -d -o reconciler -m 0700 /var/lib/reconciler/data
COPY --from=build /opt/reconciler /opt/reconciler
ENV PATH=/opt/reconciler/bin:$PATH \
    RECONCILER_DATA_DIR=/var/lib/reconciler/data \
    RECONCILER_SERVICE__LISTEN=:8080
USER 10001
WORKDIR /var/lib/reconciler
VOLUME /var/lib/reconciler/data
EXPOSE 8080
ENTRYPOINT ["reconciler"]
CMD ["serve"]
