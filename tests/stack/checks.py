"""What a check is: a sentence about the product, and whether it holds."""

import time
import traceback


class Checks:
    """Runs checks one after another and counts them; one that fails does not stop the others."""

    def __init__(self):
        self.passed, self.failed, self.began = 0, [], time.monotonic()

    def check(self, sentence, function, *arguments):
        """Returns what `function` returns; `None` if it failed."""
        start = time.monotonic()
        try:
            result = function(*arguments)
        except Exception as error:  # noqa: BLE001: whatever it is, it fails this check only
            self.failed.append(sentence)
            print(f"FAILED  {sentence}\n        {type(error).__name__}: {error}", flush=True)
            if not isinstance(error, AssertionError):
                traceback.print_exc()
            return None
        self.passed += 1
        print(f"ok      {sentence} ({time.monotonic() - start:.1f} s)", flush=True)
        return result

    def need(self, sentence, function, *arguments):
        """As `check`; nothing that follows makes sense without it."""
        failed = len(self.failed)
        result = self.check(sentence, function, *arguments)
        if len(self.failed) > failed:
            raise SystemExit(self.summary())
        return result

    def summary(self):
        """Prints the last line and returns the exit code."""
        for sentence in self.failed:
            print(f"failed: {sentence}")
        print(f"{self.passed} passed, {len(self.failed)} failed in {time.monotonic() - self.began:.0f} s", flush=True)
        return 1 if self.failed else 0


def wait_for(what, state, seconds=60, pause=0.1):
    """Waits until `state` returns something; the seconds are for a machine that does not get there at all."""
    end = time.monotonic() + seconds
    while True:
        found = state()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s for {what}; it is {found!r}")
        time.sleep(pause)
