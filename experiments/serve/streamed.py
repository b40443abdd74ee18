"""Blocks of one stream on their way from the engine's thread to a client."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Literal

import numpy as np

from engine.contract import AudioBlock, SynthesisRequest
from experiments.serve.service import Service

StreamFormat = Literal["audio", "sse"]
STREAM_MEDIA = {"sse": "text/event-stream"}


async def blocks_of(service: Service, request: SynthesisRequest) -> AsyncGenerator[np.ndarray, None]:
    """float (S,) each, as the engine makes them. Left early, the engine stops after the block that it is at.

    Raises QueueFull, Closed, and what the engine raised.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[AudioBlock | None] = asyncio.Queue()
    gone = threading.Event()

    def listen(block: AudioBlock) -> bool:
        loop.call_soon_threadsafe(arrived.put_nowait, block)
        return not gone.is_set()

    ended = service.submit_stream(request, listen)
    ended.add_done_callback(lambda _: loop.call_soon_threadsafe(arrived.put_nowait, None))
    try:
        while (block := await arrived.get()) is not None:
            yield block.audio_S
        ended.result()
    finally:
        gone.set()
        ended.cancel()  # which does something only while it waits in the line


async def first_and_rest(service: Service, request: SynthesisRequest) -> AsyncIterator[np.ndarray]:
    """As blocks_of, once there is a first one: what goes wrong before it still has a status."""
    blocks = blocks_of(service, request)
    first = await anext(blocks)

    async def all_of_them() -> AsyncIterator[np.ndarray]:
        yield first
        async for block in blocks:
            yield block

    return all_of_them()


async def body(
    blocks: AsyncIterator[np.ndarray], head: bytes, encode: Callable[[np.ndarray], bytes], form: StreamFormat
) -> AsyncIterator[bytes]:
    """The bytes of the answer. sse: events of the API's names, whose audio in a row is what `audio` sends."""
    heads = itertools.chain([head], itertools.repeat(b""))
    async for block in blocks:
        content = next(heads) + encode(block)
        yield (
            content if form == "audio" else _event(type="speech.audio.delta", audio=base64.b64encode(content).decode())
        )
    if form == "sse":
        yield _event(type="speech.audio.done")


def _event(**content: str) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()
