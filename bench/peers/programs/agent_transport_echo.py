"""Echo by agent-transport: argument 1 is the host of the registrar (port 5060, TCP). Says READY when registered.

Every call has a thread in the library's own blocking read, as its adapters for LiveKit and pipecat have; what is read
is sent back at once.
"""

import sys
import threading

import agent_transport  # type: ignore[import-not-found, unused-ignore]

PCM_HZ = 8000  # the rate of G.711: nothing to resample


def echo(endpoint: "agent_transport.SipEndpoint", session: str, ended: threading.Event) -> None:
    """Send back what comes, to the end of the call."""
    while not ended.is_set():
        try:
            heard = endpoint.recv_audio_bytes_blocking(session, 20)
            if heard is not None:
                endpoint.send_audio_bytes(session, *heard)  # (PCM, sample rate, channels)
        except (RuntimeError, ValueError):
            if ended.wait(0.01):  # not answered yet, or its buffer is full
                return


def main() -> None:
    endpoint = agent_transport.SipEndpoint(
        sip_server=sys.argv[1],
        stun_server="127.0.0.1:9",
        log_level=1,
        input_sample_rate=PCM_HZ,
        output_sample_rate=PCM_HZ,
    )
    endpoint.register("bench", "bench")
    print("READY", flush=True)
    calls: dict[str, threading.Event] = {}
    while True:
        event = endpoint.wait_for_event(1000)
        if not event:
            continue
        session = event.get("session_id") or getattr(event.get("session"), "session_id", "")
        if event["type"] == "call_ringing" and session not in calls:
            calls[session] = threading.Event()
            threading.Thread(target=answer, args=(endpoint, session, calls[session]), daemon=True).start()
        elif event["type"] == "call_terminated" and session in calls:
            calls[session].set()


def answer(endpoint: "agent_transport.SipEndpoint", session: str, ended: threading.Event) -> None:
    """Answer, then echo."""
    try:
        endpoint.answer(session, 200)
    except RuntimeError as problem:
        if "already" not in str(problem).lower():
            print(f"answer: {problem}", file=sys.stderr)
    echo(endpoint, session, ended)


main()
