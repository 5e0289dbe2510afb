"""The Hugging Face hub: what of a repository lies in the local cache, and downloading the rest. Import late.

Nothing is downloaded without a line in the log that says what, how large and where to.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from headstudio.errors import UserError

log = logging.getLogger(__name__)


def is_offline() -> bool:
    """Whether the hub must not be asked (HF_HUB_OFFLINE=1)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def cache_folder() -> Path:
    """Where downloads are kept (HF_HOME, HF_HUB_CACHE)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def in_cache(repository: str, subfolder: str) -> Callable[[str], Path | None]:
    """`get` for `layout.find`: files of a repository that the cache has."""
    from huggingface_hub import try_to_load_from_cache

    def get(name: str) -> Path | None:
        file = f"{subfolder}/{name}" if subfolder else name
        found = try_to_load_from_cache(repository, file, cache_dir=cache_folder())
        return Path(found) if isinstance(found, str) and Path(found).is_file() else None

    return get


def was_interrupted(repository: str) -> bool:
    """Whether the cache holds the beginning of a download of this repository."""
    blobs = cache_folder() / f"models--{repository.replace('/', '--')}" / "blobs"
    return any(blobs.glob("*.incomplete"))


def sizes(repository: str) -> dict[str, int]:
    """Bytes of every file of a repository, asked from the hub.

    Raises:
        UserError: no connection, no such repository, or one that asks for consent first.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        files = HfApi().model_info(repository, files_metadata=True).siblings or []
    except GatedRepoError as error:
        raise UserError(gated(repository)) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"The hub has no repository {repository}, or it is private; check the name, or log in with `hf auth login`."
        ) from error
    except Exception as error:  # which HTTP library raises, and what, changes with the hub's version
        raise Unreachable(str(error)) from error
    return {file.rfilename: int(file.size or 0) for file in files}


class Unreachable(Exception):
    """The hub gave no answer; whoever asked knows what it was needed for."""


def gated(repository: str) -> str:
    """The sentence about a repository behind a consent form."""
    return (
        f"The repository {repository} asks for your consent first: open https://huggingface.co/{repository}, accept "
        "its licence, run `hf auth login`, and start again."
    )


def download(repository: str, files: Sequence[str], bytes_by_file: dict[str, int], what: Iterable[str]) -> None:
    """Bring files of a repository into the cache; what is there already is not loaded again.

    Args:
        repository: owner/name.
        files: names within it.
        bytes_by_file: from `sizes`.
        what: the components, for the log.

    Raises:
        UserError: consent is missing, or the disk is full.
        Unreachable: the connection broke.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError

    total = sum(bytes_by_file.get(name, 0) for name in files) / 1e9
    log.info("Downloading %s of %s: %.2f GB to %s", ", ".join(what), repository, total, cache_folder())
    try:
        snapshot_download(repository, allow_patterns=list(files), cache_dir=cache_folder())
    except GatedRepoError as error:
        raise UserError(gated(repository)) from error
    except Exception as error:  # as above
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise UserError(
                f"The download of {repository} ({total:.2f} GB) to {cache_folder()} failed ({error.strerror}); "
                "free some space, or choose another folder with the environment variable HF_HOME."
            ) from error
        raise Unreachable(str(error)) from error
