"""Parts of a benchmark that run in processes of their own.

A script that uses ``Processes.run`` begins its ``main`` with ``if answer(function)``:
the process is the same script, called as ``script --worker JOB OUTPUT``.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)


def answer(function):
    """Run the job of the command line, if it has one; return whether it had."""
    if sys.argv[1:2] != ["--worker"]:
        return False
    job, output = sys.argv[2:]
    Path(output).write_text(json.dumps(function(**json.loads(job))))
    return True


def last_line(text):
    """Return the last line of a traceback."""
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "no message"


class Processes:
    """Runs jobs in processes of their own, and ends these when it is stopped.

    A job that takes more than ``timeout`` seconds is ended.
    """

    def __init__(self, timeout=None):
        self.timeout = timeout
        self.processes = set()
        self.stopped = False
        self.lock = threading.Lock()

    def result(self, job, **options):
        """Return the result of a job; raise what kept it from finishing."""
        found = self.run(job, **options)
        if found["status"] != "finished":
            raise RuntimeError(found.get("message", found["status"]))
        return found["result"]

    def run(self, job, threads=1, **variables):
        """Return a dict of "status" and, by that, of "result" or "message".

        ``threads`` is for every library that asks, ``variables`` are the process's.
        """
        counts = dict.fromkeys(THREADS, str(threads))
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder, "result.json")
            process = self._start(job, output, {**os.environ, **counts, **variables})
            try:
                _, errors = process.communicate(timeout=self.timeout)
            except subprocess.TimeoutExpired:
                return {"status": "timeout"}
            finally:
                self._kill(process)
            if process.returncode or not output.exists():
                return {"status": "failed", "message": last_line(errors)}
            return {"status": "finished", "result": json.loads(output.read_text())}

    def _start(self, job, output, environment):
        script = sys.modules["__main__"].__file__
        with self.lock:
            if self.stopped:
                raise RuntimeError("Stopped")
            process = subprocess.Popen(
                [sys.executable, script, "--worker", json.dumps(job), str(output)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # a group to kill with its workers
            )
            self.processes.add(process)
        return process

    def _kill(self, process):
        """End a process and those that it started."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.discard(process)

    def stop(self):
        """End all processes, and start no more."""
        with self.lock:
            self.stopped = True
        for process in list(self.processes):
            self._kill(process)


class Server:
    """A script in another environment that answers lines of JSON with lines of JSON.

    Its process starts at the first request.
    """

    def __init__(self, python, script):
        self.words = [python, str(script)]
        self.process = None

    def ask(self, **request):
        """Send a request and return the answer."""
        if self.process is None:
            self.process = subprocess.Popen(
                self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("The peers' process ended; its error is above.")
        return json.loads(answer)
