"""Event sinks for commands and submission that let everything through, made once."""

from gatepost.plugins.sink import S_OK


class Passing:
    def IsCacheable(self):
        return S_OK

    async def OnSmtpInCommand(self, server, session, message, context):
        return S_OK

    async def OnMessageSubmission(self, message, notify, context):
        return S_OK


class Plain:
    """Of plain methods, which run in threads."""

    def IsCacheable(self):
        return S_OK

    def OnSmtpInCommand(self, server, session, message, context):
        return S_OK

    def OnMessageSubmission(self, message, notify, context):
        return S_OK
