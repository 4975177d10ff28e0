#!/bin/sh
# The programs of the system that some tests run against real mail: looked for, and installed where that is allowed
# (root on a system with apt-get). Where it isn't, says plainly which tests are left out; with CI set that is a failure.
set -u
own=/usr/local/lib/gatepost-tests # programs whose packages would push others off the system; see tests/programs.py
PATH="$PATH:/usr/sbin:/sbin:/usr/lib/wine:$own"

missing() {
    for each in swaks:swaks,libnet-ssleay-perl curl:curl strace:strace smtp-source:postfix smtp-sink:postfix \
        unbound:unbound cc:gcc,libc6-dev g++:g++ x86_64-w64-mingw32-gcc:gcc-mingw-w64-x86-64 i686-w64-mingw32-gcc:gcc-mingw-w64-i686 \
        wine64:wine64 opendkim:opendkim dovecot:dovecot-core,dovecot-pop3d fetchmail:fetchmail getmail:getmail6 mpop:mpop mutt:mutt \
        exim4:libidn12,libgnutls-dane0,libdb5.3,libnsl2; do
        command -v "${each%%:*}" >/dev/null 2>&1 || echo "$each"
    done
}

lacking=$(missing)
[ -z "$lacking" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    packages=$(for each in $lacking; do echo "${each##*:}" | tr , "\n"; done | sort -u)
    echo "installing for the tests:" $packages
    # Postfix is wanted for its two test programs only: nothing is configured, and no service is started
    export DEBIAN_FRONTEND=noninteractive
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections 2>/dev/null
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get install -qq --no-install-recommends $packages >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -qq --no-install-recommends $packages >/dev/null; }
    # Exim's package and Postfix's don't go together: its program alone, without the right to become root, and its user
    if ! command -v exim4 >/dev/null 2>&1; then
        id Debian-exim >/dev/null 2>&1 ||
            useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin Debian-exim
        folder=$(mktemp -d) && chmod 755 "$folder" &&
            (cd "$folder" && { apt-get download -qq exim4-daemon-light >/dev/null 2>&1 ||
                { apt-get update -qq && apt-get download -qq exim4-daemon-light >/dev/null; }; } &&
                dpkg -x exim4-daemon-light_*.deb . && install -D -m 755 usr/sbin/exim4 "$own/exim4")
        rm -rf "$folder"
    fi
    lacking=$(missing)
    [ -z "$lacking" ] && exit 0
fi

echo "Some programs that tests run aren't here, and tests that need them are left out:"
for each in $lacking; do
    program=${each%%:*}
    tests=$(cd "$(dirname "$0")" && grep -rl --include='test_*.py' "needs(.*\"$program\"" . | sort | tr '\n' ' ')
    echo "  $program (in Debian: apt install $(echo "${each##*:}" | tr , " ")) for $tests"
done
case "${CI:-}" in
"" | 0 | false | no) exit 0 ;;
*) echo "CI is set: nothing may be left out." && exit 1 ;;
esac
