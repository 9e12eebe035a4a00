"""llama-server from a wheel of llama.cpp's own server: its arguments, as far as the catalogue has them, and its key.

python llama_server.py --model FILE --host HOST --port PORT --alias NAME --ctx-size N …
"""

from __future__ import annotations

import argparse
import os
import signal


def main() -> None:
    import xllamacpp

    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("model", "host", "alias"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("port", "ctx-size", "parallel", "threads", "threads-batch", "n-gpu-layers"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("no-cache-prompt", "no-webui"):
        parser.add_argument(f"--{name}", action="store_true")
    asked = parser.parse_args()
    wanted = xllamacpp.CommonParams()
    wanted.model.path = asked.model
    wanted.hostnames, wanted.port, wanted.model_alias = [asked.host], asked.port, [asked.alias]
    wanted.n_ctx, wanted.n_parallel, wanted.n_gpu_layers = asked.ctx_size, asked.parallel, asked.n_gpu_layers
    wanted.cpuparams.n_threads, wanted.cpuparams_batch.n_threads = asked.threads, asked.threads_batch
    wanted.cache_prompt, wanted.ui = not asked.no_cache_prompt, not asked.no_webui
    wanted.api_keys = [os.environ["LLAMA_API_KEY"]]
    serving = xllamacpp.Server(wanted)
    print("listening at", serving.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
