"""One append through a peer's public API, run in that peer's own environment: `peers.py NAME FOLDER`.

Prints the median of one append in microseconds, and the floor's (a JSON line written) measured in turn with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

TEXT = "x" * 200
ROUNDS, CALLS = 8, 40

#: what each needs; the versions are what pip finds for these bounds
NEEDS = {
    "openai-agents": ["openai-agents>=0.24"],
    "langgraph": ["langgraph-checkpoint-sqlite>=3.1", "langchain-core"],
    "langchain": ["langchain-community>=0.4", "sqlalchemy[asyncio]"],
    "llm": ["llm>=0.36"],
}


def openai_agents(folder: Path) -> Callable[[], None]:
    from agents import SQLiteSession

    loop = asyncio.new_event_loop()
    session = SQLiteSession("s", str(folder / "o.db"))
    return lambda: loop.run_until_complete(session.add_items([{"role": "user", "content": TEXT}]))


def langgraph(folder: Path) -> Callable[[], None]:
    import sqlite3

    from langchain_core.messages import HumanMessage
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph.checkpoint.sqlite import SqliteSaver

    saver = SqliteSaver(sqlite3.connect(folder / "l.db", check_same_thread=False))
    saver.setup()
    state: dict = {"messages": [], "thread": 0, "config": None}

    def append() -> None:
        if state["config"] is None or len(state["messages"]) >= 100:
            state["thread"] += 1
            state["messages"] = []
            state["config"] = {"configurable": {"thread_id": f"t{state['thread']}", "checkpoint_ns": ""}}
        state["messages"].append(HumanMessage(content=TEXT, id=str(uuid.uuid4())))
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"messages": state["messages"]}
        about = {"source": "loop", "step": len(state["messages"]), "parents": {}}
        state["config"] = saver.put(state["config"], checkpoint, about, {})

    return append


def langchain(folder: Path) -> Callable[[], None]:
    from langchain_community.chat_message_histories import SQLChatMessageHistory
    from langchain_core.messages import HumanMessage

    history = SQLChatMessageHistory("s", connection=f"sqlite:///{folder}/c.db")
    return lambda: history.add_message(HumanMessage(content=TEXT))


def llm(folder: Path) -> Callable[[], None]:
    import llm as library
    import sqlite_utils
    from llm.migrations import migrate

    database = sqlite_utils.Database(str(folder / "logs.db"))
    migrate(database)

    class Echo(library.Model):
        model_id = "echo"

        def execute(self, prompt, stream, response, conversation):
            yield "ok"

    model = Echo()

    def append() -> None:
        response = model.prompt(TEXT)
        response.text()
        response.log_to_db(database)

    return append


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    append = {"openai-agents": openai_agents, "langgraph": langgraph, "langchain": langchain, "llm": llm}[name](folder)
    floor = os.open(folder / "floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def line() -> None:
        os.write(floor, json.dumps({"role": "user", "content": TEXT, "at": time.time()}).encode() + b"\n")

    append()
    medians: dict[str, list[float]] = {"append": [], "floor": []}
    for _ in range(ROUNDS):
        for what, call in (("append", append), ("floor", line)):
            taken = []
            for _ in range(CALLS):
                begun = time.perf_counter_ns()
                call()
                taken.append(time.perf_counter_ns() - begun)
            medians[what].append(statistics.median(taken) / 1000)
    print(json.dumps({what: statistics.median(values) for what, values in medians.items()}))


if __name__ == "__main__":
    main()
