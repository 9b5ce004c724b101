# The service on a slim image, as a user without rights. Models and indexes live in the volume
# /data; fill it with `docker compose run --rm api models pull` and `... api index build`.
FROM python:3.11-slim AS build
# PyTorch's plain Linux wheels carry CUDA; an index with CPU wheels makes the image much smaller:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=<index with CPU wheels> .
ARG PIP_EXTRA_INDEX_URL=""
RUN python -m venv /opt/evident
ENV PATH="/opt/evident/bin:$PATH"
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY indexes indexes
COPY rag rag
COPY api api
COPY eval eval
RUN pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home evident && install -d -o evident -g evident /data
COPY --from=build /opt/evident /opt/evident
ENV PATH="/opt/evident/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    RAG_ROOT=/data/indexes \
    RAG_CACHE=/data/models \
    NUMBA_CACHE_DIR=/data/compiled
USER evident
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["rag"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
