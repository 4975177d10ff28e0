"""The core test for POP3: every stage × every verdict, asked of a real session, heard on the wire."""

import hashlib
import hmac
import itertools

import pytest

from contract.test_effects_matrix import VERDICTS
from gatepost.hooks import stages
from gatepost.hooks import verdicts as v
from gatepost.hooks.api import on
from gatepost.hooks.effects import EFFECTS, allowed_failures
from gatepost.model import Reply
from gatepost.plugins.loaded import PluginError
from gatepost.plugins.python import load_isolated
from unit.serving_pop3.pop3_talk import MESSAGES, SIZES, House, mailboxes, pop_rig

STAGES = sorted(stages.POP, key=lambda stage: stage.name)
LINES = {stages.PopLogin: "PASS gro.elpmaxe@nna", stages.PopRetrieve: "RETR 2", stages.PopDelete: "DELE 2"}
PASSED = {stages.PopLogin: "+OK 3 messages", stages.PopRetrieve: "+OK", stages.PopDelete: "+OK"}
TEMPFAILED = "-ERR [SYS/TEMP] a check couldn't be made, try again later ("
REFUSED = {
    (stages.PopLogin, "refuse"): "-ERR [SYS/PERM] not this (",
    (stages.PopLogin, "refuse-text"): "-ERR [AUTH] not this (",
    (stages.PopLogin, "refuse-later"): "-ERR [SYS/TEMP] not now (",
    (stages.PopLogin, "deny"): "-ERR [AUTH] wrong name or password",
    (stages.PopLogin, "credentials"): "-ERR [SYS/TEMP]",  # there are none in it
    **{(stage, word): "-ERR not this (" for stage in STAGES[::2] for word in ("refuse", "refuse-text")},
    **{(stage, "refuse-later"): "-ERR [SYS/TEMP] not now (" for stage in STAGES[::2]},
}


def test_the_stages_are_those_of_the_lines():
    assert set(LINES) == stages.POP
    assert STAGES[1] is stages.PopLogin


async def heard(rig, stage):
    """What is heard of the stage's own command, in a whole session; and of NOOP after it."""
    client = rig.pick_up()
    await client.reply()
    await client.command("USER ann@example.org")
    if stage is not stages.PopLogin:
        assert (await client.command("PASS gro.elpmaxe@nna")).startswith("+OK")
    said = await client.command(LINES[stage])
    if stage is stages.PopRetrieve and said.startswith("+OK"):
        await client.lines()
    after = await client.command("NOOP")
    await client.command("QUIT")
    await rig.settled()
    return said, after


@pytest.mark.parametrize(
    ("stage", "word"), list(itertools.product(STAGES, VERDICTS)), ids=lambda x: getattr(x, "name", x)
)
async def test_every_verdict_at_every_stage(stage, word):
    verdict = VERDICTS[word] if word != "identity" else v.Identity("ann@example.org")
    asked = []

    @on(stage)
    async def hook(event):
        asked.append(event)
        return verdict

    kept = await mailboxes()
    async with pop_rig(kept, hook) as rig:
        said, after = await heard(rig, stage)
        assert len(asked) == 1
        if (stage, type(verdict)) not in EFFECTS:
            assert said.startswith(TEMPFAILED) and len(rig.records.errors) == 1
        else:
            assert said.startswith(REFUSED.get((stage, word), PASSED[stage])), said
            assert not rig.records.errors
        is_in = stage is not stages.PopLogin or said.startswith("+OK")
        assert after.startswith("+OK" if is_in else "-ERR log in first")
        session = await kept.open("ann@example.org")
        is_gone = stage is stages.PopDelete and said.startswith("+OK")
        assert [entry.size for entry in session.messages] == ([SIZES[0], SIZES[2]] if is_gone else SIZES)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
@pytest.mark.parametrize("failure", ["tempfail", "proceed", "refuse"])
async def test_every_failure_policy_at_every_stage(stage, failure):
    assert set(allowed_failures(stage)) == {"tempfail", "proceed", "refuse"}

    @on(stage, on_failure=failure)
    async def hook(event):
        raise ZeroDivisionError("a bug")

    async with pop_rig(await mailboxes(), hook) as rig:
        said, _ = await heard(rig, stage)
        assert "bug" not in said
        code = "[AUTH] " if stage is stages.PopLogin else ""
        expected = {
            "tempfail": TEMPFAILED,
            "proceed": PASSED[stage],
            "refuse": f"-ERR {code}a check couldn't be made (",
        }
        assert said.startswith(expected[failure])
        assert len(rig.records.errors) == 1


