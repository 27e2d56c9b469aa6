#!/usr/bin/env bash
# Puts the clients and tools of others where the tests look for them: target/peers/python and target/peers/node, and
# those that read the OpenAPI document in target/peers/generators.
# The browser is the system's own package.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
peers="${CARGO_TARGET_DIR:-$here/../../../../target}/peers"
mkdir -p "$peers/node"

python3 -m venv "$peers/python"
"$peers/python/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"

npm install --prefix "$peers/node" --no-save --no-package-lock --no-audit --no-fund --silent \
  @onkernel/sdk@0.84.0 eventsource@5.1.5 eventsource-parser@4.1.3 @microsoft/fetch-event-source@2.0.1 \
  launchdarkly-eventsource@2.2.0 event-source-polyfill@1.0.31 reconnecting-eventsource@1.6.5 har-validator@5.1.5 \
  playwright-core@1.65.1 axe-core@4.14.1 @modelcontextprotocol/sdk@1.32.2

python3 -m venv "$peers/generators"
"$peers/generators/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/generators.txt"
npm install --prefix "$peers/generators" --no-save --no-package-lock --no-audit --no-fund --silent \
  @redocly/cli@2.77.0 @stoplight/spectral-cli@6.16.3 @hey-api/openapi-ts@0.95.0 openapi-typescript@7.13.0 typescript@5.9.3
