#!/bin/sh
# The story of test_dialect_story.py as a filter: mail on standard input, on standard output what becomes of it.
mail=$(cat; echo .)
mail=${mail%.}
word=$(printf %s "$mail" | sed -n '/^$/q; s/^X-Do: //p')
case $word in
no) echo "Dnot with that word" >&2; exit 88 ;;
later) echo "Zcome later" >&2; exit 88 ;;
hang) exec sleep 600 ;;
half) printf %s "$mail" | head -c 100; kill -SEGV $$ ;;
crash) kill -SEGV $$ ;;
tag) printf %s "$mail" | sed '1,/^$/s/^$/X-Story: told\n/' ;;
*) printf %s "$mail" ;;
esac
