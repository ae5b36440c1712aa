"""Ctrl-C at any moment, in a process of its own."""

import signal
import subprocess
import sys

import pytest

_ENDS = """
import io, os
from deploy.operate import interrupts

def interrupt():
    os.kill(os.getpid(), {number})

class Answer(io.IOBase):
    def close(self):
        interrupt()

interrupts.listen()
"""


def _status(program: str, number: signal.Signals) -> str:
    """What a program says that can `interrupt` itself, also where an `Answer` is closed."""
    done = subprocess.run(
        [sys.executable, "-c", _ENDS.format(number=int(number)) + program],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_python_drops_ends_the_next_pause(number: signal.Signals) -> None:
    said = _status(
        """
answer = Answer()
del answer  # finalized: what `close` raises is dropped
print("dropped")
try:
    interrupts.pause(60)
except KeyboardInterrupt:
    print("ended")
""",
        number,
    )
    assert said == "dropped\nended\n"


def test_one_that_was_heard_does_not_end_the_cleaning_up() -> None:
    said = _status(
        """
try:
    interrupt()
except KeyboardInterrupt:
    with interrupts.ignored():
        interrupts.pause(0)
        interrupt()
        interrupts.pause(0)
        print("clean")
interrupts.pause(0)
try:
    interrupt()
except KeyboardInterrupt:
    print("heard again")
""",
        signal.SIGINT,
    )
    assert said == "clean\nheard again\n"


def test_a_signal_that_the_shell_lets_us_ignore_stays_ignored() -> None:
    said = _status(
        """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
interrupts.listen()
interrupt()
interrupts.pause(0)
print("goes on")
""",
        signal.SIGINT,
    )
    assert said == "goes on\n"
