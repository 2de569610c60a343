#!/usr/bin/env python3
"""A trader's own program around an exported adapter: llama-cpp-python alone, nothing of candletune.

    python drop_in.py BASE.gguf custom-trading-lora.gguf PROMPTS.jsonl

PROMPTS.jsonl has a JSON object a line with a "prompt" (or, as in dataset/lora_training.jsonl, "messages"), and may have
the "decision" that it is compared with. Prints a line of JSON for each: "decision" (BUY, SELL, HOLD, or INVALID),
"text", and "ended", false where --max-tokens cut it off. With decisions to compare with, the last line on standard
error says how many are the same.

Greedy: temperature 0, no grammar, no repeat penalty. The prompt goes out in the base's own chat template, exactly as
in training; a base without a template is asked as `[INST]prompt[/INST]`. A merged model takes the place of BASE.gguf;
give `-` for the adapter then.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import llama_cpp
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

ANSWER = re.compile(r"\s*DECISION:\s*(BUY|SELL|HOLD)\b")


def token_text(llm: llama_cpp.Llama, token: int) -> str:
    """A control token as text; empty for none."""
    return llm.detokenize([token], special=True).decode() if token >= 0 else ""


def prompt_ids(llm: llama_cpp.Llama, prompt: str) -> list[int]:
    """Everything before the answer, with BOS as often as template and tokenizer give it."""
    bos, eos = token_text(llm, llm.token_bos()), token_text(llm, llm.token_eos())
    template = llm.metadata.get("tokenizer.chat_template")
    if template is None:
        return llm.tokenize(f"{bos}[INST]{prompt}[/INST]".encode(), add_bos=False, special=True)
    chat = Jinja2ChatFormatter(template=template, bos_token=bos, eos_token=eos)
    text = chat(messages=[{"role": "user", "content": prompt}]).prompt
    # The tokenizer adds BOS where the base wants one; a template that writes it must not have it twice.
    return llm.tokenize(text.encode(), add_bos=not (bos and text.startswith(bos)), special=True)


def answer(llm: llama_cpp.Llama, prompt: str, max_tokens: int) -> tuple[str, bool]:
    """The plain greedy answer, and whether the model ended it itself."""
    done = llm.create_completion(
        prompt_ids(llm, prompt), max_tokens=max_tokens, temperature=0.0, repeat_penalty=1.0, top_k=1
    )
    choice = done["choices"][0]  # type: ignore[index]
    return str(choice["text"]), choice["finish_reason"] == "stop"


def decision(text: str) -> str:
    """What an answer decides: read at its start only, and never guessed."""
    found = ANSWER.match(text)
    return found[1] if found else "INVALID"


def main() -> None:
    """Ask every prompt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="GGUF of the base, or of a merged model")
    parser.add_argument("adapter", help="GGUF of the LoRA; - for none")
    parser.add_argument("prompts", type=Path, help="JSON lines")
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--gpu-layers", type=int, default=-1)
    given = parser.parse_args()
    llm = llama_cpp.Llama(
        model_path=given.base,
        lora_path=None if given.adapter == "-" else given.adapter,
        n_ctx=given.context,
        n_threads=given.threads,
        n_threads_batch=given.threads,
        n_gpu_layers=given.gpu_layers,
        verbose=False,
    )
    compared = same = 0
    for line in given.prompts.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        prompt = row["prompt"] if "prompt" in row else row["messages"][0]["content"]
        text, ended = answer(llm, prompt, given.max_tokens)
        print(json.dumps({"decision": decision(text), "text": text, "ended": ended}), flush=True)
        if "decision" in row:
            compared += 1
            same += row["decision"] == decision(text)
    if compared:
        print(f"{same} of {compared} decisions are the same ({same / compared:.1%})", file=sys.stderr)


if __name__ == "__main__":
    main()
