"""Why a recorded run cannot be run again."""


class CannotRun(Exception):
    """Its record, its code or its packages are not to be had, or not safe; `remedy` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}; {remedy}")
        self.message, self.remedy = message, remedy
