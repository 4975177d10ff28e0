#!/bin/sh
# A filter as qmail knows them: refuses lotteries in its own words (code 88, D: for ever), and marks all other mail.
#
# [[plugin]]
# source = "./filter.sh {EMAILFILESPEC}"
# program = { mode = "filter", discard = "99" }

if grep -qi '^Subject:.*lottery' "$1"; then
    printf 'D5.7.1 you can keep the prize' >&2
    exit 88
fi
echo "X-Filtered: yes" && exec cat "$1"
