"""A module that a template process cannot import: it starts a thread."""

import threading

threading.Thread(target=threading.Event().wait, daemon=True).start()


def main(_: list[str]) -> int:
    return 0
