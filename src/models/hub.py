"""Download a part from the model hub at a pinned revision, with the checksums that the hub states."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from errors import ModelError
from models.manifest import Hub, Part

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo


def download_from_hub(
    part: Part, folder: Path, token: str | None, say: Callable[[str], None], command: str
) -> tuple[str, Mapping[str, str]]:
    """Download into `folder`, or continue an interrupted download -> origin with commit, and stated SHA-256.

    Raises
    ------
    ModelError
        No network, no token, no access, or a commit that differs from the pinned one.
    """
    hub = _accessible_hub(part, token, command)
    say(f"{part.name}: downloading {hub.repo} at {hub.revision} (about {part.bytes / 1e9:.1f} GB)")
    with _mapped_hub_errors(hub, command):
        import huggingface_hub

        info = huggingface_hub.HfApi().model_info(hub.repo, revision=hub.revision, files_metadata=True, token=token)
        if info.sha != hub.revision:
            raise ModelError(
                f"{hub.repo}: {hub.revision} was requested, but the hub returned {info.sha}; do not trust it"
            )
        huggingface_hub.snapshot_download(
            hub.repo,
            revision=hub.revision,
            local_dir=folder,
            allow_patterns=list(hub.files or part.sha256),
            token=token,
        )
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's state for continuing a download
    return f"{hub.repo}@{hub.revision}", _stated(info)


def pin_lines(part: Part, token: str | None, command: str) -> str:
    """The lines that pin the part to the newest commit of its branch, for the manifest. Nothing is downloaded.

    Raises
    ------
    ModelError
        No network, no token, or no access.
    """
    hub = _accessible_hub(part, token, command)
    with _mapped_hub_errors(hub, command):
        import huggingface_hub

        info = huggingface_hub.HfApi().model_info(hub.repo, revision=hub.revision, files_metadata=True, token=token)
    patterns = hub.files or tuple(part.sha256)
    wanted = {name: digest for name, digest in _stated(info).items() if any(fnmatch(name, one) for one in patterns)}
    lines = [f"[parts.{part.name}.hub]", f'revision = "{info.sha}"', "", f"[parts.{part.name}.sha256]"]
    return "\n".join([*lines, *(f'"{name}" = "{digest}"' for name, digest in sorted(wanted.items()))])


def _accessible_hub(part: Part, token: str | None, command: str) -> Hub:
    hub = part.hub
    if hub is None:
        raise ValueError(f"{part.name} does not come from the hub")
    if hub.gated and not token:
        raise ModelError(gated_sentence(hub, command))
    return hub


@contextlib.contextmanager
def _mapped_hub_errors(hub: Hub, command: str) -> Iterator[None]:
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise ModelError("the hub's client is not installed: run this with the worker's environment") from error
    try:
        yield
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


def _stated(info: ModelInfo) -> Mapping[str, str]:
    """SHA-256 of the large files, as the hub states them. The commit covers the small files."""
    stated: dict[str, str] = {}
    for sibling in info.siblings or []:
        if sibling.lfs is not None:
            stated[sibling.rfilename] = sibling.lfs.sha256
    return stated


def gated_sentence(hub: Hub, command: str) -> str:
    return (
        f"{hub.repo} refuses access: accept its terms on its page on the hub, make a read token in your account "
        f"there, and run `HF_TOKEN=hf_... {command}`"
    )


def _unreachable(hub: Hub, command: str, error: Exception) -> str:
    if isinstance(error, OSError) and not getattr(error, "response", None):
        reason = "no connection"  # the client's own message is a page long
    else:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return (
        f"{hub.repo} cannot be downloaded ({reason}): check the network and run `{command}` again to continue, or copy "
        "the files from another machine and use --from DIR"
    )
