"""An event sink for commands and submission that lets everything through, made once."""

from gatepost.plugins.sink import S_OK


class Passing:
    def IsCacheable(self):
        return S_OK

    def OnSmtpInCommand(self, server, session, message, context):
        return S_OK

    def OnMessageSubmission(self, message, notify, context):
        return S_OK
