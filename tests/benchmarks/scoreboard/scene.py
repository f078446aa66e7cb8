"""What a check writes down, line by line, so that nothing is lost if it is killed."""

import json
import tempfile

CHECKS = {}
"""Number -> (title, function of a scene, limit in seconds)."""


def check(number, title, *, seconds=180):
    """Register a check; its docstring says what has to hold, for every subject alike."""

    def register(function):
        CHECKS[number] = (title, function, seconds)
        return function

    return register


class Scene:
    """One check of one subject: its parts, each held or not, with what was measured.

    ``part`` with ``main=True`` is what the check is about: without it the mark is x, whatever
    else holds.
    """

    def __init__(self, subject, number, out, *, quick=False):
        self.subject, self.number, self.quick = subject, number, quick
        self._out = out

    def write(self, **line):
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()

    def now(self, words):
        """Say what is going on, in case that it never ends."""
        self.write(now=words)

    def part(self, name, held, words, *, main=False, way=""):
        """One part of the check, for one of the ways to use the package."""
        if (self.number, name) in self.subject.beyond:
            self.write(beyond=self.subject.beyond[self.number, name])
            return
        self.write(part=name, held=bool(held), words=words, main=main, way=way)

    def variants(self):
        return self.subject.variants[:1] if self.quick else self.subject.variants

    def folder(self):
        return tempfile.mkdtemp(prefix="scoreboard-")


def mark_of(lines):
    """ok, ~ or x of the parts: x where a main part is missed or none holds, else ~ if any is."""
    ways = {}
    for line in lines:
        if "part" in line:
            ways.setdefault(line["way"], []).append(line)
    marks = set()
    for parts in ways.values():
        if all(part["held"] for part in parts):
            marks.add("ok")
        elif any(p["main"] and not p["held"] for p in parts) or not any(p["held"] for p in parts):
            marks.add("x")
        else:
            marks.add("~")
    if len(marks) == 1:
        return marks.pop()
    return "~" if marks else "?"


def words_of(lines):
    """What happened, in words: of each part that was missed, or all of them if none was."""
    parts = [line for line in lines if "part" in line]
    shown = [part for part in parts if not part["held"]] or parts
    held = len(parts) - len(shown)
    texts = {}
    for part in shown:
        texts.setdefault(part["words"], []).append(part["way"])
    ways = {part["way"] for part in parts}
    found = []
    for words, where in texts.items():
        some = [way or "default" for way in dict.fromkeys(where)]
        found.append(f"{', '.join(some)}: {words}" if len(some) < len(ways) else words)
    if held and len(shown) < len(parts):
        found.append(f"{held} of {len(parts)} parts hold")
    found += dict.fromkeys(line["beyond"] for line in lines if "beyond" in line)
    return "; ".join(found)
