"""Downloading a part from the model hub at a pinned revision, with the checksums that the hub itself states."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from errors import ModelError
from models_manifest import Hub, Part

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo


def download_from_hub(
    part: Part, folder: Path, token: str | None, say: Callable[[str], None], command: str
) -> tuple[str, Mapping[str, str]]:
    """Download into `folder`, going on where an earlier try broke off -> origin with commit, and stated SHA-256.

    Raises
    ------
    ModelError
        No network, no token, or no access.
    """
    hub = part.hub
    if hub is None:
        raise ValueError(f"{part.name} does not come from the hub")
    if hub.gated and not token:
        raise ModelError(gated_sentence(hub, command))
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ModelError("the hub's client is not installed: run this with the worker's environment") from error
    say(f"{part.name}: downloading {hub.repo} at {hub.revision} (about {part.bytes / 1e9:.1f} GB)")
    try:
        info = huggingface_hub.HfApi().model_info(hub.repo, revision=hub.revision, files_metadata=True, token=token)
        huggingface_hub.snapshot_download(
            hub.repo,
            revision=info.sha or hub.revision,
            local_dir=folder,
            allow_patterns=list(hub.files or part.sha256),
            token=token,
        )
    except (errors.GatedRepoError, errors.RepositoryNotFoundError) as error:
        raise ModelError(gated_sentence(hub, command)) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{hub.repo} has no revision {hub.revision}: correct it in models.toml") from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ValueError) as error:
        raise ModelError(_unreachable(hub, command, error)) from error
    except OSError as error:
        if error.errno is None or isinstance(error, ConnectionError | TimeoutError):
            raise ModelError(_unreachable(hub, command, error)) from error
        raise
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's notes for going on
    if info.sha and info.sha != hub.revision:
        say(f'{part.name}: {hub.revision} is commit {info.sha}; pin it in models.toml as revision = "{info.sha}"')
    return f"{hub.repo}@{info.sha or hub.revision}", _stated(info)


def _stated(info: ModelInfo) -> Mapping[str, str]:
    """SHA-256 of the large files as the hub knows them; small ones are covered by the commit."""
    stated: dict[str, str] = {}
    for sibling in info.siblings or []:
        if sibling.lfs is not None:
            stated[sibling.rfilename] = sibling.lfs.sha256
    return stated


def gated_sentence(hub: Hub, command: str) -> str:
    return (
        f"{hub.repo} is not open to us: accept its terms on its page on the hub, make a read token in your account "
        f"there, and run `HF_TOKEN=hf_... {command}`"
    )


def _unreachable(hub: Hub, command: str, error: Exception) -> str:
    if isinstance(error, OSError) and not getattr(error, "response", None):
        reason = "no connection"  # the client's own words are a page long
    else:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return (
        f"{hub.repo} cannot be downloaded ({reason}): check the network and run `{command}` again, which goes on where "
        "it stopped, or bring the files from another machine with --from DIR"
    )
