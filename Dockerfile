# refineclip with mmcv compiled for GPUs. The tests lint this file; no machine of theirs builds it.
#
#     docker build -t refineclip .
#     docker run --rm --gpus all refineclip doctor
#
# The CUDA version is that of the torch in requirements/constraints.txt (torch.version.cuda).
ARG CUDA=13.0.2

FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS build
# Compute capabilities that mmcv's operators are compiled for.
ARG TORCH_CUDA_ARCH_LIST="8.0;8.6;8.9;9.0;12.0+PTX"
ENV FORCE_CUDA=1 MMCV_WITH_OPS=1 PIP_CONSTRAINT=/src/requirements/constraints.txt
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:${PATH}
WORKDIR /src
COPY requirements requirements
# mmcv is compiled against the torch that is here: the long step, which no change of the sources
# repeats. The rest comes without its own requirements, which name an OpenCV that needs a screen.
RUN pip install --no-cache-dir -r requirements/runtime.txt -r requirements/demo.txt \
        -r requirements/mm.txt onedl-mmengine==0.10.12 \
        ninja==1.13.2 'setuptools>=80,<81' wheel==0.48.0 build==1.6.1 \
    && pip install --no-cache-dir --no-build-isolation --no-deps onedl-mmcv==2.3.6 \
    && pip install --no-cache-dir --no-build-isolation --no-deps \
        imaug==0.4.3 lvis==0.5.3 onedl-mmdetection==3.5.1 onedl-mmsegmentation==1.4.2
COPY . .
RUN python -m build --wheel --no-isolation --outdir /dist \
    && pip install --no-cache-dir --no-deps /dist/*.whl \
    && python -m refineclip doctor

FROM nvidia/cuda:${CUDA}-base-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 refineclip
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:${PATH}
USER 10001
WORKDIR /home/refineclip
ENTRYPOINT ["python", "-m", "refineclip"]
CMD ["doctor"]
