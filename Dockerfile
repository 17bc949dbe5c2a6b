# CPU only, from Debian and PyPI alone. torch is Debian's: the one of PyPI for x86 brings 5 GB of CUDA.
#   docker build -t blemish .
#   docker run --rm --user $(id -u) -v "$PWD:/work" blemish fit path/to/images --out run
FROM debian:trixie-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3-torch python3-torchvision python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --system-site-packages /opt/blemish
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN /opt/blemish/bin/pip install --no-cache-dir '/source[review,serve]' \
 && rm -r /source \
 && XDG_CACHE_HOME=/tmp/cache /opt/blemish/bin/blemish demo --count 20 --out /tmp/demo --quiet \
 && rm -r /tmp/demo /tmp/cache
ENV PATH=/opt/blemish/bin:$PATH XDG_CACHE_HOME=/tmp/cache
WORKDIR /work
USER 1000
ENTRYPOINT ["blemish"]
CMD ["--help"]
