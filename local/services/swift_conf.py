"""The configuration files of a one-node OpenStack Swift with s3api and tempauth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REGION = "us-east-1"
BACKENDS = ("account", "container", "object")

SWIFT = """\
[swift-hash]
swift_hash_path_prefix = {hash_prefix}
swift_hash_path_suffix = {hash_suffix}

[storage-policy:0]
name = Policy-0
default = yes
"""

BACKEND = """\
[DEFAULT]
swift_dir = {etc}
devices = {devices}
mount_check = false
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
log_level = WARNING
recon_cache_path = {cache}
lock_path = {cache}

[pipeline:main]
pipeline = {name}-server

[app:{name}-server]
use = egg:swift#{name}
fallocate_reserve = 0
"""

# There is no memcached: tokens are encrypted with a key instead, and s3api checks the signature of each request anyway.
PROXY = """\
[DEFAULT]
swift_dir = {etc}
bind_ip = {address}
bind_port = {port}
workers = 0
user = {user}
log_level = WARNING

[pipeline:main]
pipeline = {pipeline}

[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true

[filter:proxy-logging]
use = egg:swift#proxy_logging
access_log_level = DEBUG

[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1

[filter:s3api]
use = egg:swift#s3api
location = {region}
s3_acl = false
check_bucket_owner = true
dns_compliant_bucket_names = true
min_segment_size = 5242880

[filter:tempauth]
use = egg:swift#tempauth
user_{account}_pipeline = {secret} .admin
user_{account}_reader = {reader_secret}
fernet_key_local = {fernet_key}
active_fernet_key_id = local
token_life = 86400

"""

PLAIN_FILTERS = (
    "catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk", "copy", "slo", "dlo",
    "versioned_writes", "symlink",
)  # fmt: skip
PIPELINE = (
    "catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk s3api tempauth copy slo dlo "
    "versioned_writes symlink proxy-logging proxy-server"
)


@dataclass(frozen=True)
class SwiftFacts:
    """The values for the files. `secret`, `reader_secret` and `fernet_key` are secrets, so the files are private."""

    etc: Path
    devices: Path
    cache: Path
    user: str
    account: str
    secret: str
    reader_secret: str
    fernet_key: str
    hash_prefix: str
    hash_suffix: str
    ports: dict[str, int]  # account, container, object, proxy
    proxy_address: str


def files(facts: SwiftFacts) -> dict[str, str]:
    """Return the content of every configuration file, by file name."""
    made = {"swift.conf": SWIFT.format(hash_prefix=facts.hash_prefix, hash_suffix=facts.hash_suffix)}
    for name in BACKENDS:
        made[f"{name}-server.conf"] = BACKEND.format(
            name=name, etc=facts.etc, devices=facts.devices, cache=facts.cache, user=facts.user, port=facts.ports[name]
        )
    proxy = PROXY.format(
        etc=facts.etc,
        port=facts.ports["proxy"],
        address=facts.proxy_address,
        user=facts.user,
        pipeline=PIPELINE,
        region=REGION,
        account=facts.account,
        secret=facts.secret,
        reader_secret=facts.reader_secret,
        fernet_key=facts.fernet_key,
    )
    plain = "\n".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in PLAIN_FILTERS)
    made["proxy-server.conf"] = proxy + plain
    return made
