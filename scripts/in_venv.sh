#!/usr/bin/env bash
# Run a command with the tools of .venv, on Windows too: bash scripts/in_venv.sh ruff check .
cd "$(dirname "$0")/.." || exit
PATH="$PWD/.venv/bin:$PWD/.venv/Scripts:$PATH" exec "$@"
