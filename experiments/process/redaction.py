"""Recognises credentials, which must not appear in anything that a run writes."""

import re
from fnmatch import fnmatch
from pathlib import PurePath

_FILES = (".env", ".env.*", "*.pem", "*.key", "*id_rsa*", "*credentials*", "*secret*", "*token*", ".netrc")
_WORDS = r"token|secret|passw|credential|auth|key"
# Everything before the host, except ssh's `git@`: it is not a secret, and the URL does not work without it.
_USERINFO = re.compile(r"(?<=://)(?!git@)[^/\s]*@")
_QUERY = re.compile(rf"([?&][^=&\s]*(?:{_WORDS})[^=&\s]*=)[^&#\s]*", re.IGNORECASE)


def is_secret_file(name: str) -> bool:
    """Whether a file or one of its parent folders has a typical credential name. `tokenizer.py` is not one."""
    name = re.sub(r"token[^/]*\.py$", ".py", name.lower())
    return any(fnmatch(part.lower(), pattern) for part in PurePath(name).parts for pattern in _FILES)


def is_secret_variable(name: str) -> bool:
    """Whether an environment variable has a typical credential name."""
    return re.search(_WORDS, name, re.IGNORECASE) is not None


def without_credentials(text: str) -> str:
    """Removes user and password from the URLs in `text`, and the values of query fields such as `access_token`."""
    return _QUERY.sub(r"\1***", _USERINFO.sub("", text))
