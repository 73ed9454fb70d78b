"""Starts servers of the test on 127.0.0.1 and ends them, whatever happens."""

import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """One process and its children, which are a process group of their own."""

    def __init__(self, command, log, environment, stdout=None):
        self.log = log
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                command, stdout=stdout or output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, **environment})

    def is_running(self):
        return self.process.poll() is None

    def end(self):
        """Asks it to end; what is left of its group after ten seconds is killed."""
        if self.is_running():
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


# `HTTPError` is an answer, too.
def request(url, method="GET", headers=None, body=None, timeout=30):
    """The status and the text of an answer."""
    message = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(message, timeout=timeout) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
