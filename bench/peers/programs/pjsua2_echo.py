"""Echo by pjsua2's own media: argument 1 is the UDP port to listen on. Says READY when it does.

Each call's port of the conference bridge is connected to itself, as pjsua's --auto-loop does; the null sound device is
its clock.
"""

import sys

import pjsua2


class Call(pjsua2.Call):  # type: ignore[misc]
    """An echoing call."""

    def onCallMediaState(self, prm: "pjsua2.OnCallMediaStateParam") -> None:  # noqa: N802
        """Its audio is there: send it back."""
        audio = self.getAudioMedia(-1)
        audio.startTransmit(audio)


class Account(pjsua2.Account):  # type: ignore[misc]
    """Answers everybody."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def onIncomingCall(self, prm: "pjsua2.OnIncomingCallParam") -> None:  # noqa: N802
        """Answer."""
        call = Call(self, prm.callId)
        self.calls.append(call)
        answer = pjsua2.CallOpParam()
        answer.statusCode = 200
        call.answer(answer)


def main() -> None:
    endpoint = pjsua2.Endpoint()
    endpoint.libCreate()
    config = pjsua2.EpConfig()
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    config.logConfig.level = config.logConfig.consoleLevel = 0
    config.medConfig.noVad = True
    config.medConfig.clockRate = 8000
    config.medConfig.ecTailLen = 0
    endpoint.libInit(config)
    transport = pjsua2.TransportConfig()
    transport.port, transport.boundAddress = int(sys.argv[1]), "127.0.0.1"
    endpoint.transportCreate(pjsua2.PJSIP_TRANSPORT_UDP, transport)
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    account_config = pjsua2.AccountConfig()
    account_config.idUri = f"sip:echo@127.0.0.1:{sys.argv[1]}"
    account_config.mediaConfig.transportConfig.port = 50000
    account_config.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
    account = Account()
    account.create(account_config)
    print("READY", flush=True)
    while True:
        endpoint.libHandleEvents(100)


main()
