"""Secrets that other programs have made: each is right for its password, and for no other."""

import pytest

from gatepost.store import secret_schemes
from gatepost.store.secret_schemes import SecretError, parse

PASSWORD = b"s3cret pass"
# all of "s3cret pass", as `doveadm pw`, `htpasswd`, `openssl passwd` and crypt(3) have written them
VECTORS = {
    "doveadm ARGON2ID": "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$SnDKOtOA3miTcKKzHJrECQ"
    "$yxrSt7DrhwHed6nDdY+FeSHy3IVu7+9sntVOAlyyP1Q",
    "doveadm ARGON2I": "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$YG6FnA0J0IqnKJWLvLqtIw"
    "$zA5nG8ESQOe/2NUZrcK8bJDEWJQLJuT6YzFzhZ+uHEM",
    "doveadm BLF-CRYPT": "{BLF-CRYPT}$2y$05$DvfS21LLW3Xlxt36pTf8SuLqkHvfw3.PTrDPdfLLrMu5eh3n7t7je",
    "doveadm CRYPT": "{CRYPT}$2y$05$1OMpk2lEcydqAx0eITIsNu.WSCEfNkJguyhkQJriQVfP3zWvcuXQW",
    "doveadm SHA512-CRYPT": "{SHA512-CRYPT}$6$GwOMC6CDKxnqSTSR$IyazcdxbytDm2OSD.ht8xmjF1Hv5x28PMIKDJCQ21B"
    "L3TGHolRGV5Tm3AM"
    "hNEwsXM7G.1U1yRXio6sThbMZ1k.",
    "doveadm SHA256-CRYPT": "{SHA256-CRYPT}$5$0uZtcuOtXHkevc6O$s4kc9htcggsF1OhZ97WBducSI.DCtpVyEwJziFh7TV6",
    "doveadm MD5-CRYPT": "{MD5-CRYPT}$1$ToiY3tHW$WgigZ2cddNJJtJESUX5xp1",
    "doveadm SSHA": "{SSHA}BjB9qhlPP45IXdrRgV6nEwoBH10Hb+N5",
    "doveadm SSHA256": "{SSHA256}NbmTrMCVI6YYns2xd9/KFdDjPWo5hduLo9TufPtUZkwKnGON",
    "doveadm SSHA256.hex": "{SSHA256.HEX}f907f5f2c22e8d3fbd45ae9f3ebe01bdf2e8fabf2efc67ff3b28590ff82dccc5d871119a",
    "doveadm SSHA512": "{SSHA512}SBdA80pOxHZX/hs+5sDFM8eeUIu1oax54Sj2/AtR3R/N2/F3FtvB2A2rJfJCMg7E3PF/F9U0EJ1tZDL4euwCtv"
    "qUmX8=",
    "doveadm SHA256": "{SHA256}CZp1TIJR+4oAG2ZCr7Ulm9LttwVne5OfbvTADKseY4k=",
    "doveadm SHA512": "{SHA512}iDV58CjGXR/fodpcqM+YrvYL46tZ4LccrS8CXnbGVZIcTG5ypAzUTCvnN6rbubtd1p8szgYt4m"
    "OSWlgJPqN1Ww==",
    "doveadm PLAIN": "{PLAIN}s3cret pass",
    "doveadm CLEARTEXT": "{cleartext}s3cret pass",
    "doveadm SCRAM-SHA-256": "{SCRAM-SHA-256}4096,BY9QNMQ0UcckKb7kXjmOCA==,YSjLupPJedI1bx5MXSNWdmmcAXLq5a"
    "vDQY4sPP2hqdI=,"
    "kbcSNEfy5Gqt1FuEzUCuOWR+gqpS7x3iE4Iq+VNCC5Y=",
    "doveadm PBKDF2": "{PBKDF2}$1$kx/Z5E9ZgzcrIqeH$5000$5436e633dd576aaa0b262764dc93c76b737794d1",
    "htpasswd": "$apr1$NU5cfys4$Xl6O.Xn/Noo3pW2W9kqM5.",
    "htpasswd -B": "$2y$05$QiD7DIYyrZlkEu/1lFUire2wMsGkrtkPJf0sYvp1uxdgizNFpOhsy",
    "htpasswd -s": "{SHA}ohgYgF2kkgMlRbH1HlEDczlOc+M=",
    "htpasswd -2": "$5$ELARjK0tJwaVKNxl$apid5KRxqTA5AMmWLzD99AmprAzN.TDPHzLOsfMnDRC",
    "htpasswd -5": "$6$OJI991xRXaVzVfKc$HNEaZnSJ.sdRm2NSNkeuDlGoeBQZvPLCg9gR5fVFZ9EmU7k0RYfBeR29s/j87Q9Hp"
    "BRM64DNLcM6jsKFV2p3M/",
    "openssl passwd -6": "$6$abcdefgh$JkUs2M4cQMIF3fzb8rSPdrGis9kyxOr8G//eP6mEBQv4DyD/cfcCAqUX6.8VAMaqE9B"
    "pPh.U5Cfz9mU/DZcFL1",
    "openssl passwd -5": "$5$ChWFtS8PZf8JgYKT$rKY8hNtV6ZtYCTN2zW9SMCtcwCEDhJetWAozSL9T/A1",
    "openssl passwd -apr1": "$apr1$saltsalt$lmcRj2F1SKs6o4B9yte9F/",
    "openssl passwd -1": "$1$saltsalt$5lF22gyv5RCQWSRkctJIT0",
    "crypt(3) yescrypt": "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$9D5RovS/HuknGI0.ktF/JBj1lhaH1xkbCFp3CJ3OVL/",
    "crypt(3) rounds": "$6$rounds=10000$saltstring$o/p9WgNXXBy28af3yzRyB9g6gCB0eJPrtJylKhmBazffg5RdfGIYyC"
    "s4NiFv7wCAA8thE2KkkyYVjs"
    "mtysU/W0",
}


