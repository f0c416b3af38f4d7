#!/usr/bin/env python3
"""Stand in for ``apptainer run``: its options are read, the image's program runs from here.

Folders are bound by rewriting the arguments, so that a missing or wrong ``-B`` shows. Real images
are the container suite's business.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    words = sys.argv[1:]
    assert words.pop(0) == "run", sys.argv
    binds, environ = {}, {key: os.environ[key] for key in ("PATH", "PYTHONPATH")}
    while words[0].startswith("-"):
        option = words.pop(0)
        if option == "-B":
            outside, inside, *_ = words.pop(0).split(":")
            binds[inside] = outside
        elif option == "--env":
            key, _, value = words.pop(0).partition("=")
            environ[key] = value
    image = words.pop(0)
    assert Path(image).exists(), image
    for index, word in enumerate(words):
        inside = [folder for folder in binds if word == folder or word.startswith(folder + "/")]
        if inside:
            folder = max(inside, key=len)
            words[index] = binds[folder] + word[len(folder) :]
        else:
            assert not word.startswith("/"), f"{word} cannot be seen in the container"
    python = os.environ["CORDLESION_TEST_PYTHON"]
    program = os.environ["CORDLESION_TEST_PROGRAM"]
    os.execve(python, [python, program, *words], environ)


if __name__ == "__main__":
    main()
