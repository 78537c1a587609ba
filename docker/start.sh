#!/bin/sh
# The first start makes keys, the audit log, the rules and the approver `you`.
set -eu
if [ ! -e "$COUNTERSIGN_DATA/countersign.yaml" ]; then
  countersign init --approver you --email you@example.com --host countersign --host localhost --host 127.0.0.1
fi
export COUNTERSIGN_CONFIG=/etc/countersign/countersign.yaml
exec countersign serve
