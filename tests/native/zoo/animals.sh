#!/bin/sh
# The zoo as a filter; the animal is the message's X-Animal. ZOO_EVERY: each so many-th message is a crash, counted by
# the octets of the file ZOO_COUNT. ZOO_GOOD: never does harm, and adds a field.
mail=$(cat; echo .)
mail=${mail%.}
if [ -n "$ZOO_GOOD" ]; then
    printf 'X-Filtered: %s\n%s' "$ZOO_GOOD" "$mail"
    exit 0
fi
if [ -n "$ZOO_EVERY" ]; then
    printf . >>"$ZOO_COUNT"
    [ $(($(wc -c <"$ZOO_COUNT") % ZOO_EVERY)) -ne 0 ] || kill -SEGV $$
fi
case $mail in
*"X-Animal: segfaults"*) kill -SEGV $$ ;;
*"X-Animal: throws"*) kill -ABRT $$ ;;
*"X-Animal: exits"*) exit 7 ;;
*"X-Animal: hangs"*) while :; do sleep 1; done ;;
*"X-Animal: late"*) sleep 1.5 ;;
*"X-Animal: leaks"*) head -c 1000000000 /dev/zero | tail -n 1 && exit 7 ;;
*"X-Animal: prints"*) yes "and again and again and again and again and again" | head -c 5000000 >&2 ;;
*"X-Animal: floods"*) yes "and again and again and again and again and again" | head -c 5000000 ;;
*"X-Animal: forks"*)
    for cub in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 600 >/dev/null & done
    ;;
*"X-Animal: half"*) printf %s "$mail" | head -c 300 && kill -SEGV $$ ;;
esac
printf %s "$mail"
