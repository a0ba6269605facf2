#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A Debian 13 machine that joins elsad as a node (README.md). Rendered by packaging/cloud/render. Run at
# every boot: what is done already is left.
set -euo pipefail
again() { for _ in 1 2 3 4 5 6; do "$@" && return 0; sleep 5; done; return 1; }

metadata() {
	curl -fsS -H "Metadata-Flavor: Google" \
		"http://metadata.google.internal/computeMetadata/v1/instance/$1"
}

# The newest version of a secret of Secret Manager.
secret() {
	local token
	token=$(metadata service-accounts/default/token | python3 -c \
		'import json, sys; print(json.load(sys.stdin)["access_token"])')
	curl -fsS -H "Authorization: Bearer $token" \
		"https://secretmanager.googleapis.com/v1/projects/@GCP_PROJECT@/secrets/$1/versions/latest:access" |
		python3 -c 'import base64, json, sys
sys.stdout.buffer.write(base64.b64decode(json.load(sys.stdin)["payload"]["data"]))'
}

export DEBIAN_FRONTEND=noninteractive
if ! command -v elsa-node >/dev/null; then
	again apt-get update
	again apt-get install -y ca-certificates curl nfs-common python3
	package="@ELSA_PACKAGE@"
	case "$package" in
	https://*)
		again curl -fsSLo /root/elsa.deb "$package"
		package=/root/elsa.deb
		;;
	esac
	again apt-get install -y -o Dpkg::Options::=--force-confold "$package"
fi

# The users' homes: the same on every node.
if ! mountpoint -q /home; then
	again mount -t nfs4 -o nfsvers=4.1,hard "@ELSA_HOMES@" /home
fi

umask 077
mkdir -p /etc/elsa
again secret "@ELSA_KEY_SECRET@" >/etc/elsa/store.key
again secret "@ELSA_TOKEN_SECRET@" >/etc/elsa/join.token
name=$(again metadata name)
umask 022
cat >/etc/elsa/elsa.toml <<TOML
[node]
name = "$name"
controller = "@ELSA_CONTROLLER@"
join_token_file = "/etc/elsa/join.token"
listen = "0.0.0.0:8444"
notices = "gcp"

[network]
pool = "@ELSA_POOL@"
host_address = "@ELSA_HOST_ADDRESS@"
allow = ["@ELSA_HOST_ADDRESS@:8081", "@ELSA_HOST_ADDRESS@:8082"]

[session]
image = "@ELSA_IMAGE@"

[store]
url = "@ELSA_STORE@"
key_file = "/etc/elsa/store.key"
TOML

systemctl enable --now elsa-node
