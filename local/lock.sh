#!/bin/sh
# Resolve the direct requirements into locks/, each with the SHA-256 of its files. Run by `make lock` after a requirement changed.
# Each environment is resolved at once: a package that is added later could silently change the version of a shared dependency.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { # LOCK ARGUMENT...: keeps the versions and hashes of LOCK unless a requirement needs others
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

only() { # PACKAGE: prints the lines of this package from the lock on standard input
    awk -v start="$1==" '/^[^ ]/ { keep = index($0, start) == 1 } keep'
}

# CPU builds of torch come from a folder of PIP_FIND_LINKS, else from torch's own index (as in make_env.py). With a folder, the lock
# keeps its hashes for other platforms; the index has the hashes for all platforms.
torch_index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
if ls ${PIP_FIND_LINKS:-/nowhere}/torch-*+cpu-*.whl >/dev/null 2>&1; then
    cpu_torch=$PIP_FIND_LINKS
else
    cpu_torch=$torch_index/torch/
fi

compile locks/cpu.txt --find-links "$cpu_torch" --override local/overrides-cpu.txt \
    requirements-gpu.txt ra_app/requirements.txt ansible/requirements.txt local/requirements.txt
if [ "$cpu_torch" = "$torch_index/torch/" ]; then
    # uv reads hashes only from an index, not from a page of links.
    only torch <locks/cpu.txt | sed -nE 's/^(torch==[^ +]+).*/\1/p' >"$work/torch.in"
    resolve --no-deps --default-index "$torch_index" -o "$work/torch" "$work/torch.in"
    awk -v file="$work/torch" '
        /^[^ ]/ { skip = index($0, "torch==") == 1; if (skip) while ((getline line < file) > 0) print line }
        !skip' locks/cpu.txt >"$work/spliced"
    cp "$work/spliced" locks/cpu.txt
fi
if grep -E '^(nvidia-|triton|torchvision|torchcodec)' locks/cpu.txt; then
    echo "locks/cpu.txt must not contain CUDA packages (listed above)" >&2
    exit 1
fi
if ! only torch <locks/cpu.txt | grep -q '+cpu'; then
    echo "locks/cpu.txt must contain a CPU build of torch, but $cpu_torch has none of this version" >&2
    exit 1
fi

# The installer of the other locks.
only uv <locks/cpu.txt | sed '$ s/ \\$//' >locks/uv.txt

# Hosts get the versions that are tested here, except torch and torchaudio.
sed -nE 's/^([A-Za-z0-9._-]+==[^ ]+).*/\1/p' locks/cpu.txt | grep -vE '^(torch|torchaudio|setuptools)==' >"$work/tested"
for lock in gpu:requirements-gpu.txt pipeline:requirements.txt ra_app:ra_app/requirements.txt \
    ansible:ansible/requirements.txt; do
    compile "locks/${lock%%:*}.txt" --python-platform x86_64-manylinux_2_28 -c "$work/tested" "${lock#*:}"
done
# The aws command has its own environment.
compile locks/awscli.txt --python-platform x86_64-manylinux_2_28 ansible/requirements-awscli.txt
