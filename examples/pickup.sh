#!/bin/sh
# A pickup program as MailEnable knows them, `program messagefilename connectortype`: drops lotteries, marks all others.
#
# [[plugin]]
# source = "./pickup.sh"
# program = { mode = "pickup" }

cd "$GATEPOST_PICKUP/QUEUES/$2/Inbound" || exit 1
if grep -qi '^Subject=.*lottery' "$1"; then # the command file
    rm "$1" "Messages/$1"
    exit
fi
{ printf 'X-Picked-Up: yes\r\n' && cat "Messages/$1"; } > "$1.new" && mv "$1.new" "Messages/$1"