async def test_what_each_stage_sees():
    seen = []

    @on("pop-login")
    @on("pop-retrieve")
    @on("pop-delete")
    async def hook(event):
        fields = {
            name: getattr(event, name)
            for name in ("user", "password", "mechanism", "number", "size", "is_top")
            if hasattr(event, name)
        }
        seen.append((event.name, event.session.protocol, event.session.user, fields))

    async with pop_rig(await mailboxes(), hook) as rig:
        client = rig.pick_up()
        await client.reply()
        await client.command("USER ann@example.org")
        await client.command("PASS gro.elpmaxe@nna")
        uid = (await client.command("UIDL 2")).split()[2]
        await client.listing("RETR 2")
        await client.listing("TOP 2 0")
        await client.command("DELE 2")
        for line in ("RETR 2", "DELE 2", "DELE 9"):  # nobody is asked about what isn't there
            await client.command(line)
        await client.command("QUIT")
    ann = "ann@example.org"
    size = SIZES[1]
    assert seen == [
        ("pop-login", "pop3", None, {"user": ann, "password": ann[::-1], "mechanism": "USER"}),
        ("pop-retrieve", "pop3", ann, {"number": 2, "size": size, "is_top": False}),
        ("pop-retrieve", "pop3", ann, {"number": 2, "size": size, "is_top": True}),
        ("pop-delete", "pop3", ann, {"number": 2}),
    ]
    assert len(uid) > 10


async def test_a_plugin_owns_the_users_and_names_their_maildrops():
    @on("pop-login")
    async def host(event):
        return v.Identity("carol", maildrop="ann@example.org") if event.password == "hers" else v.Deny("no")

    users = House()
    async with pop_rig(await mailboxes(), host, users=users) as rig:
        client = rig.pick_up()
        await client.reply()
        await client.command("USER carol")
        assert (await client.command("PASS his")).startswith("-ERR [AUTH]")
        await client.command("USER carol")
        assert (await client.command("PASS hers")).startswith("+OK 3 messages")
        assert users.asked == []
        assert rig.last_session.user == "carol"
        assert rig.records.kinds("login")[0]["maildrop"] == "ann@example.org"


def scram_keys(password):
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 4096)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return {"salt": b"salt", "iterations": 4096, "stored_key": stored, "server_key": server}


@pytest.mark.parametrize(("password", "said"), [("secret", "+OK 3 messages"), ("wrong", "-ERR [AUTH] wrong name")])
async def test_a_plugins_keys_check_a_password(password, said):
    @on("pop-login")
    async def knows(event):
        return v.Credentials(scram_keys("secret"))

    async with pop_rig(await mailboxes(), knows) as rig:
        client = rig.pick_up()
        await client.reply()
        await client.command("USER ann@example.org")
        assert (await client.command(f"PASS {password}")).startswith(said)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
async def test_421_closes(stage):
    @on(stage)
    async def hook(event):
        return v.Refuse(Reply(421, "4.7.0", "go away"))

    async with pop_rig(await mailboxes(), hook) as rig:
        said, after = await heard(rig, stage)
        assert said.startswith("-ERR [SYS/TEMP] go away (") and after == ""


async def test_texts_of_plugins_are_one_safe_line():  # attack I1
    @on("pop-retrieve")
    async def hook(event):
        event.say("have\r\n.\r\nit")

    @on("pop-delete")
    async def keep(event):
        return v.Refuse("no\r\n+OK yes\x00\x1b[31m" + "x" * 1000)

    async with pop_rig(await mailboxes(MESSAGES[0]), hook, keep) as rig:
        client = rig.pick_up()
        await client.reply()
        await client.command("USER ann@example.org")
        await client.command("PASS gro.elpmaxe@nna")
        assert await client.command("RETR 1") == "+OK have . it"
        assert len(await client.lines()) == 4
        said = await client.command("DELE 1")
        assert said.startswith("-ERR no +OK yes") and len(said) <= 510 and said.isprintable()
        assert await client.command("NOOP") == "+OK"


async def test_isolated_plugins_refuse_these_stages_by_name(tmp_path):
    source = tmp_path / "one.py"
    source.write_text("from gatepost import on\n\n@on('pop-login')\ndef hook(event):\n    pass\n")
    with pytest.raises(PluginError, match='"pop-login": isolated plugins aren\'t asked in POP3 sessions'):
        await load_isolated(source)
