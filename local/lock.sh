#!/bin/sh
# Resolve the direct requirements into locks/. Run by `make lock` after a requirement changes.
# One resolution per environment: packages added afterwards can pull a shared dependency back without a word.
set -eu
cd "$(dirname "$0")/.."
[ -n "${PIP_FIND_LINKS:-}" ] && export UV_FIND_LINKS="$PIP_FIND_LINKS"
compile() {
    out=$1; shift
    .venv/bin/uv pip compile -q --no-header --no-annotate --no-emit-index-url --no-emit-find-links -o "$out" "$@"
    sed -i.tmp -E 's/^(torch==[0-9.]+)\+cpu$/\1/' "$out" && rm "$out.tmp"
    echo "locked $(wc -l <"$out") packages in $out"
}
compile locks/cpu.txt -p .venv/bin/python --override local/overrides-cpu.txt \
    requirements-gpu.txt ra_app/requirements.txt local/requirements.txt
compile locks/gpu.txt --python-version 3.12 --python-platform x86_64-manylinux_2_28 requirements-gpu.txt
compile locks/pipeline.txt --python-version 3.12 --python-platform x86_64-manylinux_2_28 requirements.txt
compile locks/ra_app.txt --python-version 3.12 --python-platform x86_64-manylinux_2_28 ra_app/requirements.txt
if grep -E '^(nvidia-|triton|torchvision|torchcodec)' locks/cpu.txt; then
    echo "locks/cpu.txt must not carry CUDA packages (listed above)" >&2
    exit 1
fi
