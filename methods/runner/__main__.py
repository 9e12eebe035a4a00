"""The runner: one process that does one job in a method's own interpreter.

    PYTHON -I methods/runner JOB.json WIRE_FD

The job is read from the file; the runner's messages go as JSON lines to the inherited descriptor WIRE_FD
(see `kasoku_wire`), and what an engine prints goes to stderr, the log. A job's `paths` are prepended to the
interpreter's own. Exit status: 0 the job was done, 1 it failed and an `error` line says why, 2 the command line or the
job file was invalid, 3 the reader of the wire is gone.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from pathlib import Path

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_READER_GONE = 0, 1, 2, 3


def shelter(wire_descriptor: int) -> None:
    """Keep an engine's output, inherited handles and downloads away from the measurement."""
    faulthandler.enable()
    os.dup2(2, 1)  # an engine's prints belong in the log
    os.set_inheritable(wire_descriptor, False)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["TQDM_DISABLE"] = "1"
    for secret in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        os.environ.pop(secret, None)


def carry_out(job: dict, wire: object) -> None:
    """Do the job. Only the module of that job is imported."""
    name = job["job"]
    if name == "measure":
        import kasoku_measure

        kasoku_measure.run(job, wire)
    elif name == "describe":
        import kasoku_describe

        kasoku_describe.run(job, wire)
    elif name == "bandwidth":
        import kasoku_bandwidth

        kasoku_bandwidth.run(job, wire)
    elif name == "served":
        import kasoku_served

        kasoku_served.run(job, wire)
    elif name == "reference":
        import kasoku_reference

        kasoku_reference.run(job, wire)
    elif name == "compile":
        import kasoku_compile

        kasoku_compile.run(job, wire)
    elif name in ("convert", "synthesize", "convert-tokeniser"):
        import kasoku_conversion

        kasoku_conversion.run(job, wire)
    elif name == "read-gguf":
        import kasoku_gguf_model

        kasoku_gguf_model.run(job, wire)
    elif name in ("to-gguf", "quantise-gguf"):
        import kasoku_gguf

        kasoku_gguf.run(job, wire)
    elif name == "to-first-layers":
        import kasoku_to_first_layers

        kasoku_to_first_layers.run(job, wire)
    elif name == "to-ct2":
        import kasoku_to_ct2

        kasoku_to_ct2.run(job, wire)
    elif name == "forced":
        import kasoku_forced

        kasoku_forced.run(job, wire)
    elif name in ("to-openvino", "compress-openvino"):
        import kasoku_to_openvino

        kasoku_to_openvino.run(job, wire)
    elif name == "to-onnxruntime":
        import kasoku_to_onnxruntime

        kasoku_to_onnxruntime.run(job, wire)
    else:
        import kasoku_failure

        raise kasoku_failure.UnsupportedError("This runner has no job %r." % (name,))


def main(arguments: list) -> int:
    if len(arguments) != 3 or not arguments[2].isdigit():
        sys.stderr.write("usage: PYTHON -I %s JOB.json WIRE_FD\n" % arguments[0])
        return EXIT_USAGE
    try:
        job = json.loads(Path(arguments[1]).read_text(encoding="utf-8"))
        if not isinstance(job, dict) or job.get("schema") != 1 or "job" not in job:
            raise ValueError('it is not a job of schema 1 (an object with "schema": 1 and "job")')
        wire_descriptor = int(arguments[2])
        os.fstat(wire_descriptor)
    except (OSError, ValueError) as error:
        sys.stderr.write("The runner cannot start with %s: %s\n" % (arguments[1], error))
        return EXIT_USAGE

    shelter(wire_descriptor)
    sys.path[1:1] = [path for path in job.get("paths", ()) if path not in sys.path]

    import kasoku_failure
    import kasoku_wire

    wire = kasoku_wire.Wire(wire_descriptor)
    try:
        try:
            wire.send("hello", schema=1, pid=os.getpid(), python=sys.version.split()[0], engine=job.get("engine"))
            carry_out(job, wire)
            wire.send("done", t=wire.clock())
            status = EXIT_DONE
        except kasoku_wire.ReaderGoneError:
            raise
        except BaseException as error:  # an engine's sys.exit() is no reason to lose what is still kept
            wire.send("error", t=wire.clock(), **kasoku_failure.described(error))
            status = EXIT_FAILED
        wire.drain()
    except kasoku_wire.ReaderGoneError:
        status = EXIT_READER_GONE
    return status


if __name__ == "__main__":  # engines that spawn import this file again in their children
    code = main(sys.argv)
    sys.stdout.flush()
    sys.stderr.flush()
    # What an engine left running (threads, atexit hooks that wait for children) must not keep a finished job open.
    os._exit(code)
