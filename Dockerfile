# CordLesion, a BIDS App. CPU: docker build -t cordlesion .
#                         GPU: docker build --build-arg ACCELERATOR=cuda -t cordlesion:cuda .
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS deps
ARG ACCELERATOR=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# For mirrors of the package index.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
COPY containers/install.sh requirements.lock setup.cfg /src/
RUN sh /src/install.sh deps /src

FROM deps AS app
COPY pyproject.toml README.md LICENSE setup.cfg /src/
COPY bids_app /src/bids_app
RUN sh /src/install.sh app /src

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="CordLesion" \
      org.opencontainers.image.description="A BIDS App that segments multiple sclerosis lesions in spinal-cord MRI; research use" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/cordlesion/cordlesion" \
      org.opencontainers.image.documentation="https://github.com/cordlesion/cordlesion/tree/main/docs"
# The dependencies are one layer that stays when the program changes, which is a small one.
COPY --from=deps /opt/cordlesion /opt/cordlesion
COPY --from=app /opt/app /opt/cordlesion
# Any user may read the home; nothing but /tmp and the output folder is ever written to.
RUN mkdir -p -m 0755 /home/cordlesion/models /home/cordlesion/templateflow
# Threads: the program itself gives PyTorch what --n-cpus says; other libraries stay at one.
ENV PATH=/opt/cordlesion/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/home/cordlesion \
    USER=cordlesion \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNOUSERSITE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    NUMEXPR_NUM_THREADS=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache \
    CORDLESION_MODELS=/home/cordlesion/models \
    TEMPLATEFLOW_HOME=/home/cordlesion/templateflow \
    TEMPLATEFLOW_AUTOUPDATE=false \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["cordlesion", "run"]
CMD ["--help"]
