#!/bin/sh
# Resolve the direct requirements into locks/, each with the SHA-256 of its files. Run by `make lock` after a requirement changed.
# One resolution per environment: packages added afterwards can pull a shared dependency back without a word.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { # LOCK ARGUMENT...: versions and hashes that LOCK has already are kept unless a requirement says otherwise
    out=$1
    shift
    [ -e "$out" ] && cp "$out" "$work/lock" || : >"$work/lock"
    resolve -o "$work/lock" "$@"
    cp "$work/lock" "$out"
    echo "locked $(grep -c == "$out") packages in $out"
}

resolve() {
    .venv/bin/uv pip compile -q --generate-hashes --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
        --no-emit-find-links "$@"
}

only() { # PACKAGE: its lines of the lock on standard input
    awk -v start="$1==" '/^[^ ]/ { keep = index($0, start) == 1 } keep'
}

# CPU builds of torch: from a folder that pip knows, else from torch's own index (as in make_env.py). A folder adds no hash to
# those that the lock has for the same version, so those of other platforms stay; the index has them all.
torch_index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
if ls ${PIP_FIND_LINKS:-/nowhere}/torch-*+cpu-*.whl >/dev/null 2>&1; then
    cpu_torch=$PIP_FIND_LINKS
else
    cpu_torch=$torch_index/torch/
fi

compile locks/cpu.txt --find-links "$cpu_torch" --override local/overrides-cpu.txt \
    requirements-gpu.txt ra_app/requirements.txt ansible/requirements.txt local/requirements.txt
if [ "$cpu_torch" = "$torch_index/torch/" ]; then
    # uv takes no hashes from a page of links, only from an index.
    only torch <locks/cpu.txt | sed -nE 's/^(torch==[^ +]+).*/\1/p' >"$work/torch.in"
    resolve --no-deps --default-index "$torch_index" -o "$work/torch" "$work/torch.in"
    awk -v file="$work/torch" '
        /^[^ ]/ { skip = index($0, "torch==") == 1; if (skip) while ((getline line < file) > 0) print line }
        !skip' locks/cpu.txt >"$work/spliced"
    cp "$work/spliced" locks/cpu.txt
fi
if grep -E '^(nvidia-|triton|torchvision|torchcodec)' locks/cpu.txt; then
    echo "locks/cpu.txt must not carry CUDA packages (listed above)" >&2
    exit 1
fi
if ! only torch <locks/cpu.txt | grep -q '+cpu'; then
    echo "locks/cpu.txt must carry a CPU build of torch: none of that version is in $cpu_torch" >&2
    exit 1
fi

# What installs the others.
only uv <locks/cpu.txt | sed '$ s/ \\$//' >locks/uv.txt

# The hosts get what is tested here; only the torch family differs.
sed -nE 's/^([A-Za-z0-9._-]+==[^ ]+).*/\1/p' locks/cpu.txt | grep -vE '^(torch|torchaudio|setuptools)==' >"$work/tested"
for lock in gpu:requirements-gpu.txt pipeline:requirements.txt ra_app:ra_app/requirements.txt \
    ansible:ansible/requirements.txt; do
    compile "locks/${lock%%:*}.txt" --python-platform x86_64-manylinux_2_28 -c "$work/tested" "${lock#*:}"
done
# A program of its own: it shares no environment with the pipeline.
compile locks/awscli.txt --python-platform x86_64-manylinux_2_28 ansible/requirements-awscli.txt
