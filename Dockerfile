# Built in one stage, run in another: neither compilers nor caches reach the image that runs.

FROM python:3.12-slim AS build
RUN python -m venv /opt/octet
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
# What the package needs changes less often than the package: a layer of its own, made of the metadata alone.
RUN mkdir app worker migrations \
    && touch app/__init__.py worker/__init__.py migrations/__init__.py \
    && /opt/octet/bin/pip install --no-cache-dir --disable-pip-version-check . \
    && /opt/octet/bin/pip uninstall --yes --quiet octet
COPY app app
COPY worker worker
COPY migrations migrations
RUN rm -rf build && /opt/octet/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps .

FROM python:3.12-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin octet \
    && install -d -o octet -g octet /var/lib/octet
COPY --from=build /opt/octet /opt/octet
ENV PATH=/opt/octet/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OCTET_HOME=/var/lib/octet
USER octet
WORKDIR /var/lib/octet
VOLUME /var/lib/octet
EXPOSE 8000 8001
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["octet", "health", "gateway"]
CMD ["octet", "serve", "--host", "0.0.0.0"]
