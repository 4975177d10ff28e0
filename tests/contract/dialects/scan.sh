#!/bin/sh
# The story of test_dialect_story.py as a scanner of the file that is named: 1 finds something, 2 finds what is tagged.
word=$(sed -n 's/^X-Do: //p' "$1" | tr -d '\r')
case $word in
no) exit 1 ;;
tag) exit 2 ;;
hang) exec sleep 600 ;;
half | crash) kill -SEGV $$ ;;
own) echo "250 glad to have it" ;;
esac
exit 0
