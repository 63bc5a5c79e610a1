#!/bin/sh
# Makes FOLDER ready for bench/build.py, as root on Debian: wheels, a base image like
# python:3.11-slim, uv, buildx and a registry. `bench/prepare.sh FOLDER`
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
pip=${PIP:-python3.11 -m pip}

command -v mmdebstrap >/dev/null || apt-get install -y mmdebstrap
[ -e wheels ] || $pip download -q --only-binary :all: -d wheels torch==2.13.0 \
    fastapi==0.165.0 uvicorn==0.54.0 numpy==2.4.6 flask==3.1.3 gunicorn==27.0.1
$pip download -q --only-binary :all: --no-deps -d wheels uvicorn==0.53.0
if [ "${CUDA:-}" ] && [ ! -e wheels-cuda ]; then
    $pip download -q --only-binary :all: -d wheels-cuda torch==2.14.1 fastapi==0.165.0 \
        uvicorn==0.54.0 flask==3.1.3 gunicorn==27.0.1
    $pip download -q --only-binary :all: --no-deps -d wheels-cuda uvicorn==0.53.0
fi

# Files of Debian's packages, without installing them or adding a source.
if [ ! -e docker-registry ]; then
    mkdir -p registry-deb buildx-deb/state/lists/partial buildx-deb/cache/archives/partial
    (cd registry-deb && apt-get download docker-registry && dpkg-deb -x docker-registry_*.deb .)
    cp registry-deb/usr/bin/docker-registry .
    mirror=$(grep -hoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list \
        /etc/apt/sources.list.d/* 2>/dev/null | head -1)
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keys] $mirror trixie main" >buildx-deb/trixie.list
    cd buildx-deb
    set -- -o "Dir::Etc::sourcelist=$PWD/trixie.list" -o Dir::Etc::sourceparts=- \
        -o "Dir::State::lists=$PWD/state/lists" -o "Dir::Cache=$PWD/cache" \
        -o APT::Sandbox::User=root
    apt-get "$@" update && apt-get "$@" download docker-buildx
    dpkg-deb -x docker-buildx_*.deb .
    cd .. && cp buildx-deb/usr/libexec/docker/cli-plugins/docker-buildx .
fi

if [ ! -e base.tar ]; then
    mmdebstrap --variant=minbase --aptopt='APT::Install-Recommends "false"' \
        --include=python3.11,python3-venv,ca-certificates,libgomp1,libstdc++6 \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --customize-hook='chroot "$1" python3 -m venv /opt/venv' bookworm base.tar
fi
uv=$(command -v "$here/../.venv/bin/uv" || command -v uv)
tar -cf uv.tar -C "$(dirname "$uv")" uv
