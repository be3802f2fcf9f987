"""What looks like a credential, and so stays out of everything that a run leaves behind."""

import re
from fnmatch import fnmatch
from pathlib import PurePath

_FILES = (".env", ".env.*", "*.pem", "*.key", "*id_rsa*", "*credentials*", "*secret*", "*token*", ".netrc")
_WORDS = r"token|secret|passw|credential|auth|key"
# All before a host but the `git@` of ssh, which is no secret and without which the URL is of no use.
_USERINFO = re.compile(r"(?<=://)(?!git@)[^/\s]*@")
_QUERY = re.compile(rf"([?&][^=&\s]*(?:{_WORDS})[^=&\s]*=)[^&#\s]*", re.IGNORECASE)


def is_secret_file(name: str) -> bool:
    """Whether a file, or a folder on the way to it, has a name that credentials go by; tokenizer.py has none."""
    name = re.sub(r"token[^/]*\.py$", ".py", name.lower())
    return any(fnmatch(part.lower(), pattern) for part in PurePath(name).parts for pattern in _FILES)


def is_secret_variable(name: str) -> bool:
    """Whether an environment variable has a name that credentials go by."""
    return re.search(_WORDS, name, re.IGNORECASE) is not None


def without_credentials(text: str) -> str:
    """`text` whose URLs have lost user, password, and the values of query fields such as `access_token`."""
    return _QUERY.sub(r"\1***", _USERINFO.sub("", text))
