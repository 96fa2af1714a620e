#!/bin/sh
# Puts this version of the shop on one server. The gate runs it in a checkout of the commit to deploy, and to roll back in one
# of the commit that comes back.
set -eu
server=$SHOP_SERVERS/$1
rm -rf "$server/shop.new"
cp -R shop "$server/shop.new"
rm -rf "$server/shop"
mv "$server/shop.new" "$server/shop"
echo "$GATE_COMMIT" >"$server/VERSION"
echo "$GATE_ACTION $GATE_COMMIT wave $GATE_WAVE" >>"$server/history.txt"
