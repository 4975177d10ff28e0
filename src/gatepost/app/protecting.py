"""TLS to other servers, joined: contexts, what domains publish, the settings' policies, counting and reporting."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from gatepost.app.settings.root import Settings
from gatepost.app.settings.tls import Certificate, TlsReports
from gatepost.app.submission import Submissions
from gatepost.delivery.protector import Protector, Rule
from gatepost.delivery.security import Security
from gatepost.delivery.sts_policies import Facts, Policies
from gatepost.delivery.tls_reports import Counts, Reporter, Sender
from gatepost.model import Bytes, Path, Recipient
from gatepost.net.answers import Resolving
from gatepost.net.certificates import Pair
from gatepost.net.client_contexts import Contexts
from gatepost.net.https import Https
from gatepost.net.mta_sts import Fetcher


def contexts(settings: Settings) -> Contexts:
    """TLS as a client, with our certificate where there is one."""
    return Contexts.of_system(pair(settings.tls.client))


def pair(certificate: Certificate | None) -> Pair | None:
    """The files of a certificate."""
    return None if certificate is None else Pair(certificate.chain, certificate.key)


@dataclass(slots=True)
class Protecting:
    """All of it, for one worker. `counts` is None where nobody is reported to: then nothing is counted."""

    contexts: Contexts
    protector: Protector
    policies: Policies
    https: Https
    facts: Facts
    resolver: Resolving
    counts: Counts | None = None
    reporter: Reporter | None = None
    _reporting: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, settings: Settings, resolver: Resolving, facts: Facts) -> Protecting:
        """As the settings want it; asks nobody yet. `facts` is the ledger."""
        trusting = contexts(settings)
        https = Https(resolver, trusting.host)
        policies = Policies(resolver, facts, Fetcher(https), clock=time.time)
        counts = None if settings.tls.reports.contact is None else Counts(clock=time.time)
        protector = Protector(resolver, policies, rules(settings), observer=counts)
        return cls(trusting, protector, policies, https, facts, resolver, counts)

    def report(self, settings: Settings, submissions: Submissions, worker: int, workers: int) -> None:
        """Begin to write and to send what is counted, if anything is."""
        reports = settings.tls.reports
        if self.counts is None or reports.contact is None:
            return

        async def submit(sender: str, to: str, content: bytes) -> None:
            await submissions.submit(Bytes(content), Path.parse(sender), [Recipient(Path.parse(to))])

        self.reporter = Reporter(
            self.counts,
            self.facts,
            self.resolver,
            _sender(reports),
            submit,
            self.https,
            worker=worker,
            workers=workers,
            clock=time.time,
            chance=random.random,
        )
        self._reporting = asyncio.create_task(self.reporter.run(), name="tls reports")

    async def close(self) -> None:
        """Write what is counted, and give up what is asked."""
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.gather(self._reporting, return_exceptions=True)
        await self.policies.close()


def rules(settings: Settings) -> tuple[Rule, ...]:
    """[[tls.policy]], in order."""
    return tuple(
        Rule(tuple(one.match), None if one.tls is None else Security(one.tls), pair(one.certificate))
        for one in settings.tls.policy
    )


def _sender(reports: TlsReports) -> Sender:
    assert reports.contact is not None
    domain = reports.contact.rpartition("@")[2]
    return Sender(reports.organization or domain, reports.contact, domain)
