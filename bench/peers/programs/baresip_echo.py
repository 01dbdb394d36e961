"""Echo by baresip-python: argument 1 is the address "host:port" to listen on (UDP). Says READY when it does.

One asyncio task looks at all calls each 10 ms and writes back what each has received: its reads and writes never block.
"""

import asyncio
import sys

import baresip  # type: ignore[import-not-found, unused-ignore]

LOOK_S = 0.01


async def main() -> None:
    listen = sys.argv[1]
    config = baresip.Config(
        net_interface=listen.partition(":")[0],
        max_concurrent_calls=None,
        native_log_level="error",
        extra_config_text=f"sip_listen {listen}\nrtp_ports 50000-59998\n",
    )
    runtime = baresip.Runtime()
    await runtime.start(config)
    account = baresip.Account(
        user="echo", domain=listen, password="", reg_interval=0, transport="udp", audio_codecs=("PCMU/8000/1",)
    )
    agent = await baresip.UserAgent.create(runtime, account)
    calls: list[baresip.Call] = []
    tasks: set[asyncio.Task[None]] = set()

    async def answer(call: "baresip.Call") -> None:
        await call.answer()
        calls.append(call)

    def incoming(call: "baresip.Call") -> None:
        task = asyncio.create_task(answer(call))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    agent.on_incoming(incoming)
    print("READY", flush=True)
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        for call in list(calls):
            try:
                pcm = call.audio.read(4096)
                if pcm:
                    call.audio.write(pcm)
            except (baresip.AudioNotActive, baresip.AudioRestarted):
                if call.state is baresip.CallState.CLOSED:
                    calls.remove(call)
        due = max(due + LOOK_S, loop.time())
        await asyncio.sleep(due - loop.time())


asyncio.run(main())
