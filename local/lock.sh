#!/bin/sh
# Resolve the direct requirements into locks/. Run by `make lock` after a requirement changed.
# One resolution per environment: packages added afterwards can pull a shared dependency back without a word.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# CPU builds of torch: from a folder that pip knows, else from torch's own index (as in make_env.py).
if ls ${PIP_FIND_LINKS:-/nowhere}/torch-*+cpu-*.whl >/dev/null 2>&1; then
    cpu_torch="--find-links $PIP_FIND_LINKS"
else
    cpu_torch="--torch-backend cpu"
fi

compile() { # LOCK ARGUMENT...: what LOCK pins already is kept unless a requirement says otherwise
    out=$1
    shift
    [ -e "$out" ] && grep -vE '^torch(audio)?==' "$out" >"$work/lock" || : >"$work/lock"
    .venv/bin/uv pip compile -q --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
        --no-emit-find-links -o "$work/lock" "$@"
    sed -E 's/^(torch(audio)?==[0-9.]+)\+cpu$/\1/' "$work/lock" >"$out"
    echo "locked $(wc -l <"$out") packages in $out"
}

# shellcheck disable=SC2086 # two words
compile locks/cpu.txt $cpu_torch --override local/overrides-cpu.txt \
    requirements-gpu.txt ra_app/requirements.txt ansible/requirements.txt local/requirements.txt
if grep -E '^(nvidia-|triton|torchvision|torchcodec)' locks/cpu.txt; then
    echo "locks/cpu.txt must not carry CUDA packages (listed above)" >&2
    exit 1
fi

# The hosts get what is tested here; only the torch family differs.
grep -vE '^(torch|torchaudio|setuptools)==' locks/cpu.txt >"$work/tested"
for lock in gpu:requirements-gpu.txt pipeline:requirements.txt ra_app:ra_app/requirements.txt \
    ansible:ansible/requirements.txt; do
    compile "locks/${lock%%:*}.txt" --python-platform x86_64-manylinux_2_28 -c "$work/tested" "${lock#*:}"
done
