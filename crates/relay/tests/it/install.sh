#!/usr/bin/env bash
# Puts Playwright where the test of the relay looks for it: target/peers/playwright. The browser is the system's own
# package, and Playwright's own are not fetched.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
peers="${CARGO_TARGET_DIR:-$here/../../../../target}/peers"
mkdir -p "$peers/playwright"

npm install --prefix "$peers/playwright" --no-save --no-package-lock --no-audit --no-fund --silent playwright-core@1.65.1
