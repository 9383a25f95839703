# An image for the nodes of a cluster: see docs/cluster.md.
FROM python:3.11-slim
# A C compiler is what Triton needs where networks are compiled; wget is KubeRay's.
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ libc6-dev make wget && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/luceloop
COPY Makefile pyproject.toml requirements.lock README.md LICENSE ./
COPY luceloop luceloop
COPY core core
COPY workers workers
COPY sweeps sweeps
COPY analysis analysis
RUN make install PYTHON=python3
ENV PATH=/opt/luceloop/.venv/bin:$PATH