@pytest.mark.parametrize("made_by", VECTORS)
def test_what_other_programs_have_made_fits_its_password_only(made_by):
    secret = parse(VECTORS[made_by])
    assert secret.fits(PASSWORD)
    for other in (b"", b"s3cret pas", b"s3cret passs", b"s3cret pass\0", b"\0", b"\xff" * 100):
        assert not secret.fits(other)


def test_letters_beyond_ascii():
    openssl = "$6$abcdefgh$clWxq0Kfxc2f0kRfOvM9zN7m4hLEeCD4UgNHZ/PPmCArygpUjn9Cee7u0WVz3gm3Ily/NABI9jMTqmnB5sHSD1"
    assert parse(openssl).fits("schlüssel".encode())
    assert parse("{PLAIN}schlüssel").fits("schlüssel".encode())


def test_bcrypt_looks_at_72_octets_as_everywhere():
    import bcrypt

    kept = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert parse(kept).fits(b"x" * 73)
    assert not parse(kept).fits(b"x" * 71)


def test_a_password_kept_in_the_clear_and_scram_keys_are_told():
    assert parse("{PLAIN}s3cret:pass").plain == "s3cret:pass"
    assert parse("{PLAIN.b64}czNjcmV0").plain == "s3cret"
    assert parse(VECTORS["doveadm SSHA"]).plain is None
    keys = parse(VECTORS["doveadm SCRAM-SHA-256"]).scram
    assert keys.startswith("SCRAM-SHA-256$4096:BY9QNMQ0UcckKb7kXjmOCA==$YSjL")


def test_equal_cost_is_equal_work():
    costs = {made_by: parse(text).cost for made_by, text in VECTORS.items()}
    assert costs["doveadm BLF-CRYPT"] == costs["htpasswd -B"]
    assert costs["openssl passwd -6"] == costs["htpasswd -5"] != costs["crypt(3) rounds"]
    assert costs["doveadm ARGON2ID"] != costs["doveadm ARGON2I"]
    bcrypt = VECTORS["htpasswd -B"]
    assert parse(bcrypt[:4] + "12" + bcrypt[6:]).cost != parse(bcrypt[:4] + "04" + bcrypt[6:]).cost


REFUSED = {
    "": "empty",
    "secret": "neither a hash",
    "h3xti57jYMpL6": "neither a hash",
    "{PLAIN}": "empty",
    "{CRAM-MD5}fa85791b68c7cce23ff7b9e3ede4ca06ac2d1eff94e0aec3c8dc81b73dc8e7e6": "{CRAM-MD5}.*too weak",
    "{SMD5}PKKareshjxxN7CcNlbTADrWrGnc=": "{SMD5}.*too weak",
    "{FANCY}x": "{FANCY}.*unknown",
    "$3$x$y": r"\$3\$.*unknown",
    "{SSHA}!": "base64",
    "{SSHA.hex}xy": "hexadecimal",
    "{SSHA}ohgYgF2kkgMlRbH1HlEDczlOc+M=": "length",
    "{SHA256}ohgYgF2kkgMlRbH1HlEDczlOc+M=": "length",
    "{SHA512-CRYPT}$5$0uZtcuOtXHkevc6O$s4kc9htcggsF1OhZ97WBducSI.DCtpVyEwJziFh7TV6": "SHA512-CRYPT",
    "$6$short$hash": "well-formed",
    "$6$rounds=999999999$saltstring$" + "a" * 86: "cost too much",
    "$2y$31$DvfS21LLW3Xlxt36pTf8SuLqkHvfw3.PTrDPdfLLrMu5eh3n7t7je": "cost too much",
    "$2y$05$short": "well-formed",
    "$apr1$saltsalt$short": "well-formed",
    "$argon2id$v=19$m=1": "well-formed",
    "$argon2id$v=19$m=16777216,t=1,p=1$SnDKOtOA3miTcKKzHJrECQ$yxrSt7DrhwHed6nDdY+FeSHy3IVu7+9sntVOAlyyP1Q": "cost too "
    "much",
    "{SCRAM-SHA-256}4096,x": "iterations",
    "{SCRAM-SHA-256}4096,c2E=,c2E=,c2E=": "sizes",
    "{PBKDF2}$1$salt$99999999$5436e633dd576aaa0b262764dc93c76b737794d1": "PBKDF2",
    "{PBKDF2}x": "PBKDF2",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cant_be_checked_is_refused_by_name_and_never_shown(text):
    with pytest.raises(SecretError, match=REFUSED[text]) as refused:
        parse(text)
    assert refused.value.mend
    assert "4ca06ac2d1eff94e" not in str(refused.value) + refused.value.mend


def test_a_system_without_libcrypt_says_what_to_install(monkeypatch):
    monkeypatch.setattr(secret_schemes, "libcrypt", lambda: None)
    with pytest.raises(SecretError, match="libcrypt") as refused:
        parse(VECTORS["openssl passwd -6"])
    assert "apt install libcrypt1" in refused.value.mend
    assert parse(VECTORS["htpasswd"]).fits(PASSWORD)  # which needs none


def test_a_libcrypt_of_old_that_has_no_yescrypt_is_told_at_load(monkeypatch):
    monkeypatch.setattr(secret_schemes, "_yescrypt", False)
    with pytest.raises(SecretError, match="yescrypt"):
        parse(VECTORS["crypt(3) yescrypt"])
