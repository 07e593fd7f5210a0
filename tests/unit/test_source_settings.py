"""What the configuration says of signatures and certificates."""

from pathlib import PurePath

import pytest

from controller.errors import UsageError
from controller.manifest.configuration import git_source
from controller.model.settings import Tls, Verify

BASE = PurePath("/etc/rondel")


def document(**more):
    return {"name": "ops", "kind": "Git", "url": "https://git.example.com/ops.git"} | more


def test_files_start_at_the_configurations_folder():
    made = git_source(
        document(
            verify={"keys": ["keys/alice.asc", "/srv/bob.pub"]},
            caFile="ca.pem",
            clientCert={"cert": "client.pem", "key": "/srv/client.key"},
        ),
        BASE,
        "sources",
    )
    keys = ("/etc/rondel/keys/alice.asc", "/srv/bob.pub")
    assert made.verify == Verify(mode="HEAD", keys=keys)
    assert made.ca_file == "/etc/rondel/ca.pem"
    assert made.client_cert == Tls(cert="/etc/rondel/client.pem", key="/srv/client.key")


def test_nothing_has_to_be_signed_unless_it_is_said():
    made = git_source(document(verify=None, caFile=None, clientCert=None), BASE, "sources")
    assert (made.verify, made.ca_file, made.client_cert) == (None, None, None)


@pytest.mark.parametrize("mode", ["Tag", "TagAndHEAD"])
def test_a_tags_signature_needs_a_tag(mode):
    verify = {"mode": mode, "keys": ["a"]}
    for ref in ({}, {"branch": "main"}, {"tag": "v1", "commit": "0" * 40}):
        with pytest.raises(UsageError, match=r"source ops: verify\.mode: .* no tag is followed"):
            git_source(document(verify=verify, ref=ref), BASE, "sources")
    for ref in ({"tag": "v1"}, {"semver": "1.x"}, {"tag": "v1", "branch": "main"}):
        made = git_source(document(verify=verify, ref=ref), BASE, "sources")
        assert made.verify == Verify(mode=mode, keys=("/etc/rondel/a",))
